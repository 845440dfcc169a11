"""The noise of an image in its own units, and whether neighbouring pixels share it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.config import FitConfig
from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.level import noise_level
from napari_siren.core.noise.model import NoiseModel, noise_models, pictures_of
from napari_siren.core.noise.patches import SIDE, Patches

# Smallest number of parts of an image for a standard error.
_LEAST_PARTS = 4
# Noise of every second pixel, relative to that of all pixels, above which neighbours share it. White noise has 1. Of 18
# photographs and micrographs with white noise all were below 1.28, and with noise that was blurred by a Gaussian of 0.5
# pixels all were above 1.34, except those with noise of their own.
_SHARED = 1.3
# Smallest number of pixels of every second pixel along an axis, and largest number of planes and side of the middle of
# an image for the ratio.
_LEAST_SIDE, _MOST_PLANES, _LARGEST_SIDE = 24, 8, 1024
# Root mean square of the noise of every second pixel, in normalised values, that texture may explain. Of ten stacks and
# micrographs with little noise nine had less.
_TEXTURE = 0.03


def noise_record(samples: Samples, config: FitConfig) -> dict[str, Any]:
    """Return the noise model of each channel in the image's units, and the ratio of the noise at two scales.

    Parameters
    ----------
    samples, config
        Image with two or three spatial axes, and settings.

    Returns
    -------
    dict
        "gain", "variance_at_zero" and "least_deviation" are lists with a number for each channel. The variance of noise
        at a value v is variance_at_zero + gain * v, and at least the square of least_deviation. "gain_error" and
        "variance_at_zero_error" are their standard errors: by chance, not by texture. They are None if the camera is
        known or the image is too small. "ratio" is the noise of
        every second pixel, relative to that of all pixels: 1 for white noise, and more if neighbours share their noise.
        It is None for images that are too small, or have no more noise than texture explains.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).normal(100, 5, (64, 64)).astype(np.float32)
    >>> noise = noise_record(Samples.from_array(image), FitConfig.preset("denoise"))
    >>> round(noise["least_deviation"][0]), abs(noise["ratio"] - 1) < 0.2
    (5, True)
    """
    normalisations = list(zip(samples.layout.offset, samples.layout.scale, strict=True))
    models = [m.in_units(*pair) for m, pair in zip(noise_models(samples, config), normalisations, strict=True)]
    record: dict[str, Any] = {name: [model[name] for model in models] for name in models[0]}
    errors = [
        standard_errors(*picture, *pair) if config.camera_gain == "auto" else None
        for picture, pair in zip(pictures_of(samples), normalisations, strict=True)
    ]
    for name in ("gain", "variance_at_zero"):
        record[f"{name}_error"] = [None if error is None else error[name] for error in errors]
    return {**record, "ratio": _ratio(samples)}


def standard_errors(
    values: npt.NDArray[np.float32], used: npt.NDArray[np.bool_] | None, offset: float, scale: float
) -> dict[str, float] | None:
    """Return the standard errors of an estimated `NoiseModel`, by name, in units of the image.

    They are the standard deviation of the estimates from parts of the image, divided by the root of their number.

    Parameters
    ----------
    values, used
        Planes and mask, as in `NoiseModel.from_values`.
    offset, scale
        Normalisation of the values, as in `NoiseModel.in_units`.

    Returns
    -------
    dict or None
        None if there are too few parts.
    """
    if min(values.shape[1:]) < 2 * SIDE:
        return None
    parts = [
        NoiseModel(*part.line(), 0.0).in_units(offset, scale) for part in Patches.from_values(values, used).by_parts()
    ]
    if len(parts) < _LEAST_PARTS:
        return None
    root = math.sqrt(len(parts))
    return {name: float(f"{np.std([part[name] for part in parts], ddof=1) / root:.2g}") for name in parts[0]}


def shared_noise_note(record: dict[str, Any]) -> str | None:
    """Return a note if neighbouring pixels share the noise of a `noise_record`, otherwise None."""
    ratio = record["ratio"]
    if ratio is None or ratio < _SHARED:
        return None
    return (
        f"neighbouring pixels share their noise (on every second pixel it is {ratio:.1f} times as strong), so part of "
        "it may remain; denoise the image as the camera recorded it if you can"
    )


def has_own_noise(record: Mapping[str, Any]) -> bool:
    """Return whether each pixel of the image of a `noise_record` has noise of its own, and not too little of it."""
    return record["ratio"] is not None and record["ratio"] < _SHARED


def _ratio(samples: Samples) -> float | None:
    """Return the noise of every second pixel relative to that of all pixels, by two estimates, the smaller ratio."""
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


def _part(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the middle of some planes, (channels, planes, rows, columns)."""
    planes = values.reshape(len(values), -1, *values.shape[-2:])
    middle = (slice(max(0, (n - _LARGEST_SIDE) // 2), (n + _LARGEST_SIDE) // 2) for n in planes.shape[2:])
    return planes[(slice(None), slice(None, None, -(-planes.shape[1] // _MOST_PLANES)), *middle)]


def _level(values: npt.NDArray[np.float32]) -> float:
    return noise_level(values, np.ones(values.shape[1:], dtype=np.bool_))


def _root_mean_square(values: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean([NoiseModel.from_values(planes).variance(planes).mean() for planes in values])))
