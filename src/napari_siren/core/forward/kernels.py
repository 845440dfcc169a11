"""What a pixel sees along one axis: weights of fine samples, in closed form.

The `fine` samples of an axis cover the same extent as its pixels; sample j stands for the cell from j to j + 1 times
pixels / fine. Lengths are in pixels, and the centre of pixel k is at k + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Beyond so many standard deviations a Gaussian has less than 1e-15 left.
_TAIL = 8.0


class Profile(Protocol):
    """What a pixel sees along one axis."""

    def reach(self, step: float) -> float:
        """Distance from the pixel's centre, in pixels, beyond which there is nothing; `step` is a cell's size."""
        ...

    def weights(self, start: Tensor, step: float) -> Tensor:
        """Weight of the cells that begin at `start`, float64, in pixels from the pixel's centre; about one in all."""
        ...


@dataclass(frozen=True)
class Sampled:
    """A sum of cubic kernels (Keys 1981, a = -1/2), which are as wide as the coarser of the two grids.

    Parameters
    ----------
    spacing
        Distance of the taps in pixels. A cell that is smaller is interpolated; one that is larger is kept free of
        aliasing. 0 always interpolates.
    taps
        What a point is seen as by the pixels around it, in their order; the one at len // 2 is where it is.
    """

    spacing: float
    taps: tuple[float, ...] = (1.0,)

    def reach(self, step: float) -> float:
        """See `Profile`."""
        return 2 * max(step, self.spacing) + self.spacing * (len(self.taps) // 2)

    def weights(self, start: Tensor, step: float) -> Tensor:
        """See `Profile`."""
        width = max(step, self.spacing)
        # Where the pixel is, seen from the middle of the cell.
        position = -(start + step / 2)
        total = torch.zeros_like(position)
        for i, tap in enumerate(self.taps):
            total += tap * _cubic((position - (i - len(self.taps) // 2) * self.spacing) / width)
        return total * (step / width)


@dataclass(frozen=True)
class Integrated:
    """A Gaussian integrated over the pixel's area, and over each cell, in closed form.

    Parameters
    ----------
    sigma
        Standard deviation of the Gaussian in pixels; 0 leaves the pixel's area alone.
    area
        Whether the pixel integrates over its area; else it sees the blurred field at its centre.
    """

    sigma: float
    area: bool = True

    def reach(self, step: float) -> float:
        """See `Profile`."""
        return _TAIL * self.sigma + 0.5

    def weights(self, start: Tensor, step: float) -> Tensor:
        """See `Profile`."""
        return self._below(start + step) - self._below(start)

    def _below(self, x: Tensor) -> Tensor:
        """Share of the weight that lies below x: of the Gaussian, or of its convolution with the pixel's area."""
        if self.area:
            return self._ramp(x + 0.5) - self._ramp(x - 0.5)
        below: Tensor = torch.special.ndtr(x / self.sigma)
        return below

    def _ramp(self, x: Tensor) -> Tensor:
        """Integral of the Gaussian's distribution function."""
        if self.sigma == 0:
            return x.clamp(min=0)
        t = x / self.sigma
        ramp: Tensor = x * torch.special.ndtr(t) + self.sigma / math.sqrt(2 * math.pi) * torch.exp(-t * t / 2)
        return ramp


def profile_weights(profile: Profile, fine: int, pixels: int) -> Tensor:
    """Return the weights of the samples of an axis for its pixels.

    Parameters
    ----------
    profile
        What a pixel sees.
    fine, pixels
        Number of samples and of pixels, which cover the same extent.

    Returns
    -------
    Tensor
        (pixels, fine), float64; a row sums to the share of the profile that lies within the image.
    """
    step = pixels / fine
    centres = torch.arange(pixels, dtype=torch.float64)[:, None] + 0.5
    reach = profile.reach(step)
    # Only the cells within reach are looked at: of a large image they are few.
    count = min(fine, math.ceil(2 * reach / step) + 1)
    first = ((centres - reach) / step).floor().clamp(0, fine - count).long()
    cells = first + torch.arange(count)
    weights = profile.weights(cells.double() * pixels / fine - centres, step)
    return torch.zeros(pixels, fine, dtype=torch.float64).scatter_(1, cells, weights)


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel: 1 at 0, 0 at the other whole numbers and beyond 2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
