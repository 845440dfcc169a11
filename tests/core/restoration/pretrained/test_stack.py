"""Denoising of stacks by the planes beside each plane, on parts of the package's photograph."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.clock import Cancelled
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.pretrained.restorer import PretrainedRestorer
from napari_siren.core.restoration.pretrained.stack import StackRestorer
from napari_siren.core.restoration.self_supervised.blind_spot import BlindSpot
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import StorageError
from napari_siren.io.images import read_image, sample_path

Image = npt.NDArray[Any]
CPU = torch.device("cpu")
NOISE = 20


@cache
def photograph() -> Image:
    return read_image(sample_path()).array[..., 1].astype(np.float32)


def alike(planes: int = 3) -> Image:
    """Return planes of one scene with another blur each."""
    return np.stack([gaussian_filter(photograph()[100:148, 200:256], 0.8 + 0.1 * n) for n in range(planes)])


def unlike(planes: int = 3) -> Image:
    """Return planes of different scenes."""
    return np.stack([gaussian_filter(photograph()[90 * n : 90 * n + 48, 300:348], 0.8) for n in range(planes)])


def with_noise(stack: Image) -> Image:
    return stack + NOISE * np.random.default_rng(0).standard_normal(stack.shape, dtype=np.float32)


def restorer_of(stack: Image, axes: str = "ZYX", **fields: Any) -> tuple[StackRestorer, Samples]:
    samples = Samples.from_array(stack, axes)
    restoration = plan_restoration(samples, FitConfig.preset("denoise", **fields))
    assert restoration is not None
    restorer = restoration.create(CPU, 0)
    assert isinstance(restorer, StackRestorer)
    return restorer, samples


def mse(image: Image, truth: Image) -> float:
    return float(np.square(np.asarray(image, float) - truth).mean())


def of_single_planes(stack: Image) -> Image:
    return np.stack([ns.denoise(plane, device="cpu") for plane in stack])


def test_planes_that_are_alike_help_each_other() -> None:
    clean = alike()
    noisy = with_noise(clean)
    result = ns.fit(noisy, axes="ZYX", preset="denoise", device="cpu")
    stack = result.provenance["pretrained"]["stack"]
    assert stack["weights"] == "stack"
    assert stack["share"] > 0.3
    assert mse(result.reconstruction, clean) < 0.85 * mse(of_single_planes(noisy), clean)
    assert not result.field.has_tiles


def test_planes_that_are_unlike_do_little_harm() -> None:
    clean = unlike()
    noisy = with_noise(clean)
    result = ns.fit(noisy, axes="ZYX", preset="denoise", device="cpu")
    assert result.provenance["pretrained"]["stack"]["share"] < 0.5
    assert mse(result.reconstruction, clean) < 1.05 * mse(of_single_planes(noisy), clean)


@pytest.mark.full_length
def test_steps_are_passes_over_all_planes() -> None:
    restorer, samples = restorer_of(with_noise(alike(2)[:, :40, :40]))
    assert restorer.steps_left == {"restoring": 8}
    first = restorer.predict(samples.layout.spatial_shape, 1)
    assert restorer.steps_left == {"restoring": 7}
    while not restorer.finished:
        restorer.step(0.0)
    last = restorer.predict(samples.layout.spatial_shape, 1)
    assert 0 < float((last - first).abs().mean()) < 0.02


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_network_without_a_share_is_left_out(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StackRestorer, "_best_share", lambda self: share)
    calls: list[int] = []
    restored = StackRestorer._model

    def model(self: StackRestorer, weights: Any) -> Any:
        made = restored(self, weights)
        network, forward = made.network, made.network.encode
        network.encode = lambda image, *rest: calls.append(network.shape.inputs) or forward(image, *rest)
        return made

    monkeypatch.setattr(StackRestorer, "_model", model)
    restorer, samples = restorer_of(with_noise(alike(2)))
    restorer.predict(samples.layout.spatial_shape, 1)
    assert set(calls) == ({2} if share == 0 else {4} if share == 1 else {2, 4})


def test_a_fit_continues_with_the_same_result() -> None:
    noisy = with_noise(alike(2)[:, :32, :32])
    whole = ns.fit(noisy, axes="ZYX", preset="denoise", device="cpu")
    part = ns.fit_iter(noisy, axes="ZYX", preset="denoise", device="cpu")
    next(part)
    part.stop()
    assert part.result.history.step[-1] == 1
    rest = ns.fit(noisy, axes="ZYX", resume=part.result, device="cpu")
    np.testing.assert_array_equal(rest.reconstruction, whole.reconstruction)


def test_a_state_of_other_weights_is_refused() -> None:
    restorer, _ = restorer_of(with_noise(alike(2)))
    state = restorer.state()
    state["weights"] = state["weights"].flip(0)
    with pytest.raises(StorageError, match="made with other pretrained weights"):
        restorer.load(state)


def test_it_can_be_cancelled() -> None:
    restorer, _ = restorer_of(with_noise(alike(2)))
    restorer.cancellation.request()
    with pytest.raises(Cancelled):
        restorer.step(0.0)


def test_films_channels_and_missing_pixels_are_ordinary() -> None:
    clean = alike(2)[:, :32, :32]
    noisy = with_noise(clean)
    film = ns.fit(noisy, axes="TYX", preset="denoise", device="cpu")
    assert film.field.layout.axes.coordinates == "TYX"
    assert mse(film.reconstruction, clean) < 0.15 * NOISE**2
    colours = ns.denoise(np.stack([noisy, noisy], axis=-1), axes="TYXC", device="cpu")
    assert mse(colours[..., 0], clean) < 0.15 * NOISE**2
    channels = ns.denoise(np.stack([noisy, 2 * noisy], axis=1), axes="ZCYX", device="cpu")
    assert mse(channels[:, 1] / 2, clean) < 0.15 * NOISE**2
    missing = np.zeros(noisy.shape, bool)
    missing[1, 20:24, 18:22] = True
    filled = ns.fit(np.where(missing, 0, noisy), axes="ZYX", missing=missing, preset="denoise", device="cpu")
    assert mse(filled.reconstruction, clean) < 0.15 * NOISE**2


def test_a_stack_of_one_plane_is_a_picture_and_without_pretrained_networks_it_learns() -> None:
    picture = with_noise(alike(1))
    samples = Samples.from_array(picture, "ZYX")
    restoration = plan_restoration(samples, FitConfig.preset("denoise"))
    assert restoration is not None
    assert restoration.restorer_class in (PretrainedRestorer, BlindSpot)
    alone = plan_restoration(Samples.from_array(alike(2), "ZYX"), FitConfig.preset("denoise", pretrained=None))
    assert alone is not None
    assert alone.restorer_class is BlindSpot
