"""The noise of an image in its own units, and noise that neighbouring pixels share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.record import noise_record, shared_noise_note
from napari_siren.core.settings.config import FitConfig

CONFIG = FitConfig.preset("denoise")


def scene(*shape: int) -> npt.NDArray[np.float32]:
    rows, columns = np.mgrid[: shape[-2], : shape[-1]]
    plane = 500 + 400 * np.sin(rows / 20) * np.cos(columns / 15)
    return np.broadcast_to(plane, shape).astype(np.float32)


def record_of(image: npt.NDArray[Any], axes: str = "YX") -> dict[str, Any]:
    return noise_record(Samples.from_array(image, axes), CONFIG)


@pytest.mark.parametrize(("shape", "axes"), [((160, 170), "YX"), ((3, 90, 100), "ZYX"), ((2, 120, 130), "CYX")])
def test_photons_and_reading_noise_are_found(shape: tuple[int, ...], axes: str) -> None:
    rng, clean = np.random.default_rng(0), scene(*shape)
    noisy = 2.0 * rng.poisson(clean / 2) + rng.normal(100, 15, shape)
    found = record_of(noisy.astype(np.float32), axes)
    channels = 2 if "C" in axes else 1
    assert len(found["gain"]) == channels
    for gain, constant in zip(found["gain"], found["variance_at_zero"], strict=True):
        assert gain == pytest.approx(2, rel=0.25)
        # 100 is the value without light.
        assert constant == pytest.approx(15**2 - 2 * 100, abs=200)
    assert found["ratio"] == pytest.approx(1, abs=0.1)
    assert shared_noise_note(found) is None


@pytest.mark.parametrize(("blur", "shared"), [(0.3, False), (0.5, True), (0.8, True)])
def test_noise_that_neighbours_share_is_told(blur: float, shared: bool) -> None:
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(160, 170)), blur)
    noisy = scene(160, 170) + 20 * noise / noise.std()
    note = shared_noise_note(record_of(noisy.astype(np.float32)))
    assert (note is not None) == shared
    result = ns.fit(noisy[:64, :64].astype(np.float32), preset="denoise", device="cpu")
    assert any("share their noise" in line for line in result.provenance["notes"]) == shared
    assert result.provenance["noise"]["least_deviation"][0] > 0


def test_standard_errors_tell_how_far_the_estimates_are_off() -> None:
    """Of eight images the deviations from the true values, in standard errors, have a root mean square of about 1."""
    clean, deviations = scene(128, 130), []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found = record_of((2.0 * rng.poisson(clean / 2) + rng.normal(100, 15, clean.shape)).astype(np.float32))
        deviations.append((found["gain"][0] - 2) / found["gain_error"][0])
        deviations.append((found["variance_at_zero"][0] - (15**2 - 2 * 100)) / found["variance_at_zero_error"][0])
    assert 0.4 < np.sqrt(np.mean(np.square(deviations))) < 2.5


def test_a_known_camera_has_no_standard_errors() -> None:
    samples = Samples.from_array(scene(64, 64), "YX")
    found = noise_record(samples, CONFIG.override(camera_gain=2.0, camera_offset=100.0, read_noise=15.0))
    assert (found["gain"], found["gain_error"], found["variance_at_zero_error"]) == ([2.0], [None], [None])


def test_small_images_have_no_ratio() -> None:
    noisy = scene(30, 40) + np.random.default_rng(0).normal(0, 20, (30, 40)).astype(np.float32)
    assert record_of(noisy)["ratio"] is None
    assert record_of(noisy)["gain_error"] == [None]
    assert shared_noise_note(record_of(noisy)) is None


def test_the_texture_of_clean_images_is_no_shared_noise() -> None:
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(160, 170)), 1)
    clean = scene(160, 170) + 4 * texture / texture.std()
    assert record_of(clean.astype(np.float32))["ratio"] is None
