"""Degradations of photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import CPU, pictures

from napari_siren.core.pretraining import degradations, resampling


@pytest.mark.parametrize("spread", [0.01, 0.6])
def test_noise_of_micrographs_has_the_deviation_of_its_map(spread: float) -> None:
    degradation = degradations.Micrographs(64, (64,), CPU)
    flat = torch.full((40, 3, degradation.side(64), degradation.side(64)), 0.6)
    table = degradation.draw(np.random.default_rng(0), 40)
    values = {"a": 0.002, "b": 0.03, "factor": 1.0, "stretch": 0.0, "over": 0.0, "power": 1.0, "blur": 1.0}
    for name, value in {**values, "ground": 0.1, "top": 0.7, "spread": spread, "shift": 0.1}.items():
        table[:, degradation.names.index(name)] = value
    torch.manual_seed(0)
    seen, clean = degradation.pair(flat, torch.from_numpy(table), 64)
    assert clean.shape == (40, 64, 64)
    torch.testing.assert_close(clean, torch.full_like(clean, 0.7 * (0.1 + 0.9 * 0.6) + 0.1))
    error = seen[:, 0] - clean
    assert float(seen[:, 1].mean()) == pytest.approx(float(error.std()), rel=0.02)
    neighbours = float((error[:, 1:] * error[:, :-1]).mean() / error.var())
    assert neighbours > 0.2 if spread > 0.1 else neighbours == pytest.approx(0.0, abs=0.01)


def test_micrographs_are_in_their_range_and_noise_is_at_most_half_of_it() -> None:
    degradation = degradations.Micrographs(32, (32,), CPU)
    named = degradation.named(torch.from_numpy(degradation.draw(np.random.default_rng(0), 5000)))
    assert float((named["a"] + named["b"] * named["top"]).sqrt().max()) < 0.5001
    assert float(named["top"].min()) > 0.0999
    assert float((named["spread"] > 0.3).float().mean()) == pytest.approx(0.2, abs=0.02)
    crops = torch.rand(8, 3, 54, 54, generator=torch.Generator().manual_seed(0))
    clean = degradations.micrograph(resampling.luminance(crops), {name: v[:8] for name, v in named.items()})
    assert clean.shape == (8, 38, 38)
    assert float(clean.min()) >= 0
    assert (clean.amax((1, 2)) <= named["top"][:8] + 1e-6).all()


def test_a_robust_crop_without_noise_and_compression_is_that_of_enlarging() -> None:
    table = torch.zeros(2, len(degradations.Robust.names))
    crops = torch.from_numpy(np.stack(pictures(2, 64))).permute(0, 3, 1, 2).float() / 255
    for size in (32, 24, 16):
        robust = degradations.Robust(16, (size,), CPU)
        side, margin = robust.side(size), robust.margin(size)
        some = crops[..., :side, :side]
        seen, fine = robust.pair(some, table, size)
        assert seen.shape == (2, 3, 16, 16)
        assert not seen[:, 1:].any()
        matrix = resampling.coarser(size, 16, margin)
        true = resampling.luminance(resampling.shrunk(matrix, matrix, some))
        assert float((seen[:, 0] - true).abs().mean()) < 1 / 255
        inner = slice(margin, margin + size)
        torch.testing.assert_close(fine, resampling.luminance(some[..., inner, inner]))


def test_robust_crops_are_degraded_as_drawn() -> None:
    robust = degradations.Robust(16, (32,), CPU)
    crops = torch.full((4, 3, robust.side(32), robust.side(32)), 0.5)
    crops[3, :, ::2] = 0.3
    table = torch.zeros(4, len(robust.names))
    columns = {name: robust.names.index(name) for name in robust.names}
    table[:, columns["factor"]] = 2
    table[1, columns["a"]], table[2, columns["quality"]], table[2, columns["known"]] = 0.01, 60, 0.4
    table[3, columns["blur"]] = 0.5
    torch.manual_seed(0)
    seen, _ = robust.pair(crops, table, 32)
    torch.testing.assert_close(seen[0, 0], torch.full((16, 16), 128 / 255))
    assert float(seen[1, 0].std()) == pytest.approx(0.1, rel=0.15)
    assert seen[:, 1].amax((1, 2)).tolist() == pytest.approx([0, 0.2, 0, 0])
    assert seen[:, 2].amax((1, 2)).tolist() == pytest.approx([0, 0, 0.4, 0])
    assert float((seen[2, 0] - 128 / 255).abs().max()) < 1.01 / 255
    assert float((seen[3, 0] - 0.4).abs().max()) < 1.01 / 255
