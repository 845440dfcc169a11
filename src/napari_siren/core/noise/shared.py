"""Noise that neighbouring pixels share, as after demosaicing, resampling or lossy compression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.level import noise_level
from napari_siren.core.noise.model import NoiseModel, noise_models
from napari_siren.core.settings.config import FitConfig

# Noise of every second pixel, relative to that of all pixels, above which neighbours share it. White noise has 1. Of 18
# photographs and micrographs with white noise all were below 1.28, and with noise that was blurred by a Gaussian of 0.5
# pixels all were above 1.34, except those with noise of their own.
SHARED = 1.3
# The same, above which neighbours share most of their noise. Noise that was blurred by a Gaussian of 0.5 pixels had at
# most 1.7 on photographs, and by one of 0.8 pixels at least 3.8.
STRONGLY_SHARED = 2.5
# Smallest number of pixels of every second pixel along an axis, and largest number of planes and side of the middle of
# an image for the ratio.
_LEAST_SIDE, _MOST_PLANES, _LARGEST_SIDE = 24, 8, 1024
# Root mean square of the noise of every second pixel, in normalised values, that texture may explain. Of ten stacks and
# micrographs with little noise nine had less.
_TEXTURE = 0.03


def noise_ratio(samples: Samples) -> float | None:
    """Return the noise of every second pixel, relative to that of all pixels.

    It is 1 for white noise, and more if neighbours share their noise: differences of neighbours then show only a part
    of it. There are two estimates, and the smaller one is returned.

    Parameters
    ----------
    samples
        Image with two or three spatial axes.

    Returns
    -------
    float or None
        None for images that are too small, or have no more noise than texture explains.
    """
    values = _part(interpolated(samples))
    if min(values.shape[-2:]) < 2 * _LEAST_SIDE:
        return None
    halves = [np.ascontiguousarray(values[..., row::2, column::2]) for row in (0, 1) for column in (0, 1)]
    ratios = []
    for estimate, least in ((_root_mean_square, _TEXTURE), (_level, 0.0)):
        coarse = float(np.sqrt(np.mean([np.square(estimate(half)) for half in halves])))
        if coarse < least:
            return None
        ratios.append(coarse / max(estimate(values), 1e-9))
    return round(min(ratios), 3)


def is_strongly_shared(samples: Samples, config: FitConfig) -> bool:
    """Return whether neighbouring pixels share much of their noise. The noise of a known camera is not shared."""
    ratio = noise_ratio(samples) if config.camera_gain == "auto" else None
    return ratio is not None and ratio >= STRONGLY_SHARED


def models_of_shared_noise(samples: Samples, config: FitConfig) -> list[NoiseModel]:
    """Return the noise models of `noise_models`, or those of every second pixel if neighbours share their noise.

    On three photographs with noise of 8 and 20 grey levels that was blurred by a Gaussian of 0.5 to 1.2 pixels,
    denoising gained 0.4 to 3.4 dB by it.

    Parameters
    ----------
    samples, config
        Image with two or three spatial axes, and settings. The noise of a known camera is not changed.
    """
    models = noise_models(samples, config)
    ratio = noise_ratio(samples) if config.camera_gain == "auto" else None
    if ratio is None or ratio < SHARED:
        return models
    # The noise of every fourth pixel would be closer still if neighbours share much, but texture would count as noise.
    square = ratio**2
    return [replace(m, gain=square * m.gain, offset=square * m.offset, least=square * m.least) for m in models]


def _part(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the middle of some planes, (channels, planes, rows, columns)."""
    planes = values.reshape(len(values), -1, *values.shape[-2:])
    middle = (slice(max(0, (n - _LARGEST_SIDE) // 2), (n + _LARGEST_SIDE) // 2) for n in planes.shape[2:])
    return planes[(slice(None), slice(None, None, -(-planes.shape[1] // _MOST_PLANES)), *middle)]


def _level(values: npt.NDArray[np.float32]) -> float:
    return noise_level(values, np.ones(values.shape[1:], dtype=np.bool_))


def _root_mean_square(values: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean([NoiseModel.from_values(planes).variance(planes).mean() for planes in values])))
