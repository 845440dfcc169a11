"""Burst super-resolution: scene and drifts from frames with a known truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.image.metrics import psnr_of
from napari_siren.core.restoration.burst import BurstSuperResolution, registered, working_set
from napari_siren.core.result import load
from napari_siren.errors import DeviceError, InputError

DRIFTS = np.array([(0, 0), (0.5, 0), (0.25, 0.75), (-0.75, 0.5), (1.25, -0.5), (-0.5, -1)])
# Number of samples of the scene per pixel of a frame, along each axis.
FINE = 4


def scene(seed: int = 0, size: int = 40 * FINE) -> np.ndarray:
    """Return a picture of discs with sharp edges."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    picture = np.zeros((size, size))
    for _ in range(60):
        y, x = rng.uniform(0, size, 2)
        picture[(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(3, 12) ** 2] = rng.random()
    return picture


def averaged(picture: np.ndarray, start: tuple[int, int], width: int, count: int) -> np.ndarray:
    part = picture[start[0] : start[0] + width * count, start[1] : start[1] + width * count]
    return part.reshape(count, width, count, width).mean(axis=(1, 3))


def burst(picture: np.ndarray, noise: float = 0.01, count: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return frames, and the scene at twice their resolution."""
    margin = 4 * FINE
    rng = np.random.default_rng(1)
    starts = [tuple(int(margin + d * FINE) for d in drift) for drift in DRIFTS]
    frames = np.stack([averaged(picture, start, FINE, count) for start in starts])
    truth = averaged(picture, (margin, margin), FINE // 2, 2 * count)
    return (frames + rng.normal(0, noise, frames.shape)).astype(np.float32), truth


def test_frames_are_registered() -> None:
    frames, _ = burst(scene())
    found = registered(torch.from_numpy(frames)[:, None])
    np.testing.assert_allclose(found, DRIFTS, atol=0.2)


def test_the_scene_has_detail_that_no_frame_has() -> None:
    frames, truth = burst(scene())
    result = ns.fit_burst(frames, spacing=0.5, device="cpu", task_steps=150, max_steps=60)
    found = result.render(scale=2)
    single = ns.upscale(frames[0], 2, device="cpu", task_steps=0, max_steps=60)

    def psnr(image: np.ndarray) -> float:
        return psnr_of(float(np.square(image - truth).mean()), 1.0)

    assert psnr(found) > psnr(single) + 2
    np.testing.assert_allclose(result.provenance["drifts"], DRIFTS, atol=0.1)
    assert len(result.provenance["disagreement"]) == len(DRIFTS)
    assert result.field.layout.axes == "YX"
    assert result.field.layout.spacing == (0.5, 0.5)
    assert result.metrics.consistency is not None
    assert result.metrics.consistency > 25


def test_a_frame_of_another_scene_does_little_harm() -> None:
    frames, truth = burst(scene(), count=16)
    with_stranger = np.concatenate([frames, averaged(scene(seed=9), (0, 0), FINE, 16)[None].astype(np.float32)])
    options = {"device": "cpu", "task_steps": 70, "max_steps": 40}
    alone, both = (ns.fit_burst(f, **options) for f in (frames, with_stranger))
    errors = [float(np.abs(result.render(scale=2) - truth).mean()) for result in (alone, both)]
    assert errors[1] < 1.3 * errors[0]
    assert both.provenance["disagreement"][-1] > 2


def test_colours_and_any_order_of_axes() -> None:
    frames, _ = burst(scene(), count=16)
    colours = np.clip(255 * np.stack([frames, 1 - frames, frames / 2], axis=-1), 0, 255).astype(np.uint8)
    options = {"device": "cpu", "task_steps": 10, "max_steps": 10}
    assert ns.fit_burst(colours, **options).render(scale=2).shape == (32, 32, 3)
    moved = ns.fit(np.moveaxis(colours, 0, 2), axes="YXTC", preset="burst", **options)
    assert moved.reconstruction.shape == (16, 16, 3)
    assert moved.reconstruction.dtype == np.uint8
    scaled = ns.upscale(colours, 2, axes="TYXC", spacing=(9, 0.5, 0.5), preset="burst", **options)
    assert scaled.shape == (32, 32, 3)


def test_it_goes_on_where_it_was_to_the_same_bits(tmp_path: object) -> None:
    frames, _ = burst(scene(), count=16)
    options = {"device": "cpu", "task_steps": 30, "max_steps": 10}
    whole = ns.fit_burst(frames, **options)
    steps = ns.fit_iter(frames, axes="TYX", preset="burst", **options)
    for progress in steps:
        if progress.step == 40 + 12:
            steps.stop()
    path = steps.result.save(f"{tmp_path}/model.safetensors", resumable=True)
    resumed = ns.fit_burst(frames, resume=load(path), **options)
    np.testing.assert_array_equal(resumed.render(scale=2), whole.render(scale=2))
    other = frames[::-1].copy()
    other[0] = frames[0]
    with pytest.raises(InputError, match="another image"):
        ns.fit_burst(other, resume=load(path), **options)


def test_a_burst_in_three_dimensions() -> None:
    volume = gaussian_filter(np.random.default_rng(0).normal(size=(13, 24, 24)), 1.0)[2:11, 2:22, 2:22]
    frames = torch.from_numpy(np.stack([volume[:8, :16, :16], volume[1:, 2:18, 1:17]]).astype(np.float32))[:, None]
    learner = BurstSuperResolution(frames, detail=2)
    losses = [learner.step(i / 20) for i in range(20)]
    assert losses[-1] < losses[0]
    assert learner.predict((16, 32, 32)).shape == (1, 16, 32, 32)
    np.testing.assert_allclose(learner.drifts[1], [1, 2, 1], atol=0.3)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (np.zeros((1, 16, 16)), {}, "one frame"),
        (np.zeros((3, 16, 16)), {"axes": "ZYX"}, "has no T"),
        (np.zeros((3, 16, 16)), {"missing": np.eye(16, dtype=bool)}, "cannot have missing pixels"),
        (np.full((3, 16, 16), np.nan), {}, "NaN"),
    ],
)
def test_what_is_no_burst_is_told(frames: np.ndarray, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ns.fit_burst(frames, device="cpu", **options)


def test_constant_frames_give_the_constant() -> None:
    result = ns.fit_burst(np.full((3, 16, 16), 7, np.uint16), device="cpu", task_steps=5, max_steps=5)
    assert (result.render(scale=2) == 7).all()


def test_memory_is_bounded() -> None:
    # The frames are so many that they need more memory than the tiles.
    frames = np.tile(burst(scene(), count=16)[0], (20, 1, 1))
    with pytest.raises(DeviceError, match="Take fewer frames"):
        ns.fit_burst(frames, device="cpu", max_memory=working_set((len(frames), 1, 16, 16), 2) - 1)


def test_how_far_to_trust_it_is_not_known() -> None:
    frames, _ = burst(scene(), count=16)
    result = ns.fit_burst(frames, device="cpu", task_steps=5, max_steps=5)
    with pytest.raises(InputError, match="frames that were joined"):
        result.uncertainty(2)
