"""The expected error of a render: for every kind of fit and image, and in the image's units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.clock import Cancelled
from napari_siren.errors import InputError

PRETRAINED: dict[str, Any] = {"preset": "upscale", "task_steps": 6, "max_steps": 30, "hidden_features": 12}
LEARNED: dict[str, Any] = {**PRETRAINED, "pretrained": None}


def half_busy(shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return an image with a smooth left half and a fine pattern on the right."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    pattern = np.random.default_rng(0).integers(0, 255, shape)
    return np.where(x < shape[1] // 2, 100 + y // 8, pattern).astype(np.uint8)


@pytest.mark.parametrize(
    ("options", "scale"),
    [({"max_steps": 60}, (1.5, 3)), (LEARNED, 2), (PRETRAINED, (1.5, 3)), ({**LEARNED, "task_steps": 0}, 2)],
)
def test_it_is_large_where_the_image_is_busy(options: dict[str, Any], scale: Any) -> None:
    image = half_busy((40, 40))
    result = ns.fit(image, **options)
    found = result.uncertainty(scale)
    assert found.shape == result.render(scale=scale).shape
    assert found.dtype == np.float32
    width = found.shape[1]
    assert found[:, : width // 3].mean() * 1.8 < found[:, 2 * width // 3 :].mean() < 255
    assert found.min() >= 0


@pytest.mark.parametrize(
    ("image", "options", "scale"),
    [
        (np.random.default_rng(0).random(60, np.float32), {}, 2),
        (np.random.default_rng(0).random((18, 20, 3), np.float32), {}, 2),
        (np.random.default_rng(0).random((3, 18, 20), np.float32), {"axes": "CYX", "spacing": (0.1, 0.2)}, 2),
        (np.random.default_rng(0).random((6, 18, 20), np.float32), {"axes": "ZYX"}, (2, 1, 1)),
        (np.random.default_rng(0).random((24, 24), np.float32), {"missing": np.eye(24, dtype=bool)}, 2),
    ],
)
def test_of_every_kind_of_image(image: npt.NDArray[Any], options: dict[str, Any], scale: Any) -> None:
    result = ns.fit(image, max_steps=20, **options)
    found = result.uncertainty(scale)
    assert found.shape == result.render(scale=scale).shape
    assert np.isfinite(found).all()
    assert 0 < found.mean() < 1


def test_it_is_in_the_units_of_the_image() -> None:
    image = half_busy((24, 24)).astype(np.float64)
    plain, large = (ns.fit(factor * image, max_steps=20).uncertainty(2).mean() for factor in (1, 1000))
    assert large == pytest.approx(1000 * plain, rel=0.05)


def test_at_the_images_own_scale_it_is_about_the_error_there() -> None:
    result = ns.fit(half_busy((40, 48)), max_steps=15)
    assert result.uncertainty(1).mean() == pytest.approx(np.abs(result.error).mean(), rel=0.5)


def test_a_constant_has_next_to_none() -> None:
    assert ns.fit(np.full((24, 24), 7.0), max_steps=10).uncertainty(2).max() < 1e-3


def test_it_is_the_same_each_time() -> None:
    result = ns.fit(half_busy((24, 24)), **LEARNED)
    np.testing.assert_array_equal(result.uncertainty(2), result.uncertainty(2))


def test_without_the_image_nothing_can_be_told(tmp_path: Path) -> None:
    result = ns.load(ns.fit(half_busy((24, 24)), max_steps=5).save(tmp_path / "model.safetensors"))
    with pytest.raises(InputError, match="right after the fit"):
        result.uncertainty(2)


def test_a_bad_scale_is_refused() -> None:
    with pytest.raises(InputError, match="scale"):
        ns.fit(half_busy((24, 24)), max_steps=5).uncertainty(-1)


def noisy_scene(shape: tuple[int, ...], noise: float = 0.2) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return a scene of broad spots, and the scene with noise."""
    rng = np.random.default_rng(0)
    scene = 6 * gaussian_filter(rng.standard_normal(shape), (0.5,) * (len(shape) - 2) + (3.0, 3.0)).astype(np.float32)
    return scene, scene + noise * rng.standard_normal(shape).astype(np.float32)


DENOISE: dict[str, Any] = {"preset": "denoise", "max_steps": 30}


@pytest.mark.parametrize(
    ("shape", "options"),
    [((48, 48), {}), ((3, 32, 32), {"axes": "ZYX"}), ((48, 48), {"pretrained": None, "task_steps": 30})],
)
def test_of_denoised_images(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    """80 % of the errors of a normal distribution are below 1.61 times their mean absolute value.

    The scene has less detail than photographs and micrographs have, so that the errors are overestimated.
    """
    scene, noisy = noisy_scene(shape)
    result = ns.fit(noisy, **DENOISE, **options)
    expected, error = result.uncertainty(1), np.abs(result.render(scale=1, dtype="float32") - scene)
    assert 0.7 < expected.mean() / error.mean() < 1.8
    assert 0.6 < (error < 1.61 * expected).mean() < 0.97
    assert expected.mean() < 0.8 * np.abs(noisy - scene).mean()


def test_of_denoised_images_between_their_pixels() -> None:
    scene, noisy = noisy_scene((40, 40))
    expected = ns.fit(noisy, **DENOISE).uncertainty(2)
    assert expected.shape == (80, 80)
    assert 0 < expected.mean() < 0.8 * np.abs(noisy - scene).mean()


def test_denoising_by_a_network_of_the_image_needs_its_state() -> None:
    result = ns.fit(noisy_scene((32, 32))[1], **DENOISE, pretrained=None, task_steps=3)
    with pytest.raises(InputError, match="has no state with that network"):
        result.without_state().uncertainty(1)


def test_denoising_by_ready_networks_needs_no_state() -> None:
    result = ns.fit(noisy_scene((32, 32))[1], **DENOISE)
    np.testing.assert_allclose(result.without_state().uncertainty(1), result.uncertainty(1), rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"pretrained": None, "task_steps": 2}], ids=["ready", "of the image"])
def test_the_denoising_of_the_trial_can_be_cancelled(options: dict[str, Any]) -> None:
    result = ns.fit(noisy_scene((32, 32))[1], **DENOISE, **options)
    shares: list[float] = []

    def cancel(share: float) -> None:
        shares.append(share)
        if len(shares) > 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        result.uncertainty(1, on_progress=cancel)
    assert shares == [0.0, 0.0]
