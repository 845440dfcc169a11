"""Tests of `Field`: exact derivatives, continuity, and agreement of grids with points."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import zarr

from napari_siren.core.field.field import Field
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.errors import DeviceError, InputError

MakeField = Callable[..., Field]
Array = npt.NDArray[np.float64]

# Shape, channels, spacing.
DOMAINS = [
    pytest.param((17,), 1, (1.0,), id="1-D"),
    pytest.param((17, 13), 1, (1.0, 1.0), id="2-D"),
    pytest.param((13, 17), 3, (0.5, 2.0), id="2-D, 3 channels, anisotropic"),
    pytest.param((7, 13, 12), 1, (3.0, 0.4, 0.7), id="3-D, anisotropic"),
    pytest.param((7, 8, 12), 3, (1.0, 1.0, 1.0), id="3-D, 3 channels"),
]


def telling_points(field: Field, count: int = 12) -> Array:
    """Return random points, and points around borders: on them, in and at the ends of their zones, and at crossings."""
    rng = np.random.default_rng(0)
    shape = np.array(field.tiling.shape)
    along = []
    for axis in field.tiling.axes:
        borders = np.array(axis.borders[1:-1], dtype=float)
        at = np.concatenate([borders + s * axis.overlap for s in (-1, -0.4, 0, 0.7, 1)])
        along.append(at if len(at) else np.array([axis.size / 3]))
    corners = np.array(list(product(*along)))
    corners = corners[rng.permutation(len(corners))[:40]]
    one_border = rng.random((count, len(shape))) * shape
    one_border[:, 0] = rng.choice(along[0], count)
    pixels = np.concatenate([rng.random((count, len(shape))) * shape, one_border, corners])
    return pixels * np.array(field.layout.spacing)


def difference(function: Callable[[Array], Array], points: Array, axis: int, step: float) -> Array:
    """Return the central difference along an axis."""
    moved = np.zeros(points.shape[1])
    moved[axis] = step
    return (function(points + moved) - function(points - moved)) / (2 * step)


@pytest.mark.parametrize(("shape", "channels", "spacing"), DOMAINS)
class TestDerivatives:
    def test_the_gradient_is_the_limit_of_differences_of_values(
        self, random_field: MakeField, shape: tuple[int, ...], channels: int, spacing: tuple[float, ...]
    ) -> None:
        field = random_field(shape, channels, spacing=spacing)
        points = telling_points(field)
        gradient = field.gradient(points)
        for axis in range(len(shape)):
            expected = difference(field, points, axis, 1e-5 * spacing[axis])
            np.testing.assert_allclose(gradient[..., axis], expected, rtol=1e-6, atol=1e-6)

    def test_the_laplacian_is_the_limit_of_differences_of_gradients(
        self, random_field: MakeField, shape: tuple[int, ...], channels: int, spacing: tuple[float, ...]
    ) -> None:
        field = random_field(shape, channels, spacing=spacing)
        points = telling_points(field)
        expected = sum(
            difference(lambda p, a=axis: field.gradient(p)[..., a], points, axis, 1e-5 * spacing[axis])
            for axis in range(len(shape))
        )
        np.testing.assert_allclose(field.laplacian(points), expected, rtol=1e-3, atol=2e-3)

    def test_value_gradient_and_laplacian_go_on_across_borders_and_ends_of_zones(
        self, random_field: MakeField, shape: tuple[int, ...], channels: int, spacing: tuple[float, ...]
    ) -> None:
        field = random_field(shape, channels, spacing=spacing)
        axis = field.tiling.axes[-1]
        edges = np.array([b + s * axis.overlap for b in axis.borders[1:-1] for s in (-1, 0, 1)])
        points = np.random.default_rng(1).random((len(edges), len(shape))) * np.array(shape)
        points[:, -1] = edges
        points *= np.array(spacing)
        step = np.zeros(len(shape))
        step[-1] = 1e-8 * spacing[-1]
        for function in (field, field.gradient, field.laplacian):
            jump = np.abs(function(points + step) - function(points - step)).max()
            assert jump < 1e-5 * np.abs(function(points)).max()


@pytest.mark.parametrize(("shape", "channels", "spacing"), DOMAINS)
def test_shapes_of_values_and_derivatives(
    random_field: MakeField, shape: tuple[int, ...], channels: int, spacing: tuple[float, ...]
) -> None:
    field = random_field(shape, channels, spacing=spacing)
    d, ends = len(shape), () if channels == 1 else (channels,)
    coords = np.ones((4, 2, d))
    assert field(coords).shape == (4, 2, *ends)
    assert field.gradient(coords).shape == (4, 2, *ends, d)
    assert field.laplacian(coords).shape == (4, 2, *ends)
    assert field(np.zeros((0, d))).shape == (0, *ends)


def test_one_point_needs_no_list_around_it(random_field: MakeField) -> None:
    field = random_field((12, 12))
    assert field([3.0, 4.0]) == field([[3.0, 4.0]])[0]
    assert field.gradient([3.0, 4.0]).shape == (2,)
    assert field.laplacian([3.0, 4.0]) == field.laplacian([[3.0, 4.0]])[0]


def test_one_tile_is_the_plain_network(random_field: MakeField) -> None:
    field = random_field((9, 8), channels=2, tile=20, spacing=(0.5, 2.0))
    points = np.random.default_rng(0).random((30, 2)) * [4.5, 16]
    local = (points / [0.5, 2.0] - [4.5, 4.0]) * field.blend.coordinate_scale
    network = field.siren.forward(torch.from_numpy(local).T[None])[0].T * field.blend.scale[0] + field.blend.offset[0]
    expected = network.numpy() * field.layout.scale + field.layout.offset
    np.testing.assert_allclose(field(points), expected, rtol=1e-12)


def test_away_from_borders_the_field_is_the_tiles_own_network(random_field: MakeField) -> None:
    field = random_field((20, 20), overlap=1)
    assert field.tiling.counts == (3, 3)
    middle = field.tiling.centres[4]
    output = field.siren.forward(torch.zeros(1, 2, 1, dtype=torch.float64))[4, 0, 0]
    normalised = float(output * field.blend.scale[4, 0] + field.blend.offset[4, 0])
    expected = normalised * field.layout.scale[0] + field.layout.offset[0]
    assert field(middle[None])[0] == pytest.approx(expected)


def test_equal_constant_tiles_blend_to_the_constant(random_field: MakeField) -> None:
    """Check the sum of the windows, which is one: values are constant, and derivatives are zero."""
    field = random_field((13, 17))
    field.siren.theta.zero_()
    field.blend.offset.fill_(2.5)
    points = telling_points(field)
    np.testing.assert_allclose(field(points), 2.5 * field.layout.scale[0] + field.layout.offset[0])
    np.testing.assert_allclose(field.gradient(points), 0, atol=1e-10)
    np.testing.assert_allclose(field.laplacian(points), 0, atol=1e-10)


def test_outside_the_image_the_nearest_tile_goes_on(random_field: MakeField) -> None:
    field = random_field((12, 12))
    outside = np.array([[-3.0, -2.0], [15.0, 14.0]])
    assert np.isfinite(field(outside)).all()
    np.testing.assert_allclose(field.gradient(outside)[:, 0], difference(field, outside, 0, 1e-5), rtol=1e-6, atol=1e-6)


def test_float32_coordinates_give_float32_close_to_float64(random_field: MakeField) -> None:
    field = random_field((12, 12), dtype=torch.float32, image_dtype="float32")
    points = np.random.default_rng(0).random((50, 2)) * 12
    low_precision = field(points.astype(np.float32))
    assert (low_precision.dtype, field(points).dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(low_precision, field(points), rtol=1e-4, atol=1e-4)


def test_many_points_are_taken_in_blocks(random_field: MakeField, small_blocks: Callable[[], None]) -> None:
    field = random_field((12, 12))
    points = np.random.default_rng(0).random((101, 2)) * 12
    whole = field(points), field.gradient(points)
    small_blocks()
    np.testing.assert_allclose(field(points), whole[0], rtol=1e-12)
    np.testing.assert_allclose(field.gradient(points), whole[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "coords",
    [[[1.0, 2.0, 3.0]], 4.0, [[1.0, np.nan]], [[np.inf, 1.0]], [["a", "b"]], [[1j, 2]], [[1.0, 2.0], [3.0]]],
    ids=repr,
)
def test_coordinates_that_make_no_sense_are_refused(random_field: MakeField, coords: object) -> None:
    with pytest.raises(InputError):
        random_field((12, 12))(coords)


# ---- on grids ------------------------------------------------------------------------------------------


def grid_of(field: Field, **arguments: object) -> RenderGrid:
    return RenderGrid.from_shape(field.tiling.shape, field.layout.spacing, **arguments)


def by_points(field: Field, grid: RenderGrid, function: Callable[[Array], Array], finest: int = 1) -> Array:
    """Return the expected render: the mean of points evenly spread over each output pixel, channels last."""
    samples = [max(1, int(np.ceil(step * finest - 1e-9))) for step in grid.step]
    # Positions beyond the image's edge take the value at the edge.
    axes = [
        np.clip(start + (np.arange(n * k) + 0.5) * step / k, 0, size)
        for start, n, k, step, size in zip(
            grid.start, grid.shape, samples, grid.step, field.layout.spatial_shape, strict=True
        )
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) * np.array(field.layout.spacing)
    values = function(points)
    for axis, (n, k) in enumerate(zip(grid.shape, samples, strict=True)):
        values = values.reshape(*values.shape[:axis], n, k, *values.shape[axis + 1 :]).mean(axis=axis + 1)
    return values


GRIDS = [
    {},
    {"scale": 2},
    {"scale": 1.5},
    {"scale": 0.5},
    {"scale": 0.4},
    {"scale": (2, 0.5)},
    {"scale": (1, 3)},
    {"shape": (5, 20)},
    {"spacing": 0.7},
    {"spacing": (0.25, 4)},
    {"scale": 3, "region": [(2, 5), (6.5, 9)]},
    {"shape": (1, 1), "region": [(4, 7.5), (0, 13)]},
]


@pytest.mark.parametrize("arguments", GRIDS, ids=repr)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_has_the_values_of_its_points(
    random_field: MakeField, arguments: dict[str, object], channels: int
) -> None:
    field = random_field((14, 13), channels, spacing=(0.5, 2.0))
    grid = grid_of(field, **arguments)
    np.testing.assert_allclose(field.render(grid), by_points(field, grid, field), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("arguments", [{}, {"scale": 2}, {"scale": (1, 2, 0.5)}, {"shape": (3, 4, 20)}], ids=repr)
def test_a_grid_in_three_dimensions_has_the_values_of_its_points(
    random_field: MakeField, arguments: dict[str, object]
) -> None:
    field = random_field((5, 9, 12), spacing=(3.0, 1.0, 0.5))
    grid = grid_of(field, **arguments)
    np.testing.assert_allclose(field.render(grid), by_points(field, grid, field), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("arguments", [{}, {"scale": 2}, {"scale": 0.5}, {"scale": (2, 0.5)}], ids=repr)
@pytest.mark.parametrize("channels", [1, 3])
def test_derivatives_on_a_grid_are_those_of_its_points(
    random_field: MakeField, arguments: dict[str, object], channels: int
) -> None:
    field = random_field((14, 13), channels, spacing=(0.5, 2.0))
    grid = grid_of(field, **arguments)
    gradient = np.moveaxis(by_points(field, grid, field.gradient), -1, 0)
    close = {"rtol": 1e-9, "atol": 1e-9}
    render = {d: field.render(grid, d, np.float64) for d in ("gradient", "gradient_magnitude", "laplacian")}
    np.testing.assert_allclose(render["gradient"], gradient, **close)
    np.testing.assert_allclose(render["gradient_magnitude"], np.sqrt(np.square(gradient).sum(axis=0)), **close)
    np.testing.assert_allclose(render["laplacian"], by_points(field, grid, field.laplacian), **close)


@pytest.mark.parametrize("scale", [1, 2, 3, 0.5])
def test_pixels_that_see_an_area_are_averaged_at_their_own_resolution(random_field: MakeField, scale: float) -> None:
    field = random_field((14, 13), samples_per_pixel=2)
    grid = grid_of(field, scale=scale)
    np.testing.assert_allclose(field.render(grid), by_points(field, grid, field, finest=2), rtol=1e-10, atol=1e-10)


def test_a_single_output_pixel_is_the_mean_of_the_image_at_any_small_scale(random_field: MakeField) -> None:
    field = random_field((14, 13))
    mean = field.render(grid_of(field, shape=(1, 1)))
    np.testing.assert_allclose(field.render(grid_of(field, scale=0.02)), mean)


@pytest.mark.parametrize("channel_axis", [0, 1, 2])
def test_channels_stay_where_they_are(random_field: MakeField, channel_axis: int) -> None:
    field = random_field((9, 8), 3, channel_axis=channel_axis)
    last = random_field((9, 8), 3)
    grid = grid_of(field, scale=2)
    for derivative in (None, "gradient_magnitude", "laplacian"):
        np.testing.assert_array_equal(
            np.moveaxis(field.render(grid, derivative), channel_axis, -1), last.render(grid, derivative)
        )
    gradient = np.moveaxis(field.render(grid, "gradient"), channel_axis + 1, -1)
    np.testing.assert_array_equal(gradient, last.render(grid, "gradient"))


@pytest.mark.parametrize("derivative", [None, "gradient", "gradient_magnitude", "laplacian"])
@pytest.mark.parametrize("scale", [2, 0.5])
def test_blocks_are_the_whole(
    random_field: MakeField, small_blocks: Callable[[], None], derivative: str | None, scale: float
) -> None:
    field = random_field((20, 17), channels=2)
    grid = grid_of(field, scale=scale)
    whole = field.render(grid, derivative, np.float64)
    small_blocks()
    np.testing.assert_allclose(field.render(grid, derivative, np.float64), whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("derivative", [None, "gradient", "laplacian"])
def test_an_array_is_filled_in_place(random_field: MakeField, derivative: str | None) -> None:
    field = random_field((14, 13), channels=3)
    grid = grid_of(field, scale=1.5)
    expected = field.render(grid, derivative, np.float32)
    out = np.full(expected.shape, np.nan, dtype=np.float32)
    assert field.render(grid, derivative, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_a_zarr_array_is_filled_block_by_block(random_field: MakeField, small_blocks: Callable[[], None]) -> None:
    field = random_field((14, 13), image_dtype="uint8")
    grid = grid_of(field, scale=2)
    expected = field.render(grid)
    small_blocks()
    out = zarr.create_array(store={}, shape=grid.shape, chunks=(8, 8), dtype="uint8")
    assert field.render(grid, out=out) is out
    np.testing.assert_array_equal(out[:], expected)


def test_dtypes_of_renders(random_field: MakeField) -> None:
    field = random_field((8, 9), image_dtype="uint8")
    grid = grid_of(field)
    assert field.render(grid).dtype == np.uint8
    assert field.render(grid, "laplacian").dtype == np.float32
    assert field.render(grid, dtype=np.float64).dtype == np.float64
    assert field.render(grid, out=np.zeros((8, 9), np.int16)).dtype == np.int16


def test_values_beyond_the_dtype_are_clipped_not_wrapped(random_field: MakeField) -> None:
    field = random_field((8, 9), image_dtype="uint8")
    for offset, expected in ((1e4, 255), (-1e4, 0), (130, 255)):
        field.blend.offset.fill_(offset)
        assert (field.render(grid_of(field)) == expected).all()


def test_an_unknown_derivative_is_refused_with_those_there_are(random_field: MakeField) -> None:
    field = random_field((8, 9))
    with pytest.raises(InputError, match="gradient_magnitude"):
        field.render(grid_of(field), "divergence")


def test_an_out_of_the_wrong_shape_is_refused(random_field: MakeField) -> None:
    field = random_field((8, 9))
    with pytest.raises(InputError, match=r"\(8, 9\)"):
        field.render(grid_of(field), out=np.zeros((9, 8)))


@pytest.mark.parametrize("dtype", ["complex64", "no such dtype"])
def test_a_dtype_that_cannot_hold_values_is_refused(random_field: MakeField, dtype: str) -> None:
    field = random_field((8, 9))
    with pytest.raises(InputError):
        field.render(grid_of(field), dtype=dtype)


def test_where_memory_runs_out_smaller_blocks_give_the_same(
    random_field: MakeField, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    field = random_field((12, 9), channels=2)
    grid = RenderGrid.from_shape((12, 9), (1.0, 1.0), scale=2)
    expected, block = field.render(grid), Field._block

    def short_of_memory(self: Field, grid: RenderGrid, *rest: Any) -> Any:
        if np.prod(grid.shape) > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return block(self, grid, *rest)

    monkeypatch.setattr(Field, "_block", short_of_memory)
    np.testing.assert_allclose(field.render(grid), expected, rtol=1e-6)
    assert "smaller blocks" in caplog.text


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (MemoryError(), DeviceError, "even for a single pixel"),
        (RuntimeError("another reason"), RuntimeError, "another reason"),
    ],
)
def test_what_smaller_blocks_do_not_help_is_an_error(
    random_field: MakeField, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type, message: str
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(Field, "_block", fail)
    with pytest.raises(raised, match=message):
        random_field((4, 4)).render(RenderGrid.from_shape((4, 4), (1.0, 1.0)))
