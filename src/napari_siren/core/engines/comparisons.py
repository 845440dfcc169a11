"""Comparisons of an engine with plain PyTorch in float64 on the CPU, on problems of the shapes that fits have.

Outputs are filled with NaN before each run, inputs are random, and every element counts: a kernel that leaves one out,
or reads the wrong one, is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from napari_siren.core.config import FitConfig
from napari_siren.core.engines.base import Engine
from napari_siren.core.engines.pytorch import PlainEngine
from napari_siren.core.network.losses import Loss, ObservedLoss, SquaredLoss
from napari_siren.core.network.optimizer import Optimizer
from napari_siren.core.network.siren import Siren, SirenShape

_CPU = torch.device("cpu")
_TILES = 3
# Bound of an element's error, as a share of the largest element: 256 roundings of float32 (24 bits) in a row.
_FLOAT32_BOUND = 256 * 2.0**-24
# bfloat16 keeps 8 bits, so that a rounding moves a factor by up to 2^-8 of it. Two factors of each hidden product are
# rounded on the way to the values, and two on the way back.
_BFLOAT16_ROUNDING, _ROUNDINGS_OF_LAYER = 2.0**-8, 4
# Muon's iteration multiplies what is smallest by up to 54, and the errors with it.
_UPDATE_BOUND = 54 * _FLOAT32_BOUND
_UPDATES = 4


@dataclass(frozen=True)
class Problem:
    """Networks, positions and a loss, in float64 on the CPU.

    Parameters
    ----------
    name
        For messages.
    siren
        Networks with random weights.
    x
        (1, inputs, samples): positions.
    loss
        On the values there.
    """

    name: str
    siren: Siren
    x: Tensor
    loss: Loss

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        """The values, the losses and the gradient."""
        engine, gradient = PlainEngine(_CPU), torch.empty_like(self.siren.theta)
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


def problem(name: str, shape: SirenShape, sides: tuple[int, ...], subsamples: int = 1, tiles: int = _TILES) -> Problem:
    """Return a problem with random inputs.

    Parameters
    ----------
    name
        For messages.
    shape
        Of the networks.
    sides
        Pixels of a tile along each axis.
    subsamples
        Samples of a pixel along each axis; with more than one, pixels see areas, and there is a prior.
    tiles
        Number of networks.
    """
    generator = torch.Generator().manual_seed(len(sides) + 10 * shape.hidden_layers)
    config = FitConfig(standardise=False, band=0.7, weight_scale=1.0)
    siren = Siren.initialise(shape, tiles, config, seed=0).to(dtype=torch.float64)
    pixels, samples = (math.prod(n * k for n in sides) for k in (1, subsamples))
    x = 16 * torch.rand(1, shape.inputs, samples, generator=generator, dtype=torch.float64) - 8
    target = torch.randn(tiles, shape.outputs, pixels, generator=generator, dtype=torch.float64)
    weight = torch.rand(tiles, pixels, generator=generator, dtype=torch.float64)
    squares = SquaredLoss(target, weight * (weight > 0.2))
    if subsamples == 1:
        return Problem(name, siren, x, squares)
    variation = torch.linspace(0, 0.1, tiles, dtype=torch.float64)
    return Problem(name, siren, x, ObservedLoss(squares, sides, subsamples, variation))


def problems() -> Iterator[Problem]:
    """Return problems of three shapes of fits: an image, an image whose pixels see areas, and a stack."""
    yield problem("an image", SirenShape(2, 3, 3, 32), (26, 37))
    yield problem("an image seen by areas", SirenShape(2, 3, 4, 32), (11, 13), subsamples=2)
    yield problem("a stack", SirenShape(3, 1, 3, 32), (9, 10, 11))


def float32_error(engine: Engine, case: Problem, device: torch.device) -> str:
    """Return what is wrong with the values, losses and gradient of an engine in float32; "" where nothing is."""
    return _compare(engine, case, device, ("values", "losses", "gradient"), _FLOAT32_BOUND)


def bfloat16_error(engine: Engine, case: Problem, device: torch.device) -> str:
    """Return what is wrong with the gradient of an engine that multiplies in bfloat16; "" where nothing is."""
    layers = case.siren.shape.hidden_layers
    return _compare(engine, case, device, ("gradient",), layers * _ROUNDINGS_OF_LAYER * _BFLOAT16_ROUNDING)


def update_error(engine: Engine, device: torch.device) -> str:
    """Return what is wrong with the steps of the optimiser on a device; "" where nothing is."""
    found, expected = (_updated(each, where) for each, where in ((engine, device), (PlainEngine(_CPU), _CPU)))
    for name, tensor in expected.items():
        if wrong := _difference(found[name], tensor, _UPDATE_BOUND):
            return f"{name} after {_UPDATES} updates {wrong}"
    return ""


def replay_error(engine: Engine, direct: Engine, case: Problem, device: torch.device) -> str:
    """Return what is wrong with replayed graphs: each result has to be that of direct work, to the bit.

    Parameters
    ----------
    engine, direct
        With graphs and without.
    case
        Whose weights change from step to step, in the same memory.
    device
        Where.
    """
    ends = []
    for each in (engine, direct):
        here = case.on(device)
        losses, gradient = [], torch.full_like(here.siren.theta, torch.nan)
        optimizer = Optimizer(FitConfig(), here.siren.shape, here.siren.theta)
        average, rate = here.siren.theta.clone(), torch.ones(_TILES, device=device)
        for step in range(_UPDATES):
            losses.append(each.gradient(here.siren, here.x, here.loss, gradient))
            each.update(optimizer, gradient, rate / (1 + step), average)
        ends.append((here.siren.theta, average, torch.stack(losses)))
    same = all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    return "" if same else "a replayed graph gives other bits than the same kernels launched one by one"


def _compare(engine: Engine, case: Problem, device: torch.device, names: tuple[str, ...], bound: float) -> str:
    here = case.on(device)
    gradient = torch.full_like(here.siren.theta, torch.nan)
    work: dict[str, Callable[[], Tensor]] = {
        "values": lambda: engine.forward(here.siren, here.x),
        "losses": lambda: engine.losses(here.siren, here.x, here.loss),
        "gradient": lambda: (engine.gradient(here.siren, here.x, here.loss, gradient), gradient)[1],
    }
    for name in names:
        _poison(case.expected[name].shape, here.x)
        if wrong := _difference(work[name](), case.expected[name], bound):
            return f"the {name} of {case.name} {wrong}"
    return ""


def _poison(shape: torch.Size, like: Tensor) -> None:
    """Leave NaN in the memory that the next tensor of this shape is likely to get."""
    torch.full(shape, torch.nan, device=like.device)


def _difference(found: Tensor, expected: Tensor, bound: float) -> str:
    largest = float(expected.abs().max())
    error = float((found.detach().cpu().double() - expected.double()).abs().max()) / max(largest, 1e-30)
    return "" if error <= bound else f"are off by {error:.1e} of the largest, more than {bound:.1e}"


def _updated(engine: Engine, device: torch.device) -> dict[str, Tensor]:
    shape, config = SirenShape(2, 3, 3, 32), FitConfig()
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(_TILES, shape.parameters, generator=generator).to(device) for _ in range(_UPDATES + 1)]
    theta, gradients = draw[0], draw[1:]
    average, rate = theta.clone(), torch.linspace(0.5, 1, _TILES, device=device)
    optimizer = Optimizer(config, shape, theta)
    for gradient in gradients:
        engine.update(optimizer, gradient, rate, average)
    return {"weights": theta, "mean weights": average, **optimizer.state()}
