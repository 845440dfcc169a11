"""The noise of an image in its own units, and whether neighbouring pixels share it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.model import NoiseModel, noise_models, pictures_of
from napari_siren.core.noise.patches import SIDE, Patches
from napari_siren.core.noise.shared import SHARED, noise_ratio
from napari_siren.core.settings.config import FitConfig

# Smallest number of parts of an image for a standard error.
_LEAST_PARTS = 4


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
        known or the image is too small. "ratio" is that of `noise_ratio`.

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
    return {**record, "ratio": noise_ratio(samples)}


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
    if ratio is None or ratio < SHARED:
        return None
    return (
        f"neighbouring pixels share their noise (on every second pixel it is {ratio:.1f} times as strong), so "
        "denoising assumes the stronger noise, and part of it may remain; denoise the image as the camera recorded it "
        "if you can"
    )


def has_own_noise(record: Mapping[str, Any]) -> bool:
    """Return whether each pixel of the image of a `noise_record` has noise of its own, and not too little of it."""
    return record["ratio"] is not None and record["ratio"] < SHARED
