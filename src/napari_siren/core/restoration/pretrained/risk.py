"""Stein's unbiased risk estimate: the mean squared error of a restored image, without the true image.

For Gaussian noise of a known variance it is unbiased, for any restoration that depends smoothly on the image. The
divergence is estimated by finite differences (Ramani, Blu and Unser 2008, doi 10.1109/TIP.2008.2001404).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Change of the image for the finite differences, in standard deviations of the noise, and its least value.
_STEP, _LEAST_STEP = 0.1, 1e-5
# Number of pixels for a random change: the divergence of smaller images is the mean of several. Largest number of them.
_PIXELS, _MOST_CHANGES = 1 << 16, 8


@dataclass(frozen=True)
class RiskEstimate:
    """A restoration of a noisy image.

    Parameters
    ----------
    values
        Restored image.
    divergence
        Mean over the pixels of the noise variance times the derivative of the restored pixel with respect to the noisy
        one: the covariance of the restored image with the noise.
    """

    values: Tensor
    divergence: float

    @classmethod
    def of(cls, restore: Callable[[Tensor], Tensor], noisy: Tensor, variance: Tensor) -> RiskEstimate:
        """Restore an image, and again with small random changes.

        Parameters
        ----------
        restore
            The restoration: noisy image -> restored image of the same shape.
        noisy, variance
            The image, and the variance of its noise, of the same shape.
        """
        rng, step = np.random.default_rng(0), _STEP * variance.mean().sqrt().clamp_min(_LEAST_STEP)
        values, divergences = restore(noisy), []
        for _ in range(min(_MOST_CHANGES, -(-_PIXELS // noisy.numel()))):
            direction = torch.from_numpy(rng.standard_normal(noisy.shape, dtype=np.float32)).to(noisy)
            change = restore(noisy + step * direction) - values
            divergences.append(float((variance * direction * change).mean() / step))
        return cls(values, float(np.mean(divergences)))

    @classmethod
    def joined(cls, estimates: Sequence[RiskEstimate]) -> RiskEstimate:
        """Return the estimate for several images of the same shape together."""
        values = torch.stack([estimate.values for estimate in estimates])
        return cls(values, float(np.mean([estimate.divergence for estimate in estimates])))

    def risk(self, noisy: Tensor, variance: Tensor) -> float:
        """Return an unbiased estimate of the mean squared error."""
        return float((self.values - noisy).square().mean() - variance.mean()) + 2 * self.divergence

    def best_share(self, other: RiskEstimate, noisy: Tensor) -> float:
        """Return the weight of another prediction, 0 to 1, for the weighted mean of both with the least error."""
        difference = other.values - self.values
        slope = float(((self.values - noisy) * difference).mean()) + other.divergence - self.divergence
        return min(1.0, max(0.0, -slope / max(float(difference.square().mean()), 1e-12)))
