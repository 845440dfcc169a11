"""Muon for the hidden matrices, Adam for all other parameters, and the schedule of their step sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from napari_siren.core.network.orthogonalise import orthogonalise
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.settings.config import FitConfig

# Added to Adam's denominator beside Muon.
_EPSILON = 1e-12
# Added to Adam's denominator with optimizer="adam", and for a single network: the value of Kingma and Ba 2015.
_PAPER_EPSILON = 1e-8
# Momentum of Muon, and beta1 and beta2 of Adam, for a single network.
_MOMENTUM, _BETAS = 0.95, (0.9, 0.99)


class Optimizer:
    """An optimiser of the parameters of all tiles at once, with separate step sizes for each tile.

    Hidden matrices move by their orthogonalised momentum (Muon, Jordan et al. 2024, with Nesterov's look-ahead). Then
    all directions of a matrix change equally fast, which a squared error alone does not ensure. All other parameters
    move by Adam (Kingma and Ba 2015). With ``optimizer="adam"`` in the configuration, all parameters do.

    Parameters
    ----------
    config
        Settings with the step sizes and decays.
    spec
        Sizes of the networks, which determine the columns of the hidden matrices.
    theta
        Parameters, (tiles, parameters); changed in place by `move`.
    """

    def __init__(self, config: FitConfig, spec: NetworkSpec, theta: Tensor) -> None:
        self.config = config
        self.spec = spec
        self.theta = theta
        muon = config.optimizer == "muon" and spec.hidden_layers > 1
        self.adam_columns = spec.hidden_start if muon else spec.parameters
        self.mean = torch.zeros(len(theta), self.adam_columns, device=theta.device)
        self.square = torch.zeros_like(self.mean)
        self.momentum = torch.zeros_like(spec.hidden_matrices(theta)) if muon else None
        self.count = torch.zeros(len(theta), 1, device=theta.device)
        self.epsilon = _PAPER_EPSILON if config.optimizer == "adam" else _EPSILON

    def move(self, gradient: Tensor, rate: Tensor, orthogonalise: Callable[[Tensor], Tensor]) -> None:
        """Move the parameters by one step.

        An engine may do the same in its own way (`Engine.update`).

        Parameters
        ----------
        gradient
            Gradient of the loss, (tiles, parameters).
        rate
            Share of the configured step sizes for each tile, (tiles,).
        orthogonalise
            Function that returns the nearest orthogonal matrices to matrices (…, n, n).
        """
        self._adam(gradient[:, : self.adam_columns], rate)
        if self.momentum is not None:
            self._muon(self.spec.hidden_matrices(gradient), rate, orthogonalise)

    def _adam(self, gradient: Tensor, rate: Tensor) -> None:
        config = self.config
        self.count += 1
        self.mean.lerp_(gradient, 1 - config.beta1)
        self.square.mul_(config.beta2).addcmul_(gradient, gradient, value=1 - config.beta2)
        size = config.learning_rate * rate[:, None] / (1 - config.beta1**self.count)
        scale = (self.square / (1 - config.beta2**self.count)).sqrt_().add_(self.epsilon)
        self.theta[:, : self.adam_columns].sub_(self.mean / scale * size)

    def _muon(self, gradient: Tensor, rate: Tensor, orthogonalise: Callable[[Tensor], Tensor]) -> None:
        assert self.momentum is not None
        self.momentum.lerp_(gradient, 1 - self.config.momentum)
        direction = orthogonalise(torch.lerp(gradient, self.momentum, self.config.momentum))
        size = self.config.muon_learning_rate * rate[:, None, None, None]
        self.spec.hidden_matrices(self.theta).sub_(direction.mul_(size))

    def reset(self, tiles: Tensor) -> None:
        """Set the gradient statistics of some tiles (boolean mask) to zero, after a rollback."""
        for tensor in self.state().values():
            tensor[tiles] = 0

    def state(self) -> dict[str, Tensor]:
        """Return the state by name, for `load` of another optimiser of the same kind; the tensors are shared."""
        tensors = {"mean": self.mean, "square": self.square, "count": self.count}
        return tensors if self.momentum is None else {**tensors, "momentum": self.momentum}

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy `state`, to continue from it."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class NetworkOptimizer:
    """An optimiser of the parameters of one network: Muon for its hidden matrices, Adam for all others.

    PyTorch's own optimisers are not used. Creating one loads PyTorch's compiler with its LLVM library, which conflicts
    with that of Mesa once an OpenGL window is open.

    Parameters
    ----------
    hidden
        Matrices to move by their orthogonalised momentum.
    others
        All other parameters.
    muon_rate, adam_rate
        Step sizes: the spectral norm of a step of Muon, and the step size of Adam.
    """

    def __init__(
        self, hidden: Sequence[Tensor], others: Sequence[Tensor], muon_rate: float = 0.03, adam_rate: float = 2e-3
    ) -> None:
        self.hidden, self.others = list(hidden), list(others)
        self.muon_rate, self.adam_rate = muon_rate, adam_rate
        self.momentum = [torch.zeros_like(p) for p in self.hidden]
        self.mean = [torch.zeros_like(p) for p in self.others]
        self.square = [torch.zeros_like(p) for p in self.others]

    @torch.no_grad()
    def step(self, rate: float, count: int) -> None:
        """Move the parameters by step number `count`, counted from 1, at a share `rate` of the step sizes."""
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for matrix, momentum in zip(self.hidden, self.momentum, strict=True):
            gradient = _gradient_of(matrix)
            momentum.lerp_(gradient, 1 - _MOMENTUM)
            by_shape.setdefault(matrix.shape, []).append((matrix, torch.lerp(gradient, momentum, _MOMENTUM)))
        for group in by_shape.values():
            directions = orthogonalise(torch.stack([direction for _, direction in group]))
            for (matrix, _), direction in zip(group, directions, strict=True):
                matrix.sub_(direction, alpha=self.muon_rate * rate)
        size = self.adam_rate * rate / (1 - _BETAS[0] ** count)
        for parameter, mean, square in zip(self.others, self.mean, self.square, strict=True):
            gradient = _gradient_of(parameter)
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            parameter.addcdiv_(mean, (square / (1 - _BETAS[1] ** count)).sqrt_().add_(_PAPER_EPSILON), value=-size)

    def state(self) -> dict[str, Tensor]:
        """Return the state by name; the tensors are shared."""
        lists = {"momentum": self.momentum, "mean": self.mean, "square": self.square}
        return {f"{name}.{i}": tensor for name, tensors in lists.items() for i, tensor in enumerate(tensors)}


def _gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def schedule(config: FitConfig, done: float) -> float:
    """Return the share of the step sizes after a share `done` of the fit (0 to 1)."""
    if config.schedule == "constant":
        return 1.0
    done = min(max(done, 0.0), 1.0)
    return config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
