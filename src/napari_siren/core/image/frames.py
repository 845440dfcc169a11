"""Frames of time series and bursts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import Axes, check_axes, guess_series_axes
from napari_siren.core.image.samples import Samples, check_array
from napari_siren.errors import InputError


def take_frames(image: npt.ArrayLike, axes: str | None) -> tuple[npt.NDArray[Any], Axes]:
    """Return the frames of a series, and the axes of one frame.

    Parameters
    ----------
    image
        Array of real numbers or booleans.
    axes
        One letter for each axis, including T. None means that T is the first axis, and guesses the others.

    Returns
    -------
    frames : ndarray
        (frames, *rest), a view.
    axes : Axes
        Letters of the axes of one frame.

    Raises
    ------
    InputError
        The image is not an array of numbers, or it has no time axis.
    """
    array = check_array(image)
    letters = check_axes(guess_series_axes(array.shape) if axes is None else axes, array.shape)
    if letters.time is None:
        raise InputError(f"axes={axes!r} has no T. Name the axis of the frames, for example axes='TYX'.")
    return np.moveaxis(array, letters.time, 0), letters.without("T")


def burst_values(frames: npt.NDArray[Any], first: Samples) -> npt.NDArray[np.float32]:
    """Normalise all frames of a burst in the same way as the first one.

    Returns
    -------
    ndarray
        Normalised values of shape (frames, channels, *spatial).

    Raises
    ------
    InputError
        There is only one frame, pixels are missing or held out, or values are not finite.
    """
    if len(frames) < 2:
        raise InputError('a burst of one frame has nothing to join. Fit it with the preset "upscale".')
    if not first.observed.all() or first.heldout.any():
        raise InputError("the burst has pixels that are missing or held out. Fill them in, or set heldout to 0.")
    return np.stack([Samples.from_part(frame, first.layout).values for frame in frames])
