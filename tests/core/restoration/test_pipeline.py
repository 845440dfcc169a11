"""Fits with a restoration: parts, limits, units, resumption, and images that are fitted by tiles alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import napari_siren as ns
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.pipeline import DRAFT_STEPS, RestorationFit
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.settings.config import FitConfig, detail_for
from napari_siren.errors import ConfigError, InputError, SirenError, StorageError

QUICK: dict[str, Any] = {
    "preset": "upscale",
    "pretrained": None,
    "task_steps": 4,
    "max_steps": 60,
    "hidden_features": 12,
    "hidden_layers": 2,
}
STEPS = DRAFT_STEPS + 4 + 60


@pytest.fixture
def photo() -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:36, :45]
    waves = np.stack([np.sin(x / 3), np.cos(y / 4), np.sin((x + y) / 5)], axis=-1)
    return np.rint(127.5 + 100 * waves).astype(np.uint8)


def test_the_parts_follow_each_other(photo: npt.NDArray[np.uint8]) -> None:
    steps = ns.fit_iter(photo, **QUICK)
    seen = [(progress.step, progress.max_steps, progress.preview(scale=2).shape) for progress in steps]
    assert [step for step, _, _ in seen] == list(range(1, STEPS + 1))
    assert {(most, shape) for _, most, shape in seen} == {(STEPS, (72, 90, 3))}
    result = steps.result
    assert result.history.step == [step for step, _, _ in seen]
    assert result.field.refinement == (2, 2)
    assert (result.reconstruction.shape, result.reconstruction.dtype) == (photo.shape, photo.dtype)
    assert result.metrics.psnr > 30


def test_positions_are_those_of_the_image() -> None:
    """The values of the image are its own coordinates, in physical units."""
    y, x = (np.indices((36, 44)) + 0.5) * np.array([0.5, 2.0])[:, None, None]
    image = np.stack([y, x], axis=-1)
    result = ns.fit(image, axes="YXC", spacing=(0.5, 2.0), **{**QUICK, "detail": 3, "max_steps": 200})
    points = np.array([[4.2, 20.0], [5.0, 31.0]])
    np.testing.assert_allclose(result.field(points), points, atol=0.25)
    np.testing.assert_allclose(result.field.gradient(points), [np.eye(2)] * 2, atol=0.25)
    finer = result.render(scale=(2, 2))[8:-8, 8:-8]
    expected = (np.indices((72, 88)) + 0.5) * np.array([0.25, 1.0])[:, None, None]
    np.testing.assert_allclose(finer, np.moveaxis(expected, 0, -1)[8:-8, 8:-8], atol=0.4)


def test_a_reconstruction_is_what_pixels_see(photo: npt.NDArray[np.uint8]) -> None:
    from napari_siren.core.forward.operator import ForwardOperator

    result = ns.fit(photo, **QUICK)
    fine = result.render(scale=2, dtype=np.float64)
    import torch

    seen = ForwardOperator.from_kind("bicubic", 2)(torch.from_numpy(np.moveaxis(fine, -1, 0).copy()), photo.shape[:2])
    expected = np.clip(np.rint(np.moveaxis(seen.numpy(), 0, -1)), 0, 255)
    np.testing.assert_array_equal(result.reconstruction, expected)


def test_the_same_seed_gives_the_same_bits(photo: npt.NDArray[np.uint8]) -> None:
    first, second = (ns.fit(photo, seed=3, **QUICK).render(scale=2) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("stop", [10, DRAFT_STEPS + 2, DRAFT_STEPS + 4, DRAFT_STEPS + 30])
def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(
    photo: npt.NDArray[np.uint8], stop: int, tmp_path: Path
) -> None:
    expected = ns.fit(photo, **QUICK)
    steps = ns.fit_iter(photo, **QUICK)
    for progress in steps:
        if progress.step == stop:
            steps.snapshot().save(tmp_path / "model.safetensors", resumable=True)
            break
    result = ns.fit(photo, resume=tmp_path / "model.safetensors")
    np.testing.assert_array_equal(result.render(scale=2), expected.render(scale=2))
    with pytest.raises(InputError, match="has done"):
        ns.fit(photo, resume=result)
    with pytest.raises(InputError, match="another image"):
        ns.fit(photo[::-1].copy(), resume=tmp_path / "model.safetensors")


def test_a_fit_that_is_stopped_early_keeps_what_it_has(photo: npt.NDArray[np.uint8]) -> None:
    for stop in (3, DRAFT_STEPS + 2, DRAFT_STEPS + 20):
        steps = ns.fit_iter(photo, **QUICK)
        for progress in steps:
            if progress.step == stop:
                steps.stop()
        assert steps.result.history.stopped == "asked"
        assert steps.result.render(scale=2).shape == (72, 90, 3)


def test_a_damaged_state_is_refused(photo: npt.NDArray[np.uint8]) -> None:
    from dataclasses import replace

    result = ns.fit(photo, **QUICK)
    assert result.state is not None
    tensors = {name: t for name, t in result.state.tensors.items() if "kernels" not in name}
    with pytest.raises(StorageError, match="damaged"):
        ns.fit(photo, resume=replace(result, state=replace(result.state, tensors=tensors)), max_steps=80)


@pytest.mark.usefixtures("clock")
def test_a_time_limit_leaves_time_for_every_part(photo: npt.NDArray[np.uint8]) -> None:
    result = ns.fit(photo, **{**QUICK, "task_steps": 100_000, "max_steps": 100_000}, max_seconds=200)
    assert result.history.stopped == "max_seconds"
    assert result.history.step[-1] > DRAFT_STEPS + 100_000
    assert result.metrics.psnr > 25


@pytest.mark.parametrize(
    ("image", "keywords"),
    [
        pytest.param(np.random.default_rng(0).random((6, 8, 9)), {}, id="stack"),
        pytest.param(np.random.default_rng(0).random(50), {}, id="line"),
        pytest.param(np.random.default_rng(0).random((15, 40)), {}, id="too small"),
        pytest.param(np.random.default_rng(0).random((20, 20)), {"missing": np.eye(20) > 0}, id="missing"),
        pytest.param(np.random.default_rng(0).random((20, 20)), {"heldout": 0.1}, id="held out"),
        pytest.param(np.random.default_rng(0).random((20, 20)), {"task_steps": 0}, id="not wanted"),
    ],
)
def test_other_images_are_fitted_by_tiles_alone(image: npt.NDArray[Any], keywords: dict[str, Any]) -> None:
    result = ns.fit(image, **{**QUICK, "max_steps": 5, **keywords})
    assert result.history.step == [1, 2, 3, 4, 5]
    assert result.field.refinement == (1,) * image.ndim


def test_a_point_spread_function_is_undone() -> None:
    from scipy.ndimage import gaussian_filter

    scene = np.zeros((120, 120))
    scene[::24, :] = scene[:, ::30] = 1
    image = gaussian_filter(scene, 6)[1::3, 1::3].astype(np.float32)
    options = {**QUICK, "max_steps": 200, "spacing": 0.1, "task_steps": 30}
    sharp = ns.fit(image, observation="gaussian", psf_width=0.2 * 2.355, **options).render(scale=2)
    plain = ns.fit(image, observation="box", **options).render(scale=2)
    assert sharp.max() > plain.max()
    with pytest.raises(ConfigError, match="psf_width"):
        ns.fit(image, observation="gaussian", **options)


@pytest.mark.parametrize(("scale", "detail"), [(2, 2), (1, 2), (3.5, 3.5), (8, 4), ((1, 3), 3), ((0.5, 0.5), 2)])
def test_the_detail_of_a_scale(scale: Any, detail: float) -> None:
    assert detail_for(scale) == detail


def test_the_render_is_consistent_with_the_image(photo: npt.NDArray[np.uint8]) -> None:
    result = ns.fit(photo, **QUICK)
    seen = ForwardOperator.from_kind("bicubic", 2)(
        torch.from_numpy(result.render(scale=2).transpose(2, 0, 1).astype(np.float64)), photo.shape[:2]
    )
    error = np.rint(seen.numpy().transpose(1, 2, 0)) - photo
    assert result.metrics.consistency == pytest.approx(20 * np.log10(255 / np.sqrt(np.square(error).mean())), abs=0.01)
    assert 20 < result.metrics.consistency < 60
    assert ns.fit(photo, max_steps=3).metrics.consistency is None


def test_a_blur_that_is_not_known_is_estimated() -> None:
    from scipy.ndimage import gaussian_filter

    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(80), indexing="ij"))
    frequency[0, 0] = np.inf
    scene = np.fft.ifft2(np.fft.fft2(np.random.default_rng(0).normal(size=frequency.shape)) / frequency).real
    image = gaussian_filter(scene, 1.5).astype(np.float32)
    options = {**QUICK, "max_steps": 5, "task_steps": 5, "observation": "gaussian", "psf_width": "auto"}
    result = ns.fit(image, spacing=0.1, **options)
    assert result.config.psf_width == pytest.approx(0.15 * 2.355, rel=0.2)
    assert ns.fit(np.ones((20, 20), np.float32), **options).config.observation == "box"
    gaps = np.random.default_rng(0).random(image.shape) < 0.02
    result = ns.fit(np.where(gaps, np.nan, image), spacing=0.1, missing=gaps, **options)
    assert result.config.psf_width == pytest.approx(0.15 * 2.355, rel=0.25)


def test_the_notes_of_the_tiles_are_those_of_the_fit(photo: npt.NDArray[np.uint8]) -> None:
    samples, config = Samples.from_array(photo), FitConfig.preset("upscale", pretrained=None, task_steps=5)
    restoration = plan_restoration(samples, config)
    assert restoration is not None
    run = RestorationFit(samples, config, torch.device("cpu"), 0, None, restoration)
    for _ in range(DRAFT_STEPS):
        if run.step_count == 9:
            assert run.tiles is not None
            run.tiles.siren.theta[0] = np.nan
        run.step()
    assert any("1 tile diverged" in note for note in run.history.notes)


def test_a_measured_point_spread_function_is_kept(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    psf = np.outer([1, 2, 1], [1, 3, 1])
    result = ns.fit(image, **{**QUICK, "observation": "measured", "psf": psf, "max_steps": 5})
    assert result.config.psf == ((1, 3, 1), (2, 6, 2), (1, 3, 1))
    again = ns.load(result.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(again.reconstruction, result.reconstruction)
    for bad in (None, [1, 2, 1]):
        with pytest.raises(SirenError, match="psf"):
            ns.fit(image, **{**QUICK, "observation": "measured", "psf": bad, "max_steps": 5})
