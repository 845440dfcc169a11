"""`PretrainedNetwork`: an encoder of convolutions and a decoder of sine layers, added to interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_siren.core.native.decoder import can_decode, decode
from napari_siren.core.native.encoder import can_encode, encode_blocks
from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.sines import head, sine
from napari_siren.errors import InputError

# Slope of the encoder's activations below zero.
LEAK = 0.1
# Unit of the network's outputs, as a difference in luminance. The input is 2 L - 1 for a luminance L from 0 to 1.
OUTPUT_SCALE = 0.1
# Factor of the second input, the noise's standard deviation in units of L. A third input is left as it is.
DEVIATION_SCALE = 4.0
# Pixels of the image that `restore` encodes at a time, without the margin.
BLOCK_PIXELS = 1 << 16
# Output pixels that `restore` decodes at a time: on a CPU, so few that they stay in the cache, and on a GPU.
_STRIP_PIXELS, _GPU_STRIP_PIXELS = 1 << 12, 1 << 18


@dataclass(frozen=True)
class NetworkShape:
    """The sizes of a `PretrainedNetwork`.

    Parameters
    ----------
    features
        Width of the encoder.
    dilations
        Dilation of the second convolution of each residual block; that of the first is 1.
    width, layers
        Width and number of the decoder's sine layers.
    interpolation
        Interpolation of the encoder's features between pixels: "linear" or "cubic".
    inputs
        Channels of the image: luminance; then a map of the noise's standard deviation; then a map for JPEG.
    """

    features: int = 64
    dilations: tuple[int, ...] = (1, 2, 1, 3, 1, 2)
    width: int = 64
    layers: int = 2
    interpolation: str = "linear"
    inputs: int = 1

    @property
    def reach(self) -> int:
        """Largest distance, along an axis, between a feature and the pixels with an influence on it, in pixels."""
        return 1 + sum(1 + dilation for dilation in self.dilations)


class PretrainedNetwork(nn.Module):
    """A network for the luminance at and between the pixels of an image.

    The encoder is a 3 x 3 convolution, then blocks x <- f(x + K2 f(K1 x)) with f a leaky rectifier; beyond the image's
    ends are zeros. The decoder takes the features at a point (interpolated), the point's offset from the nearest
    pixel's centre times pi (rows, columns) and the size of an output pixel in pixels (rows, columns), and has sine
    layers.

    Parameters
    ----------
    shape
        Sizes of the network.
    generator
        Generator of the random initialisation.
    """

    def __init__(self, shape: NetworkShape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        features, width, blocks = shape.features, shape.width, len(shape.dilations)
        # Kernels are matrices (out, 3 * 3 * in) with the channel as the fastest index, for Muon and for convolutions
        # with the channels last.
        first, deviation = math.sqrt(2 / (9 * shape.inputs)), math.sqrt(2 / (1 + LEAK**2) / (9 * features))
        self.kernel_in = nn.Parameter(torch.empty(features, 9 * shape.inputs).normal_(0, first, generator=generator))
        kernels = torch.empty(2 * blocks, features, 9 * features).normal_(0, deviation, generator=generator)
        # A block begins as a small change of its input.
        kernels[1::2] *= 0.3
        self.kernels = nn.Parameter(kernels)
        self.kernel_biases = nn.Parameter(torch.zeros(1 + 2 * blocks, features))
        bound = math.sqrt(3 / (features + 4))
        self.weight_in = nn.Parameter(_uniform((width, features), bound, generator))
        self.weight_place = nn.Parameter(_uniform((width, 4), bound, generator))
        self.weights = nn.Parameter(_uniform((shape.layers - 1, width, width), math.sqrt(6 / width), generator))
        biases = _uniform((shape.layers, width), math.pi, generator)
        biases[1:] = 0
        self.biases = nn.Parameter(biases)
        self.weight_out = nn.Parameter(torch.empty(width).normal_(0, 0.01, generator=generator))
        self.bias_out = nn.Parameter(torch.zeros(()))

    def hidden(self) -> list[nn.Parameter]:
        """Return the stacks of matrices from hidden units to hidden units."""
        return [self.kernels, self.weights]

    def encode(self, image: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return features (images, features, rows, columns), channels last.

        Parameters
        ----------
        image
            Images (images, inputs, rows, columns), or (images, rows, columns) if there is one input.
        dtype
            Dtype of the convolutions.
        """
        biases = self.kernel_biases.to(dtype).unbind()
        values = _scaled(_channels(image)).to(dtype).contiguous(memory_format=torch.channels_last)
        first = self.kernel_in.to(dtype).reshape(-1, 3, 3, self.shape.inputs).permute(0, 3, 1, 2)
        x = _rectified(functional.conv2d(values, first, biases[0], padding=1))
        # With one channel the format is ambiguous, and the result need not have its channels last.
        x = x.contiguous(memory_format=torch.channels_last)
        if _is_compiled(x):
            for features in x.permute(0, 2, 3, 1):
                encode_blocks(features, self.kernels, self.kernel_biases[1:], self.shape.dilations, LEAK)
            return x
        kernels = (
            self.kernels.to(dtype)
            .reshape(2 * len(self.shape.dilations), -1, 3, 3, self.shape.features)
            .permute(0, 1, 4, 2, 3)
            .unbind()
        )
        for block, dilation in enumerate(self.shape.dilations):
            inner = _rectified(functional.conv2d(x, kernels[2 * block], biases[1 + 2 * block], padding=1))
            change = functional.conv2d(
                inner, kernels[2 * block + 1], biases[2 + 2 * block], padding=dilation, dilation=dilation
            )
            x = _rectified(x + change)
        return x

    def decode(self, features: Tensor, size: tuple[int, int], fused: bool = False) -> Tensor:
        """Return the difference to interpolation: (images, features, rows, columns) -> (images, *size), float32.

        The first layer is linear in the features. It is therefore applied at the image's pixels, which are fewer, and
        its result is interpolated.
        """
        dtype, device = features.dtype, features.device
        images, _, rows, columns = features.shape
        kind = self.shape.interpolation
        first = features.permute(0, 2, 3, 1) @ self.weight_in.to(dtype).T
        first = resampling.finer_on(device, dtype, columns, size[1], kind) @ first
        first = resampling.finer_on(device, dtype, rows, size[0], kind) @ first.flatten(2)
        positions = _positions((rows, columns), size, device)
        phases = positions @ self.weight_place.T + self.biases[0]
        z = first.reshape(images, size[0] * size[1], -1)
        for layer, weight in enumerate(self.weights.to(dtype).unbind()):
            z = sine(z, phases, fused) @ weight.T
            phases = self.biases[layer + 1]
        values = head(z, phases, self.weight_out, fused) + self.bias_out
        return OUTPUT_SCALE * values.reshape(images, *size)

    def forward(
        self, image: Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32, fused: bool = False
    ) -> Tensor:
        """Return luminance (images, *size), float32, from images as for `encode`, 0 to 1."""
        luminance = _channels(image)[:, 0]
        rows, columns = (
            resampling.finer_on(luminance.device, torch.float32, n, m)
            for n, m in zip(luminance.shape[1:], size, strict=True)
        )
        details = self.decode(self.encode(image, dtype), size, fused)
        return resampling.apply(rows, columns, luminance) + details


def _channels(image: Tensor) -> Tensor:
    return image[:, None] if image.ndim == 3 else image


def _scaled(image: Tensor) -> Tensor:
    """Return the channels in the ranges for the first convolution."""
    luminance, deviation, rest = image[:, :1], image[:, 1:2], image[:, 2:]
    return torch.cat([2 * luminance - 1, DEVIATION_SCALE * deviation, rest], dim=1)


@cache
def _positions(inputs: tuple[int, int], outputs: tuple[int, int], device: torch.device) -> Tensor:
    """Return the decoder's inputs at each point, besides features: (points, 4)."""
    rows, columns = (_offsets(n, m, 0, m) for n, m in zip(inputs, outputs, strict=True))
    sizes = (n / m for n, m in zip(inputs, outputs, strict=True))
    grid = np.stack(np.broadcast_arrays(rows[:, None], columns, *sizes), axis=-1)
    return torch.from_numpy(grid.reshape(-1, 4).astype(np.float32)).to(device)


def _offsets(inputs: int, outputs: int, start: int, stop: int) -> npt.NDArray[np.float64]:
    """Return pi times the offsets of output pixels from the nearest centre of a pixel, along one axis."""
    positions = (np.arange(start, stop) + 0.5) * inputs / outputs - 0.5
    return math.pi * (positions - np.rint(positions))


def _is_compiled(features: Tensor) -> bool:
    """Return whether the compiled library computes the blocks of the encoder. It has no derivatives."""
    on_cpu = features.device.type == "cpu" and features.dtype == torch.float32
    return on_cpu and not torch.is_grad_enabled() and can_encode(features.shape[1])


def _rectified(values: Tensor) -> Tensor:
    # Outside of training the values themselves are not needed again.
    return functional.leaky_relu(values, LEAK, inplace=not torch.is_grad_enabled())


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def restore(
    network: PretrainedNetwork,
    image: Tensor,
    shape: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    block_pixels: int = BLOCK_PIXELS,
    check: Callable[[], object] | None = None,
) -> Tensor:
    """Compute the network's output for one image in blocks, in bounded memory.

    The result is that of `PretrainedNetwork.forward` up to rounding. The blocks of the encoder overlap by its reach, so
    their ends have no influence.

    Parameters
    ----------
    network
        The network, on the device of the image.
    image
        Image (1, inputs, rows, columns), float32.
    shape
        Rows and columns of the result. Their ratios to those of the image may be any, and may differ.
    dtype
        Dtype of the convolutions and of the decoder.
    block_pixels
        Largest number of pixels of a block of the image, without the margin. Memory is proportional to it.
    check
        Function to call before each block. It may raise an error to end the computation.

    Returns
    -------
    Tensor
        Luminance (1, rows, columns), float32.

    Raises
    ------
    InputError
        The image does not have the shape (1, inputs, rows, columns), or the result would have no pixels.
    """
    if image.ndim != 4 or image.shape[:2] != (1, network.shape.inputs) or not image.numel() or min(shape) < 1:
        raise InputError(
            f"an image of shape {tuple(image.shape)} cannot be restored to {shape[0]} x {shape[1]} pixels by a network "
            f"with {network.shape.inputs} inputs. Pass one image (1, inputs, rows, columns), and at least one pixel."
        )
    rows, columns = image.shape[2:]
    parts = math.ceil(columns / max(1, math.isqrt(block_pixels)))
    width = math.ceil(columns / parts)
    height = max(1, block_pixels // width)
    result = image.new_empty((1, *shape), dtype=torch.float32)
    for down in _spans(rows, shape[0], height):
        for across in _spans(columns, shape[1], width):
            if check is not None:
                check()
            axes = _Axis(rows, shape[0], down), _Axis(columns, shape[1], across)
            result[0, down, across] = _restore_block(network, image, *axes, dtype)
    return result


def _spans(inputs: int, outputs: int, length: int) -> Iterator[slice]:
    """Return ranges of output pixels along an axis, for blocks of a length in input pixels."""
    blocks = math.ceil(inputs / length)
    bounds = [outputs * block // blocks for block in range(blocks + 1)]
    return (slice(start, stop) for start, stop in pairwise(bounds) if start < stop)


@dataclass(frozen=True)
class _Axis:
    """The interpolation to a range of output pixels along one axis.

    Parameters
    ----------
    inputs, outputs
        Number of pixels along the whole axis.
    span
        Range of output pixels.
    """

    inputs: int
    outputs: int
    span: slice

    def taps(self, kind: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the input pixels and their weights, (output pixels, taps) each."""
        return resampling.finer_taps(self.inputs, self.outputs, self.span.start, self.span.stop, kind)

    def window(self, kind: str, margin: int) -> slice:
        """Return the range of input pixels for the interpolation, with a margin up to the ends of the axis."""
        pixels, _ = self.taps(kind)
        return slice(max(0, int(pixels.min()) - margin), min(self.inputs, int(pixels.max()) + 1 + margin))

    def on(self, device: torch.device, kind: str, start: int) -> tuple[Tensor, Tensor]:
        """Return `taps` on a device, (taps, output pixels) each, with pixels counted from `start`."""
        pixels, weights = self.taps(kind)
        return torch.from_numpy(pixels.T - start).to(device), torch.from_numpy(weights.T.copy()).to(device)

    def offsets(self, device: torch.device) -> Tensor:
        """Return the offsets of the output pixels as inputs of the decoder."""
        values = _offsets(self.inputs, self.outputs, self.span.start, self.span.stop)
        return torch.from_numpy(values.astype(np.float32)).to(device)


def _restore_block(
    network: PretrainedNetwork, image: Tensor, rows: _Axis, columns: _Axis, dtype: torch.dtype
) -> Tensor:
    """Return a block of the result of `restore`, (rows, columns)."""
    kind, reach, device = network.shape.interpolation, network.shape.reach, image.device
    axes = (rows, columns)
    outer, inner = ([axis.window(kind, margin) for axis in axes] for margin in (reach, 0))
    features = network.encode(image[:, :, outer[0], outer[1]], dtype)
    down, across = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    # In float32 from here on, so that interpolation adds no error to the products in `dtype`.
    first = (features[0, :, down, across].permute(1, 2, 0) @ network.weight_in.to(dtype).T).float()
    del features
    sizes = image.new_tensor([axis.inputs / axis.outputs for axis in axes])
    weight = network.weight_place
    of_rows = torch.outer(rows.offsets(device), weight[:, 0]) + (weight[:, 2:] @ sizes + network.biases[0])
    of_columns = torch.outer(columns.offsets(device), weight[:, 1])
    row_taps, column_taps = (axis.on(device, kind, i.start) for axis, i in zip(axes, inner, strict=True))
    result = _interpolation(image[0, 0], rows, columns)
    if device.type == "cpu" and can_decode(network.shape.width):
        later = (network.weights, network.biases[1:])
        head = (network.weight_out, float(network.bias_out), OUTPUT_SCALE)
        decode(result, first, (*row_taps, of_rows), (*column_taps, of_columns), later, head)
    else:
        _decode_block(network, result, first, (*row_taps, of_rows), (*column_taps, of_columns), dtype)
    return result


def _decode_block(
    network: PretrainedNetwork,
    result: Tensor,
    first: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    dtype: torch.dtype,
) -> None:
    """Add the outputs of the decoder to a block of the result; see `decode`."""
    (row_pixels, row_weights, of_rows), (column_pixels, column_weights, of_columns) = rows, columns
    weights = network.weights.to(dtype).unbind()
    strip = max(1, (_STRIP_PIXELS if result.device.type == "cpu" else _GPU_STRIP_PIXELS) // result.shape[1])
    for start in range(0, len(result), strip):
        part = slice(start, start + strip)
        along = row_weights[0, part, None, None] * first.index_select(0, row_pixels[0, part])
        for pixels, factors in zip(row_pixels[1:, part], row_weights[1:, part], strict=True):
            along.addcmul_(first.index_select(0, pixels), factors[:, None, None])
        z = of_rows[part, None] + of_columns
        for pixels, factors in zip(column_pixels, column_weights, strict=True):
            z.addcmul_(along.index_select(1, pixels), factors[:, None])
        for matrix, bias in zip(weights, network.biases[1:], strict=True):
            z = z.sin_().to(dtype) @ matrix.T + bias
        result[part] += OUTPUT_SCALE * (z.sin_() @ network.weight_out + network.bias_out)


def _interpolation(luminance: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Return bicubic interpolation of luminance at the output pixels of two axes."""
    windows = [axis.window("cubic", 0) for axis in (rows, columns)]
    matrices = []
    for axis, window in zip((rows, columns), windows, strict=True):
        pixels, weights = axis.on(luminance.device, "cubic", window.start)
        matrix = weights.new_zeros(weights.shape[1], window.stop - window.start)
        matrices.append(matrix.scatter_add_(1, pixels.T, weights.T))
    return resampling.apply(matrices[0], matrices[1], luminance[windows[0], windows[1]])
