"""`Loss`: a data term, and optionally a prior, on the values of the samples of each tile.

A loss takes the values of a block of tiles. It returns the loss of each tile, and the gradient with respect to these
values. The engine (`engines`) computes the values from the parameters, and propagates the gradient back to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


class Loss(Protocol):
    """The interface of a loss for the engines."""

    def value_and_gradient(self, values: Tensor, tiles: slice) -> tuple[Tensor, Tensor]:
        """Return the loss of each tile, (tiles,), and the gradient, of the shape of `values`.

        Parameters
        ----------
        values
            Values of the samples, (tiles, channels, samples).
        tiles
            Slice of these tiles among all tiles.
        """
        ...


@dataclass(frozen=True)
class SquaredLoss:
    """A weighted sum of squares for each tile, sum_p w_p sum_c (f - y)^2.

    The terms of different samples are independent of each other.

    Parameters
    ----------
    target
        Values to fit, (tiles, channels, samples).
    weight
        Weights, (tiles, samples), not negative; 0 if a pixel is missing or held out.
    """

    target: Tensor
    weight: Tensor

    @cached_property
    def factor(self) -> Tensor:
        """Factor of the weighted residuals of each tile, (tiles,).

        With it the gradient is that of the weighted mean of squares, instead of the sum. It is 0 for a tile without
        any weight.
        """
        total = self.weight.sum(dim=1) * self.target.shape[1]
        return torch.where(total > 0, 2 / total, 0.0)

    def value_and_gradient(self, values: Tensor, tiles: slice, samples: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return loss and gradient, as in `Loss`; `samples` is the slice of the samples in `values`."""
        residual = values - self.target[tiles, :, samples]
        weighted = residual * self.weight[tiles, None, samples]
        loss = (residual * weighted).sum(dim=(1, 2))
        return loss, weighted.mul_(self.factor[tiles, None, None])


@dataclass(frozen=True)
class ObservedLoss:
    """A squared loss on the pixels (the means of their samples), plus the total variation of the samples.

    Parameters
    ----------
    data
        Data term on the pixels.
    tile_shape
        Number of pixels of a tile along each axis.
    subsamples
        Number of samples of a pixel along each axis.
    variation
        Weight of the total variation of each tile, (tiles,). The total variation is isotropic, and joint over the
        channels (Bresson and Chan 2008).
    """

    data: SquaredLoss
    tile_shape: tuple[int, ...]
    subsamples: int
    variation: Tensor

    def value_and_gradient(self, values: Tensor, tiles: slice) -> tuple[Tensor, Tensor]:
        """Return loss and gradient, as in `Loss`."""
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
        """Whether there is a prior. The answer is cached, because reading it from a GPU means waiting for the GPU."""
        return bool((self.variation > 0).any())

    def _variation_gradient(self, values: Tensor, tiles: slice) -> Tensor:
        sides = [n * self.subsamples for n in self.tile_shape]
        weight = self.variation[tiles] / values[0, 0].numel() * self.subsamples
        with torch.enable_grad():
            leaf = values.detach().requires_grad_()
            grid = leaf.reshape(*values.shape[:2], *sides)
            inner = (slice(None), slice(None), *(slice(0, n - 1) for n in sides))
            # The 1e-6 keeps the gradient of the root finite in flat areas.
            squares = torch.full((), 1e-6, device=values.device)
            for axis, n in enumerate(sides):
                neighbours = list(inner)
                neighbours[axis + 2] = slice(1, n)
                squares = squares + (grid[tuple(neighbours)] - grid[inner]).square().sum(dim=1)
            (gradient,) = torch.autograd.grad((squares.sqrt().flatten(1).sum(dim=1) * weight).sum(), leaf)
        return gradient
