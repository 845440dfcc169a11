"""Muon for stacks of hidden matrices, Adam for the rest; no decision of a step is on the host (CUDA graphs)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Momentum of Muon; decays of the two means of Adam, and the least root of its mean square.
_MOMENTUM, _BETAS, _EPSILON = 0.95, (0.9, 0.99), 1e-8
# Polar Express (Amsel et al. 2025, arXiv 2505.16932) in three steps from 0.02.
_COEFFICIENTS = (
    (7.710969770468588, -22.1137562625831, 16.248743954739513),
    (3.2152760810068908, -2.4111722315322246, 0.5013000721081345),
    (2.2183077155967528, -1.593989612766451, 0.41074789698672853),
)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return the approximately nearest matrices to (…, n, m) with orthonormal rows, or columns if these are fewer."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x: Tensor = wide / (torch.linalg.matrix_norm(wide, keepdim=True) * 1.01 + 1e-30)
    for a, b, c in _COEFFICIENTS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


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
