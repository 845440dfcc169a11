"""`Outliers`: single samples, apart from the tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_siren.core.field.field import Field
from napari_siren.core.field.outliers import Outliers
from napari_siren.core.field.representation import Order
from napari_siren.core.field.tiling import RenderGrid

SHAPE = (5, 7)
ORDERS: tuple[Order, ...] = ("value", "first", "second")
MakeField = Callable[..., Field]


def outliers_of(shape: tuple[int, ...] = SHAPE, channels: int = 2) -> Outliers:
    """Return outliers in a corner, inside and side by side."""
    last = int(np.prod(shape)) - 1
    numbers = torch.tensor([0, last // 2, last // 2 + 1, last])
    return Outliers(shape, numbers, 50 + torch.arange(4.0 * channels, dtype=torch.float64).reshape(4, channels))


def on_grid(outliers: Outliers, positions: list[np.ndarray], order: Order) -> Tensor:
    parts = 1 if order == "value" else len(positions)
    zeros = torch.zeros(parts, outliers.amounts.shape[1], *map(len, positions), dtype=torch.float64)
    return outliers.added_on_grid(zeros, positions, order)


@pytest.mark.parametrize("shape", [(9,), (5, 7), (3, 4, 5)])
def test_an_outlier_is_exact_at_its_sample_and_absent_at_the_others(shape: tuple[int, ...]) -> None:
    outliers = outliers_of(shape)
    values = on_grid(outliers, [np.arange(n) + 0.5 for n in shape], "value")[0]
    expected = torch.zeros_like(values)
    expected.flatten(1)[:, outliers.numbers] = outliers.amounts.T
    assert torch.equal(values, expected)
    assert np.array_equal(outliers.mask, expected[0].numpy() > 0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(9,), (5, 7), (3, 4, 5)])
def test_a_grid_and_its_points_have_the_same_values(shape: tuple[int, ...], order: Order) -> None:
    outliers, rng = outliers_of(shape), np.random.default_rng(0)
    positions = [np.sort(rng.uniform(-1, n + 1, 23)) for n in shape]
    points = torch.from_numpy(np.stack(np.meshgrid(*positions, indexing="ij"), axis=-1).reshape(-1, len(shape)))
    values = outliers.at_points(points, order).mT.reshape(-1, 2, *(23,) * len(shape))
    torch.testing.assert_close(on_grid(outliers, positions, order), values)


def test_the_derivatives_are_those_of_the_values() -> None:
    outliers = outliers_of()
    points = torch.from_numpy(np.random.default_rng(0).uniform(0, 5, (200, 2))).requires_grad_()
    for channel in range(2):
        value = outliers.at_points(points, "value")[0, :, channel].sum()
        (first,) = torch.autograd.grad(value, points, create_graph=True)
        torch.testing.assert_close(first.mT, outliers.at_points(points, "first")[..., channel])
        for axis in range(2):
            (second,) = torch.autograd.grad(first[:, axis].sum(), points, retain_graph=True)
            torch.testing.assert_close(second[:, axis], outliers.at_points(points, "second")[axis, :, channel])


def test_values_far_from_every_outlier_are_returned_as_they_are() -> None:
    values = torch.rand(1, 2, 2, 2)
    assert outliers_of().added_on_grid(values, [np.array([1.6, 1.7]), np.array([1.8, 2.4])], "value") is values


def test_values_between_two_samples_lie_between_their_values() -> None:
    outliers = Outliers(SHAPE, torch.tensor([16, 17]), torch.tensor([[8.0], [4.0]], dtype=torch.float64))
    along = on_grid(outliers, [np.array([2.5]), np.linspace(0, 7, 71)], "value").flatten()
    assert 0 <= along.min() <= along.max() <= 8
    assert along[25:36].min() >= 4


@pytest.mark.parametrize("derivative", [None, "gradient", "laplacian"])
@pytest.mark.parametrize("scale", [0.4, 1.5, 3])
def test_a_field_is_the_sum_of_its_tiles_and_outliers(random_field: MakeField, scale: float, derivative: Any) -> None:
    tiles = random_field((20, 15), 2, spacing=(0.5, 2.0))
    field = replace(tiles, outliers=outliers_of((20, 15)))
    grid = RenderGrid.from_layout(field.layout, scale=scale)
    rendered, without = (f.render(grid, derivative, dtype="float64") for f in (field, tiles))
    assert np.isfinite(rendered).all()
    assert 0 < (rendered != without).mean() < 0.2
    if scale > 1:
        points = np.stack(np.meshgrid(*(grid.positions(i, 1) for i in range(2)), indexing="ij"), axis=-1)
        evaluate = {None: field, "gradient": field.gradient, "laplacian": field.laplacian}[derivative]
        expected = np.asarray(evaluate(points * field.layout.spacing))
        expected = np.moveaxis(expected, -1, 0) if derivative == "gradient" else expected
        np.testing.assert_allclose(rendered, expected, rtol=1e-6, atol=1e-6)


def test_at_the_samples_only_the_values_of_the_outliers_change(random_field: MakeField) -> None:
    tiles, outliers = random_field((20, 15), 2), outliers_of((20, 15))
    field, grid = replace(tiles, outliers=outliers), RenderGrid.from_layout(tiles.layout)
    change = field.render(grid, dtype="float64") - tiles.render(grid, dtype="float64")
    np.testing.assert_allclose(change[outliers.mask], outliers.amounts.numpy() * np.array(field.layout.scale))
    assert not change[~outliers.mask].any()
    for derivative in ("gradient", "laplacian"):
        np.testing.assert_array_equal(field.render(grid, derivative), tiles.render(grid, derivative))


def test_outliers_of_wide_dtypes_keep_their_digits(random_field: MakeField) -> None:
    tiles = random_field((6, 6), tile=20, dtype=torch.float32, image_dtype="uint32")
    outliers = Outliers((6, 6), torch.tensor([14]), torch.tensor([[2e9 + 1]], dtype=torch.float64))
    rendered = replace(tiles, outliers=outliers).reconstruct()
    assert int(rendered[2, 2]) - int(tiles.reconstruct()[2, 2]) in (4_000_000_001, 4_000_000_002, 4_000_000_003)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"numbers": torch.tensor([0.0, 1.0])}, "not a list of integers"),
        ({"numbers": torch.tensor([], dtype=torch.int64)}, "not a list of integers"),
        ({"numbers": torch.tensor([[3, 4]])}, "not a list of integers"),
        ({"numbers": torch.tensor([4, 3])}, "do not ascend"),
        ({"numbers": torch.tensor([3, 3])}, "do not ascend"),
        ({"numbers": torch.tensor([-1, 3])}, "do not ascend"),
        ({"numbers": torch.tensor([3, 35])}, "do not ascend"),
        ({"amounts": torch.zeros(2, 3, dtype=torch.float64)}, "do not match the image"),
        ({"amounts": torch.zeros(3, 1, dtype=torch.float64)}, "do not match the image"),
        ({"amounts": torch.zeros(2, 1)}, "not finite numbers"),
        ({"amounts": torch.full((2, 1), torch.nan, dtype=torch.float64)}, "not finite numbers"),
    ],
)
def test_impossible_outliers_are_refused(change: dict[str, Tensor], reason: str) -> None:
    outliers = Outliers(SHAPE, torch.tensor([0, 34]), torch.zeros(2, 1, dtype=torch.float64))
    outliers.check(1)
    with pytest.raises(ValueError, match=reason):
        replace(outliers, **change).check(1)
