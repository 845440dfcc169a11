"""`measure_fit`: the metrics of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from napari_siren.core.field.field import Field
from napari_siren.core.image.linear_match import LinearMatch
from napari_siren.core.image.metrics import Metrics, measure
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.record import has_own_noise
from napari_siren.core.resolution.measure import resolution
from napari_siren.core.training.base import FitInProgress

# Smallest number of pixels along both axes of a plane for a resolution among the metrics. The parts of three frames of
# W2S had at 64 pixels 0.56 to 0.75 times the resolution of the whole frames in the median, and at 128 0.75 to 1.00.
_SHORTEST = 128


def measure_fit(run: FitInProgress, field: Field, noise: Mapping[str, Any] | None) -> Metrics:
    """Return the metrics of a fit.

    Parameters
    ----------
    run
        The fit.
    field
        Its result.
    noise
        `noise_record` of the image, or None if the fit removes no noise.
    """
    metrics, predicted = measure(run.samples, field.reconstruct()), run.predicted_pixels(field)
    if predicted is None:
        return metrics
    match = LinearMatch.from_prediction(run.samples, predicted)
    return replace(
        metrics,
        consistency=measure(run.samples, predicted, with_ssim=False).psnr,
        rse=match.rse,
        rsp=match.rsp,
        image_resolution=None if noise is None else image_resolution(run.samples, noise),
    )


def image_resolution(samples: Samples, noise: Mapping[str, Any]) -> float | None:
    """Return the resolution of the coarsest channel of an image, in the unit of its spacing.

    Parameters
    ----------
    samples
        Samples of the image.
    noise
        `noise_record` of the image.

    Returns
    -------
    float or None
        None if it cannot be measured by splitting the pixels: a channel has no result of `resolution`, neighbouring
        pixels share their noise, there is hardly any noise, or the planes are smaller than 128 pixels along an axis.
    """
    layout = samples.layout
    if not has_own_noise(noise) or layout.axes.time is not None or not samples.observed.all():
        return None
    if min(n for n, axis in zip(layout.spatial_shape, layout.axes.coordinates, strict=True) if axis != "Z") < _SHORTEST:
        return None
    sizes = resolution(samples.image, axes=str(layout.axes), spacing=layout.spacing).resolution
    known = [size for size in sizes if size is not None]
    return max(known) if len(known) == len(sizes) else None
