"""Tests of `Blocks`: a tiling cut into blocks of whole tiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.field.blocks import Blocks
from napari_siren.core.field.tiling import Tiling
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.plan import cut_blocks, plan_tiles
from napari_siren.errors import DeviceError

CONFIG = FitConfig(hidden_features=8, hidden_layers=2)


@st.composite
def cut_tilings(draw: st.DrawFn) -> Blocks:
    shape = draw(st.lists(st.integers(4, 60), min_size=1, max_size=3))
    tiling = Tiling.cut(shape, draw(st.floats(4, 20)), draw(st.floats(0.5, 3)))
    return Blocks(tiling, tuple(draw(st.integers(1, n)) for n in tiling.counts))


@given(cut_tilings())
def test_every_tile_is_in_one_block(blocks: Blocks) -> None:
    numbers = np.concatenate([blocks.numbers(blocks.ranges(i)) for i in range(len(blocks))])
    assert sorted(numbers) == list(range(blocks.tiling.count))


@given(cut_tilings(), st.data())
def test_a_part_sees_the_same_pixels_with_the_same_weights(blocks: Blocks, data: st.DataObject) -> None:
    ranges = blocks.ranges(data.draw(st.integers(0, len(blocks) - 1)))
    start, part = blocks.tiling.part(ranges)
    numbers = blocks.numbers(ranges)
    assert part.tile_shape == blocks.tiling.tile_shape
    np.testing.assert_array_equal(part.starts + np.array(start), blocks.tiling.starts[numbers])
    np.testing.assert_array_equal(part.pixel_windows(), blocks.tiling.pixel_windows()[numbers])
    image = np.random.default_rng(0).random((2, *blocks.tiling.shape), dtype=np.float32)
    seen = image[(slice(None), *(slice(a, a + n) for a, n in zip(start, part.shape, strict=True)))]
    np.testing.assert_array_equal(part.extract(seen), blocks.tiling.extract(image)[numbers])


@given(cut_tilings(), st.data())
def test_the_blocks_that_are_touched_have_the_tiles_between_them(blocks: Blocks, data: st.DataObject) -> None:
    ranges = []
    for count in blocks.tiling.counts:
        first = data.draw(st.integers(0, count - 1))
        ranges.append((first, data.draw(st.integers(first + 1, count))))
    found = []
    for block, shared in blocks.touched(tuple(ranges)):
        own = set(blocks.numbers(blocks.ranges(block)))
        numbers = blocks.numbers(shared)
        assert len(numbers)
        assert own.issuperset(numbers)
        found.extend(numbers)
    assert sorted(found) == sorted(blocks.numbers(tuple(ranges)))


@given(cut_tilings(), st.data())
def test_no_tile_with_a_weight_is_left_out(blocks: Blocks, data: st.DataObject) -> None:
    low, high = [], []
    for n in blocks.tiling.shape:
        low.append(data.draw(st.floats(0, n - 0.5)))
        high.append(data.draw(st.floats(low[-1], n)))
    for axis, (first, stop), a, b in zip(blocks.tiling.axes, blocks.seen_from(low, high), low, high, strict=True):
        assert 0 <= first < stop <= axis.count
        position = torch.linspace(a, b, 50, dtype=torch.float64)
        weights = axis.window(torch.arange(axis.count)[:, None], position).value
        has_weight = set(torch.nonzero(weights.amax(dim=1) > 0)[:, 0].tolist())
        assert has_weight <= set(range(first, stop))
        assert stop - first <= len(has_weight) + 2


@given(st.integers(100, 5000), st.integers(100, 5000), st.integers(1, 4), st.floats(2e5, 1e9))
def test_blocks_stay_within_the_bound(rows: int, columns: int, channels: int, bound: float) -> None:
    shape = NetworkSpec(2, channels, 2, 8)
    tiling = Tiling.cut((rows, columns), 12, 1)
    blocks = cut_blocks(tiling, shape, CONFIG, int(bound))
    for block in {0, len(blocks) // 2, len(blocks) - 1}:
        plan = plan_tiles(tiling.part(blocks.ranges(block))[1], shape, CONFIG)
        assert plan.total <= bound
    wider = cut_blocks(tiling, shape, CONFIG, int(4 * bound))
    assert len(wider) <= len(blocks)


def test_blocks_are_no_larger_than_pays() -> None:
    shape = NetworkSpec(2, 3, 3, 32)
    blocks = cut_blocks(Tiling.cut((40_000, 50_000), 32, 1), shape, FitConfig(), 1 << 40)
    pixels = 40_000 * 50_000 / len(blocks)
    assert 0.5e6 < pixels < 2e6
    assert max(blocks.counts) / min(blocks.counts) < 2


def test_a_tile_that_is_too_much_is_refused() -> None:
    with pytest.raises(DeviceError, match="a single tile"):
        cut_blocks(Tiling.cut((200, 200), 100, 1), NetworkSpec(2, 1, 2, 8), CONFIG, 1000)
    assert math.prod(cut_blocks(Tiling.cut((200, 200), 100, 1), NetworkSpec(2, 1, 2, 8), CONFIG, 10**8).counts) == 1
