"""The choice among pretrained networks for an image, and the restorations that use them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from napari_siren.core.config import FitConfig
from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.noise import image_noise, noise_models
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.restoration.base import Restoration, uses_bfloat16
from napari_siren.core.restoration.pretrained.adaptation import LEAST_SIDE, ROUNDS, STEPS, TRIAL_ROUNDS, copy_factor
from napari_siren.core.restoration.pretrained.prediction import passes_for
from napari_siren.core.restoration.pretrained.restorer import PretrainedRestorer
from napari_siren.core.restoration.pretrained.weights import DENOISE, ENLARGE, MICROSCOPE, ROBUST, Weights, find_weights

# Observations for which the networks for super-resolution are trained. Back-projection corrects the difference.
_OBSERVATIONS = ("bicubic", "box")
# Smallest scale of the training, and smallest side of a picture.
_LEAST_DETAIL, _LEAST_SIDE = 1.5, 8
# Largest side of the part of an image on which networks are compared, and side of its smaller copy as a share.
_TRIAL_SIDE, _COPY = 256, 0.5
# Factor of the error of all candidates but the first: 0.08 dB.
_TIE = 1.02
# Settings of the tiles where those of the preset are not changed. Measured on Set5: twice as fast, -0.01 dB at x2.
_TILES = {"pixels_per_step": "half", "hidden_layers": 3, "parameters_per_value": 1.0}
# Detail up to which the tiles need all their steps. Finer samples are smoother: at x4 half of the steps do, -0.01 dB.
_FULL_DETAIL = 2.0
# Largest result in pixels for which a network is adapted without a request: few images gain by it.
_ADAPTED = 1 << 20
# Weights for each value of `FitConfig.pretrained`.
_FOR_ENLARGING = dict.fromkeys(("auto", "general", "microscope"), (ENLARGE, ROBUST))
_FOR_DENOISING = {"auto": (DENOISE, MICROSCOPE), "general": (DENOISE,), "microscope": (MICROSCOPE,)}


def plan_enlarging(samples: Samples, config: FitConfig, shape: tuple[int, ...]) -> Restoration | None:
    """Plan super-resolution by a pretrained network.

    Parameters
    ----------
    samples
        The image.
    config
        The settings.
    shape
        Rows and columns of the result.

    Returns
    -------
    Restoration or None
        None if the settings or the image do not allow it.
    """
    if not can_enlarge(samples.layout, config):
        return None

    def create(device: torch.device, seed: int) -> PretrainedRestorer:
        return enlarger(samples, config, device, shape, seed, rounds)

    passes, settings = passes_for(math.prod(shape)), tile_settings(config, config.detail)
    rounds = adaptation_rounds(config, samples.layout.spatial_shape, shape)
    # An adapted network repeats the first pass.
    steps = passes + (rounds + TRIAL_ROUNDS + 1 if rounds else 0)
    return Restoration(shape, PretrainedRestorer, create, tile_settings=settings, steps=steps)


def can_enlarge(layout: ImageLayout, config: FitConfig) -> bool:
    """Return whether pretrained super-resolution is possible for pictures of a layout."""
    usable = config.pretrained is not None and config.restoration is not None and config.observation in _OBSERVATIONS
    sizes = layout.spatial_shape
    return usable and len(sizes) == 2 and min(sizes) >= _LEAST_SIDE and config.detail >= _LEAST_DETAIL


def enlarger(
    samples: Samples,
    config: FitConfig,
    device: torch.device,
    shape: Sequence[int] | None = None,
    seed: int = 0,
    rounds: int = 0,
) -> PretrainedRestorer:
    """Return the restorer for super-resolution, with the weights that fit the image best.

    The weights are compared on a smaller copy of the image, whose true pixels are those of the image.

    Parameters
    ----------
    samples, config, device
        Image, settings and device.
    shape
        Rows and columns of the result. None is the shape of the image.
    seed, rounds
        Seed and largest number of rounds of the adaptation.
    """
    operator, noise = pixel_model(config, samples.layout.spacing), image_noise(samples)
    models, low_precision = noise_models(samples, config), uses_bfloat16(config, device)

    def create(weights: Weights, values: Tensor) -> PretrainedRestorer:
        return PretrainedRestorer(
            values, samples.layout, weights, models, operator, noise, low_precision, shape, rounds, seed
        )

    def error(restorer: PretrainedRestorer, values: Tensor) -> float:
        sizes = [max(1, round(_COPY * n)) for n in values.shape[1:]]
        # With as much noise as the image: a copy has less, and the comparison would prefer a network for clean images.
        prediction = restorer.predict(values.shape[1:], 1, restorer.smaller_copy(sizes))
        return float((prediction - values).square().mean())

    return _best(_FOR_ENLARGING, config, torch.from_numpy(interpolated(samples)).to(device), create, error)


def plan_denoising(samples: Samples, config: FitConfig) -> Restoration | None:
    """Plan denoising by a pretrained network; None if the settings or the image do not allow it."""
    sizes = samples.layout.spatial_shape
    if config.pretrained is None or len(sizes) != 2 or min(sizes) < _LEAST_SIDE:
        return None

    def create(device: torch.device, seed: int) -> PretrainedRestorer:
        models, low_precision = noise_models(samples, config), uses_bfloat16(config, device)

        def restorer(weights: Weights, values: Tensor) -> PretrainedRestorer:
            return PretrainedRestorer(values, samples.layout, weights, models, low_precision=low_precision)

        values = torch.from_numpy(interpolated(samples)).to(device)
        return _best(_FOR_DENOISING, config, values, restorer, lambda candidate, _: candidate.risk())

    settings = tile_settings(config, 1.0)
    return Restoration(sizes, PretrainedRestorer, create, tile_settings=settings, steps=passes_for(math.prod(sizes)))


def adaptation_rounds(config: FitConfig, sizes: Sequence[int], shape: Sequence[int]) -> int:
    """Return the largest number of rounds of adaptation. Small images have none, and large results only on request."""
    if min(sizes) < LEAST_SIDE * copy_factor(sizes, shape) ** 2:
        return 0
    if config.adapt == "auto":
        return ROUNDS if math.prod(shape) <= _ADAPTED else 0
    return 0 if config.adapt == "off" else math.ceil(config.adapt / STEPS)


def tile_settings(config: FitConfig, detail: float) -> dict[str, Any]:
    """Return the settings of the tiles that differ from those of the fit. Settings of the user are kept.

    Parameters
    ----------
    config
        The settings of the fit.
    detail
        Samples per pixel of the restored image.
    """
    preset = FitConfig.preset(config.name)
    settings = {**_TILES, "max_steps": round(config.max_steps * min(1.0, _FULL_DETAIL / detail))}
    return {name: value for name, value in settings.items() if getattr(config, name) == getattr(preset, name)}


def _best(
    table: Mapping[str, tuple[str, ...]],
    config: FitConfig,
    values: Tensor,
    create: Callable[[Weights, Tensor], PretrainedRestorer],
    error: Callable[[PretrainedRestorer, Tensor], float],
) -> PretrainedRestorer:
    """Return the restorer with the smallest estimated error on the middle of the image."""
    candidates = find_weights(config.pretrained or "", table)
    if len(candidates) == 1:
        return create(candidates[0], values)
    middle = values[:, *_middle(values.shape[1:])]
    errors = {weights: error(create(weights, middle), middle) for weights in candidates}
    # Ties go to the first candidate, which is the better one for clean images.
    best = min(errors, key=lambda weights: errors[weights] * (1 if weights is candidates[0] else _TIE))
    compared = {weights.name: round(_decibels(value), 2) for weights, value in errors.items()}
    return create(replace(best, compared=tuple(compared.items())), values)


def _middle(shape: Sequence[int]) -> tuple[slice, ...]:
    starts = [max(0, (n - _TRIAL_SIDE) // 2) for n in shape]
    return tuple(slice(start, start + _TRIAL_SIDE) for start in starts)


def _decibels(error: float) -> float:
    """Return the PSNR of a mean squared error in normalised values, whose range is 2."""
    return 10 * math.log10(4 / max(error, 1e-12))
