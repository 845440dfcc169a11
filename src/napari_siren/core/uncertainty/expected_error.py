"""Uncertainty of a render: the expected absolute error of each of its pixels.

The truth between the pixels of an image is not known. For a smaller copy of the image it is known: the image itself. So
a smaller copy is upscaled in the same way, its errors are computed, and an `ErrorModel` is trained on them. The model
then predicts the errors of the render.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.config import FitConfig
from napari_siren.core.field.field import Field
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.forward.operator import ForwardOperator, pixel_model
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.model import image_noise
from napari_siren.core.restoration.pipeline import as_samples, load_restorer
from napari_siren.core.restoration.pretrained.restorer import PretrainedRestorer
from napari_siren.core.restoration.zero_shot import ZeroShotSuperResolution
from napari_siren.core.training.checkpoint import Checkpoint
from napari_siren.core.training.trainer import TileTrainer
from napari_siren.core.uncertainty.error_model import Array, ErrorModel
from napari_siren.errors import InputError

# Smallest number of pixels of the copy along an axis. A copy with fewer contains too little to learn from.
_LEAST_SIDE = 16
# Number of error models. The geometric mean of their predictions ranks errors a little better than one model.
_MODELS = 4
# Mean absolute value of normal noise of standard deviation 1: sqrt(2 / pi).
_MEAN_OF_NORMAL = 0.798
# Smallest share of an expected error that remains after the subtraction of the noise.
_LEAST_SHARE = 0.25
# Share of the time until the trial is made.
_TRIAL_TIME = 0.4


@dataclass(frozen=True)
class Trial:
    """A render of known truth: the upscaled smaller copy of the image.

    Parameters
    ----------
    copy
        Smaller copy of the image, float32, (channels, *smaller), normalised.
    render
        Upscaled copy, float32, (channels, *spatial), normalised. It is as large as the image.
    """

    copy: Array
    render: Array


def expected_error(
    field: Field,
    samples: Samples,
    config: FitConfig,
    state: Checkpoint | None,
    seed: int,
    scale: float | Sequence[float],
    on_progress: Callable[[float], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Estimate the absolute error of a render.

    Parameters
    ----------
    field, samples, config, seed
        Field, samples, settings and seed of the fit.
    state
        Checkpoint of the fit. It has the network that was trained on the image, if there is one.
    scale
        Scale of the render: a number, or one for each spatial axis.
    on_progress
        Function that is called often with the share of the work that is done, 0 to 1. An exception in it ends the work.

    Returns
    -------
    ndarray
        Expected errors, float32, in the image's units, see `FitResult.uncertainty`.

    Raises
    ------
    InputError
        The errors cannot be learned from the image (after deconvolution, or from a burst), or the scale is invalid.
    """
    if config.restoration is not None and not config.restoration.predicts_error:
        raise InputError(
            "expected errors are learned from smaller copies of the image. They do not show the errors of a blur that "
            "was taken out, or of frames that were joined. Fit without deconvolution or a burst."
        )
    field, samples = _without_outliers(field, samples)
    layout = samples.layout
    grid = RenderGrid.from_layout(layout, scale=scale)
    image = _whole(samples, field)
    report = on_progress or (lambda share: None)
    report(0.0)
    trial = _trial(field, samples, config, state, seed, image, grid, report)
    known, render = samples.observed & ~samples.heldout, _normalised(field, grid)
    levels = np.zeros_like(render)
    for number in range(_MODELS):

        def learned(share: float, number: int = number) -> None:
            report(_TRIAL_TIME + (1 - _TRIAL_TIME) * (number + share) / _MODELS)

        model = ErrorModel(len(layout.spatial_shape), seed + number)
        model.learn(trial.render, trial.copy, np.abs(trial.render - image), known, learned)
        levels += np.log(np.maximum(model.predict(render, image), np.finfo(np.float32).tiny)) / _MODELS
    error = _without_noise(np.exp(levels), image_noise(samples))
    units = error * np.abs(_column(layout.scale, error.ndim))
    return np.ascontiguousarray(layout.from_channels_first(units), dtype=np.float32)


def _trial(
    field: Field,
    samples: Samples,
    config: FitConfig,
    state: Checkpoint | None,
    seed: int,
    image: Array,
    grid: RenderGrid,
    report: Callable[[float], None],
) -> Trial:
    """Upscale a smaller copy in the same way as the image, by the same scale if the copy has enough pixels."""
    sizes = samples.layout.spatial_shape
    smaller = [max(min(n, _LEAST_SIDE), min(n, round(n * n / m))) for n, m in zip(sizes, grid.shape, strict=True)]
    device = field.representation.device
    if tuple(smaller) == sizes:
        return Trial(image, _normalised(field, RenderGrid.from_layout(samples.layout)))
    if field.observation is not None and state is not None:
        restorer = load_restorer(samples, config, device, state)
    else:
        restorer = None
    if isinstance(restorer, ZeroShotSuperResolution) or (
        isinstance(restorer, PretrainedRestorer) and restorer.enlarges
    ):
        copy = restorer.smaller_copy(smaller)
        return Trial(copy.cpu().numpy(), restorer.predict(sizes, values=copy).cpu().numpy())
    operator = (
        pixel_model(config, samples.layout.spacing)
        if config.sees_area
        else ForwardOperator.from_kind("bicubic", len(sizes))
    )
    small_image = operator(torch.from_numpy(image), smaller).numpy()
    small_field = _fitted(as_samples(samples.layout, small_image), config, device, seed, report)
    fine = RenderGrid.from_layout(small_field.layout, shape=sizes)
    return Trial(small_image, _normalised(small_field, fine))


def _fitted(
    samples: Samples, config: FitConfig, device: torch.device, seed: int, report: Callable[[float], None]
) -> Field:
    """Fit tiles to the whole image, until the last step."""
    limits = {"max_seconds": None, "target_psnr": None, "task": None, "task_steps": 0}
    run = TileTrainer(samples, config.override(**limits), device, seed)
    while run.step_count < run.max_steps:
        report(_TRIAL_TIME * run.step_count / run.max_steps)
        run.step()
    return run.best_field()


def _without_outliers(field: Field, samples: Samples) -> tuple[Field, Samples]:
    """Return a field and its image without the outliers, which would be spread in a smaller copy."""
    if field.outliers is None:
        return field, samples
    return replace(field, outliers=None), replace(samples, observed=samples.observed & ~field.outliers.mask)


def _whole(samples: Samples, field: Field) -> Array:
    """Return the image's normalised values, with missing pixels from the field."""
    if samples.observed.all():
        return samples.values
    render = _normalised(field, RenderGrid.from_layout(samples.layout))
    return np.where(samples.observed, samples.values, render)


def _normalised(field: Field, grid: RenderGrid) -> Array:
    """Render the field on a grid: normalised values, (channels, *shape)."""
    layout = field.layout
    values = layout.to_channels_first(field.render(grid, dtype=np.float32))
    offset, scale = _column(layout.offset, values.ndim), _column(layout.scale, values.ndim)
    normalised: Array = np.zeros(values.shape, dtype=np.float32)
    np.divide(values - offset, scale, out=normalised, where=scale != 0, casting="same_kind")
    return normalised


def _without_noise(error: Array, noise: float) -> Array:
    """Subtract the noise of the trial's truth from the expected errors."""
    squares = np.square(error) - (_MEAN_OF_NORMAL * noise) ** 2
    corrected: Array = np.sqrt(np.maximum(squares, np.square(_LEAST_SHARE * error)))
    return corrected


def _column(numbers: Sequence[float], dimensions: int) -> npt.NDArray[Any]:
    """Return one number for each channel as an array of shape (channels, 1, ...)."""
    return np.array(numbers, dtype=np.float64).reshape(-1, *(1,) * (dimensions - 1))
