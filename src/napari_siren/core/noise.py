"""How noisy an image is, estimated from the image alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def noise_level(values: npt.NDArray[np.float32], observed: npt.NDArray[np.bool_]) -> float:
    """Estimate the standard deviation of white noise (after Immerkaer 1996, with a median in place of the mean).

    The mixed second difference along the last two axes longer than 2 pixels cancels whatever varies smoothly; the
    median of its size disregards edges.

    Parameters
    ----------
    values
        (channels, *spatial).
    observed
        bool, (*spatial): pixels to rely on.

    Returns
    -------
    float
        In the units of `values`; 0 where the image is too small to tell.
    """
    axes = [a for a in range(1, values.ndim) if values.shape[a] > 2][-2:]
    if not axes:
        return 0.0
    response, valid = values.astype(np.float64), observed
    for axis in axes:
        response = np.diff(response, n=2, axis=axis)
        edge = [slice(None)] * valid.ndim
        edge[axis - 1] = slice(1, -1)
        valid = valid[tuple(edge)]
    if not valid.any():
        return 0.0
    gain = np.sqrt(6.0 ** len(axes))  # the second difference 1, -2, 1 has squares summing to 6
    return float(np.median(np.abs(response[:, valid])) / 0.6744897501960817 / gain)
