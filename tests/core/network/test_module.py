"""Tests of `SirenModule`: the networks of the paper, for training loops of others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from napari_siren.core.network.module import SirenModule
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import InputError


@pytest.mark.parametrize("shape", [(1, 1, 1, 5), (2, 3, 3, 6), (3, 1, 4, 8)], ids=str)
def test_it_is_the_network_of_tiles(shape: tuple[int, int, int, int]) -> None:
    spec = NetworkSpec(*shape)
    siren = Siren.initialise(spec, 1, FitConfig.preset("paper"), 7)
    module = SirenModule(shape[0], shape[1], shape[3], shape[2], seed=7)
    x = torch.rand(9, shape[0])
    torch.testing.assert_close(module(x), siren.forward(x.mT[None])[0].mT, atol=1e-5, rtol=1e-4)
    assert sum(parameter.numel() for parameter in module.parameters()) == spec.parameters
    assert module(torch.rand(2, 4, shape[0])).shape == (2, 4, shape[1])


def test_both_factors_are_used() -> None:
    module = SirenModule(1, 1, 4, 2, first_omega=3, hidden_omega=5)
    x = torch.rand(6, 1)
    first, second, last = module.layers
    torch.testing.assert_close(module(x), last(torch.sin(5 * second(torch.sin(3 * first(x))))))
    assert "omegas=(3.0, 5.0)" in repr(module)
    # The hidden weights are drawn for their factor.
    weights = SirenModule(1, 1, 256, 2, first_omega=300, hidden_omega=10).layers[1].weight
    assert weights.abs().max().item() == pytest.approx((6 / 256) ** 0.5 / 10, rel=1e-3)


@pytest.mark.parametrize("kind", ["inputs", "parameters"])
def test_autograd_agrees_with_differences(kind: str) -> None:
    module = SirenModule(2, 2, 5, 2, first_omega=2, hidden_omega=2).double()
    x = torch.rand(3, 2, dtype=torch.float64, requires_grad=kind == "inputs")
    names = [name for name, _ in module.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_(kind == "parameters") for p in module.parameters())

    def function(*arguments: torch.Tensor) -> Any:
        return torch.func.functional_call(module, dict(zip(names, arguments[1:], strict=True)), (arguments[0],))

    assert gradcheck(function, (x, *values))
    assert gradgradcheck(function, (x, *values))


def test_float32_derivatives_are_those_of_float64() -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        module = SirenModule(2, 1, 16).to(dtype)
        x = torch.linspace(-1, 1, 20, dtype=dtype).reshape(10, 2).requires_grad_()
        (first,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        assert first.dtype == dtype
        results.append((first.detach().double(), second.double()))
    for low_precision, exact in zip(*results, strict=True):
        torch.testing.assert_close(low_precision, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


def test_the_seed_decides_and_the_generator_of_torch_does_not_move() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (SirenModule(2, 1, 8, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    x = torch.rand(5, 2)
    assert torch.equal(one(x), same(x))
    assert not torch.allclose(one(x), other(x))


def test_it_can_be_exported_and_restored() -> None:
    module, other = SirenModule(2, 3, 8), SirenModule(2, 3, 8, seed=1)
    x = torch.rand(11, 2)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.testing.assert_close(program.module()(x[:3]), module(x[:3]))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_features": 0},
        {"out_features": 1.5},
        {"hidden_features": True},
        {"hidden_layers": 0},
        {"seed": -1},
        {"first_omega": 0},
        {"hidden_omega": float("nan")},
        {"hidden_omega": "30"},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        SirenModule(**{"in_features": 2, "out_features": 1, **arguments})
