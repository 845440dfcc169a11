"""The network, and its use on whole images in bounded memory."""

from __future__ import annotations

import pytest
import torch
from training_cases import WEIGHTS

from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.network import NetworkShape, PretrainedNetwork, restore
from napari_siren.core.pretrained_network.weights import load_network
from napari_siren.errors import InputError


def test_the_network_returns_any_size_and_is_interpolation_where_its_output_is_zero() -> None:
    network = PretrainedNetwork(NetworkShape(8, (1, 2), 8, 3, "cubic"), torch.Generator().manual_seed(0))
    image = torch.rand(2, 9, 12, generator=torch.Generator().manual_seed(0))
    assert network(image, (13, 40)).shape == (2, 13, 40)
    network.weight_out.data.zero_()
    rows, columns = resampling.finer(9, 13), resampling.finer(12, 40)
    torch.testing.assert_close(network(image, (13, 40)), resampling.apply(rows, columns, image))


def example(shape: NetworkShape, rows: int, columns: int) -> tuple[PretrainedNetwork, torch.Tensor]:
    """Return a network whose output is as large as its input, and an image."""
    generator = torch.Generator().manual_seed(0)
    network = PretrainedNetwork(shape, generator)
    with torch.no_grad():
        network.weight_out.normal_(0, 1, generator=generator)
        network.kernel_biases.normal_(0, 0.1, generator=generator)
        network.biases.normal_(0, 1, generator=generator)
    return network, torch.rand(1, shape.inputs, rows, columns, generator=generator)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(37, 50), (74, 100), (61, 137), (148, 51), (20, 33), (1, 7), (37, 200)])
@pytest.mark.parametrize("block_pixels", [100, 300, 700, 1 << 20])
def test_restoring_in_blocks_equals_the_network_in_one_piece(
    interpolation: str, size: tuple[int, int], block_pixels: int
) -> None:
    network, image = example(NetworkShape(8, (1, 2, 3), 8, 3, interpolation, inputs=2), 37, 50)
    with torch.no_grad():
        whole = network(image, size)
    result = restore(network, image, size, block_pixels=block_pixels)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 40), (40, 1), (3, 50)])
def test_thin_images_are_restored(rows: int, columns: int) -> None:
    network, image = example(NetworkShape(8, (1, 2), 8, inputs=3), rows, columns)
    size = (3 * rows - 1, 2 * columns + 1)
    with torch.no_grad():
        whole = network(image, size)
    for block_pixels in (1, 64):
        result = restore(network, image, size, block_pixels=block_pixels)
        torch.testing.assert_close(result, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["enlarge", "denoise", "microscope", "stack", "robust"])
def test_the_published_weights_restore_in_blocks(name: str) -> None:
    network = load_network(WEIGHTS / f"{name}.safetensors")
    image = torch.rand(1, network.shape.inputs, 46, 60, generator=torch.Generator().manual_seed(0))
    image[:, 1:] *= 0.2
    size = (99, 67)
    with torch.no_grad():
        whole = network(image, size)
    for block_pixels in (900, 1 << 16):
        torch.testing.assert_close(restore(network, image, size, block_pixels=block_pixels), whole, rtol=0, atol=1e-5)
    low = restore(network, image, size, torch.bfloat16, 900)
    assert float((low - whole).square().mean().sqrt()) < 0.01


def test_blocks_of_the_encoder_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = example(NetworkShape(8, (1, 2), 8), 90, 120)
    shapes = []
    encode = network.encode

    def recorded(block: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        shapes.append(block.shape[2:])
        return encode(block, dtype)

    monkeypatch.setattr(network, "encode", recorded)
    restore(network, image, (180, 240), block_pixels=400)
    # 20 x 20 pixels, one more for interpolation and the reach of the encoder on both sides.
    limit = 20 + 2 * (network.shape.reach + 1)
    assert len(shapes) == 5 * 6
    assert max(max(shape) for shape in shapes) <= limit


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 2, 4, 4), (8, 8)), ((2, 1, 4, 4), (8, 8)), ((4, 4), (8, 8)), ((1, 1, 4, 4), (0, 8))]
)
def test_other_images_are_refused(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    network, _ = example(NetworkShape(8, (1,), 8), 2, 2)
    with pytest.raises(InputError, match=r"Pass one image \(1, inputs, rows, columns\)"):
        restore(network, torch.zeros(shape), size)
