"""Colours under transparent pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt


def is_rgba(dtype: np.dtype[Any], axes: str, shape: tuple[int, ...]) -> bool:
    """Return whether an array is taken for red, green, blue and alpha: 8 bits, and four channels in the last axis."""
    return dtype == np.uint8 and len(axes) > 2 and axes.endswith("C") and shape[-1] == 4


def with_visible_colours(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an image with the colours of transparent pixels replaced by those of the nearest visible pixels.

    The colour of a pixel with alpha 0 is not visible, and often black or white. Between such a pixel and a visible one,
    an interpolation would mix both colours, as if there were a rim. After the replacement it does not.

    Parameters
    ----------
    array
        Image with its channels in the last axis. The last channel is alpha.

    Returns
    -------
    ndarray
        The array itself if no pixel, or every pixel, is transparent.
    """
    hidden = array[..., -1] == 0
    if not hidden.any() or hidden.all():
        return array
    nearest = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    result = array.copy()
    result[hidden, :-1] = array[tuple(indices[hidden] for indices in nearest)][:, :-1]
    return result
