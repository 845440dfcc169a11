"""Photographs that are changed to resemble micrographs, and stacks of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from training_cases import CPU, pictures

from napari_siren.core.degradation import micrographs
from napari_siren.core.pretrained_network import resampling

FLAT = {"stretch": 0.0, "over": 0.0, "power": 1.0, "blur": 1.0, "ground": 0.1, "top": 0.7, "shift": 0.1, "factor": 1.0}
NOISE = {"a": 0.002, "b": 0.03, "multiplied": 0.0, "spread": 0.01}


def table_of(degradation: micrographs.Micrographs, count: int, **values: float) -> Tensor:
    table = degradation.draw(np.random.default_rng(0), count)
    for name, value in values.items():
        table[:, degradation.names.index(name)] = value
    return torch.from_numpy(table)


def flat_crops(degradation: micrographs.Micrographs, count: int, size: int) -> Tensor:
    return torch.full((count, 3, degradation.side(size), degradation.side(size)), 0.6)


@pytest.mark.parametrize("multiplied", [0.0, 1.0])
@pytest.mark.parametrize("spread", [0.01, 0.6])
@pytest.mark.parametrize("size", [64, 96, 128])
def test_noise_has_the_deviation_of_its_map(size: int, spread: float, multiplied: float) -> None:
    degradation = micrographs.Micrographs(64, (size,), CPU)
    table = table_of(degradation, 40, **FLAT, **{**NOISE, "spread": spread, "multiplied": multiplied})
    torch.manual_seed(0)
    seen, clean = degradation.pair(flat_crops(degradation, 40, size), table, size)
    assert clean.shape == (40, size, size)
    torch.testing.assert_close(clean, torch.full_like(clean, 0.7 * (0.1 + 0.9 * 0.6) + 0.1))
    error = seen[:, 0] - clean[0, 0, 0]
    assert float(seen[:, 1].mean()) == pytest.approx(float(error.std()), rel=0.03)
    neighbours = float((error[:, 1:] * error[:, :-1]).mean() / error.var())
    assert neighbours > 0.2 if spread > 0.1 else neighbours == pytest.approx(0.0, abs=0.01)


def test_micrographs_are_in_their_range_and_noise_is_at_most_half_of_it() -> None:
    degradation = micrographs.Micrographs(32, (32,), CPU)
    table = table_of(degradation, 5000)
    named = degradation.named(table)
    assert float((named["a"] + named["b"] * named["top"]).sqrt().max()) < 0.5001
    assert float(named["top"].min()) > 0.0999
    assert float((named["spread"] > 0.3).float().mean()) == pytest.approx(0.2, abs=0.02)
    crops = torch.rand(8, 3, *(degradation.side(32),) * 2, generator=torch.Generator().manual_seed(0))
    clean = degradation.pair(crops, table[:8], 32)[1] - named["shift"][:8, None, None]
    assert float(clean.min()) >= -1e-6
    assert (clean.amax((1, 2)) <= named["top"][:8] + 1e-6).all()


def test_pixels_of_coarse_micrographs_are_means_or_bicubic() -> None:
    degradation = micrographs.Micrographs(16, (32,), CPU)
    crops = torch.from_numpy(np.stack(pictures(2, 96))).permute(0, 3, 1, 2).float()[..., : degradation.side(32)] / 255
    crops = crops[..., : degradation.side(32), :]
    quiet = {**FLAT, **NOISE, "a": 0.0, "b": 1e-7, "shift": 0.0}
    for kernel, name in enumerate(("cubic", "box")):
        seen, clean = degradation.pair(crops, table_of(degradation, 2, **quiet, kernel=float(kernel)), 32)
        matrix = resampling.coarser(32, 16, 0, name)
        inner = slice(4, -4)
        expected = (matrix @ clean @ matrix.T)[:, inner, inner]
        torch.testing.assert_close(seen[:, 0, inner, inner], expected, rtol=0, atol=2e-3)


def test_losses_of_enlarged_crops_are_limited() -> None:
    degradation = micrographs.Micrographs(16, (16, 32), CPU)
    table = table_of(degradation, 100)
    same, larger = degradation.weights(table, 16), degradation.weights(table, 32)
    assert same is not None
    assert larger is not None
    assert float(larger.max()) == 30
    assert float(same.max()) > 100


def stack_case(**values: float) -> tuple[Tensor, Tensor]:
    degradation = micrographs.Stacks(32, (32,), CPU)
    side = degradation.side(32)
    crops = torch.from_numpy(np.stack(pictures(2, 96))).permute(0, 3, 1, 2).float()[..., :side, :side] / 255
    quiet = {**FLAT, **NOISE, "a": 0.0, "b": 1e-7, "second": 0.0, "depth": 0.0, "defocus": 0.05, "decay": 0.0}
    still = dict.fromkeys(("down", "right", "other_down", "other_right", "end"), 0.0)
    torch.manual_seed(0)
    return degradation.pair(crops, table_of(degradation, 2, **{**quiet, **still, **values}), 32)


def test_the_planes_of_a_thin_stack_are_alike() -> None:
    seen, clean = stack_case()
    assert seen.shape == (2, 4, 32, 32)
    for beside in (2, 3):
        torch.testing.assert_close(seen[:, beside], clean, rtol=0, atol=5e-3)


def test_planes_move_and_are_blurred_with_the_distance() -> None:
    seen, clean = stack_case(down=2.0)
    torch.testing.assert_close(seen[:, 3, 2:], clean[:, :-2], rtol=0, atol=5e-3)
    torch.testing.assert_close(seen[:, 2, :-2], clean[:, 2:], rtol=0, atol=5e-3)
    seen, clean = stack_case(depth=1.0, defocus=2.0)
    steps = [float((image[:, 1:] - image[:, :-1]).abs().mean()) for image in (seen[:, 2], clean, seen[:, 3])]
    assert steps[0] < steps[1] < steps[2]


def test_the_only_neighbour_of_the_last_plane_is_in_both_places() -> None:
    seen, _ = stack_case(down=1.0, end=1.0)
    torch.testing.assert_close(seen[:, 2], seen[:, 3])
