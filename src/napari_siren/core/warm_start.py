"""Warm starts: which fits start from the fit of a similar image, and with how many steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.result import FitResult
from napari_siren.core.settings.config import FitConfig

# Share of the steps of a cold fit that a warm start needs, if a task restores the image first.
WARM_SHARE = 1 / 3
# Images with a correlation of at least this show the same structures at the same positions.
_SAME_SCENE = 0.9


def plan_warm_start(
    image: npt.NDArray[Any], config: FitConfig, previous: FitResult | None
) -> tuple[FitConfig, FitResult | None]:
    """Return the settings for the fit of an image, and the result to start from.

    Parameters
    ----------
    image
        The image, of the same shape as the previous one.
    config
        Settings of a cold fit.
    previous
        Result for a similar image, such as the previous frame, or None.

    Returns
    -------
    config : FitConfig
        Settings of the fit.
    start : FitResult or None
        Result to start from; None if a warm start would be of no use, as for a burst.
    """
    if previous is None or config.joins_frames:
        return config, None
    same = _correlation(image, previous.reconstruction) >= _SAME_SCENE
    if not same and config.restoration is None:
        return config, None
    return warm_config(config, same), previous


def warm_config(config: FitConfig, same: bool) -> FitConfig:
    """Return the settings of a fit that starts from the fit of a similar image.

    Parameters
    ----------
    config
        Settings of a cold fit.
    same
        Whether the images show the same structures at the same positions. Otherwise only the network of a transferable
        task needs fewer steps. Fits without a task take all their steps, and end closer to the image: much of what they
        memorise is noise, which is new in every frame.
    """
    task = config.restoration
    if task is None:
        return config
    steps = [name for name, fewer in (("task_steps", task.transferable), ("max_steps", same)) if fewer]
    return config.override(**{name: math.ceil(getattr(config, name) * WARM_SHARE) for name in steps})


def _correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return Pearson's correlation of two images; 0 if one is constant."""
    first, second = (values.astype(np.float64).ravel() - values.mean(dtype=np.float64) for values in (a, b))
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > 0 else 0.0
