"""`Enlarger`: an encoder of convolutions and a decoder of sine layers, whose output is added to interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training import resampling
from training.sines import head, sine

# Slope of the encoder's activations below zero.
LEAK = 0.1
# The network sees 2 L - 1 for a luminance L from 0 to 1; of its outputs this is one, as a difference in L.
OUTPUT_SCALE = 0.1


@dataclass(frozen=True)
class Shape:
    """What an `Enlarger` is made of.

    Parameters
    ----------
    features
        Width of the encoder.
    dilations
        Of the second convolution of each residual block; that of the first is 1.
    width, layers
        Width and number of the decoder's sine layers.
    interpolation
        Of the encoder's features between pixels: "linear" or "cubic".
    """

    features: int = 64
    dilations: tuple[int, ...] = (1, 2, 1, 3, 1, 2)
    width: int = 64
    layers: int = 2
    interpolation: str = "linear"

    @property
    def reach(self) -> int:
        """How far the encoder sees, in pixels."""
        return 1 + sum(1 + dilation for dilation in self.dilations)


class Enlarger(nn.Module):
    """A network that tells luminance between the pixels of an image.

    The encoder: a 3 x 3 convolution, then blocks x <- f(x + K2 f(K1 x)) with f a leaky rectifier; zeros beyond the
    image's ends. The decoder: features at a point (interpolated), the point's offset from the nearest pixel's centre
    times pi (rows, columns) and the wanted pixel's size in pixels (rows, columns) through sine layers.

    Parameters
    ----------
    shape
        What it is made of.
    generator
        Of the random start.
    """

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        features, width, blocks = shape.features, shape.width, len(shape.dilations)
        # Kernels are matrices (out, 3 * 3 * in) with the channel as the fastest index: as Muon takes them, and as
        # convolutions with the channels last do.
        first, deviation = math.sqrt(2 / 9), math.sqrt(2 / (1 + LEAK**2) / (9 * features))
        self.kernel_in = nn.Parameter(torch.empty(features, 9).normal_(0, first, generator=generator))
        kernels = torch.empty(2 * blocks, features, 9 * features).normal_(0, deviation, generator=generator)
        # A block begins as a small change of what it is given.
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
        """Give the parameters that are stacks of matrices from hidden units to hidden units."""
        return [self.kernels, self.weights]

    def encode(self, luminance: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Give features: (images, rows, columns) -> (images, features, rows, columns), channels last."""
        biases = self.kernel_biases.to(dtype).unbind()
        kernels = self.kernels.to(dtype).unflatten(2, (3, 3, -1)).permute(0, 1, 4, 2, 3).unbind()
        values = (2 * luminance - 1).to(dtype)[:, None].contiguous(memory_format=torch.channels_last)
        first = self.kernel_in.to(dtype).unflatten(1, (1, 3, 3))
        x = functional.leaky_relu(functional.conv2d(values, first, biases[0], padding=1), LEAK)
        # One channel is first and last at once; what is made of it need not have its channels last.
        x = x.contiguous(memory_format=torch.channels_last)
        for block, dilation in enumerate(self.shape.dilations):
            inner = functional.conv2d(x, kernels[2 * block], biases[1 + 2 * block], padding=1)
            inner = functional.leaky_relu(inner, LEAK)
            change = functional.conv2d(
                inner, kernels[2 * block + 1], biases[2 + 2 * block], padding=dilation, dilation=dilation
            )
            x = functional.leaky_relu(x + change, LEAK)
        return x

    def decode(self, features: Tensor, size: tuple[int, int], fused: bool = False) -> Tensor:
        """Give what is to be added to interpolation: (images, features, rows, columns) -> (images, *size), float32.

        The first layer is linear in the features, so that it is applied where there are fewer points, at the image's
        pixels, and what it gives is interpolated.
        """
        dtype, device = features.dtype, features.device
        images, _, rows, columns = features.shape
        kind = self.shape.interpolation
        seen = features.permute(0, 2, 3, 1) @ self.weight_in.to(dtype).T
        seen = resampling.finer_on(device, dtype, columns, size[1], kind) @ seen
        seen = resampling.finer_on(device, dtype, rows, size[0], kind) @ seen.flatten(2)
        places = _places((rows, columns), size, device)
        phases = places @ self.weight_place.T + self.biases[0]
        z = seen.reshape(images, size[0] * size[1], -1)
        for layer, weight in enumerate(self.weights.to(dtype).unbind()):
            z = sine(z, phases, fused) @ weight.T
            phases = self.biases[layer + 1]
        values = head(z, phases, self.weight_out, fused) + self.bias_out
        return OUTPUT_SCALE * values.reshape(images, *size)

    def forward(
        self, luminance: Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32, fused: bool = False
    ) -> Tensor:
        """Enlarge: luminance (images, rows, columns), 0 to 1, -> (images, *size), float32."""
        rows, columns = (
            resampling.finer_on(luminance.device, torch.float32, n, m)
            for n, m in zip(luminance.shape[1:], size, strict=True)
        )
        details = self.decode(self.encode(luminance, dtype), size, fused)
        return resampling.apply(rows, columns, luminance) + details


@cache
def _places(inputs: tuple[int, int], outputs: tuple[int, int], device: torch.device) -> Tensor:
    """Give what the decoder is told of each point beside features: (points, 4)."""
    offsets, sizes = [], []
    for n, m in zip(inputs, outputs, strict=True):
        positions = (np.arange(m) + 0.5) * n / m - 0.5
        offsets.append(math.pi * (positions - np.rint(positions)))
        sizes.append(n / m)
    grid = np.stack(np.broadcast_arrays(offsets[0][:, None], offsets[1], *sizes), axis=-1)
    return torch.from_numpy(grid.reshape(-1, 4).astype(np.float32)).to(device)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
