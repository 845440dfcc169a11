"""How far a render can be trusted: the expected absolute error of each of its pixels.

The truth between the pixels is not known, but one scale further down it is: the image itself. So a smaller copy of the
image is upscaled in the same way, the error is looked up, and an `ErrorModel` learns from it what a wrong pixel looks
like. It is then asked about the render.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.config import LEARNING, FitConfig
from napari_siren.core.field.field import Field
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.forward.operator import Observation, pixel_model
from napari_siren.core.image.noise import image_noise
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.pipeline import as_samples, teacher_of
from napari_siren.core.restoration.super_resolution import CrossScale
from napari_siren.core.training.trainer import Run, State
from napari_siren.core.uncertainty.error_model import Array, ErrorModel
from napari_siren.errors import InputError

# A copy with fewer pixels along an axis tells nothing.
_LEAST_SIDE = 16
# Models that are asked; the geometric mean of what they say ranks errors a little better than one does.
_MODELS = 4
# Mean absolute value of normal noise of standard deviation 1.
_MEAN_OF_NORMAL = 0.798
# The noise that is taken away from an expected error leaves this share of it.
_LEAST_SHARE = 0.25


@dataclass(frozen=True)
class Trial:
    """A render whose truth is known; all arrays normalised.

    Parameters
    ----------
    copy
        (channels, *smaller): the image's smaller copy.
    render
        (channels, *spatial): what was made of it, as large as the image.
    """

    copy: Array
    render: Array


def expected_error(
    field: Field, samples: Samples, config: FitConfig, state: State | None, seed: int, scale: float | Sequence[float]
) -> npt.NDArray[np.float32]:
    """Estimate the absolute error of a render.

    Parameters
    ----------
    field, samples, config, state, seed
        Of the fit; `state` has the network that learned from the image, if there is one.
    scale
        Of the render.

    Returns
    -------
    ndarray
        See `FitResult.uncertainty`.

    Raises
    ------
    InputError
        Nothing of the image tells how large errors are; or a bad scale.
    """
    if config.deconvolution_steps or config.burst_steps:
        raise InputError(
            "how large errors are is learned from smaller copies of the image, which say nothing of a blur that was "
            "taken out, or of frames that were joined."
        )
    layout = samples.format
    grid = RenderGrid.of(layout.spatial_shape, layout.spacing, scale=scale)
    image = _whole(samples, field)
    trial = _trial(field, samples, config, state, seed, image, grid)
    known, render = samples.observed & ~samples.heldout, _normalised(field, grid)
    levels = np.zeros_like(render)
    for number in range(_MODELS):
        model = ErrorModel(len(layout.spatial_shape), seed + number)
        model.learn(trial.render, trial.copy, np.abs(trial.render - image), known)
        levels += np.log(np.maximum(model.predict(render, image), np.finfo(np.float32).tiny)) / _MODELS
    error = _without_noise(np.exp(levels), image_noise(samples))
    units = error * np.abs(_column(layout.scale, error.ndim))
    return np.ascontiguousarray(layout.from_channels_first(units), dtype=np.float32)


def _trial(
    field: Field, samples: Samples, config: FitConfig, state: State | None, seed: int, image: Array, grid: RenderGrid
) -> Trial:
    """Upscale a smaller copy of the image as the image was, by the same scale where it has pixels enough."""
    sizes = samples.format.spatial_shape
    smaller = [max(min(n, _LEAST_SIDE), min(n, round(n * n / m))) for n, m in zip(sizes, grid.shape, strict=True)]
    device = field.siren.theta.device
    if tuple(smaller) == sizes:
        return Trial(image, _normalised(field, RenderGrid.of(sizes, samples.format.spacing)))
    if field.observation is not None and state is not None:
        teacher = teacher_of(samples, config, device, state)
    else:
        teacher = None
    if isinstance(teacher, CrossScale):
        copy = teacher.smaller_copy(smaller)
        return Trial(copy.cpu().numpy(), teacher.predict(sizes, values=copy).cpu().numpy())
    seen_by = pixel_model(config, samples.format.spacing) if config.sees_area else Observation.of("bicubic", len(sizes))
    seen = seen_by(torch.from_numpy(image), smaller).numpy()
    fitted = _fitted(as_samples(samples.format, seen), config, device, seed)
    fine = RenderGrid.of(fitted.format.spatial_shape, fitted.format.spacing, shape=sizes)
    return Trial(seen, _normalised(fitted, fine))


def _fitted(samples: Samples, config: FitConfig, device: torch.device, seed: int) -> Field:
    """Fit tiles to all of an image, to the last step."""
    limits = {"max_seconds": None, "target_psnr": None, **dict.fromkeys(LEARNING, 0)}
    run = Run(samples, config.override(**limits), device, seed)
    while run.step_count < run.max_steps:
        run.step()
    return run.best_field()


def _whole(samples: Samples, field: Field) -> Array:
    """Return the image's normalised values, missing pixels as the field has them."""
    if samples.observed.all():
        return samples.values
    layout = samples.format
    found = _normalised(field, RenderGrid.of(layout.spatial_shape, layout.spacing))
    return np.where(samples.observed, samples.values, found)


def _normalised(field: Field, grid: RenderGrid) -> Array:
    """Render as (channels, *shape), normalised."""
    layout = field.format
    values = layout.to_channels_first(field.render(grid, dtype=np.float32))
    offset, scale = _column(layout.offset, values.ndim), _column(layout.scale, values.ndim)
    found: Array = np.zeros(values.shape, dtype=np.float32)
    np.divide(values - offset, scale, out=found, where=scale != 0, casting="same_kind")
    return found


def _without_noise(error: Array, noise: float) -> Array:
    """Take away what the noise in the trial's truth has added."""
    squares = np.square(error) - (_MEAN_OF_NORMAL * noise) ** 2
    left: Array = np.sqrt(np.maximum(squares, np.square(_LEAST_SHARE * error)))
    return left


def _column(numbers: Sequence[float], dimensions: int) -> npt.NDArray[Any]:
    """Lay numbers for each channel along the first of several axes."""
    return np.array(numbers, dtype=np.float64).reshape(-1, *(1,) * (dimensions - 1))
