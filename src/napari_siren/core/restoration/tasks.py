"""The registry of restoration tasks: their names and the functions that plan them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration import burst, richardson_lucy, super_resolution
from napari_siren.core.restoration.base import Planner, Restoration
from napari_siren.core.restoration.self_supervised import blind_spot
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.tasks import TaskName
from napari_siren.errors import InputError

PLANNERS: dict[TaskName, Planner] = {
    "super-resolution": super_resolution.plan,
    "denoise": blind_spot.plan,
    "deconvolution": richardson_lucy.plan,
    "burst": burst.plan,
}


def plan_restoration(
    samples: Samples, config: FitConfig, frames: npt.NDArray[np.float32] | None = None
) -> Restoration | None:
    """Plan the restoration task of some settings for an image.

    Parameters
    ----------
    samples
        The image.
    config
        The settings.
    frames
        All frames of a burst, (frames, channels, *spatial), normalised. The first one is the image.

    Returns
    -------
    Restoration or None
        None if the settings have no task, or if the image does not allow it.

    Raises
    ------
    InputError
        The image does not allow a task without which the settings make no sense, and they are strict.
    """
    task = config.restoration
    if task is None:
        return None
    # Similarity in space predicts nothing along time.
    usable = task.along_time or samples.layout.axes.time is None
    restoration = PLANNERS[task.name](samples, config, frames) if usable else None
    if restoration is None and task.required and config.strict:
        raise InputError(
            f"{task.needs}. Choose another image or region, or another preset. With strict=False, the image is fitted "
            "by tiles alone."
        )
    return restoration
