"""The level of white noise in an image."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from napari_siren.core.image.samples import Samples

# Number of samples along each axis of a block, by the number of axes. The noise is estimated block by block.
_BLOCK = {1: 64, 2: 8}
# Quantile of the blocks' mean squares. Blocks below it contain hardly anything but noise.
_QUIETEST = 0.05
# Estimate for photographs without noise, 0.7 % of the range: their weakest texture. Normalised, the range is 2.
_TEXTURE = 0.014
# Correlations of the second difference of white noise at distances of one sample and of two.
_CORRELATIONS = (-4 / 6, 1 / 6)


def noise_level(values: npt.NDArray[np.float32], observed: npt.NDArray[np.bool_]) -> float:
    """Estimate the standard deviation of white noise.

    The mixed second difference cancels smooth variation (Immerkaer 1996). It is taken along the last two axes longer
    than 2 pixels. Its mean square is computed block by block, and a low quantile of the blocks excludes edges and
    texture. Blocks with the smallest or the largest value of a channel are left out, because noise may be clipped
    there.

    Noise that is correlated between neighbours, as after demosaicing or lossy compression, is underestimated. If noise
    depends on the signal, the estimate is close to its smallest level.

    Parameters
    ----------
    values
        Image of shape (channels, *spatial), float32.
    observed
        Mask of shape (*spatial), bool: True for the pixels to use.

    Returns
    -------
    float
        Standard deviation in the units of `values`: the root mean square over the channels. It is 0 if the image is too
        small for an estimate.
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
    squares = _in_blocks(np.square(response) / 6.0 ** len(axes), axes)  # the squares of 1, -2, 1 sum to 6
    whole = _in_blocks(valid, axes).all(axis=1)
    unclipped = _in_blocks((centre > lowest) & (centre < highest), axes).all(axis=1)
    selection = whole & unclipped if (whole & unclipped).any() else whole
    if not selection.any():
        return 0.0
    freedom = degrees_of_freedom([min(_BLOCK[len(axes)], response.shape[axis]) for axis in axes])
    quietest = np.quantile(squares[selection].mean(axis=1), _QUIETEST)
    # The divisor is the same quantile of white noise alone, relative to its mean.
    return float(np.sqrt(quietest / (chi2.ppf(_QUIETEST, freedom) / freedom)))


def degrees_of_freedom(sides: list[int]) -> float:
    """Return the degrees of freedom of the mean square of a block of second differences.

    They are fewer than the samples of the block, because these are not independent.
    """
    sums = [1 + 2 * sum((1 - k / n) * r**2 for k, r in enumerate(_CORRELATIONS, 1) if k < n) for n in sides]
    return float(np.prod([n / total for n, total in zip(sides, sums, strict=True)]))


def _in_blocks(array: npt.NDArray[np.generic], axes: list[int]) -> npt.NDArray[np.generic]:
    """Cut an array into blocks along some axes, to (blocks, samples of a block). Incomplete blocks are dropped."""
    moved = np.moveaxis(array, axes, range(-len(axes), 0))
    sides = [min(_BLOCK[len(axes)], n) for n in moved.shape[-len(axes) :]]
    counts = [n // side for n, side in zip(moved.shape[-len(axes) :], sides, strict=True)]
    whole = [slice(None)] * (moved.ndim - len(axes))
    cut = moved[(*whole, *(slice(count * side) for count, side in zip(counts, sides, strict=True)))]
    pairs = [n for pair in zip(counts, sides, strict=True) for n in pair]
    split = cut.reshape(-1, *pairs)
    inside = range(2, split.ndim, 2)
    return np.moveaxis(split, inside, range(-len(axes), 0)).reshape(-1, int(np.prod(sides)))


def image_noise(samples: Samples) -> float:
    """Return the noise standard deviation of an image in excess of texture, in normalised values."""
    return above_texture(noise_level(samples.values, samples.observed))


def above_texture(noise: float) -> float:
    """Return the noise standard deviation in excess of what texture alone explains, in normalised values."""
    return math.sqrt(max(0.0, noise**2 - _TEXTURE**2))
