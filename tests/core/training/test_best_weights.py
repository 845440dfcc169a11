"""The best weights of each tile, and the recovery of diverged tiles."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_siren.core.training.best_weights import BestWeights


def losses(*values: float) -> Tensor:
    return torch.tensor(values)


def test_each_tile_keeps_its_best_weights() -> None:
    best = BestWeights(torch.zeros(3, 2))
    best.record(torch.full((3, 2), 1.0), losses(3, 2, 1))
    best.record(torch.full((3, 2), 2.0), losses(2, 3, float("nan")))
    assert best.theta[:, 0].tolist() == [2, 1, 1]
    assert best.losses.tolist() == [2, 2, 1]
    # `or_better` records nothing.
    assert best.or_better(torch.full((3, 2), 3.0), losses(9, 1, 9))[:, 0].tolist() == [2, 3, 1]
    assert best.theta[:, 0].tolist() == [2, 1, 1]


def test_divergence_is_measured_against_the_start() -> None:
    best = BestWeights(torch.zeros(3, 2))
    assert not best.diverged(losses(1, 1e9, 1e30)).any()
    best.start(losses(1, 1, 1))
    best.start(losses(100, 100, 100))
    diverged = best.diverged(losses(3.9, 4.1, float("nan")))
    assert diverged.tolist() == [False, True, True]
    best.slow_down(diverged)
    assert best.rates.tolist() == [1, 0.5, 0.5]


def test_the_weights_are_copies() -> None:
    theta = torch.zeros(2, 2)
    best = BestWeights(theta)
    theta += 1
    assert best.theta.sum() == 0
    assert set(best.tensors()) == {"best", "best_loss", "rate", "start_loss"}
