"""What a network learns from windows of a large image, and tells of its blocks."""

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

from napari_siren.core.config import FitConfig
from napari_siren.core.image.samples import ImageFormat, Samples
from napari_siren.core.restoration import blockwise as block_teacher
from napari_siren.core.restoration.base import Lesson
from napari_siren.core.restoration.blockwise import BlockTeacher, Windows, _places
from napari_siren.core.restoration.pipeline import Upscaling

CPU = torch.device("cpu")


def reading(image: npt.NDArray[Any]) -> block_teacher.Read:
    def read(start: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        return image[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))]

    return read


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_WINDOW", 32), ("_CANDIDATES", 16), ("_CHOSEN", 3)):
        monkeypatch.setattr(block_teacher, name, value)


@pytest.fixture
def textured() -> npt.NDArray[np.uint8]:
    """Flat, with texture in one corner."""
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
    layout = Samples.from_array(textured, "YX").format
    windows = Windows.of(reading(textured), layout)
    assert windows.chosen.shape == (3, 1, 32, 32)
    assert all(float(window.std()) > 0.1 for window in windows.chosen)


def test_of_a_small_image_all_is_learned_as_in_memory(textured: npt.NDArray[np.uint8]) -> None:
    config = FitConfig.preset("upscale", cross_scale_steps=5, max_steps=1)
    samples = Samples.from_array(textured[:48, :50], "YX")
    lesson = Lesson.of(samples, config)
    assert lesson is not None
    upscaling = Upscaling(samples, config, CPU, 0, None, lesson)
    while upscaling.step_count < 45:
        upscaling.step()
    teacher = BlockTeacher(reading(textured[:48, :50]), samples.format, config, CPU, 0)
    teacher.learn(lambda *done: None)
    for mine, theirs in zip(teacher._network.network.parameters(), upscaling.teacher.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("detail", [1.0, 2.0, 2.5])
def test_what_is_told_does_not_depend_on_the_block(
    textured: npt.NDArray[np.uint8], detail: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for rounding, which is that of three digits where products are."""
    monkeypatch.setattr(block_teacher, "_MARGIN", 16)
    textured = textured[30:120, 10:110]
    config = FitConfig.preset("upscale", cross_scale_steps=12, detail=detail)
    layout = Samples.from_array(textured, "YX").format
    teacher = BlockTeacher(reading(textured), layout, config, CPU, 0)
    told: list[tuple[int, int]] = []
    teacher.learn(lambda *done: told.append(done))
    assert told[-1] == (12, 12)
    factor = teacher.detail
    assert factor == {1.0: 1, 2.0: 2, 2.5: 4}[detail]

    def fine(shape: tuple[int, int]) -> ImageFormat:
        return replace(layout, shape=shape, spacing=(1 / factor, 1 / factor))

    whole = teacher.samples((0, 0), fine((90 * factor, 100 * factor)))
    assert whole.image.dtype == np.float32
    for start, shape in (((81, 77), (44, 50)), ((90 * factor - 31, 0), (31, 60))):
        part = teacher.samples(start, fine(shape))
        inside = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
        np.testing.assert_allclose(part.values, whole.values[(slice(None), *inside)], atol=1e-3)

    again = BlockTeacher(reading(textured), layout, config, CPU, 0)
    again.load(teacher.state())
    np.testing.assert_array_equal(again.samples(start, fine(shape)).values, part.values)
