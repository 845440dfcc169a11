"""The metrics of a fit: those of the predicted pixels, and the resolution of an image with noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.record import noise_record
from napari_siren.core.training.measures import image_resolution

DENOISE = {"preset": "denoise", "device": "cpu"}
CONFIG = ns.FitConfig.preset("denoise")


def scene(n: int = 128) -> np.ndarray:
    return 20 * np.exp(gaussian_filter(np.random.default_rng(0).normal(size=(n, n)), 3) * 6)


def noisy(values: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).poisson(values).astype(np.float32)


def measured(image: np.ndarray, **options: Any) -> float | None:
    samples = Samples.from_array(image, **options)
    return image_resolution(samples, noise_record(samples, CONFIG))


def test_a_denoised_image_has_all_measures() -> None:
    image = noisy(scene())
    result = ns.fit(image, spacing=0.1, **DENOISE)
    metrics = result.metrics
    assert metrics.image_resolution == ns.resolution(image, spacing=0.1).resolution[0]
    # Nothing is between the result and the pixels, apart from the line.
    assert metrics.rse == pytest.approx(metrics.rmse, rel=0.1)
    assert metrics.rsp == pytest.approx(np.corrcoef(image.ravel(), result.reconstruction.ravel())[0, 1], abs=1e-4)
    assert {"rse", "rsp", "image_resolution"} <= set(metrics.as_dict())


def test_a_fit_without_a_task_has_none_of_them() -> None:
    metrics = ns.fit(noisy(scene(32)), max_steps=3, device="cpu").metrics
    assert metrics.consistency is metrics.rse is metrics.rsp is metrics.image_resolution is None


def test_the_resolution_is_that_of_the_coarsest_channel() -> None:
    image = np.stack([noisy(scene()), noisy(gaussian_filter(scene(), 2), 2)], axis=-1)
    sizes = ns.resolution(image, axes="YXC").resolution
    assert sizes[0] < sizes[1] == measured(image, axes="YXC")


def test_stacks_are_measured_by_their_planes() -> None:
    stack = np.stack([noisy(scene(), seed) for seed in range(4)])
    spacing = (3, 0.5, 0.5)
    expected = ns.resolution(stack, axes="ZYX", spacing=spacing).resolution[0]
    assert measured(stack, axes="ZYX", spacing=spacing) == expected
    assert measured(stack, axes="TYX", axes_as_coordinates="TYX") is None


@pytest.mark.parametrize(
    "image",
    [
        # Neighbours share the noise, as after a filter or interpolation.
        gaussian_filter(noisy(scene()), 0.8),
        # There is no noise to be correlated.
        scene().astype(np.float32),
        # There are too few pixels.
        noisy(scene()[:, :127]),
    ],
    ids=["filtered", "clean", "small"],
)
def test_a_figure_that_would_flatter_is_left_out(image: np.ndarray) -> None:
    assert measured(image) is None


def test_missing_pixels_have_no_rings() -> None:
    missing = np.zeros((128, 128), bool)
    missing[5, 5] = True
    assert measured(noisy(scene()), missing=missing) is None
