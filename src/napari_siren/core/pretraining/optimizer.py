"""Muon for stacks of hidden matrices, Adam for the rest; no decision of a step is on the host (CUDA graphs)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_siren.core.network.orthogonalise import orthogonalise

# Momentum of Muon; decays of the two means of Adam, and the least root of its mean square.
_MOMENTUM, _BETAS, _EPSILON = 0.95, (0.9, 0.99), 1e-8


class Optimizer:
    """An optimiser of the parameters of a network, with the running mean of them.

    Parameters
    ----------
    hidden
        Stacks of matrices, whose steps are the orthogonalised momentum.
    others
        All other parameters, whose steps are those of Adam.
    muon_rate, adam_rate
        Step sizes: the spectral norm of a step, and Adam's.
    averaging
        Decay, in a step, of the running mean. In the first steps it is the plain mean.
    largest
        Largest norm of the gradient; longer ones are shortened to it.
    """

    def __init__(
        self,
        hidden: Sequence[Tensor],
        others: Sequence[Tensor],
        muon_rate: float,
        adam_rate: float,
        averaging: float,
        largest: float,
    ) -> None:
        self.hidden, self.others = list(hidden), list(others)
        self.parameters = [*self.hidden, *self.others]
        self.muon_rate, self.adam_rate, self.averaging, self.largest = muon_rate, adam_rate, averaging, largest
        self.momentum = [torch.zeros_like(p) for p in self.hidden]
        self.mean = [torch.zeros_like(p) for p in self.others]
        self.square = [torch.zeros_like(p) for p in self.others]
        self.average = [p.detach().clone() for p in self.parameters]
        self.count = torch.zeros((), device=self.parameters[0].device)
        # Share of the step sizes in the next step; set from outside.
        self.rate = torch.ones((), device=self.count.device)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Change the parameters by a step, from their gradients. The gradients are overwritten."""
        gradients = list(gradients)
        norm = torch.stack(torch._foreach_norm(gradients)).square().sum().sqrt()
        torch._foreach_mul_(gradients, (self.largest / (norm + 1e-12)).clamp(max=1))
        self.count += 1
        for matrix, momentum, gradient in zip(self.hidden, self.momentum, gradients, strict=False):
            momentum.lerp_(gradient, 1 - _MOMENTUM)
            direction = orthogonalise(torch.lerp(gradient, momentum, _MOMENTUM))
            matrix.sub_(direction * (self.muon_rate * self.rate))
        rest = gradients[len(self.hidden) :]
        torch._foreach_lerp_(self.mean, rest, 1 - _BETAS[0])
        torch._foreach_mul_(self.square, _BETAS[1])
        torch._foreach_addcmul_(self.square, rest, rest, 1 - _BETAS[1])
        scale = torch._foreach_div(self.square, 1 - self._power(_BETAS[1]))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, _EPSILON)
        move = torch._foreach_div(self.mean, scale)
        torch._foreach_mul_(move, self.adam_rate * self.rate / (1 - self._power(_BETAS[0])))
        torch._foreach_sub_(self.others, move)
        share = torch.maximum(1 / self.count, torch.full_like(self.count, 1 - self.averaging))
        change = torch._foreach_sub(self.parameters, self.average)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(self.average, change)

    def _power(self, base: float) -> Tensor:
        return (self.count * math.log(base)).exp()

    def state(self) -> list[Tensor]:
        """Return all tensors changed by a step, except the parameters; not copies."""
        return [*self.momentum, *self.mean, *self.square, *self.average, self.count]
