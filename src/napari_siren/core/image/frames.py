"""Time series taken apart into frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import check_axes, guess_series_axes
from napari_siren.core.image.samples import Samples, check_array
from napari_siren.errors import InputError


def take_frames(image: npt.ArrayLike, axes: str | None) -> tuple[npt.NDArray[Any], str]:
    """Return the frames of a series, and the axes of each.

    Parameters
    ----------
    image
        Real numbers or booleans.
    axes
        One letter an axis, T among them; None takes the first axis for T, and guesses the others.

    Returns
    -------
    frames : ndarray
        (frames, *rest), a view.
    axes : str
        Of the rest.

    Raises
    ------
    InputError
        Not an array of numbers, or no axis is time.
    """
    array = check_array(image)
    letters = check_axes(guess_series_axes(array.shape) if axes is None else axes, array.shape)
    if "T" not in letters:
        raise InputError(f"axes={axes!r} has no T: which axis are the frames? For example axes='TYX'.")
    return np.moveaxis(array, letters.index("T"), 0), letters.replace("T", "")


def burst_values(frames: npt.NDArray[Any], first: Samples) -> npt.NDArray[np.float32]:
    """Normalise the frames of a burst as the first one is: (frames, channels, *spatial).

    Raises
    ------
    InputError
        There is but one, pixels are missing, or values are not finite.
    """
    if len(frames) < 2:
        raise InputError('a burst of one frame has nothing to join; fit it with the preset "upscale".')
    if not first.observed.all() or first.heldout.any():
        raise InputError("of a burst no pixel may be missing or held out.")
    return np.stack([Samples.of_part(frame, first.format).values for frame in frames])
