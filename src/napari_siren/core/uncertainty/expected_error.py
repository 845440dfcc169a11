"""Uncertainty of a render: the expected absolute error of each of its pixels.

An `ErrorModel` is trained on the errors of a `Trial`, whose truth is known. It then predicts the errors of the render.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.field.field import Field
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.image.samples import Samples
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.checkpoint import Checkpoint
from napari_siren.core.uncertainty.error_model import Array, ErrorModel
from napari_siren.core.uncertainty.trial import make_trial, normalised_render, whole_image
from napari_siren.errors import InputError

# Number of error models. The geometric mean of their predictions ranks errors a little better than one model.
_MODELS = 4
# Mean absolute value of normal noise of standard deviation 1: sqrt(2 / pi).
_MEAN_OF_NORMAL = 0.798
# Smallest share of an expected error that remains after the subtraction of the noise.
_LEAST_SHARE = 0.25
# Share of the time until the trial is made.
_TRIAL_TIME = 0.4


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
    report = on_progress or (lambda share: None)
    report(0.0)
    trial = make_trial(field, samples, config, state, seed, grid, lambda share: report(_TRIAL_TIME * share))
    image, render = whole_image(samples, field), normalised_render(field, grid)
    levels = np.zeros_like(render)
    for number in range(_MODELS):

        def learned(share: float, number: int = number) -> None:
            report(_TRIAL_TIME + (1 - _TRIAL_TIME) * (number + share) / _MODELS)

        model = ErrorModel(len(layout.spatial_shape), seed + number)
        model.learn(trial.render, trial.copy, trial.error, trial.weight, learned)
        levels += np.log(np.maximum(model.predict(render, image), np.finfo(np.float32).tiny)) / _MODELS
    error = trial.rescaled(_without_noise(np.exp(levels), trial.noise))
    units = error * np.abs(_column(layout.scale, error.ndim))
    return np.ascontiguousarray(layout.from_channels_first(units), dtype=np.float32)


def _without_outliers(field: Field, samples: Samples) -> tuple[Field, Samples]:
    """Return a field and its image without the outliers, which would be spread in a smaller copy."""
    if field.outliers is None:
        return field, samples
    return replace(field, outliers=None), replace(samples, observed=samples.observed & ~field.outliers.mask)


def _without_noise(error: Array, noise: float) -> Array:
    """Subtract the noise of the trial's truth from the expected errors."""
    squares = np.square(error) - (_MEAN_OF_NORMAL * noise) ** 2
    corrected: Array = np.sqrt(np.maximum(squares, np.square(_LEAST_SHARE * error)))
    return corrected


def _column(numbers: Sequence[float], dimensions: int) -> npt.NDArray[Any]:
    """Return one number for each channel as an array of shape (channels, 1, ...)."""
    return np.array(numbers, dtype=np.float64).reshape(-1, *(1,) * (dimensions - 1))
