"""`NoiseModel`: the noise of a camera, estimated from the image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.level import noise_level
from napari_siren.core.noise.patches import LEAST, SIDE, Patches
from napari_siren.core.settings.config import FitConfig

Values = TypeVar("Values", npt.NDArray[np.float32], npt.NDArray[np.float64], Tensor)

# Largest number of groups of similar brightness, in which the least noise is looked for.
_LEVELS = 8


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
        if min(values.shape[1:]) < 2 * SIDE:  # too small to compare brightnesses
            square = noise_level(values, np.ones(values.shape[1:], np.bool_)) ** 2
            return cls(0.0, square, square)
        patches = Patches.from_values(values, used)
        level, quiet = patches.level, patches.variance()
        if np.ptp(level) < 1e-6:
            return cls(0.0, quiet, quiet)
        gain, offset = patches.line()
        if gain <= 0:
            return cls(0.0, quiet, quiet)
        groups = np.array_split(np.argsort(level), min(_LEVELS, max(1, len(level) // LEAST)))
        # The line may be below the noise of the darkest patches.
        least = min(patches.chosen(group).variance() for group in groups)
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
        return [NoiseModel.from_values(*picture) for picture in pictures_of(samples)]
    camera = (config.camera_gain, config.camera_offset, config.read_noise)
    return [NoiseModel.from_camera(*camera, *pair) for pair in zip(layout.offset, layout.scale, strict=True)]


def pictures_of(samples: Samples) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]]:
    """Return the planes of each channel, (planes, rows, columns), and the mask of those that are not interpolated."""
    layout = samples.layout
    sizes = layout.spatial_shape[-2:]
    used = None if samples.used.all() else samples.used.reshape(-1, *sizes)
    return [(picture, used) for picture in interpolated(samples).reshape(layout.channels, -1, *sizes)]
