"""Noise2VST: its transform and inverse, its masks, and what it learns from one noisy image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks import noise2vst
from benchmarks.noise2vst import STRIDE, Stabiliser

torch.set_num_threads(1)


@pytest.fixture
def bent() -> Stabiliser:
    """Return a transform with random slopes."""
    stabiliser = Stabiliser(16).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    stabiliser.log_slopes.normal_(0, 1, generator=generator)
    stabiliser.start.fill_(-0.3)
    return stabiliser


def test_the_first_transform_is_the_identity() -> None:
    values = torch.linspace(-0.2, 1.2, 29)
    assert Stabiliser()(values).tolist() == pytest.approx(values.tolist(), abs=1e-5)


def test_the_transform_increases_and_the_inverse_undoes_it(bent: Stabiliser) -> None:
    values = torch.linspace(-0.2, 1.2, 281)
    transformed = bent(values)
    assert (transformed.diff() > 0).all()
    assert bent(torch.zeros(1)).item() == pytest.approx(-0.3)
    assert bent.inverse(transformed).tolist() == pytest.approx(values.tolist(), abs=1e-4)


def test_the_line_is_added_to_the_inverse(bent: Stabiliser) -> None:
    values = torch.linspace(-0.3, 1, 9)
    before = bent.inverse(values)
    bent.line.copy_(torch.tensor([0.25, 0.5]))
    assert (bent.inverse(values) - before).tolist() == pytest.approx((0.25 + 0.5 * values).tolist(), abs=1e-5)


def test_gradients_reach_all_parameters(bent: Stabiliser) -> None:
    bent.requires_grad_(True)
    values = torch.rand(400, generator=torch.Generator().manual_seed(2))
    (bent.inverse(0.9 * bent(values)) - values).square().mean().backward()
    for parameter in bent.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_the_network_does_not_see_masked_pixels(bent: Stabiliser) -> None:
    seen = []

    def network(inputs: Tensor, size: tuple[int, int]) -> Tensor:
        assert tuple(inputs.shape[2:]) == size
        seen.append(inputs)
        return inputs[:, 0]

    images = torch.rand(2, 16, 20, generator=torch.Generator().manual_seed(3))
    others = images.clone()
    others[:, 1::STRIDE, 2::STRIDE] = 0.9
    errors = [noise2vst.masked_error(bent, network, values, 1, 2) for values in (images, others)]  # type: ignore[arg-type]
    assert torch.equal(*seen)
    assert errors[0] != errors[1]
    assert (seen[0][:, 1] == noise2vst.LEVEL).all()
    stable = bent(images)
    mean = (stable[0, 4, 6] + stable[0, 6, 6] + stable[0, 5, 5] + stable[0, 5, 7]) / 4
    assert seen[0][0, 0, 5, 6].item() == pytest.approx(mean.item(), abs=1e-6)
    assert seen[0][0, 0, 5, 7] == stable[0, 5, 7]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce a step to one small crop."""
    monkeypatch.setattr(noise2vst, "CROPS", 1)
    monkeypatch.setattr(noise2vst, "SIDE", 32)


def test_photon_noise_is_removed(short: Any) -> None:
    rng = np.random.default_rng(4)
    smooth = gaussian_filter(rng.normal(size=(48, 40)), 4.0)
    truth = 2 + 60 * (smooth - smooth.min()) / np.ptp(smooth)
    noisy = rng.poisson(truth)
    found, errors = noise2vst.denoise(noisy, 12)
    assert found.shape == truth.shape
    assert np.square(found - truth).mean() < 0.25 * np.square(noisy - truth).mean()
    assert set(errors) == set(noise2vst.NETWORKS)
    assert all(0 < error < 1 for error in errors.values())


def test_training_reduces_the_error_of_masked_pixels(short: Any) -> None:
    # The network expects much less noise.
    image = 0.5 + 0.8 * torch.randn(32, 32, generator=torch.Generator().manual_seed(5))
    before, after, again = (noise2vst.fitted(image, "microscope", steps, 0).error for steps in (0, 24, 24))
    assert after < 0.98 * before
    assert after == again


def test_a_constant_stays_constant(short: Any) -> None:
    found, _ = noise2vst.denoise(np.full((20, 24), 9, dtype=np.uint8), 1)
    assert found == pytest.approx(9, abs=0.2)
