"""The noise estimate: on noise, on shading and edges, and on images that are too small."""

from __future__ import annotations

import numpy as np
import pytest

from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.level import noise_level
from napari_siren.core.noise.model import NoiseModel, noise_models
from napari_siren.core.settings.config import FitConfig


def everywhere(values: np.ndarray) -> np.ndarray:
    return np.ones(values.shape[1:], bool)


@pytest.mark.parametrize("shape", [(1, 4000), (1, 90, 80), (3, 60, 50), (1, 12, 40, 40), (1, 2, 60, 60)])
@pytest.mark.parametrize("sigma", [0.01, 1.0])
def test_white_noise_is_measured(shape: tuple[int, ...], sigma: float) -> None:
    values = np.random.default_rng(0).normal(0, sigma, shape).astype(np.float32)
    assert noise_level(values, everywhere(values)) == pytest.approx(sigma, rel=0.1)


def test_shading_and_edges_hardly_count() -> None:
    y, x = np.mgrid[:100, :100]
    picture = 3 * x + 0.2 * y + 50 * (x > 40) * (y > 30)
    noise = np.random.default_rng(0).normal(0, 0.5, picture.shape)
    values = (picture + noise)[np.newaxis].astype(np.float32)
    assert noise_level(values, everywhere(values)) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_texture_and_clipping_hardly_count(sigma: float) -> None:
    """One half of the picture is fine texture, and one quarter is white beyond the range."""
    rng = np.random.default_rng(0)
    picture = np.full((160, 160), 0.5)
    picture[:, :80] += 0.2 * rng.uniform(-1, 1, (160, 80))
    picture[:80, 80:] = 1.2
    noisy = np.clip(picture + rng.normal(0, sigma, picture.shape), 0, 1)[np.newaxis].astype(np.float32)
    assert noise_level(noisy, everywhere(noisy)) == pytest.approx(sigma, rel=0.15, abs=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_the_level_goes_with_the_values(factor: float) -> None:
    values = np.random.default_rng(0).random((2, 40, 50)).astype(np.float32)
    expected = factor * noise_level(values, everywhere(values))
    assert noise_level(factor * values, everywhere(values)) == pytest.approx(expected, rel=1e-4)


def test_missing_pixels_do_not_count() -> None:
    values = np.random.default_rng(0).normal(0, 1, (1, 80, 80)).astype(np.float32)
    observed = everywhere(values)
    observed[:40] = False
    values[0, :40] = 1000 * np.random.default_rng(1).random((40, 80))
    assert noise_level(values, observed) == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("shape", [(1, 2), (1, 2, 2), (1, 1, 2, 2)])
def test_an_image_too_small_to_tell_has_none(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert noise_level(values, everywhere(values)) == 0


def test_an_image_of_missing_pixels_has_none() -> None:
    assert noise_level(np.ones((1, 9, 9), np.float32), np.zeros((9, 9), bool)) == 0


@pytest.mark.parametrize(("gain", "read"), [(0.0, 0.1), (0.05, 0.05), (0.2, 0.0)])
def test_the_noise_of_a_camera_grows_with_the_signal(gain: float, read: float) -> None:
    rng = np.random.default_rng(0)
    signal = np.broadcast_to(np.linspace(0.2, 1.0, 160), (160, 160))
    values = signal + rng.standard_normal(signal.shape) * np.sqrt(gain * signal + read**2)
    model = NoiseModel.from_values(values[None].astype(np.float32))
    for level in (0.3, 0.6, 0.9):
        found = float(model.variance(np.array(level, np.float32)))
        assert found == pytest.approx(gain * level + read**2, rel=0.25)


def test_an_image_without_noise_has_none_at_any_brightness() -> None:
    y, x = np.mgrid[:64, :64] / 64
    model = NoiseModel.from_values((x * y)[None].astype(np.float32))
    assert (model.variance(np.linspace(0, 1, 5, dtype=np.float32)) < 1e-6).all()
    assert NoiseModel.from_values(np.zeros((1, 8, 8), np.float32)) == NoiseModel(0.0, 0.0, 0.0)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
def test_interpolated_pixels_do_not_hide_the_noise(share: float) -> None:
    y, x = np.mgrid[:200, :160]
    values = (x + y + np.random.default_rng(0).normal(0, 4, x.shape)).astype(np.float32)
    samples = Samples.from_array(values, heldout=share)
    (model,) = noise_models(samples, FitConfig.preset("denoise"))
    assert np.sqrt(model.variance(np.zeros(1, np.float32))) * samples.layout.scale[0] == pytest.approx(4, rel=0.12)
    assert NoiseModel.from_values(np.zeros((1, 30, 30), np.float32), np.zeros((1, 30, 30), bool)).least == 0


def test_small_images_have_one_noise_for_all_brightnesses() -> None:
    noisy = np.random.default_rng(0).normal(0.3, 0.1, (5, 12, 16)).astype(np.float32)
    model = NoiseModel.from_values(noisy)
    assert model.gain == 0
    assert float(np.sqrt(model.variance(np.float32([0.3]))[0])) == pytest.approx(0.1, rel=0.35)
