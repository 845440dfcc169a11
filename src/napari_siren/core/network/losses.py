"""What a fit minimises: a data term, and perhaps a prior, on the values of each tile's own samples.

A loss sees the values of a block of tiles and gives back the loss of each tile and its gradient with respect to those
values; how values come from parameters, and gradients go back to them, is the engine's business (`accel`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


class Loss(Protocol):
    """What an engine asks of a loss."""

    def value_and_gradient(self, values: Tensor, tiles: slice) -> tuple[Tensor, Tensor]:
        """Return the loss of each tile, (tiles,), and the gradient, of the shape of `values`.

        Parameters
        ----------
        values
            (tiles, channels, samples).
        tiles
            Which tiles these are.
        """
        ...


@dataclass(frozen=True)
class SquaredLoss:
    """Weighted sum of squares of each tile, sum_p w_p sum_c (f - y)^2; samples do not see each other.

    Parameters
    ----------
    target
        (tiles, channels, samples).
    weight
        (tiles, samples), not negative; 0 where a pixel is missing or held out.
    """

    target: Tensor
    weight: Tensor

    @cached_property
    def factor(self) -> Tensor:
        """What the plain sum is multiplied by, for each tile, so that its gradient is that of the mean: (tiles,)."""
        total = self.weight.sum(dim=1) * self.target.shape[1]
        return torch.where(total > 0, 2 / total, 0.0)

    def value_and_gradient(self, values: Tensor, tiles: slice, samples: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """See `Loss`; `samples` are those that `values` holds."""
        residual = values - self.target[tiles, :, samples]
        weighted = residual * self.weight[tiles, None, samples]
        loss = (residual * weighted).sum(dim=(1, 2))
        return loss, weighted.mul_(self.factor[tiles, None, None])


@dataclass(frozen=True)
class ObservedLoss:
    """Squares after the field was seen by pixels (the mean of their samples), plus total variation of the samples.

    Parameters
    ----------
    data
        The data term on the pixels.
    tile_shape
        Pixels of a tile along each axis.
    subsamples
        Samples of a pixel along each axis.
    variation
        (tiles,): weight of the total variation, isotropic and over the channels jointly (Bresson and Chan 2008).
    """

    data: SquaredLoss
    tile_shape: tuple[int, ...]
    subsamples: int
    variation: Tensor

    def value_and_gradient(self, values: Tensor, tiles: slice) -> tuple[Tensor, Tensor]:
        """See `Loss`."""
        k, d = self.subsamples, len(self.tile_shape)
        fine = values.reshape(*values.shape[:2], *(n for side in self.tile_shape for n in (side, k)))
        pixels = fine.mean(dim=tuple(range(3, 3 + 2 * d, 2))).flatten(2)
        loss, gradient = self.data.value_and_gradient(pixels, tiles)
        spread = (gradient / k**d).reshape(*values.shape[:2], *(n for side in self.tile_shape for n in (side, 1)))
        total = spread.expand(fine.shape).reshape(values.shape).contiguous()
        if self._varies:
            total += self._variation_gradient(values, tiles)
        return loss, total

    @cached_property
    def _varies(self) -> bool:
        """Whether there is a prior; found out once, since a GPU has to be waited for."""
        return bool((self.variation > 0).any())

    def _variation_gradient(self, values: Tensor, tiles: slice) -> Tensor:
        sides = [n * self.subsamples for n in self.tile_shape]
        weight = self.variation[tiles] / values[0, 0].numel() * self.subsamples
        with torch.enable_grad():
            leaf = values.detach().requires_grad_()
            grid = leaf.reshape(*values.shape[:2], *sides)
            inner = (slice(None), slice(None), *(slice(0, n - 1) for n in sides))
            squares = torch.full((), 1e-6, device=values.device)
            for axis, n in enumerate(sides):
                moved = list(inner)
                moved[axis + 2] = slice(1, n)
                squares = squares + (grid[tuple(moved)] - grid[inner]).square().sum(dim=1)
            (gradient,) = torch.autograd.grad((squares.sqrt().flatten(1).sum(dim=1) * weight).sum(), leaf)
        return gradient
