"""`BestWeights`: the best weights of each tile so far, and the recovery of diverged tiles."""

from __future__ import annotations

import torch
from torch import Tensor

# A tile has diverged if its loss is this many times the loss before the first step.
_DIVERGED = 4.0
# Factor of a tile's step sizes after it has diverged.
_BACK_OFF = 0.5


class BestWeights:
    """The best weights of each tile so far.

    Parameters
    ----------
    theta
        (tiles, parameters): initial weights.

    Attributes
    ----------
    theta
        (tiles, parameters): best weights.
    losses
        (tiles,): their losses.
    start_losses
        (tiles,): losses before the first step, infinite until they are known.
    rates
        (tiles,): factor of the step sizes of each tile.
    """

    def __init__(self, theta: Tensor) -> None:
        self.theta = theta.clone()
        self.losses = torch.full((len(theta),), torch.inf, device=theta.device)
        self.start_losses = torch.full((len(theta),), torch.inf, device=theta.device)
        self.rates = torch.ones(len(theta), device=theta.device)

    def start(self, losses: Tensor) -> None:
        """Record the losses before the first step, unless they are known."""
        self.start_losses = torch.where(self.start_losses.isfinite(), self.start_losses, losses)

    def record(self, theta: Tensor, losses: Tensor) -> None:
        """Keep the weights of each tile if its loss is smaller than before."""
        better = losses < self.losses
        self.losses = torch.where(better, losses, self.losses)
        self.theta = torch.where(better[:, None], theta, self.theta)

    def or_better(self, theta: Tensor, losses: Tensor) -> Tensor:
        """Return the best weights, given others and their losses. Nothing is recorded."""
        return torch.where((losses < self.losses)[:, None], theta, self.theta)

    def diverged(self, losses: Tensor) -> Tensor:
        """Return a mask of the diverged tiles, bool, (tiles,)."""
        return ~(losses <= _DIVERGED * self.start_losses + 1e-12)

    def slow_down(self, tiles: Tensor) -> None:
        """Reduce the step sizes of some tiles."""
        self.rates[tiles] *= _BACK_OFF

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the state, by their names in files."""
        return {"best": self.theta, "best_loss": self.losses, "rate": self.rates, "start_loss": self.start_losses}
