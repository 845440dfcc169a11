"""Tests of pixel centres, tiles, windows and their sum, and render grids."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_siren.core.field.tiling import AxisTiling, RenderGrid, Tiling, pixel_centres, smoothstep
from napari_siren.core.image.axes import Axes
from napari_siren.core.image.samples import ImageLayout
from napari_siren.errors import InputError

AXES = st.builds(
    AxisTiling.cut,
    size=st.integers(1, 60),
    tile=st.floats(4, 80),
    overlap=st.floats(0.5, 6),
)


def test_pixel_centres_lie_half_a_pixel_inside_the_edges() -> None:
    assert pixel_centres(3).tolist() == [0.5, 1.5, 2.5]


def test_smoothstep_has_the_derivatives_it_says() -> None:
    t = torch.linspace(0.001, 0.999, 101, dtype=torch.float64, requires_grad=True)
    value, first, second = smoothstep(t)
    (slope,) = torch.autograd.grad(value.sum(), t, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), t)
    torch.testing.assert_close(first, slope)
    torch.testing.assert_close(second, curvature)


def test_smoothstep_joins_zero_and_one_with_no_slope_and_no_curvature() -> None:
    ends = torch.tensor([-3.0, 0.0, 1.0, 9.0], dtype=torch.float64)
    value, first, second = smoothstep(ends)
    assert value.tolist() == [0, 0, 1, 1]
    assert not first.any()
    assert not second.any()


@given(AXES)
def test_cells_cover_the_axis_in_order(axis: AxisTiling) -> None:
    assert axis.borders[0] == 0
    assert axis.borders[-1] == axis.size
    assert (np.diff(axis.borders) >= min(4, axis.size)).all()


@given(AXES, st.data())
def test_windows_sum_to_one_and_their_derivatives_to_nothing_everywhere(axis: AxisTiling, data: st.DataObject) -> None:
    inside = data.draw(st.lists(st.floats(-2, axis.size + 2), min_size=1, max_size=20))
    edges = [b + s * axis.overlap for b in axis.borders for s in (-1, 0, 1)]
    position = torch.tensor(inside + edges, dtype=torch.float64)
    jet = axis.window(torch.arange(axis.count)[:, None], position)
    assert (jet.value >= 0).all()
    torch.testing.assert_close(jet.value.sum(dim=0), torch.ones_like(position))
    torch.testing.assert_close(jet.first.sum(dim=0), torch.zeros_like(position), atol=1e-9, rtol=0)
    torch.testing.assert_close(jet.second.sum(dim=0), torch.zeros_like(position), atol=1e-9, rtol=0)


@given(AXES, st.data())
def test_at_most_two_tiles_of_an_axis_meet(axis: AxisTiling, data: st.DataObject) -> None:
    position = torch.tensor([data.draw(st.floats(0, axis.size))], dtype=torch.float64)
    weights = axis.window(torch.arange(axis.count)[:, None], position).value
    assert 1 <= int((weights > 0).sum()) <= 2


def test_the_window_is_differentiated_exactly() -> None:
    axis = AxisTiling.cut(40, 10, 2.5)
    position = torch.linspace(0.01, 39.9, 200, dtype=torch.float64, requires_grad=True)
    for tile in range(axis.count):
        jet = axis.window(torch.tensor(tile), position)
        (slope,) = torch.autograd.grad(jet.value.sum(), position, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), position)
        torch.testing.assert_close(jet.first, slope)
        torch.testing.assert_close(jet.second, curvature)


@given(AXES)
def test_a_tile_sees_every_pixel_on_which_it_has_weight(axis: AxisTiling) -> None:
    centres = torch.from_numpy(pixel_centres(axis.size))
    weights = axis.window(torch.arange(axis.count)[:, None], centres).value
    for tile, start in enumerate(axis.starts):
        weighty = weights[tile].nonzero()[:, 0]
        assert 0 <= start <= int(weighty.min())
        assert int(weighty.max()) < start + axis.extent <= axis.size


@given(AXES, st.data())
def test_the_cell_of_a_position_holds_it(axis: AxisTiling, data: st.DataObject) -> None:
    position = data.draw(st.floats(0, axis.size))
    cell = int(axis.cell_of(torch.tensor([position], dtype=torch.float64)))
    assert axis.borders[cell] <= position <= axis.borders[cell + 1]


def test_positions_outside_belong_to_the_nearest_cell() -> None:
    axis = AxisTiling.cut(20, 5, 1)
    assert axis.cell_of(torch.tensor([-7.0, 99.0])).tolist() == [0, 3]


@given(
    st.lists(st.integers(2, 14), min_size=1, max_size=3),
    st.floats(4, 8),
    st.floats(0.5, 3),
)
def test_the_weights_of_all_tiles_sum_to_one_at_every_pixel(shape: list[int], tile: float, overlap: float) -> None:
    tiling = Tiling.cut(shape, tile, overlap)
    total = np.zeros(shape)
    for start, weights in zip(tiling.starts, tiling.pixel_windows(), strict=True):
        seen = tuple(slice(a, a + n) for a, n in zip(start, tiling.tile_shape, strict=True))
        total[seen] += weights.reshape(tiling.tile_shape)
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(st.lists(st.integers(4, 14), min_size=1, max_size=3))
def test_extract_gives_each_tile_the_pixels_that_its_coordinates_name(shape: list[int]) -> None:
    tiling = Tiling.cut(shape, 5, 1)
    grid = np.stack(np.meshgrid(*map(pixel_centres, shape), indexing="ij")).astype(np.float32)
    seen = tiling.extract(grid)
    expected = tiling.local_grid()[None] + tiling.centres[:, :, None]
    np.testing.assert_allclose(seen, expected)


def test_subsamples_divide_a_pixel_evenly() -> None:
    tiling = Tiling.cut((3,), 8, 1)
    np.testing.assert_allclose(tiling.local_grid(2)[0], [-1.25, -0.75, -0.25, 0.25, 0.75, 1.25])


@pytest.mark.parametrize(
    ("arguments", "shape", "step"),
    [
        ({}, (6, 10), (1, 1)),
        ({"scale": 2}, (12, 20), (0.5, 0.5)),
        ({"scale": (1, 3)}, (6, 30), (1, 1 / 3)),
        ({"scale": 0.5}, (3, 5), (2, 2)),
        ({"shape": (4, 4)}, (4, 4), (1.5, 2.5)),
        ({"spacing": 0.5}, (24, 10), (0.25, 1)),
        ({"spacing": (1, 1)}, (12, 5), (0.5, 2)),
        ({"scale": 2, "region": [(1, 3), (2.5, 5)]}, (4, 5), (0.5, 0.5)),
    ],
)
def test_a_grid_has_the_shape_and_step_asked_for(
    arguments: dict[str, object], shape: tuple[int, ...], step: tuple[float, ...]
) -> None:
    grid = RenderGrid.from_shape((6, 10), (2.0, 0.5), **arguments)
    assert grid.shape == shape
    assert grid.step == pytest.approx(step)


@given(st.integers(1, 9), st.integers(2, 30))
def test_upscaling_puts_new_samples_at_half_steps(factor: int, n: int) -> None:
    positions = RenderGrid.from_shape((n,), (1.0,), scale=factor).positions(0)
    np.testing.assert_allclose(positions, (np.arange(n * factor) + 0.5) / factor)


@given(st.integers(1, 40), st.integers(1, 50))
def test_a_shape_spans_the_image_from_edge_to_edge(n: int, wanted: int) -> None:
    grid = RenderGrid.from_shape((n,), (1.0,), shape=(wanted,))
    positions = grid.positions(0)
    assert positions[0] - grid.step[0] / 2 == pytest.approx(0)
    assert positions[-1] + grid.step[0] / 2 == pytest.approx(n)


@given(st.integers(1, 40), st.floats(0.01, 4))
def test_no_output_pixel_of_a_scaled_grid_is_centred_outside_the_image(n: int, scale: float) -> None:
    assume(n * scale >= 0.5)
    positions = RenderGrid.from_shape((n,), (1.0,), scale=scale).positions(0)
    assert positions.min() >= 0
    assert positions.max() <= n + 1e-9


@given(st.integers(1, 20), st.integers(0, 19), st.integers(1, 20))
def test_a_block_is_its_part_of_the_grid(n: int, start: int, length: int) -> None:
    grid = RenderGrid.from_shape((20,), (1.0,), shape=(n,), region=[(3, 17)])
    part = slice(min(start, n - 1), min(start + length, n))
    np.testing.assert_allclose(grid.block([part]).positions(0), grid.positions(0)[part], atol=1e-9)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 2, "shape": (4, 4)},
        {"scale": 2, "spacing": 1},
        {"shape": (4, 4), "spacing": 1},
        {"scale": 0},
        {"scale": -1},
        {"scale": float("nan")},
        {"scale": float("inf")},
        {"scale": (1, 2, 3)},
        {"scale": "large"},
        {"shape": (4,)},
        {"shape": 4},
        {"shape": (4, 0)},
        {"shape": (4, 2.5)},
        {"spacing": 0},
        {"spacing": (1, -1)},
        {"spacing": (1, 1, 1)},
        {"region": [(0, 4)]},
        {"region": [(0, 4), (0, 4), (0, 4)]},
        {"region": [(-1, 4), (0, 4)]},
        {"region": [(0, 7), (0, 4)]},
        {"region": [(3, 3), (0, 4)]},
        {"region": [(4, 2), (0, 4)]},
        {"region": [(0, float("nan")), (0, 4)]},
        {"region": (0, 4)},
        {"region": 4},
        {"region": "all"},
    ],
    ids=repr,
)
def test_a_grid_that_makes_no_sense_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        RenderGrid.from_shape((6, 10), (1.0, 1.0), **arguments)


@pytest.mark.parametrize("where", [{}, {"scale": 2}, {"shape": (12, 30)}, {"spacing": 0.5, "region": [(0, 3), (2, 9)]}])
def test_a_grid_over_an_image_is_that_of_its_shape_and_spacing(where: dict[str, Any]) -> None:
    layout = ImageLayout(Axes("YCX"), (6, 2, 10), "uint8", (1.0, 0.5), (0.0, 0.0), (1.0, 1.0))
    assert RenderGrid.from_layout(layout, **where) == RenderGrid.from_shape((6, 10), (1.0, 0.5), **where)


def test_a_tiling_is_the_same_after_its_storage_as_json() -> None:
    tiling = Tiling.cut((40, 25), 10, 2)
    assert Tiling.from_json(json.loads(json.dumps([asdict(axis) for axis in tiling.axes]))) == tiling


@pytest.mark.parametrize("make", [slice, lambda a, b: (a, b)], ids=["slices", "pairs"])
def test_a_region_may_be_slices_or_pairs(make: Callable[[int, int], object]) -> None:
    grid = RenderGrid.from_shape((6, 10), (1.0, 1.0), region=[make(1, 3), make(2, 9)])
    assert (grid.shape, grid.start) == ((2, 7), (1.0, 2.0))
