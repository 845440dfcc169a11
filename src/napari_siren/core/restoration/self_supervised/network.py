"""`LocalImplicitSiren`: a SIREN with the position and the local features of the image as inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

# Slope of the encoder's activations below zero. It is not 0, so that no part of the encoder stops training.
_LEAK = 0.1
# Standard deviation of the initial output weights. The initial outputs are almost zero: the network starts from plain
# interpolation, and improves on it.
_FIRST_OUTPUT = 0.01


class LocalImplicitSiren(nn.Module):
    """A convolutional encoder and a decoder of sine layers, for images with two axes.

    The encoder computes features of the surroundings of every pixel. The inputs of the decoder are the features at a
    point (interpolated bilinearly between pixels), the offset of the point from the centre of the nearest pixel, and
    the size of the output pixel. This is the method of Chen, Liu and Wang 2021 (arXiv 2012.09161), with sine layers.

    Parameters
    ----------
    channels
        Number of input channels of the encoder.
    convolutions, features
        Number of the encoder's layers, 3 x 3 convolutions, and number of features of each.
    layers, width
        Number of the decoder's sine layers, and number of features of each.
    generator
        Random generator of the initial parameters.
    outputs
        Number of output channels; None is `channels`.
    """

    def __init__(
        self,
        channels: int,
        convolutions: int,
        features: int,
        layers: int,
        width: int,
        generator: torch.Generator,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        inputs = [channels, *[features] * (convolutions - 1)]
        # The kernels are matrices, because Muon needs matrices.
        self.kernels = nn.ParameterList(
            _normal((features, 9 * n), math.sqrt(2 / (1 + _LEAK**2) / (9 * n)), generator) for n in inputs
        )
        self.kernel_biases = nn.ParameterList(torch.zeros(features) for _ in inputs)
        sizes = [features + 4, *[width] * layers]
        # Initialisation of Sitzmann et al. 2020 with omega_0 = 1. Features and offsets have a size of about 1, so that
        # the paper's bound applies without its factor. The first phases are drawn from a whole period.
        self.weights = nn.ParameterList(
            _uniform((out, n), math.sqrt((6 if layer else 3) / n), generator)
            for layer, (n, out) in enumerate(pairwise(sizes))
        )
        self.biases = nn.ParameterList(
            _uniform((width,), 0.0 if layer else math.pi, generator) for layer in range(layers)
        )
        self.last_weight = nn.Parameter(_normal((outputs or channels, width), _FIRST_OUTPUT, generator))
        self.last_bias = nn.Parameter(torch.zeros(outputs or channels))

    @property
    def reach(self) -> int:
        """Radius of the encoder's receptive field, in pixels."""
        return len(self.kernels)

    def hidden(self) -> list[nn.Parameter]:
        """Return the matrices from hidden units to hidden units."""
        return [*list(self.kernels)[1:], *list(self.weights)[1:]]

    def others(self) -> list[nn.Parameter]:
        """Return all parameters but those of `hidden`."""
        hidden = set(map(id, self.hidden()))
        return [parameter for parameter in self.parameters() if id(parameter) not in hidden]

    def encode(self, values: Tensor) -> Tensor:
        """Return the features, (n, features, rows, columns), of images, (n, channels, rows, columns)."""
        for kernel, bias in zip(self.kernels, self.kernel_biases, strict=True):
            padded = functional.pad(values, (1, 1, 1, 1), mode="replicate")
            values = functional.conv2d(padded, kernel.unflatten(1, (-1, 3, 3)), bias)
            values = functional.leaky_relu(values, _LEAK)
        return values

    def decode(self, features: Tensor, positions: Sequence[npt.NDArray[np.float64]], sizes: Sequence[float]) -> Tensor:
        """Evaluate the decoder on a grid, the product of positions along each axis.

        Parameters
        ----------
        features
            Features of the encoder, (n, features, rows, columns).
        positions
            Positions along each axis, (n,), float64, in pixels from the centre of the first pixel.
        sizes
            Size of the output pixels along each axis, in pixels of the image.

        Returns
        -------
        Tensor
            Outputs, (n, outputs, *lengths), float32, where lengths are the numbers of positions.
        """
        rows, columns = (_linear_weights(p, n).to(features) for p, n in zip(positions, features.shape[2:], strict=True))
        offsets = [torch.from_numpy(math.pi * (p - np.rint(p))).to(features) for p in positions]
        grid = (len(positions[0]), len(positions[1]))
        places = [
            offsets[0][:, None].expand(grid).reshape(-1),
            offsets[1].expand(grid).reshape(-1),
            *(features.new_full((math.prod(grid),), size) for size in sizes),
        ]
        local = (rows @ features @ columns.T).flatten(2)
        z = torch.cat([local, torch.stack(places).expand(len(features), -1, -1)], dim=1).mT
        for weight, bias in zip(self.weights, self.biases, strict=True):
            z = self.activate(functional.linear(z, weight, bias))
        values = functional.linear(z, self.last_weight, self.last_bias).float()
        return values.mT.reshape(len(features), -1, *grid)

    def activate(self, values: Tensor) -> Tensor:
        """Apply the nonlinearity of the decoder, the sine."""
        return values.sin()


def _linear_weights(positions: npt.NDArray[np.float64], count: int) -> Tensor:
    """Return weights of linear interpolation, (positions, count); beyond the ends the outermost pixels continue."""
    weights = torch.zeros(len(positions), count)
    within = torch.from_numpy(np.clip(positions, 0, count - 1)).float()
    below = within.floor().clamp(max=max(0, count - 2)).long()
    share = within - below
    rows = torch.arange(len(positions))
    weights[rows, below] = 1 - share
    weights[rows, (below + 1).clamp(max=count - 1)] += share
    return weights


def _normal(shape: tuple[int, ...], deviation: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape).normal_(0, deviation, generator=generator)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
