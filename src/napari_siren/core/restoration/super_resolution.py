"""Super-resolution: plans a network for the pixels of a picture, or for the slices of a stack."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.level import image_noise
from napari_siren.core.noise.model import noise_models
from napari_siren.core.restoration.base import Restoration, uses_bfloat16
from napari_siren.core.restoration.pretrained.plan import overall_noise, plan_enlarging, stack_denoiser
from napari_siren.core.restoration.self_supervised.axial import (
    FEW_ROWS,
    LEAST_DENOISED_ROWS,
    LEAST_RATIO,
    LEAST_ROWS,
    SHORT_TRAINING,
    AxialSuperResolution,
    known_slices,
)
from napari_siren.core.restoration.self_supervised.axial import LEAST_SIDE as LEAST_SLICE_SIDE
from napari_siren.core.restoration.self_supervised.start import start_for_slices
from napari_siren.core.restoration.self_supervised.zero_shot import LEAST_PIXELS, LEAST_SIDE, ZeroShotSuperResolution
from napari_siren.core.settings.config import FitConfig

# Largest ratio of the pixel's sides within a slice: rows and columns both stand in for the axis between slices.
_LARGEST_ANISOTROPY = 1.1


def plan(samples: Samples, config: FitConfig, frames: npt.NDArray[np.float32] | None = None) -> Restoration | None:
    """Plan the enlargement of a picture, or of a stack along its first axis.

    Parameters
    ----------
    samples
        The image.
    config
        The settings.
    frames
        Not used.
    """
    sizes, complete = samples.layout.spatial_shape, bool(samples.used.all())
    if len(sizes) == 2 and (pretrained := plan_enlarging(samples, config, fine_shape(sizes, config))) is not None:
        return pretrained
    if allows_zero_shot(sizes, config):
        return _pixels(samples, config) if complete else None
    known = known_slices(samples.used) if len(sizes) == 3 else None
    if known is None or not _allows_axial(samples, known, LEAST_DENOISED_ROWS):
        return None
    # Slices that are missing at the ends only do not lie between others.
    if known.step == 1 and not complete:
        return None
    return _slices(samples, config, known)


def allows_zero_shot(shape: Sequence[int], config: FitConfig) -> bool:
    """Return whether zero-shot super-resolution applies to pictures of a spatial shape without missing pixels."""
    if config.restoration is None or config.task != "super-resolution" or len(shape) != 2:
        return False
    return min(shape) >= LEAST_SIDE and math.prod(shape) >= LEAST_PIXELS


def fine_shape(shape: Sequence[int], config: FitConfig) -> tuple[int, ...]:
    """Return the number of samples along axes after super-resolution."""
    return tuple(max(n, round(config.detail * n)) for n in shape)


def _pixels(samples: Samples, config: FitConfig) -> Restoration:
    sizes = samples.layout.spatial_shape
    shape = fine_shape(sizes, config)

    def create(device: torch.device, seed: int) -> ZeroShotSuperResolution:
        rows, columns = (n / m for n, m in zip(shape, sizes, strict=True))
        values, operator = torch.from_numpy(samples.values).to(device), pixel_model(config, samples.layout.spacing)
        noise, low_precision = image_noise(samples), uses_bfloat16(config, device)
        return ZeroShotSuperResolution(values, operator, (rows, columns), noise, seed, low_precision)

    return Restoration(shape, ZeroShotSuperResolution, create)


def _slices(samples: Samples, config: FitConfig, known: slice) -> Restoration | None:
    models = noise_models(samples, config)
    noise = models if overall_noise(samples, models) > 0 else []
    denoises = bool(noise) and config.pretrained is not None
    if not (denoises or _allows_axial(samples, known, LEAST_ROWS)):
        return None
    sizes = samples.layout.spatial_shape
    shape = sizes if known.step > 1 else (fine_shape(sizes[:1], config)[0], *sizes[1:])
    little_training = config.task_steps <= SHORT_TRAINING or not _allows_axial(samples, known, FEW_ROWS)
    starts = config.pretrained is not None and little_training

    def create(device: torch.device, seed: int) -> AxialSuperResolution:
        thick = config.observation != "point" and known.step == 1
        values, low_precision = torch.from_numpy(samples.values).to(device), uses_bfloat16(config, device)
        denoiser = start = None
        if denoises:
            denoiser = stack_denoiser(values[:, known].contiguous(), samples.layout, models, config)
        if starts:
            start = start_for_slices()
        ratio = _ratio(samples, known)
        return AxialSuperResolution(values, known, ratio, thick, noise, seed, low_precision, denoiser, start)

    return Restoration(shape, AxialSuperResolution, create, uses_pretrained=denoises or starts)


def _ratio(samples: Samples, known: slice) -> float:
    """Return the distance of known slices in pixels of a slice."""
    along, *across = samples.layout.spacing
    return float(along * known.step / np.mean(across))


def _allows_axial(samples: Samples, known: slice, rows: int) -> bool:
    """Return whether the slices are isotropic, far apart, and large enough for a number of thinned rows."""
    sizes, ratio, across = samples.layout.spatial_shape, _ratio(samples, known), samples.layout.spacing[1:]
    isotropic = max(across) <= _LARGEST_ANISOTROPY * min(across)
    return isotropic and ratio >= LEAST_RATIO and min(sizes[1:]) >= max(LEAST_SLICE_SIDE, rows * ratio)
