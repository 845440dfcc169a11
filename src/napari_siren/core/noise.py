"""How noisy an image is, estimated from the image alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

# Samples along each axis of a block whose noise is looked at, by the number of axes.
_BLOCK = {1: 64, 2: 8}
# Blocks with less than this share of all below them have next to nothing but noise in them.
_QUIETEST = 0.05
# Correlations of the second difference of white noise with its next neighbour, and the one after.
_CORRELATIONS = (-4 / 6, 1 / 6)


def noise_level(values: npt.NDArray[np.float32], observed: npt.NDArray[np.bool_]) -> float:
    """Estimate the standard deviation of white noise.

    The mixed second difference along the last two axes longer than 2 pixels cancels whatever varies smoothly (Immerkaer
    1996). Its mean square is taken block by block, and a low quantile of the blocks disregards edges and texture.
    Blocks that reach the least or the largest value of a channel, where noise may have been clipped, are left out.

    Noise that is correlated between neighbours, as after demosaicing or lossy compression, is underestimated. Of noise
    that depends on the signal it is the lesser.

    Parameters
    ----------
    values
        (channels, *spatial).
    observed
        bool, (*spatial): pixels to rely on.

    Returns
    -------
    float
        In the units of `values`, the root mean square over the channels; 0 where the image is too small to tell.
    """
    axes = [a for a in range(1, values.ndim) if values.shape[a] > 2][-2:]
    if not axes:
        return 0.0
    levels = [_channel_level(channel, observed, [a - 1 for a in axes]) for channel in values]
    return float(np.sqrt(np.mean(np.square(levels))))


def _channel_level(channel: npt.NDArray[np.float32], observed: npt.NDArray[np.bool_], axes: list[int]) -> float:
    response, centre, valid = channel.astype(np.float64), channel, observed
    for axis in axes:
        response = np.diff(response, n=2, axis=axis)
        inner = [slice(None)] * channel.ndim
        inner[axis] = slice(1, -1)
        centre, valid = centre[tuple(inner)], valid[tuple(inner)]
    if not observed.any():
        return 0.0
    lowest, highest = channel[observed].min(), channel[observed].max()
    squares = _in_blocks(np.square(response) / 6.0 ** len(axes), axes)  # 1, -2, 1 has squares summing to 6
    whole = _in_blocks(valid, axes).all(axis=1)
    unclipped = _in_blocks((centre > lowest) & (centre < highest), axes).all(axis=1)
    chosen = whole & unclipped if (whole & unclipped).any() else whole
    if not chosen.any():
        return 0.0
    freedom = _freedom([min(_BLOCK[len(axes)], response.shape[axis]) for axis in axes])
    quietest = np.quantile(squares[chosen].mean(axis=1), _QUIETEST)
    # What white noise alone has at this quantile, over its mean.
    return float(np.sqrt(quietest / (chi2.ppf(_QUIETEST, freedom) / freedom)))


def _freedom(sides: list[int]) -> float:
    """Give the degrees of freedom of a block's mean square: fewer than it has samples, which are not independent."""
    sums = [1 + 2 * sum((1 - k / n) * r**2 for k, r in enumerate(_CORRELATIONS, 1) if k < n) for n in sides]
    return float(np.prod([n / total for n, total in zip(sides, sums, strict=True)]))


def _in_blocks(array: npt.NDArray[np.generic], axes: list[int]) -> npt.NDArray[np.generic]:
    """Cut into blocks along some axes: (blocks, samples of a block); what is left over at the end is cut off."""
    moved = np.moveaxis(array, axes, range(-len(axes), 0))
    sides = [min(_BLOCK[len(axes)], n) for n in moved.shape[-len(axes) :]]
    counts = [n // side for n, side in zip(moved.shape[-len(axes) :], sides, strict=True)]
    whole = [slice(None)] * (moved.ndim - len(axes))
    cut = moved[(*whole, *(slice(count * side) for count, side in zip(counts, sides, strict=True)))]
    pairs = [n for pair in zip(counts, sides, strict=True) for n in pair]
    split = cut.reshape(-1, *pairs)
    inside = range(2, split.ndim, 2)
    return np.moveaxis(split, inside, range(-len(axes), 0)).reshape(-1, int(np.prod(sides)))
