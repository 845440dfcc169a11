"""Stein's estimate against the true error."""

from __future__ import annotations

import pytest
import torch

from napari_siren.core.restoration.pretrained.risk import RiskEstimate


def images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.linspace(-1, 1, 300).expand(1, 300, 300)
    variance = 0.02 * (1.5 + clean)
    return clean, clean + variance.sqrt() * torch.randn(clean.shape, generator=generator), variance


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9, 1.0])
def test_the_risk_is_the_mean_squared_error(factor: float) -> None:
    clean, noisy, variance = images()
    estimate = RiskEstimate.of(lambda image: factor * image, noisy, variance)
    error = float((factor * noisy - clean).square().mean())
    assert estimate.risk(noisy, variance) == pytest.approx(error, abs=5e-4)


def test_the_best_share_has_the_least_error() -> None:
    clean, noisy, variance = images()
    whole, half = (RiskEstimate.of(lambda image, f=f: f * image, noisy, variance) for f in (1.0, 0.2))
    share = whole.best_share(half, noisy)
    errors = {
        one: float(((1 - one) * noisy + one * 0.2 * noisy - clean).square().mean())
        for one in (share, share - 0.1, share + 0.1)
    }
    assert min(errors, key=lambda one: errors[one]) == share
    assert 0 < share < 1
    assert whole.best_share(whole, noisy) == 0


def test_images_without_noise_have_their_plain_error() -> None:
    clean, _, variance = images()
    estimate = RiskEstimate.of(lambda image: 0.5 * image, clean, 0 * variance)
    assert estimate.risk(clean, 0 * variance) == pytest.approx(float((0.5 * clean).square().mean()), rel=1e-4)


def test_images_are_joined() -> None:
    _, noisy, variance = images()
    one = RiskEstimate.of(lambda image: 0.5 * image, noisy, variance)
    other = RiskEstimate.of(lambda image: 0.9 * image, noisy, variance)
    both = RiskEstimate.joined([one, other])
    stacked = torch.stack([noisy, noisy]), torch.stack([variance, variance])
    mean = (one.risk(noisy, variance) + other.risk(noisy, variance)) / 2
    assert both.risk(*stacked) == pytest.approx(mean, rel=1e-5)
