"""Noise that neighbouring pixels share: the ratio of two scales, and the noise that denoising assumes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.model import noise_models
from napari_siren.core.noise.shared import models_of_shared_noise, noise_ratio
from napari_siren.core.settings.config import FitConfig

CONFIG = FitConfig.preset("denoise")
ROWS, COLUMNS = np.mgrid[:160, :170]
SCENE = 500 + 400 * np.sin(ROWS / 20) * np.cos(COLUMNS / 15)


def with_noise(blur: float, level: float = 20.0) -> npt.NDArray[np.float32]:
    noise = gaussian_filter(np.random.default_rng(0).normal(size=SCENE.shape), blur)
    return (SCENE + level * noise / noise.std()).astype(np.float32)


def test_the_noise_that_differences_of_neighbours_hide_is_assumed() -> None:
    samples = Samples.from_array(with_noise(0.5))
    middle, scale = np.zeros(1, dtype=np.float32), samples.layout.scale[0]
    between, assumed = (
        scale * np.sqrt(models[0].variance(middle)[0])
        for models in (noise_models(samples, CONFIG), models_of_shared_noise(samples, CONFIG))
    )
    assert between < 15
    assert assumed == pytest.approx(20, rel=0.2)


def test_noise_of_each_pixel_alone_stays() -> None:
    samples = Samples.from_array(with_noise(0.0))
    assert noise_ratio(samples) == pytest.approx(1, abs=0.1)
    assert models_of_shared_noise(samples, CONFIG) == noise_models(samples, CONFIG)


def test_the_noise_of_a_known_camera_stays() -> None:
    samples, config = Samples.from_array(with_noise(0.8)), CONFIG.override(camera_gain=1.0, read_noise=3.0)
    assert models_of_shared_noise(samples, config) == noise_models(samples, config)


def test_shared_noise_is_removed() -> None:
    noisy, (rows, columns) = with_noise(0.5), (slice(32, 128), slice(32, 128))
    clean = ns.denoise(noisy)[rows, columns]
    assert np.std(clean - SCENE[rows, columns]) < 0.5 * 20
