"""`Trial`: a render of known truth, made in the same way as that of a result.

The truth between the pixels of an image is not known. For a smaller copy of the image it is known: the image itself. So
a smaller copy is upscaled in the same way.

The truth of a noisy image is not known either. So the denoised image serves as a truth. Noise is added to it, and it is
denoised in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.field.field import Field
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.forward.operator import ForwardOperator, pixel_model
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.level import image_noise
from napari_siren.core.noise.shared import models_of_shared_noise
from napari_siren.core.restoration.pipeline import load_restorer
from napari_siren.core.restoration.pretrained.restorer import PretrainedRestorer
from napari_siren.core.restoration.pretrained.stack import StackRestorer
from napari_siren.core.restoration.self_supervised.blind_spot import BlindSpot
from napari_siren.core.restoration.self_supervised.zero_shot import ZeroShotSuperResolution
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.checkpoint import Checkpoint
from napari_siren.core.training.trainer import TileTrainer
from napari_siren.core.uncertainty.error_model import Array
from napari_siren.errors import InputError

_Denoiser = PretrainedRestorer | StackRestorer | BlindSpot

# Smallest number of pixels of the copy along an axis. A copy with fewer contains too little to learn from.
_LEAST_SIDE = 16
# Reduction of a denoised image, which then serves as the truth. It lacks details that the scene had, and without them
# the errors would be underestimated by a quarter. The value was chosen by ten images.
_REDUCTION = 1.75
# Largest number of pixels that are denoised for a trial.
_MOST_PIXELS = 1 << 20


@dataclass(frozen=True)
class Trial:
    """A render of known truth.

    Parameters
    ----------
    copy
        Image of the render, float32, (channels, *smaller), normalised.
    render, truth
        Render of the copy and its truth, float32, (channels, *shape), normalised.
    weight
        Mask, bool, (*shape): True for the pixels whose truth is known.
    noise
        Standard deviation of the noise of the truth, normalised.
    share
        Share of the image along each axis, about its middle, that has the same mean error as the trial. None if the
        errors of the image may have another mean.
    """

    copy: Array
    render: Array
    truth: Array
    weight: npt.NDArray[np.bool_]
    noise: float = 0.0
    share: tuple[float, ...] | None = None

    @property
    def error(self) -> Array:
        """Absolute errors of the render."""
        error: Array = np.abs(self.render - self.truth)
        return error

    def rescaled(self, expected: Array) -> Array:
        """Return expected errors of the image, (channels, *grid), with the mean of the trial in each channel."""
        if self.share is None:
            return expected
        sizes = [max(1, round(share * n)) for n, share in zip(expected.shape[1:], self.share, strict=True)]
        axes = tuple(range(1, expected.ndim))
        found = _middle(expected, sizes).mean(axis=axes, keepdims=True)
        scaled: Array = expected * (self.error.mean(axis=axes, keepdims=True) / np.maximum(found, 1e-12))
        return scaled


def make_trial(
    field: Field,
    samples: Samples,
    config: FitConfig,
    state: Checkpoint | None,
    seed: int,
    grid: RenderGrid,
    report: Callable[[float], None],
) -> Trial:
    """Restore an image of known truth in the same way as a result.

    Parameters
    ----------
    field, samples, config, state, seed
        Those of the result; see `expected_error`.
    grid
        Grid of the render. The trial has the same scale if the image has enough pixels.
    report
        Function that is called with the share of the work that is done, 0 to 1.

    Raises
    ------
    InputError
        The result has no state, and without it the denoising cannot be repeated.
    """
    denoiser = _denoiser(field, samples, config, state, seed)
    if denoiser is None:
        return _upscaled_trial(field, samples, config, state, seed, grid, report)
    denoised = normalised_render(field, RenderGrid.from_layout(samples.layout))
    # The restorer checks at each block whether the report ends the work.
    with denoiser.cancellation.watched(lambda: report(0.0)):
        return _denoised_trial(denoiser, denoised, samples, config, seed, grid)


def normalised_render(field: Field, grid: RenderGrid) -> Array:
    """Render a field on a grid: normalised values, (channels, *shape)."""
    layout = field.layout
    values = layout.to_channels_first(field.render(grid, dtype=np.float32))
    column = (-1,) + (1,) * (values.ndim - 1)
    offset, scale = (np.array(numbers, np.float32).reshape(column) for numbers in (layout.offset, layout.scale))
    normalised: Array = np.zeros(values.shape, dtype=np.float32)
    np.divide(values - offset, scale, out=normalised, where=scale != 0, casting="same_kind")
    return normalised


def _denoiser(
    field: Field, samples: Samples, config: FitConfig, state: Checkpoint | None, seed: int
) -> _Denoiser | None:
    """Return the restorer that removed the noise of a result, or None if there was none."""
    task = config.restoration
    if task is None or task.removes != "noise" or field.observation is None:
        return None
    device = field.representation.device
    if state is not None:
        restorer = load_restorer(samples, config, device, state)
    else:
        restoration = plan_restoration(samples, config)
        assert restoration is not None
        if not restoration.restorer_class.ready:
            raise InputError(
                "the network that denoised this image was trained on it, and the result has no state with that "
                "network. Estimate the uncertainty of the result of fit itself."
            )
        restorer = restoration.create(device, seed)
    assert isinstance(restorer, _Denoiser)
    return restorer


def _denoised_trial(
    restorer: _Denoiser, denoised: Array, samples: Samples, config: FitConfig, seed: int, grid: RenderGrid
) -> Trial:
    """Add noise to a smaller copy of the denoised image, and denoise it."""
    sizes = denoised.shape[1:]
    scales = [max(1.0, m / n) for n, m in zip(sizes, grid.shape, strict=True)]
    enlarged = max(scales) > 1
    if not enlarged:
        # Between slices and frames there is little detail to lose.
        scales = [1.0] * (len(sizes) - 2) + [_REDUCTION] * 2
    part = _part(sizes, round(_MOST_PIXELS * math.prod(scales)))
    image, share = _middle(denoised, part), tuple(m / n for n, m in zip(sizes, part, strict=True))
    copy = _smaller(image, scales)
    models, rng = models_of_shared_noise(samples, config), np.random.default_rng(seed)
    variances = np.stack([model.variance(channel) for model, channel in zip(models, copy, strict=True)])
    noisy = copy + np.sqrt(np.maximum(variances, 0)) * rng.standard_normal(copy.shape, dtype=np.float32)
    noisy = noisy.astype(np.float32)
    render = restorer.denoise(torch.from_numpy(noisy)).cpu().float().numpy()
    truth = image if enlarged else copy
    fine = ForwardOperator.from_kind("point", len(sizes))(torch.from_numpy(render), truth.shape[1:]).numpy()
    return Trial(noisy, fine, truth, np.ones(truth.shape[1:], dtype=np.bool_), share=share)


def _part(sizes: Sequence[int], most: int) -> list[int]:
    """Return the shape of a part of an image with a number of pixels at the most: its longest sides are halved."""
    part = list(sizes)
    while math.prod(part) > most and max(part) > _LEAST_SIDE:
        longest = part.index(max(part))
        part[longest] = max(_LEAST_SIDE, part[longest] // 2)
    return part


def _middle(values: Array, part: Sequence[int]) -> Array:
    """Return the middle of an image, (channels, *spatial)."""
    starts = [(n - m) // 2 for n, m in zip(values.shape[1:], part, strict=True)]
    return values[:, *(slice(start, start + m) for start, m in zip(starts, part, strict=True))]


def _smaller(image: Array, scales: Sequence[float]) -> Array:
    shape = [max(min(n, _LEAST_SIDE), round(n / scale)) for n, scale in zip(image.shape[1:], scales, strict=True)]
    return ForwardOperator.from_kind("box", len(shape))(torch.from_numpy(image), shape).numpy()


def _upscaled_trial(
    field: Field,
    samples: Samples,
    config: FitConfig,
    state: Checkpoint | None,
    seed: int,
    grid: RenderGrid,
    report: Callable[[float], None],
) -> Trial:
    """Upscale a smaller copy in the same way as the image, by the same scale if the copy has enough pixels."""
    sizes, image = samples.layout.spatial_shape, whole_image(samples, field)
    known, noise = samples.observed & ~samples.heldout, image_noise(samples)
    smaller = [max(min(n, _LEAST_SIDE), min(n, round(n * n / m))) for n, m in zip(sizes, grid.shape, strict=True)]
    if tuple(smaller) == sizes:
        return Trial(image, normalised_render(field, RenderGrid.from_layout(samples.layout)), image, known, noise)
    device = field.representation.device
    is_restored = field.observation is not None
    restorer = load_restorer(samples, config, device, state) if is_restored and state is not None else None
    if isinstance(restorer, ZeroShotSuperResolution) or (
        isinstance(restorer, PretrainedRestorer) and restorer.enlarges
    ):
        copy = restorer.smaller_copy(smaller)
        with restorer.cancellation.watched(lambda: report(0.0)):
            render = restorer.predict(sizes, values=copy).cpu().numpy()
        return Trial(copy.cpu().numpy(), render, image, known, noise)
    operator = (
        pixel_model(config, samples.layout.spacing)
        if config.sees_area
        else ForwardOperator.from_kind("bicubic", len(sizes))
    )
    small_image = operator(torch.from_numpy(image), smaller).numpy()
    small_field = _fitted(Samples.on_grid(small_image, samples.layout), config, device, seed, report)
    fine = RenderGrid.from_layout(small_field.layout, shape=sizes)
    return Trial(small_image, normalised_render(small_field, fine), image, known, noise)


def _fitted(
    samples: Samples, config: FitConfig, device: torch.device, seed: int, report: Callable[[float], None]
) -> Field:
    """Fit tiles to the whole image, until the last step."""
    limits = {"max_seconds": None, "target_psnr": None, "task": None, "task_steps": 0}
    run = TileTrainer(samples, config.override(**limits), device, seed)
    while run.step_count < run.max_steps:
        report(run.step_count / run.max_steps)
        run.step()
    return run.best_field()


def whole_image(samples: Samples, field: Field) -> Array:
    """Return the image's normalised values, with missing pixels from the field."""
    if samples.observed.all():
        return samples.values
    render = normalised_render(field, RenderGrid.from_layout(samples.layout))
    return np.where(samples.observed, samples.values, render)
