"""Tests of the networks: the layout of their parameters, their initialisation, and their derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.settings.config import FitConfig

PAPER = FitConfig.preset("paper")
SHAPES = st.builds(
    NetworkSpec,
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 5),
    hidden_layers=st.integers(1, 4),
    hidden_features=st.integers(1, 9),
)


def start(shape: NetworkSpec, config: FitConfig, tiles: int = 1, seed: int = 0) -> Siren:
    return Siren.initialise(shape, tiles, config, seed)


@given(SHAPES)
def test_every_parameter_is_in_one_weight_or_bias(shape: NetworkSpec) -> None:
    theta = torch.arange(2.0 * shape.parameters).reshape(2, -1)
    views = [*shape.weights(theta), *shape.biases(theta)]
    found = torch.cat([view.flatten(1) for view in views], dim=1)
    torch.testing.assert_close(found.sort(dim=1).values, theta)
    assert all(view.untyped_storage().data_ptr() == theta.untyped_storage().data_ptr() for view in views)


@given(SHAPES)
def test_the_hidden_matrices_are_the_weights_between_sine_layers(shape: NetworkSpec) -> None:
    theta = torch.randn(2, shape.parameters)
    hidden = shape.hidden_matrices(theta)
    assert hidden.shape[1] == shape.hidden_layers - 1
    for index, weight in enumerate(shape.weights(theta)[1:-1]):
        assert torch.equal(hidden[:, index], weight)


def test_a_network_is_sines_of_affine_maps_and_a_linear_end() -> None:
    siren = start(NetworkSpec(2, 3, 2, 5), PAPER, tiles=2)
    (a, b, c), (p, q, r) = siren.spec.weights(siren.theta), siren.spec.biases(siren.theta)
    x = torch.randn(2, 2, 7)
    expected = c @ torch.sin(30 * (b @ torch.sin(30 * (a @ x + p)) + q)) + r
    torch.testing.assert_close(siren.forward(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("omega_0", [1.0, 30.0])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (2, 3), (3, 1)])
def test_the_jet_is_what_autograd_finds(inputs: int, outputs: int, omega_0: float) -> None:
    config = FitConfig(omega_0=omega_0, standardise=False)
    siren = start(NetworkSpec(inputs, outputs, 3, 6), config, tiles=2).to(dtype=torch.float64)
    x = torch.randn(2, inputs, 5, dtype=torch.float64, requires_grad=True)
    value, first, second = siren.jet(x)
    torch.testing.assert_close(value, siren.forward(x))
    for channel in range(outputs):
        (gradient,) = torch.autograd.grad(siren.forward(x)[:, channel].sum(), x, create_graph=True)
        for axis in range(inputs):
            torch.testing.assert_close(first[axis, :, channel], gradient[:, axis])
            (curvature,) = torch.autograd.grad(gradient[:, axis].sum(), x, retain_graph=True)
            torch.testing.assert_close(second[axis, :, channel], curvature[:, axis])


def test_picking_tiles_picks_their_networks() -> None:
    siren = start(NetworkSpec(2, 1, 2, 5), PAPER, tiles=4)
    x = torch.randn(1, 2, 7)
    torch.testing.assert_close(siren.pick(torch.tensor([3, 1])).forward(x), siren.forward(x)[[3, 1]])
    torch.testing.assert_close(siren.pick(slice(1, 3)).forward(x), siren.forward(x)[1:3])


# ---- initialisation -----------------------------------------------------------------------------------


def assert_uniform(values: torch.Tensor, bound: float) -> None:
    assert values.abs().max() <= bound
    if values.numel() >= 200:
        assert values.abs().max() > 0.97 * bound
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert values.mean() == pytest.approx(0, abs=0.15 * bound)


@pytest.mark.parametrize("inputs", [2, 3])
def test_the_paper_preset_starts_as_the_paper_does(inputs: int) -> None:
    shape = NetworkSpec(inputs, 3, PAPER.hidden_layers, PAPER.hidden_features)
    siren = start(shape, PAPER)
    weights, biases = shape.weights(siren.theta), shape.biases(siren.theta)
    assert [tuple(w.shape[1:]) for w in weights] == [(256, inputs), *[(256, 256)] * 4, (3, 256)]
    assert_uniform(weights[0], 1 / inputs)
    for weight in weights[1:]:
        assert_uniform(weight, math.sqrt(6 / 256) / 30)
    for weight, bias in zip(weights, biases, strict=True):
        assert_uniform(bias, 1 / math.sqrt(weight.shape[2]))


def test_pre_activations_of_the_paper_are_standard_normal_through_the_depth() -> None:
    """Test theorem 1.8 of Sitzmann et al. 2020, for the part of the weights, W h, as in the theorem."""
    siren = start(NetworkSpec(2, 1, 6, 256), PAPER)
    side = torch.linspace(-1, 1, 64)
    h = torch.stack(torch.meshgrid(side, side, indexing="ij")).reshape(1, 2, -1)
    weights, biases = siren.spec.weights(siren.theta), siren.spec.biases(siren.theta)
    for layer, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True)):
        drive = 30 * (weight @ h)
        h = torch.sin(drive + 30 * bias)
        if layer:
            assert drive.std() == pytest.approx(1, abs=0.1)
            kurtosis = float((drive**4).mean() / drive.var() ** 2)
            assert kurtosis == pytest.approx(3, abs=0.4)
            assert h.std() == pytest.approx(math.sqrt(0.5), abs=0.08)


def test_the_first_layer_is_drawn_in_radians_per_pixel() -> None:
    for omega_0 in (1.0, 30.0):
        config = FitConfig(band=0.6, omega_0=omega_0)
        siren = start(NetworkSpec(2, 1, 2, 30), config, tiles=20)
        assert_uniform(omega_0 * siren.spec.weights(siren.theta)[0], 0.6)
        assert_uniform(omega_0 * siren.spec.biases(siren.theta)[0], math.pi)


def test_a_standardised_network_starts_at_zero() -> None:
    siren = start(NetworkSpec(2, 3, 3, 8), FitConfig(standardise=True), tiles=3)
    assert not siren.forward(torch.randn(1, 2, 50)).any()


def test_the_seed_decides_the_start() -> None:
    shape = NetworkSpec(2, 1, 2, 8)
    assert torch.equal(start(shape, PAPER, seed=5).theta, start(shape, PAPER, seed=5).theta)
    assert not torch.equal(start(shape, PAPER, seed=5).theta, start(shape, PAPER, seed=6).theta)


def test_the_start_of_a_tile_depends_on_its_number_and_the_seed_alone() -> None:
    shape = NetworkSpec(2, 3, 2, 6)
    every = start(shape, FitConfig(), tiles=9)
    some = Siren.initialise(shape, [7, 2], FitConfig(), 0)
    assert torch.equal(some.theta, every.theta[[7, 2]])
    rows = torch.cat([every.theta, start(shape, FitConfig(), tiles=9, seed=1).theta])
    first = shape.weights(rows)[0].flatten(1)
    assert len(torch.unique(first, dim=0)) == len(first)
    # Neighbouring tiles are uncorrelated.
    correlation = torch.corrcoef(first)
    assert correlation.fill_diagonal_(0).abs().mean() < 0.4
