"""The compiled convolutions of pretrained networks, compared with PyTorch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from napari_siren.core.native import encoder
from napari_siren.core.native.encoder import can_encode, encode_blocks
from napari_siren.core.pretrained_network import network as module
from napari_siren.core.pretrained_network.network import NetworkShape, PretrainedNetwork

pytestmark = pytest.mark.skipif(not can_encode(64), reason="the compiled library is not available")


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def blocks_of_pytorch(
    values: Tensor, kernels: Tensor, biases: Tensor, dilations: tuple[int, ...], leak: float
) -> Tensor:
    """The same blocks by convolutions of PyTorch, float64."""
    x = values.permute(2, 0, 1)[None].double()
    features = values.shape[2]
    stencils = kernels.reshape(len(kernels), features, 3, 3, features).permute(0, 1, 4, 2, 3).double()
    for block, dilation in enumerate(dilations):
        first, second = 2 * block, 2 * block + 1
        inner = functional.conv2d(x, stencils[first], biases[first].double(), padding=1)
        inner = functional.leaky_relu(inner, leak)
        change = functional.conv2d(
            inner, stencils[second], biases[second].double(), padding=dilation, dilation=dilation
        )
        x = functional.leaky_relu(x + change, leak)
    return x[0].permute(1, 2, 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 5), (4, 4), (5, 7), (17, 23), (40, 33)], ids=str)
@pytest.mark.parametrize("dilations", [(1,), (2,), (3, 1), (5,)], ids=str)
@pytest.mark.parametrize("features", [16, 48, 64])
def test_it_agrees_with_pytorch(shape: tuple[int, int], dilations: tuple[int, ...], features: int) -> None:
    count = 2 * len(dilations)
    values, biases = random(*shape, features), random(count, features)
    kernels = random(count, features, 9 * features) / (9 * features) ** 0.5
    expected = blocks_of_pytorch(values, kernels, biases, dilations, 0.1)
    encode_blocks(values, kernels, biases, dilations, 0.1)
    torch.testing.assert_close(values.double(), expected, atol=1e-4, rtol=0)
    assert float((values - expected).square().mean().sqrt()) < 5e-6


def test_the_network_uses_it_outside_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = NetworkShape(features=16, dilations=(1, 2), width=16)
    network = PretrainedNetwork(shape, torch.Generator().manual_seed(0))
    images = torch.rand(2, 1, 13, 18, generator=torch.Generator().manual_seed(1))
    calls = []

    def count(*arguments: object) -> None:
        calls.append(arguments)
        encode_blocks(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "encode_blocks", count)
    in_training = network.encode(images)
    assert not calls
    in_training.sum().backward()
    with torch.no_grad():
        compiled = network.encode(images)
        assert len(calls) == 2
        torch.testing.assert_close(compiled, in_training.detach(), atol=1e-5, rtol=1e-5)
        assert network.encode(images, torch.bfloat16).dtype == torch.bfloat16
        assert len(calls) == 2


def test_it_does_not_depend_on_the_threads() -> None:
    values, kernels, biases = random(40, 33, 16), random(4, 16, 144) / 12, random(4, 16)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            encoded = values.clone()
            encode_blocks(encoded, kernels, biases, (1, 2), 0.1)
            results.append(encoded)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(results[0], results[1], atol=0, rtol=0)


def test_features_that_vectors_do_not_divide_are_left_to_pytorch() -> None:
    assert not can_encode(33)
    network = PretrainedNetwork(NetworkShape(features=33), torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.isfinite(network.encode(torch.rand(1, 9, 9))).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda values, kernels, biases: (values.double(), kernels, biases),
        lambda values, kernels, biases: (values[:, ::2], kernels, biases),
        lambda values, kernels, biases: (values, kernels[1:], biases),
        lambda values, kernels, biases: (values, kernels, biases[:, :8]),
        lambda values, kernels, biases: (values[..., :15].contiguous(), kernels, biases),
    ],
)
def test_wrong_tensors_are_refused(damage: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    with pytest.raises(ValueError, match="encoder"):
        encode_blocks(*damage(random(6, 6, 16), random(2, 16, 144), random(2, 16)), (1,), 0.1)


def test_no_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    library = encoder.kernel().library
    assert library is not None

    class Exhausted:
        siren_vector_length = library.siren_vector_length
        siren_convolution_tiles = library.siren_convolution_tiles

        @staticmethod
        def siren_convolve(description: ctypes.c_void_p, start: ctypes.c_int64, stop: ctypes.c_int64) -> int:
            return 1

    monkeypatch.setattr(encoder, "kernel", lambda: type("Kernel", (), {"library": Exhausted}))
    with pytest.raises(MemoryError, match="no memory for the encoder"):
        encode_blocks(random(6, 6, 16), random(2, 16, 144), random(2, 16), (1,), 0.1)
