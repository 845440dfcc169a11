"""The choice among pretrained networks for an image, and the restorations that use them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.noise.level import image_noise
from napari_siren.core.noise.model import NoiseModel, noise_models
from napari_siren.core.noise.shared import models_of_shared_noise
from napari_siren.core.restoration.base import Restoration, uses_bfloat16
from napari_siren.core.restoration.pretrained.adaptation import LEAST_SIDE, ROUNDS, STEPS, TRIAL_ROUNDS, copy_factor
from napari_siren.core.restoration.pretrained.components import Components
from napari_siren.core.restoration.pretrained.prediction import passes_for
from napari_siren.core.restoration.pretrained.restorer import PretrainedRestorer
from napari_siren.core.restoration.pretrained.stack import StackRestorer
from napari_siren.core.restoration.pretrained.weights import (
    DENOISE,
    ENLARGE,
    MICROSCOPE,
    ROBUST,
    STACK,
    Weights,
    find_weights,
    package_weights,
)
from napari_siren.core.settings.config import FitConfig

# Observations for which the networks for super-resolution are trained. Back-projection corrects the difference.
_OBSERVATIONS = ("bicubic", "box")
# Smallest scale of the training, and smallest side of a picture.
_LEAST_DETAIL, _LEAST_SIDE = 1.5, 8
# Largest side of the part of an image on which networks are compared.
_TRIAL_SIDE = 256
# Factor of the error of all candidates but the first: 0.08 dB. Ties go to the first, the better one for clean images.
_TIE = 1.02
# The same if the first one is for micrographs: 1.4 dB. Optics blur a micrograph, and its smaller copy is sharper than
# those of the training. Of grey photographs 10 of 13 lost more than this with it, and of micrographs none.
_MICROGRAPH = 1.38
# Root mean square of the estimated noise that texture may explain, in normalised values. Of twelve micrographs without
# added noise eight had less, and with the noise of 100 photons all had more.
_TEXTURE = 0.025
# Settings of the tiles where those of the preset are not changed. Measured on Set5: twice as fast, -0.01 dB at x2.
_TILES = {"pixels_per_step": "half", "hidden_layers": 3, "parameters_per_value": 1.0}
# Detail up to which the tiles need all their steps. Finer samples are smoother: at x4 half of the steps do, -0.01 dB.
_FULL_DETAIL = 2.0
# Largest result in pixels for which a network is adapted without a request: few images gain by it.
_ADAPTED = 1 << 20
# Weights for each value of `FitConfig.pretrained`.
_FOR_ENLARGING = {"auto": (ENLARGE, ROBUST), "general": (ENLARGE, ROBUST), "microscope": (MICROSCOPE,)}
_FOR_MICROGRAPHS = {**_FOR_ENLARGING, "auto": (MICROSCOPE, ROBUST, ENLARGE)}
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
    if rounds and config.adapt == "auto" and may_be_micrograph(samples.layout):
        # Smaller copies of noisy micrographs mislead the adaptation.
        rounds = 0 if overall_noise(samples, noise_models(samples, config)) > 0 else rounds
    # An adapted network repeats the first pass.
    steps = passes + (rounds + TRIAL_ROUNDS + 1 if rounds else 0)
    return Restoration(shape, PretrainedRestorer, create, tile_settings=settings, steps=steps, uses_pretrained=True)


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

    The weights are compared on a smaller copy of the image, whose true pixels are those of the image. The weights for
    micrographs are preferred for images that are neither colours nor of 8 bits. The noise of such an image determines
    the choice, if there is any.

    Parameters
    ----------
    samples, config, device
        Image, settings and device.
    shape
        Rows and columns of the result. None is the shape of the image.
    seed, rounds
        Seed and largest number of rounds of the adaptation.
    """
    operator, models = pixel_model(config, samples.layout.spacing), noise_models(samples, config)
    noise, low_precision = overall_noise(samples, models), uses_bfloat16(config, device)

    def create(weights: Weights, values: Tensor) -> PretrainedRestorer:
        return PretrainedRestorer(
            values, samples.layout, weights, models, operator, noise, low_precision, shape, rounds, seed
        )

    values = torch.from_numpy(interpolated(samples)).to(device)
    pretrained = config.pretrained or "auto"
    if not may_be_micrograph(samples.layout):
        return _best(_FOR_ENLARGING, pretrained, values, create, PretrainedRestorer.error_of_copy)
    if noise > 0:
        return _best(_FOR_MICROGRAPHS, pretrained, values, create, PretrainedRestorer.risk)
    return _best(_FOR_MICROGRAPHS, pretrained, values, create, PretrainedRestorer.error_of_copy, _MICROGRAPH)


def plan_denoising(samples: Samples, config: FitConfig) -> Restoration | None:
    """Plan denoising by pretrained networks; None if the settings or the image do not allow it.

    Parameters
    ----------
    samples
        A picture, a stack or a film.
    config
        The settings.
    """
    sizes = samples.layout.spatial_shape
    stack = len(sizes) == 3 and sizes[0] > 1
    if config.pretrained is None or not (stack or len(sizes) == 2) or min(sizes[-2:]) < _LEAST_SIDE:
        return None

    def create(device: torch.device, seed: int) -> PretrainedRestorer | StackRestorer:
        values, models = torch.from_numpy(interpolated(samples)).to(device), models_of_shared_noise(samples, config)
        return (stack_denoiser if stack else _denoiser)(values, samples.layout, models, config)

    settings, passes = tile_settings(config, 1.0), passes_for(math.prod(sizes), not stack)
    restorer_class = StackRestorer if stack else PretrainedRestorer
    return Restoration(sizes, restorer_class, create, tile_settings=settings, steps=passes, uses_pretrained=True)


def stack_denoiser(
    values: Tensor, layout: ImageLayout, models: Sequence[NoiseModel], config: FitConfig
) -> StackRestorer:
    """Return the restorer that denoises a stack.

    Parameters
    ----------
    values
        The stack, (channels, planes, rows, columns), normalised, on the device to use.
    layout, models, config
        Layout of the image, noise model of each channel, and settings.
    """
    alone = _denoiser(values[:, values.shape[1] // 2], layout, models, config)
    weights, low_precision = (alone.weights, package_weights(STACK)), uses_bfloat16(config, values.device)
    return StackRestorer(values, layout, weights, models, low_precision)


def _denoiser(
    values: Tensor, layout: ImageLayout, models: Sequence[NoiseModel], config: FitConfig
) -> PretrainedRestorer:
    """Return the restorer that denoises a picture, (channels, rows, columns), with the weights that fit it best."""

    def create(weights: Weights, picture: Tensor) -> PretrainedRestorer:
        low_precision = uses_bfloat16(config, values.device)
        return PretrainedRestorer(picture, layout, weights, models, low_precision=low_precision)

    chosen = config.pretrained or "auto"
    if config.restoration is None or config.restoration.removes != "noise":
        # A file of weights is for another task then.
        chosen = chosen if chosen in _FOR_DENOISING else "auto"
    return _best(_FOR_DENOISING, chosen, values, create, PretrainedRestorer.risk)


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


def overall_noise(samples: Samples, models: Sequence[NoiseModel]) -> float:
    """Return the standard deviation of the noise in normalised values, or 0 if texture explains it.

    It is about the smallest at any brightness. The dark parts of a micrograph may have no noise. For micrographs it is
    therefore at least the root mean square.
    """
    noise = image_noise(samples)
    if not may_be_micrograph(samples.layout):
        return noise
    squares = [model.variance(channel).mean() for model, channel in zip(models, samples.values, strict=True)]
    overall = math.sqrt(max(0.0, float(np.mean(squares))))
    return max(noise, overall) if overall > _TEXTURE else noise


def may_be_micrograph(layout: ImageLayout) -> bool:
    """Return whether an image is neither in colour nor of 8 bits."""
    return layout.dtype != "uint8" and not Components(layout, absolute=False).are_colours


def _best(
    table: Mapping[str, tuple[str, ...]],
    pretrained: str,
    values: Tensor,
    create: Callable[[Weights, Tensor], PretrainedRestorer],
    error: Callable[[PretrainedRestorer], float],
    tie: float = _TIE,
) -> PretrainedRestorer:
    """Return the restorer with the smallest estimated error on the middle of the image.

    Parameters
    ----------
    table, pretrained
        Candidates for each value of `FitConfig.pretrained`, and this value.
    values
        The image.
    create
        Function of weights and an image that returns the restorer.
    error
        Function that estimates the mean squared error of a restorer.
    tie
        Factor of the errors of all candidates but the first.
    """
    candidates = find_weights(pretrained, table)
    if len(candidates) == 1:
        return create(candidates[0], values)
    middle = values[:, *_middle(values.shape[1:])]
    errors = {weights: error(create(weights, middle)) for weights in candidates}
    # An estimate of the risk may be negative, and then a factor would make it smaller.
    best = min(errors, key=lambda w: errors[w] + (0 if w is candidates[0] else (tie - 1) * abs(errors[w])))
    compared = {weights.name: _decibels(value) for weights, value in errors.items()}
    return create(replace(best, compared=tuple(compared.items())), values)


def _middle(shape: Sequence[int]) -> tuple[slice, ...]:
    starts = [max(0, (n - _TRIAL_SIDE) // 2) for n in shape]
    return tuple(slice(start, start + _TRIAL_SIDE) for start in starts)


def _decibels(error: float) -> float | None:
    """Return the PSNR of a mean squared error in normalised values, whose range is 2. An estimate below 0 has none."""
    return round(10 * math.log10(4 / error), 2) if error > 0 else None
