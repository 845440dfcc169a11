"""Tests of the losses: values against the definition, gradients against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from napari_siren.core.network.losses import ObservedLoss, SquaredLoss

ALL = slice(None)


def squared(tiles: int, channels: int, samples: int) -> SquaredLoss:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(tiles, channels, samples, generator=generator, dtype=torch.float64)
    weight = torch.rand(tiles, samples, generator=generator, dtype=torch.float64)
    return SquaredLoss(target, weight * (weight > 0.3))


def mean_square(loss: SquaredLoss, pixels: Tensor) -> Tensor:
    """Return the weighted mean square of each tile, by definition."""
    total = loss.weight.sum(dim=1) * pixels.shape[1]
    return ((pixels - loss.target).square() * loss.weight[:, None]).sum(dim=(1, 2)) / total


def test_the_squared_loss_is_a_weighted_sum_of_squares() -> None:
    loss = squared(3, 2, 20)
    values = torch.randn_like(loss.target)
    expected = mean_square(loss, values) * loss.weight.sum(dim=1) * 2
    torch.testing.assert_close(loss.value_and_gradient(values, ALL)[0], expected)


def test_its_gradient_is_that_of_the_mean() -> None:
    loss = squared(3, 2, 20)
    values = torch.randn_like(loss.target).requires_grad_()
    (expected,) = torch.autograd.grad(mean_square(loss, values).sum(), values)
    torch.testing.assert_close(loss.value_and_gradient(values.detach(), ALL)[1], expected)


def test_parts_of_the_squared_loss_are_parts_of_the_whole() -> None:
    loss = squared(3, 2, 20)
    values = torch.randn_like(loss.target)
    whole, gradient = loss.value_and_gradient(values, ALL)
    tiles, halves = slice(1, 3), (slice(0, 7), slice(7, 20))
    parts = [loss.value_and_gradient(values[tiles, :, half], tiles, half) for half in halves]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole[tiles])
    torch.testing.assert_close(torch.cat([part[1] for part in parts], dim=2), gradient[tiles])


def test_pixels_without_weight_do_not_count() -> None:
    loss = squared(3, 2, 20)
    values = torch.randn_like(loss.target)
    changed = torch.where(loss.weight[:, None] > 0, values, 1e6)
    for a, b in zip(loss.value_and_gradient(values, ALL), loss.value_and_gradient(changed, ALL), strict=True):
        torch.testing.assert_close(a, b)


def test_a_tile_without_any_weight_has_no_loss_and_no_gradient() -> None:
    loss = SquaredLoss(torch.ones(1, 1, 5), torch.zeros(1, 5))
    value, gradient = loss.value_and_gradient(torch.zeros(1, 1, 5), ALL)
    assert not value.any()
    assert not gradient.any()


def observed(tile_shape: tuple[int, ...], channels: int, subsamples: int, variation: float) -> ObservedLoss:
    data = squared(2, channels, math.prod(tile_shape))
    weights = torch.tensor([variation, 0.5 * variation], dtype=torch.float64)
    return ObservedLoss(data, tile_shape, subsamples, weights)


def objective(loss: ObservedLoss, values: Tensor) -> Tensor:
    """Return the objective of an `ObservedLoss`, by definition."""
    k, sides = loss.subsamples, loss.tile_shape
    fine = values.reshape(*values.shape[:2], *(n * k for n in sides))
    pixels = fine
    for axis, n in enumerate(sides, start=2):
        pixels = pixels.unflatten(axis, (n, k)).mean(dim=axis + 1)
    inner = fine[(..., *(slice(0, -1) for _ in sides))]
    squares = torch.tensor(1e-6, dtype=torch.float64)
    for axis in range(len(sides)):
        moved = [slice(0, -1)] * len(sides)
        moved[axis] = slice(1, None)
        squares = squares + (fine[(..., *moved)] - inner).square().sum(dim=1)
    variation = squares.sqrt().flatten(1).sum(dim=1) / fine[0, 0].numel() * k * loss.variation
    return (mean_square(loss.data, pixels.flatten(2)) + variation).sum()


@pytest.mark.parametrize("variation", [0.0, 0.1])
@pytest.mark.parametrize(
    ("tile_shape", "channels", "subsamples"), [((6,), 1, 2), ((4, 5), 1, 2), ((4, 5), 3, 3), ((2, 3, 4), 2, 2)]
)
def test_pixels_see_the_mean_of_their_samples_and_variation_costs(
    tile_shape: tuple[int, ...], channels: int, subsamples: int, variation: float
) -> None:
    loss = observed(tile_shape, channels, subsamples, variation)
    samples = math.prod(tile_shape) * subsamples ** len(tile_shape)
    values = torch.randn(2, channels, samples, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(objective(loss, values), values)
    torch.testing.assert_close(loss.value_and_gradient(values.detach(), ALL)[1], expected)


def test_flat_tiles_do_not_vary() -> None:
    loss = observed((4, 5), 1, 2, 1.0)
    flat = torch.zeros(2, 1, 80, dtype=torch.float64)
    without = observed((4, 5), 1, 2, 0.0)
    torch.testing.assert_close(
        loss.value_and_gradient(flat, ALL)[1], without.value_and_gradient(flat, ALL)[1], atol=1e-9, rtol=0
    )


def test_blocks_of_tiles_are_parts_of_the_whole() -> None:
    loss = observed((4, 5), 2, 2, 0.3)
    values = torch.randn(2, 2, 80, dtype=torch.float64)
    whole = loss.value_and_gradient(values, ALL)
    second = loss.value_and_gradient(values[1:], slice(1, 2))
    torch.testing.assert_close(second[0], whole[0][1:])
    torch.testing.assert_close(second[1], whole[1][1:])
