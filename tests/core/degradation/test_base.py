"""Degradations of photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import CPU, pictures

from napari_siren.core.degradation.base import Robust
from napari_siren.core.pretrained_network import resampling


def test_a_robust_crop_without_noise_and_compression_is_that_of_enlarging() -> None:
    table = torch.zeros(2, len(Robust.names))
    crops = torch.from_numpy(np.stack(pictures(2, 64))).permute(0, 3, 1, 2).float() / 255
    for size in (32, 24, 16):
        robust = Robust(16, (size,), CPU)
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
    robust = Robust(16, (32,), CPU)
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
