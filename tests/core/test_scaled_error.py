"""The map of the resolution-scaled error: against the metrics, for blur, upscaling, channels and missing pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.forward.operator import FWHM

SIGMA = 1.5
BLUR = {"preset": "deblur", "psf_width": SIGMA * FWHM, "device": "cpu", "max_steps": 20}


def blurred(shape: tuple[int, ...] = (40, 36)) -> np.ndarray:
    image = np.zeros(shape)
    image[tuple(np.random.default_rng(0).integers(0, n, 30) for n in shape)] = 1000
    return gaussian_filter(image, SIGMA).astype(np.float32)


@pytest.fixture(scope="module")
def sharp() -> ns.FitResult:
    return ns.fit(blurred(), **BLUR)


def test_a_sharp_result_is_blurred_again(sharp: ns.FitResult) -> None:
    error = ns.resolution_scaled_error(sharp)
    assert (error.shape, error.dtype) == ((40, 36), np.float32)
    root_mean_square = np.sqrt(np.square(error.astype(float)).mean())
    assert sharp.metrics.rse == pytest.approx(root_mean_square, rel=1e-5)
    # The error of the reconstruction is what the blur took, and is much larger.
    assert root_mean_square < 0.5 * sharp.metrics.rmse
    assert sharp.metrics.rsp is not None
    assert 0.95 < sharp.metrics.rsp <= 1


def test_a_structure_that_is_not_in_the_image_is_in_the_map(sharp: ns.FitResult) -> None:
    spoilt = blurred()
    spoilt[20:24, 10:14] += 3 * spoilt.max()
    invented = ns.fit(spoilt, **BLUR)
    error = ns.resolution_scaled_error(replace(sharp, field=invented.field))
    row, column = np.unravel_index(error.argmax(), error.shape)
    assert 20 <= row < 24
    assert 10 <= column < 14


def test_upscaled_channels_and_gaps() -> None:
    image = np.stack([blurred(), 255 - blurred()], axis=-1)
    missing = np.zeros(image.shape[:2], bool)
    missing[3:5, 3:5] = True
    result = ns.fit(image, axes="YXC", missing=missing, preset="upscale", device="cpu", max_steps=20)
    error = ns.resolution_scaled_error(result)
    assert error.shape == image.shape
    assert not error[missing].any()
    seen = np.square(error[~missing].astype(float)).mean()
    assert result.metrics.rse == pytest.approx(np.sqrt(seen), rel=1e-4)


def test_a_fit_of_the_pixels_has_a_map_but_no_metrics() -> None:
    result = ns.fit(blurred(), max_steps=5, device="cpu")
    assert result.metrics.rse is result.metrics.rsp is None
    assert np.square(ns.resolution_scaled_error(result)).mean() <= np.square(result.error).mean() * 1.001


def test_a_loaded_result_has_the_metrics_but_no_map(sharp: ns.FitResult, tmp_path: Path) -> None:
    loaded = ns.load(sharp.save(tmp_path / "model.safetensors"))
    assert loaded.metrics == sharp.metrics
    with pytest.raises(ns.InputError, match="no image"):
        ns.resolution_scaled_error(loaded)
