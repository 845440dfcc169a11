"""Comparisons of an engine with plain PyTorch in float64 on the CPU, on problems with the shapes of typical fits.

Outputs are filled with NaN before each run, inputs are random, and every element counts. A kernel that omits an element
or reads a wrong one is therefore detected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from napari_siren.core.engines.base import Engine
from napari_siren.core.engines.pytorch import TorchEngine
from napari_siren.core.network.losses import Loss, ObservedLoss, SquaredLoss
from napari_siren.core.network.optimizer import Optimizer
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.settings.config import FitConfig

_CPU = torch.device("cpu")
# Number of networks of a problem.
_TILES = 3
# Bound of an element's error, as a share of the largest element: 256 roundings of float32 (24 bits) in a row.
_FLOAT32_BOUND = 256 * 2.0**-24
# bfloat16 keeps 8 bits, so a rounding changes a factor by up to 2^-8 of it. Two factors of each hidden product are
# rounded in the forward pass, and two in the backward pass.
_BFLOAT16_ROUNDING, _ROUNDINGS_OF_LAYER = 2.0**-8, 4
# Muon's iteration multiplies the smallest singular values by up to 54, and the errors with them.
_UPDATE_BOUND = 54 * _FLOAT32_BOUND
# Number of optimiser steps in a comparison.
_UPDATES = 4


@dataclass(frozen=True)
class Problem:
    """Networks, positions and a loss, in float64 on the CPU.

    Parameters
    ----------
    name
        Name of the problem in messages.
    siren
        Networks with random weights.
    x
        Positions, (1, inputs, samples).
    loss
        Loss on the values at the positions.
    """

    name: str
    siren: Siren
    x: Tensor
    loss: Loss

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        """The values, the losses and the gradient."""
        engine, gradient = TorchEngine(_CPU), torch.empty_like(self.siren.theta)
        losses = engine.gradient(self.siren, self.x, self.loss, gradient)
        return {"values": engine.forward(self.siren, self.x), "losses": losses, "gradient": gradient}

    def on(self, device: torch.device) -> Problem:
        """Return the problem in float32 on a device."""
        x = self.x.to(device, torch.float32)
        return replace(self, siren=self.siren.to(device, torch.float32), x=x, loss=_moved(self.loss, device))


def _moved(loss: Loss, device: torch.device) -> Loss:
    if isinstance(loss, ObservedLoss):
        return replace(loss, data=_moved_squares(loss.data, device), variation=loss.variation.to(device, torch.float32))
    assert isinstance(loss, SquaredLoss)
    return _moved_squares(loss, device)


def _moved_squares(loss: SquaredLoss, device: torch.device) -> SquaredLoss:
    return SquaredLoss(loss.target.to(device, torch.float32), loss.weight.to(device, torch.float32))


def problem(name: str, spec: NetworkSpec, sides: tuple[int, ...], subsamples: int = 1, tiles: int = _TILES) -> Problem:
    """Return a problem with random inputs.

    Parameters
    ----------
    name
        Name of the problem in messages.
    spec
        Size of the networks.
    sides
        Pixels of a tile along each axis.
    subsamples
        Samples of a pixel along each axis. With more than one, pixels observe areas and the loss has a prior.
    tiles
        Number of networks.
    """
    generator = torch.Generator().manual_seed(len(sides) + 10 * spec.hidden_layers)
    config = FitConfig(standardise=False, band=0.7, weight_scale=1.0)
    siren = Siren.initialise(spec, tiles, config, seed=0).to(dtype=torch.float64)
    pixels, samples = (math.prod(n * k for n in sides) for k in (1, subsamples))
    x = 16 * torch.rand(1, spec.inputs, samples, generator=generator, dtype=torch.float64) - 8
    target = torch.randn(tiles, spec.outputs, pixels, generator=generator, dtype=torch.float64)
    weight = torch.rand(tiles, pixels, generator=generator, dtype=torch.float64)
    squares = SquaredLoss(target, weight * (weight > 0.2))
    if subsamples == 1:
        return Problem(name, siren, x, squares)
    variation = torch.linspace(0, 0.1, tiles, dtype=torch.float64)
    return Problem(name, siren, x, ObservedLoss(squares, sides, subsamples, variation))


def problems() -> Iterator[Problem]:
    """Yield problems of three shapes of fits: an image, an image with pixels that observe areas, and a stack."""
    yield problem("an image", NetworkSpec(2, 3, 3, 32), (26, 37))
    yield problem("an image observed over areas", NetworkSpec(2, 3, 4, 32), (11, 13), subsamples=2)
    yield problem("a stack", NetworkSpec(3, 1, 3, 32), (9, 10, 11))


def float32_error(engine: Engine, case: Problem, device: torch.device) -> str:
    """Return the first error in values, losses and gradient of an engine in float32, or "" if there is none."""
    return _compare(engine, case, device, ("values", "losses", "gradient"), _FLOAT32_BOUND)


def bfloat16_error(engine: Engine, case: Problem, device: torch.device) -> str:
    """Return the error in the gradient of an engine with bfloat16 products, or "" if there is none."""
    layers = case.siren.spec.hidden_layers
    return _compare(engine, case, device, ("gradient",), layers * _ROUNDINGS_OF_LAYER * _BFLOAT16_ROUNDING)


def update_error(engine: Engine, device: torch.device) -> str:
    """Return the first error in the steps of the optimiser on a device, or "" if there is none."""
    result, expected = (_updated(each, target) for each, target in ((engine, device), (TorchEngine(_CPU), _CPU)))
    for name, tensor in expected.items():
        if error := _difference(result[name], tensor, _UPDATE_BOUND):
            return f"{name} after {_UPDATES} updates {error}"
    return ""


def replay_error(engine: Engine, direct: Engine, case: Problem, device: torch.device) -> str:
    """Return the error of replayed graphs, or "" if there is none.

    Each result must equal that of direct work, to the bit.

    Parameters
    ----------
    engine, direct
        Engine with graphs, and engine without.
    case
        Problem to solve. Its weights change from step to step, in the same memory.
    device
        Device of both engines.
    """
    ends = []
    for each in (engine, direct):
        local = case.on(device)
        losses, gradient = [], torch.full_like(local.siren.theta, torch.nan)
        optimizer = Optimizer(FitConfig(), local.siren.spec, local.siren.theta)
        average, rate = local.siren.theta.clone(), torch.ones(_TILES, device=device)
        for step in range(_UPDATES):
            losses.append(each.gradient(local.siren, local.x, local.loss, gradient))
            each.update(optimizer, gradient, rate / (1 + step), average)
        ends.append((local.siren.theta, average, torch.stack(losses)))
    same = all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    return "" if same else "a replayed graph returns other bits than the same kernels launched one by one"


def _compare(engine: Engine, case: Problem, device: torch.device, names: tuple[str, ...], bound: float) -> str:
    local = case.on(device)
    gradient = torch.full_like(local.siren.theta, torch.nan)
    work: dict[str, Callable[[], Tensor]] = {
        "values": lambda: engine.forward(local.siren, local.x),
        "losses": lambda: engine.losses(local.siren, local.x, local.loss),
        "gradient": lambda: (engine.gradient(local.siren, local.x, local.loss, gradient), gradient)[1],
    }
    for name in names:
        _poison(case.expected[name].shape, local.x)
        if error := _difference(work[name](), case.expected[name], bound):
            return f"the {name} of {case.name} {error}"
    return ""


def _poison(shape: torch.Size, like: Tensor) -> None:
    """Fill memory with NaN. The next tensor of this shape is likely to get this memory."""
    torch.full(shape, torch.nan, device=like.device)


def _difference(result: Tensor, expected: Tensor, bound: float) -> str:
    largest = float(expected.abs().max())
    error = float((result.detach().cpu().double() - expected.double()).abs().max()) / max(largest, 1e-30)
    return "" if error <= bound else f"are off by {error:.1e} of the largest element, more than {bound:.1e}"


def _updated(engine: Engine, device: torch.device) -> dict[str, Tensor]:
    shape, config = NetworkSpec(2, 3, 3, 32), FitConfig()
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(_TILES, shape.parameters, generator=generator).to(device) for _ in range(_UPDATES + 1)]
    theta, gradients = draw[0], draw[1:]
    average, rate = theta.clone(), torch.linspace(0.5, 1, _TILES, device=device)
    optimizer = Optimizer(config, shape, theta)
    for gradient in gradients:
        engine.update(optimizer, gradient, rate, average)
    return {"weights": theta, "mean weights": average, **optimizer.state()}
