"""Tests of Adam against PyTorch's, of the properties of Muon, and of the schedule."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.engines import TorchEngine
from napari_siren.core.network.optimizer import Optimizer, schedule
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.settings.config import FitConfig

SHAPE = NetworkSpec(2, 1, 3, 6)
ORTHOGONALISE = TorchEngine(torch.device("cpu")).orthogonalise


def optimizer(theta: torch.Tensor, **fields: object) -> Optimizer:
    return Optimizer(FitConfig(**fields), SHAPE, theta)


def gradients(count: int, tiles: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(tiles, SHAPE.parameters, generator=generator) for _ in range(count)]


def test_adam_is_the_adam_of_pytorch() -> None:
    theta = torch.randn(3, SHAPE.parameters)
    reference = theta.clone().requires_grad_()
    ours = optimizer(theta, optimizer="adam", learning_rate=3e-3, beta1=0.9, beta2=0.999)
    theirs = torch.optim.Adam([reference], lr=3e-3, betas=(0.9, 0.999))
    for gradient in gradients(10, 3):
        ours.move(gradient, torch.ones(3), ORTHOGONALISE)
        reference.grad = gradient
        theirs.step()
    torch.testing.assert_close(theta, reference.detach(), atol=1e-6, rtol=1e-5)


def test_every_tile_has_a_rate_of_its_own() -> None:
    theta = torch.zeros(2, SHAPE.parameters)
    steps = optimizer(theta)
    steps.move(gradients(1, 1)[0].expand(2, -1), torch.tensor([1.0, 0.25]), ORTHOGONALISE)
    torch.testing.assert_close(theta[1], 0.25 * theta[0])
    assert theta[0].any()


def test_muon_moves_hidden_matrices_by_orthogonal_steps_of_its_rate_and_adam_the_rest() -> None:
    theta = torch.zeros(2, SHAPE.parameters)
    gradient = gradients(1, 2)[0]
    optimizer(theta, muon_learning_rate=0.1, learning_rate=0.01, momentum=0.9).move(
        gradient, torch.ones(2), ORTHOGONALISE
    )
    moved = SHAPE.hidden_matrices(theta)
    sizes = torch.linalg.svdvals(moved)
    # The smallest singular value of a random matrix may be too small to reach the rate.
    torch.testing.assert_close(sizes[..., :-1], torch.full_like(sizes[..., :-1], 0.1), rtol=0.15, atol=0)
    assert ((sizes[..., -1] > 0) & (sizes[..., -1] < 0.115)).all()
    assert (moved * SHAPE.hidden_matrices(gradient)).sum() < 0
    rest = theta[:, : SHAPE.hidden_start]
    torch.testing.assert_close(rest, -0.01 * gradient[:, : SHAPE.hidden_start].sign(), rtol=1e-3, atol=0)


def test_muon_without_hidden_matrices_is_adam() -> None:
    shape = NetworkSpec(2, 1, 1, 6)
    theta = torch.zeros(1, shape.parameters)
    muon = Optimizer(FitConfig(optimizer="muon"), shape, theta)
    muon.move(torch.ones_like(theta), torch.ones(1), ORTHOGONALISE)
    torch.testing.assert_close(theta, torch.full_like(theta, -muon.config.learning_rate))


def test_no_gradient_no_step() -> None:
    theta = torch.randn(2, SHAPE.parameters)
    before = theta.clone()
    optimizer(theta).move(torch.zeros_like(theta), torch.ones(2), ORTHOGONALISE)
    assert torch.equal(theta, before)


@pytest.mark.parametrize("kind", ["muon", "adam"])
def test_a_loaded_state_goes_on_as_if_never_interrupted(kind: str) -> None:
    straight, stopped = torch.zeros(2, SHAPE.parameters), torch.zeros(2, SHAPE.parameters)
    whole, first, second = (optimizer(theta, optimizer=kind) for theta in (straight, stopped, stopped))
    *before, last = gradients(4, 2)
    for gradient in before:
        whole.move(gradient, torch.ones(2), ORTHOGONALISE)
        first.move(gradient, torch.ones(2), ORTHOGONALISE)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    whole.move(last, torch.ones(2), ORTHOGONALISE)
    second.move(last, torch.ones(2), ORTHOGONALISE)
    assert torch.equal(straight, stopped)


@pytest.mark.parametrize("kind", ["muon", "adam"])
def test_reset_makes_some_tiles_as_new_and_leaves_the_others(kind: str) -> None:
    theta = torch.zeros(2, SHAPE.parameters)
    steps = optimizer(theta, optimizer=kind)
    for gradient in gradients(3, 2):
        steps.move(gradient * torch.tensor([[torch.nan], [1.0]]), torch.ones(2), ORTHOGONALISE)
    kept = {name: tensor[1].clone() for name, tensor in steps.state().items()}
    steps.reset(torch.tensor([True, False]))
    for name, tensor in steps.state().items():
        assert not tensor[0].any()
        assert torch.equal(tensor[1], kept[name])


@given(st.floats(-1, 2), st.floats(0, 1), st.floats(0, 1))
def test_the_cosine_goes_down_from_one_to_the_final_rate(done: float, more: float, final: float) -> None:
    config = FitConfig(schedule="cosine", final_rate=final)
    assert schedule(config, 0) == pytest.approx(1)
    assert schedule(config, 1) == pytest.approx(final)
    assert final - 1e-12 <= schedule(config, done + more) <= schedule(config, done) + 1e-12 <= 1 + 2e-12


def test_half_way_the_cosine_is_half_way_down() -> None:
    assert schedule(FitConfig(schedule="cosine", final_rate=0.2), 0.5) == pytest.approx(0.6)


@given(st.floats(0, 1))
def test_a_constant_rate_stays(done: float) -> None:
    assert schedule(FitConfig(schedule="constant"), done) == 1
