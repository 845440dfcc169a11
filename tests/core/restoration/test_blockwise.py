"""Super-resolution of large images: the windows for the training, and the prediction of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_cases import WEIGHTS

from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.restoration import blockwise
from napari_siren.core.restoration.blockwise import BlockRestorer, Windows, _places
from napari_siren.core.restoration.pipeline import RestorationFit
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import StorageError

CPU = torch.device("cpu")


def reading(image: npt.NDArray[Any]) -> blockwise.Read:
    def read(start: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        return image[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))]

    return read


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_WINDOW", 32), ("_CANDIDATES", 16), ("_CHOSEN", 3)):
        monkeypatch.setattr(blockwise, name, value)


@pytest.fixture
def textured() -> npt.NDArray[np.uint8]:
    """Return a flat image with texture in one corner."""
    image = np.full((128, 160), 100.0)
    image[:64, :64] += 60 * np.sin(np.indices((64, 64)).sum(axis=0))
    return image.astype(np.uint8)


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 64)), min_size=1, max_size=3))
def test_windows_are_within_the_image_and_not_too_many(axes: list[tuple[int, int]]) -> None:
    shape = [n for n, _ in axes]
    sides = [min(n, side) for n, side in axes]
    places = _places(shape, sides)
    assert 1 <= len(places) <= 64
    assert len(set(places)) == len(places)
    assert all(0 <= a <= n - side for place in places for a, n, side in zip(place, shape, sides, strict=True))


@pytest.mark.usefixtures("small_windows")
def test_windows_with_detail_are_chosen(textured: npt.NDArray[np.uint8]) -> None:
    layout = Samples.from_array(textured, "YX").layout
    windows = Windows.from_image(reading(textured), layout)
    assert windows.chosen.shape == (3, 1, 32, 32)
    assert all(float(window.std()) > 0.1 for window in windows.chosen)


def test_of_a_small_image_all_is_learned_as_in_memory(textured: npt.NDArray[np.uint8]) -> None:
    config = FitConfig.preset("upscale", pretrained=None, task_steps=5, max_steps=1)
    samples = Samples.from_array(textured[:48, :50], "YX")
    restoration = plan_restoration(samples, config)
    assert restoration is not None
    whole = RestorationFit(samples, config, CPU, 0, None, restoration)
    while whole.step_count < 45:
        whole.step()
    restorer = BlockRestorer(reading(textured[:48, :50]), samples.layout, config, CPU, 0)
    restorer.train(lambda *done: None)
    for mine, theirs in zip(restorer._network.network.parameters(), whole.restorer.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("detail", [1.0, 2.0, 2.5])
def test_what_is_told_does_not_depend_on_the_block(
    textured: npt.NDArray[np.uint8], detail: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The products of the networks may be rounded to three digits, hence the tolerance."""
    monkeypatch.setattr(blockwise, "_MARGIN", 16)
    textured = textured[30:120, 10:110]
    config = FitConfig.preset("upscale", pretrained=None, task_steps=12, detail=detail)
    layout = Samples.from_array(textured, "YX").layout
    restorer = BlockRestorer(reading(textured), layout, config, CPU, 0)
    told: list[tuple[int, int]] = []
    restorer.train(lambda *done: told.append(done))
    assert told[-1] == (12, 12)
    factor = restorer.detail
    assert factor == {1.0: 1, 2.0: 2, 2.5: 4}[detail]

    def fine(shape: tuple[int, int]) -> ImageLayout:
        return replace(layout, shape=shape, spacing=(1 / factor, 1 / factor))

    whole = restorer.samples((0, 0), fine((90 * factor, 100 * factor)))
    assert whole.image.dtype == np.float32
    for start, shape in (((81, 77), (44, 50)), ((90 * factor - 31, 0), (31, 60))):
        part = restorer.samples(start, fine(shape))
        inside = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
        np.testing.assert_allclose(part.values, whole.values[(slice(None), *inside)], atol=1e-3)

    again = BlockRestorer(reading(textured), layout, config, CPU, 0)
    again.load(restorer.state())
    np.testing.assert_array_equal(again.samples(start, fine(shape)).values, part.values)


@pytest.mark.usefixtures("small_windows")
def test_a_pretrained_network_enlarges_blocks(textured: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "_MARGIN", 24)
    textured = textured[30:94, 30:90]
    layout = Samples.from_array(textured, "YX").layout
    config = FitConfig.preset("upscale", pretrained=str(WEIGHTS / "enlarge.safetensors"))
    restorer = BlockRestorer(reading(textured), layout, config, CPU, 0)
    steps: list[tuple[int, int]] = []
    restorer.train(lambda *done: steps.append(done))
    assert steps == []

    def fine(shape: tuple[int, int]) -> ImageLayout:
        return replace(layout, shape=shape, spacing=(0.5, 0.5))

    whole = restorer.samples((0, 0), fine((128, 120))).values
    # The convolutions have a reach of 17 pixels; back-projection adds a little more.
    part = restorer.samples((61, 50), fine((40, 44))).values
    np.testing.assert_allclose(part, whole[:, 61:101, 50:94], atol=2e-3)
    with pytest.raises(StorageError, match="other pretrained weights"):
        restorer.load({"weights": torch.zeros(32, dtype=torch.uint8)})
