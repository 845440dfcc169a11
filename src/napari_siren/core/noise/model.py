"""Estimate of the noise of an image from the image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import minimum_filter, uniform_filter
from scipy.stats import chi2
from torch import Tensor

from napari_siren.core.config import FitConfig
from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import Samples

Values = TypeVar("Values", npt.NDArray[np.float32], npt.NDArray[np.float64], Tensor)

# Number of samples along each axis of a block, by the number of axes. The noise is estimated block by block.
_BLOCK = {1: 64, 2: 8}
# Quantile of the blocks' mean squares. Blocks below it contain hardly anything but noise.
_QUIETEST = 0.05
# Estimate for photographs without noise, 0.7 % of the range: their weakest texture. Normalised, the range is 2.
_TEXTURE = 0.014
# Correlations of the second difference of white noise at distances of one sample and of two.
_CORRELATIONS = (-4 / 6, 1 / 6)
# The noise at each brightness: side of a patch in pixels, largest number of groups of similar brightness, smallest
# number of patches of a group, and the quantile of patches of a brightness that is regarded as noise alone.
_PATCH, _LEVELS, _LEAST_PATCHES, _QUIET = 9, 8, 20, 0.25
# Iterations of the regression, and largest number of patches in it.
_ITERATIONS, _MOST_PATCHES = 30, 1 << 17
# Smallest variance to divide by.
_LEAST_VARIANCE = 1e-12
# Smallest share of the second differences of a patch that have no interpolated pixel.
_LEAST_SHARE = 0.2


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
    freedom = _freedom([min(_BLOCK[len(axes)], response.shape[axis]) for axis in axes])
    quietest = np.quantile(squares[selection].mean(axis=1), _QUIETEST)
    # The divisor is the same quantile of white noise alone, relative to its mean.
    return float(np.sqrt(quietest / (chi2.ppf(_QUIETEST, freedom) / freedom)))


def _freedom(sides: list[int]) -> float:
    """Return the degrees of freedom of a block's mean square.

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


def _quantile_of_noise(share: float = 1.0) -> float:
    """Return the quantile `_QUIET` of the patches' variances for white noise, as a share of its variance.

    Parameters
    ----------
    share
        Share of a patch that is used.
    """
    freedom = share * _freedom([_PATCH, _PATCH])
    return float(chi2.ppf(_QUIET, freedom) / freedom)


def _patches(
    values: npt.NDArray[np.float32], used: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Return the mean squared second difference and the mean value of patches, and the mean used share of a patch."""

    def means(squares: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        smooth = uniform_filter(squares.astype(np.float64), (0, _PATCH, _PATCH), mode="nearest")
        patches: npt.NDArray[np.float64] = smooth[:, :: _PATCH // 2, :: _PATCH // 2].ravel()
        return patches

    squares = np.square(np.diff(np.diff(values.astype(np.float64), n=2, axis=1), n=2, axis=2) / 6)
    level = means(values[:, 1:-1, 1:-1])
    if used is not None:
        valid = minimum_filter(used, (1, 3, 3))[:, 1:-1, 1:-1]
        shares = means(valid)
        enough = shares >= _LEAST_SHARE
        if np.count_nonzero(enough) >= _LEAST_PATCHES:
            return means(squares * valid)[enough] / shares[enough], level[enough], float(shares[enough].mean())
    return means(squares), level, 1.0


def _quiet_line(level: npt.NDArray[np.float64], scatter: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and offset of the line through the quantile `_QUIET` of the scatter at each level.

    It is the quantile regression of Koenker and Bassett (1978, doi 10.2307/1913643) of relative deviations, by
    iteratively reweighted least squares.
    """
    slope, offset = 0.0, float(np.quantile(scatter, _QUIET))
    least = max(1e-3 * float(scatter.mean()), _LEAST_VARIANCE)
    for _ in range(_ITERATIONS):
        line = slope * level + offset
        expected, deviation = np.maximum(line, least), scatter - line
        share = np.where(deviation > 0, _QUIET, 1 - _QUIET)
        weights = share / np.maximum(np.abs(deviation), 1e-3 * expected) / expected
        slope, offset = (float(number) for number in np.polyfit(level, scatter, 1, w=np.sqrt(weights)))
    return slope, offset


@dataclass(frozen=True)
class NoiseModel:
    """A noise model of a camera: photon noise with a variance linear in the signal, and read noise.

    Parameters
    ----------
    gain
        Variance per unit of the signal, 0 or more.
    offset
        Variance at a signal of 0. It may be negative if the values do not begin at 0.
    least
        Lower bound of the variance.
    """

    gain: float
    offset: float
    least: float

    @classmethod
    def from_values(cls, values: npt.NDArray[np.float32], used: npt.NDArray[np.bool_] | None = None) -> NoiseModel:
        """Estimate the model from (slices, rows, columns), by second differences in patches of every brightness.

        Pixels that are False in `used` are interpolated. Differences with them are left out if enough patches remain.
        As in `noise_level`, the quiet patches of each brightness count. Foi et al. (2008, doi
        10.1109/TIP.2008.2001399) fit the same model to level sets.
        """
        if min(values.shape[1:]) < 2 * _PATCH:  # too small to compare brightnesses
            square = noise_level(values, np.ones(values.shape[1:], np.bool_)) ** 2
            return cls(0.0, square, square)
        scatter, level, share = _patches(values, used)
        if len(level) > _MOST_PATCHES:  # every n-th by brightness
            chosen = np.argsort(level)[:: -(-len(level) // _MOST_PATCHES)]
            scatter, level = scatter[chosen], level[chosen]
        scatter = scatter / _quantile_of_noise(share)
        quiet = float(np.quantile(scatter, _QUIET))
        if np.ptp(level) < 1e-6:
            return cls(0.0, quiet, quiet)
        gain, offset = _quiet_line(level, scatter)
        if gain <= 0:
            return cls(0.0, quiet, quiet)
        groups = np.array_split(np.argsort(level), min(_LEVELS, max(1, len(level) // _LEAST_PATCHES)))
        # The line may be below the noise of the darkest patches.
        least = min(float(np.quantile(scatter[group], _QUIET)) for group in groups)
        return cls(gain, offset, max(least, gain * float(level.min()) + offset))

    @classmethod
    def from_camera(
        cls, gain: float, dark: float, read_noise: float, offset: float = 0.0, scale: float = 1.0
    ) -> NoiseModel:
        """Return the noise model of a camera for normalised values.

        Parameters
        ----------
        gain
            Increase of the value for each photon.
        dark, read_noise
            Mean and standard deviation of the value without light.
        offset, scale
            Normalisation of the values: value = offset + scale * normalised value.
        """
        square = scale**2 if scale > 0 else 1.0
        least = read_noise**2 / square
        return cls(gain * scale / square, gain * (offset - dark) / square + least, least)

    def in_units(self, offset: float, scale: float) -> dict[str, float]:
        """Return the model in units of the image: "gain", "variance_at_zero" and "least_deviation".

        Parameters
        ----------
        offset, scale
            Normalisation of the values: value = offset + scale * normalised value.
        """
        gain, square = self.gain * scale, scale**2
        numbers = {
            "gain": gain,
            "variance_at_zero": square * self.offset - gain * offset,
            "least_deviation": math.sqrt(max(0.0, square * self.least)),
        }
        return {name: float(f"{number:.4g}") for name, number in numbers.items()}

    def variance(self, signal: Values) -> Values:
        """Return the noise variance of pixels of a known signal, an array or a tensor."""
        return (self.gain * signal + self.offset).clip(self.least)


def noise_models(samples: Samples, config: FitConfig) -> list[NoiseModel]:
    """Return the noise model of each channel's normalised values, known from the camera or estimated.

    Parameters
    ----------
    samples
        Samples of an image with two or three spatial axes.
    config
        Settings of the fit. Its `camera_gain` is "auto" for an estimate, else the gain of the camera.
    """
    layout = samples.layout
    if config.camera_gain == "auto":
        sizes = layout.spatial_shape[-2:]
        pictures = interpolated(samples).reshape(layout.channels, -1, *sizes)
        used = None if samples.used.all() else samples.used.reshape(-1, *sizes)
        return [NoiseModel.from_values(picture, used) for picture in pictures]
    camera = (config.camera_gain, config.camera_offset, config.read_noise)
    return [NoiseModel.from_camera(*camera, *pair) for pair in zip(layout.offset, layout.scale, strict=True)]
