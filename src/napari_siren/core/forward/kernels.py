"""Kernels of pixels along one axis: weights of fine samples, in closed form.

The `fine` samples of an axis cover the same extent as its pixels. Sample j stands for the cell from j to j + 1 times
pixels / fine. Lengths are in pixels, and the centre of pixel k is at k + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Standard deviations at which a Gaussian is cut off: less than 1e-15 of it lies beyond.
_TAIL = 8.0


class AxisKernel(Protocol):
    """The response of a pixel along one axis."""

    def reach(self, step: float) -> float:
        """Return the distance from the pixel's centre, in pixels, to the end of the kernel.

        Parameters
        ----------
        step
            Size of a cell in pixels.
        """
        ...

    def weights(self, start: Tensor, step: float) -> Tensor:
        """Return the weights of cells. Their sum over all cells is about one.

        Parameters
        ----------
        start
            Beginning of each cell, float64, in pixels from the pixel's centre.
        step
            Size of a cell in pixels.
        """
        ...


@dataclass(frozen=True)
class CubicKernel:
    """A sum of cubic kernels (Keys 1981, a = -1/2), as wide as the coarser of the two grids.

    Parameters
    ----------
    spacing
        Distance between the taps in pixels. Smaller cells are averaged with a kernel of this width, which prevents
        aliasing. Larger cells are interpolated. 0 always interpolates.
    taps
        Response to a point, sampled `spacing` apart, in the order of positions. The point is at index len // 2.
    """

    spacing: float
    taps: tuple[float, ...] = (1.0,)

    def reach(self, step: float) -> float:
        """See `AxisKernel`."""
        return 2 * max(step, self.spacing) + self.spacing * (len(self.taps) // 2)

    def weights(self, start: Tensor, step: float) -> Tensor:
        """See `AxisKernel`."""
        width = max(step, self.spacing)
        # Position of the pixel relative to the middle of the cell.
        position = -(start + step / 2)
        total = torch.zeros_like(position)
        for i, tap in enumerate(self.taps):
            total += tap * _cubic((position - (i - len(self.taps) // 2) * self.spacing) / width)
        return total * (step / width)


@dataclass(frozen=True)
class GaussianKernel:
    """A Gaussian, integrated over the pixel's area and over each cell in closed form.

    Parameters
    ----------
    sigma
        Standard deviation of the Gaussian in pixels. With 0 the kernel is the pixel's area alone.
    area
        Whether the pixel integrates over its area. Otherwise it samples the blurred field at its centre.
    """

    sigma: float
    area: bool = True

    def reach(self, step: float) -> float:
        """See `AxisKernel`."""
        return _TAIL * self.sigma + 0.5

    def weights(self, start: Tensor, step: float) -> Tensor:
        """See `AxisKernel`."""
        return self._below(start + step) - self._below(start)

    def _below(self, x: Tensor) -> Tensor:
        """Return the share of the weight below x, of the Gaussian or of its convolution with the pixel's area."""
        if self.area:
            return self._ramp(x + 0.5) - self._ramp(x - 0.5)
        below: Tensor = torch.special.ndtr(x / self.sigma)
        return below

    def _ramp(self, x: Tensor) -> Tensor:
        """Return the integral of the Gaussian's distribution function."""
        if self.sigma == 0:
            return x.clamp(min=0)
        t = x / self.sigma
        ramp: Tensor = x * torch.special.ndtr(t) + self.sigma / math.sqrt(2 * math.pi) * torch.exp(-t * t / 2)
        return ramp


def profile_weights(profile: AxisKernel, fine: int, pixels: int) -> Tensor:
    """Return the weights of the samples of an axis for its pixels.

    Parameters
    ----------
    profile
        Kernel of a pixel along the axis.
    fine, pixels
        Number of samples and of pixels. Both cover the same extent.

    Returns
    -------
    Tensor
        Weights of shape (pixels, fine), float64. A row sums to the share of the kernel within the image.
    """
    cells, weights = band_weights(profile, fine, pixels)
    return torch.zeros(pixels, fine, dtype=torch.float64).scatter_(1, cells, weights)


def band_weights(profile: AxisKernel, fine: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Return only the samples within reach of each pixel, int64, and their weights, float64, (pixels, count) each.

    The parameters are those of `profile_weights`. The samples of a pixel are neighbours, in ascending order.
    """
    step = pixels / fine
    centres = torch.arange(pixels, dtype=torch.float64)[:, None] + 0.5
    reach = profile.reach(step)
    # Only the cells within reach get weights: in a large image they are few.
    count = min(fine, math.ceil(2 * reach / step) + 1)
    first = ((centres - reach) / step).floor().clamp(0, fine - count).long()
    cells = first + torch.arange(count)
    return cells, profile.weights(cells.double() * pixels / fine - centres, step)


def _cubic(x: Tensor) -> Tensor:
    """Return Keys' kernel: 1 at 0, and 0 at the other whole numbers and beyond 2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
