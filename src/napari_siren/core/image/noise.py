"""How noisy an image is, estimated from the image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter
from scipy.stats import chi2
from torch import Tensor

from napari_siren.core.config import FitConfig
from napari_siren.core.image.samples import Samples

Values = TypeVar("Values", npt.NDArray[np.float32], Tensor)

# Samples along each axis of a block whose noise is looked at, by the number of axes.
_BLOCK = {1: 64, 2: 8}
# Blocks with less than this share of all below them have next to nothing but noise in them.
_QUIETEST = 0.05
# The noise that is estimated of photographs without any, 0.7 % of the range: the quietest of their texture.
_TEXTURE = 0.014
# Correlations of the second difference of white noise with its next neighbour, and the one after.
_CORRELATIONS = (-4 / 6, 1 / 6)
# Of the noise at each brightness: pixels along a patch, groups of alike brightness and the patches in each, and which
# quantile of these is taken for noise alone.
_PATCH, _LEVELS, _LEAST_PATCHES, _QUIET = 9, 16, 20, 0.25


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
    """Return the degrees of freedom of a block's mean square: fewer than it has samples, which are not independent."""
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


def image_noise(samples: Samples) -> float:
    """Return what of the noise of an image that is estimated is more than texture may be, in normalised values."""
    return above_texture(noise_level(samples.values, samples.observed))


def above_texture(noise: float) -> float:
    """Return what of an estimated standard deviation of noise, in normalised values, is more than texture may be."""
    return math.sqrt(max(0.0, noise**2 - _TEXTURE**2))


def _quantile_of_noise() -> float:
    """Return which share of the variance of white noise the quantile of its scatter in patches is."""
    freedom = _freedom([_PATCH, _PATCH])
    return float(chi2.ppf(_QUIET, freedom) / freedom)


@dataclass(frozen=True)
class NoiseModel:
    """Noise of a camera: that of photons, whose variance grows with the signal, and that of reading it.

    Parameters
    ----------
    gain
        Variance per unit of the signal, 0 or more.
    offset
        Variance where the signal is 0; may be negative, where values do not begin at 0.
    least
        Variance that there is in any case.
    """

    gain: float
    offset: float
    least: float

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> NoiseModel:
        """Estimate it from (slices, rows, columns), by second differences in patches of every brightness.

        As `noise_level`, by the quiet patches among those of a brightness (Foi et al. 2008, doi
        10.1109/TIP.2008.2001399, fit the same model to level sets).
        """
        if min(values.shape[1:]) < 2 * _PATCH:
            return cls(0.0, 0.0, 0.0)
        response = np.diff(np.diff(values.astype(np.float64), n=2, axis=1), n=2, axis=2) / 6
        scatter = uniform_filter(np.square(response), (0, _PATCH, _PATCH), mode="nearest")
        level = uniform_filter(values[:, 1:-1, 1:-1].astype(np.float64), (0, _PATCH, _PATCH), mode="nearest")
        step = max(1, _PATCH // 2)
        scatter, level = scatter[:, ::step, ::step].ravel(), level[:, ::step, ::step].ravel()
        groups = np.array_split(np.argsort(level), min(_LEVELS, max(1, len(level) // _LEAST_PATCHES)))
        levels = np.array([level[group].mean() for group in groups])
        quiet = np.array([np.quantile(scatter[group], _QUIET) for group in groups]) / _quantile_of_noise()
        least = float(quiet.min())
        if np.ptp(levels) < 1e-6:
            return cls(0.0, least, least)
        gain, offset = np.polyfit(levels, quiet, 1)
        return cls(float(gain), float(offset), least) if gain > 0 else cls(0.0, float(quiet.mean()), least)

    @classmethod
    def of_camera(
        cls, gain: float, dark: float, read_noise: float, offset: float = 0.0, scale: float = 1.0
    ) -> NoiseModel:
        """Return that of a camera, for values that are normalised: value = offset + scale * normalised value.

        Parameters
        ----------
        gain
            Of the value, for each photon.
        dark, read_noise
            Mean and standard deviation of the value where there is no light.
        offset, scale
            Of the normalisation.
        """
        square = scale**2 if scale > 0 else 1.0
        least = read_noise**2 / square
        return cls(gain * scale / square, gain * (offset - dark) / square + least, least)

    def variance(self, signal: Values) -> Values:
        """Return the variance of the noise of pixels, of which the signal is known: an array, or a tensor."""
        return (self.gain * signal + self.offset).clip(self.least)


def noise_models(samples: Samples, config: FitConfig) -> list[NoiseModel]:
    """Return the noise of each channel's normalised values: the camera's, or else as it is estimated.

    Parameters
    ----------
    samples
        Of two or three axes in space.
    config
        Its camera.
    """
    layout = samples.format
    if config.camera_gain == "auto":
        pictures = samples.values.reshape(layout.channels, -1, *layout.spatial_shape[-2:])
        return [NoiseModel.of(picture) for picture in pictures]
    camera = (config.camera_gain, config.camera_offset, config.read_noise)
    return [NoiseModel.of_camera(*camera, *pair) for pair in zip(layout.offset, layout.scale, strict=True)]
