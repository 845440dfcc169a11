"""The encoder and the sine decoder: shapes, positions, receptive field and initial values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_siren.core.restoration.self_supervised.network import LocalImplicitSiren


@pytest.fixture
def network() -> LocalImplicitSiren:
    return LocalImplicitSiren(2, 3, 8, 2, 12, torch.Generator().manual_seed(0))


def centres(n: int, scale: float) -> np.ndarray:
    return (np.arange(round(n * scale)) + 0.5) / scale - 0.5


def test_it_is_evaluated_on_a_product_of_positions(network: LocalImplicitSiren) -> None:
    features = network.encode(torch.rand(1, 2, 9, 7))
    assert features.shape == (1, 8, 9, 7)
    found = network.decode(features, (centres(9, 2), centres(7, 1.5)), (0.5, 2 / 3))
    assert (found.shape, found.dtype) == ((1, 2, 18, 10), torch.float32)


def test_it_begins_as_next_to_nothing(network: LocalImplicitSiren) -> None:
    features = network.encode(torch.rand(1, 2, 9, 7))
    assert network.decode(features, (centres(9, 2), centres(7, 2)), (0.5, 0.5)).abs().max() < 0.2


def test_parts_of_a_grid_are_those_of_the_whole(network: LocalImplicitSiren) -> None:
    features = network.encode(torch.rand(1, 2, 9, 7))
    down, across = centres(9, 3), centres(7, 3)
    whole = network.decode(features, (down, across), (1 / 3, 1 / 3))
    part = network.decode(features, (down[4:9], across[2:]), (1 / 3, 1 / 3))
    torch.testing.assert_close(part, whole[:, :, 4:9, 2:], atol=1e-6, rtol=1e-5)


def test_the_encoder_sees_as_far_as_it_says(network: LocalImplicitSiren) -> None:
    values = torch.rand(1, 2, 21, 21)
    changed = values.clone()
    changed[..., 10, 10] += 1
    rows = (network.encode(changed) - network.encode(values)).abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]
    assert (int(rows.min()), int(rows.max())) == (10 - network.reach, 10 + network.reach)


def test_the_same_seed_gives_the_same_start() -> None:
    first, second, third = (
        LocalImplicitSiren(1, 2, 4, 2, 5, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["weights.1"], third["weights.1"])
