"""Values for pixels that are missing or held out, from the pixels around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from napari_siren.core.image.samples import Samples

# Largest number of times that each filled pixel becomes the mean of its neighbours, and the change in normalised values
# below which this ends. Single pixels need a few, and large gaps get smooth transitions between the nearest values.
_SWEEPS, _LEAST_CHANGE = 32, 1e-3


def filled(values: npt.NDArray[np.float32], used: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return the values with unused pixels replaced by the nearest used one. They have no weight but must be finite."""
    if used.all():
        return values
    nearest = distance_transform_edt(~used, return_distances=False, return_indices=True)
    return values[(slice(None), *nearest)]


def interpolated(samples: Samples) -> npt.NDArray[np.float32]:
    """Return the normalised values of an image, with its missing and held-out pixels interpolated.

    Restorations take an image without gaps. Each gap begins with the values of the nearest pixels, and its pixels then
    become the means of their neighbours, again and again: an approximate solution of Laplace's equation.
    """
    used = samples.used
    values = filled(samples.values, used)
    if values is samples.values:
        return values
    gaps = np.nonzero(~used)
    neighbours: list[tuple[Any, ...]] = []
    for axis, length in enumerate(used.shape):
        for step in (-1, 1):
            beside = np.clip(gaps[axis] + step, 0, length - 1)
            neighbours.append((slice(None), *gaps[:axis], beside, *gaps[axis + 1 :]))
    for _ in range(_SWEEPS):
        means = sum(values[beside] for beside in neighbours) / len(neighbours)
        change = float(np.abs(means - values[:, ~used]).max())
        values[:, ~used] = means
        if change < _LEAST_CHANGE:
            break
    return values
