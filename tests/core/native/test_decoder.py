"""The compiled decoder of pretrained networks, compared with PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_siren.core.native.decoder import can_decode, decode
from napari_siren.core.pretrained_network import network as module
from napari_siren.core.pretrained_network.network import NetworkShape, PretrainedNetwork, restore

pytestmark = pytest.mark.skipif(not can_decode(64), reason="the compiled library is not available")
SMALL = NetworkShape(features=8, dilations=(1, 2), width=32, layers=3)


def network_of(shape: NetworkShape) -> PretrainedNetwork:
    generator = torch.Generator().manual_seed(0)
    network = PretrainedNetwork(shape, generator)
    with torch.no_grad():
        network.weight_out.normal_(0, 1, generator=generator)
    return network


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("size", [(40, 36), (31, 95), (7, 9), (20, 18)], ids=str)
def test_it_agrees_with_pytorch(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], layers: int, interpolation: str
) -> None:
    network = network_of(replace(SMALL, layers=layers, interpolation=interpolation))
    image = torch.rand(1, 1, 20, 18, generator=torch.Generator().manual_seed(1))
    compiled = restore(network, image, size, block_pixels=120)
    monkeypatch.setattr(module, "can_decode", lambda width: False)
    torch.testing.assert_close(compiled, restore(network, image, size, block_pixels=120), atol=2e-5, rtol=0)


def test_it_does_not_depend_on_the_threads() -> None:
    network, image = network_of(SMALL), torch.rand(1, 1, 20, 18, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(restore(network, image, (50, 41)))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=0)


def test_a_width_that_vectors_do_not_divide_is_left_to_pytorch() -> None:
    assert not can_decode(33)
    network = network_of(replace(SMALL, width=33))
    assert torch.isfinite(restore(network, torch.rand(1, 1, 9, 9), (18, 18))).all()


def arguments(width: int = 32) -> dict[str, Any]:
    """Arguments for a result of 6 x 8 from an image of 3 x 4."""
    taps = [torch.arange(n).repeat_interleave(2)[None].clamp_max(n - 1) for n in (3, 4)]
    axes = [(t, torch.ones(t.shape), torch.zeros(t.shape[1], width)) for t in taps]
    layers = (torch.zeros(1, width, width), torch.zeros(1, width))
    first = torch.zeros(3, 4, width)
    return {
        "values": torch.zeros(6, 8),
        "first": first,
        "rows": axes[0],
        "columns": axes[1],
        "layers": layers,
        "head": (torch.zeros(width), 2.0, 0.5),
    }


def test_the_output_is_added() -> None:
    given = arguments()
    given["values"] += 3
    decode(**given)
    np.testing.assert_allclose(given["values"], np.full((6, 8), 4.0))


def changed(values: Tensor, at: int, number: int) -> Tensor:
    copy = values.clone()
    copy.view(-1)[at] = number
    return copy


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: {"values": torch.zeros(5, 8)},
        lambda a: {"values": torch.zeros(8, 6).T},
        lambda a: {"values": torch.zeros(6, 8, dtype=torch.float64)},
        lambda a: {"first": a["first"].double()},
        lambda a: {"first": torch.zeros(2, 4, 32)},
        lambda a: {"first": torch.zeros(3, 4, 64)},
        lambda a: {"rows": (changed(a["rows"][0], 2, 3), *a["rows"][1:])},
        lambda a: {"columns": (changed(a["columns"][0], 5, -1), *a["columns"][1:])},
        lambda a: {"columns": (a["columns"][0].int(), *a["columns"][1:])},
        lambda a: {"rows": (*a["rows"][:2], torch.zeros(5, 32))},
        lambda a: {"rows": (a["rows"][0], torch.ones(2, 6), a["rows"][2])},
        lambda a: {"layers": (torch.zeros(1, 32, 31), a["layers"][1])},
        lambda a: {"layers": (a["layers"][0], torch.zeros(2, 32))},
        lambda a: {"head": (torch.zeros(31), 0.0, 1.0)},
        lambda a: arguments(33),
    ],
)
def test_wrong_sizes_do_not_reach_the_library(wrong: Any) -> None:
    given = arguments()
    with pytest.raises(ValueError, match="decoder"):
        decode(**{**given, **wrong(given)})
