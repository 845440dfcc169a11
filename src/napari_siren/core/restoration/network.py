"""`ConditionedSiren`: a SIREN of position that also sees the image around the point it is asked about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

# Slope of the encoder's activations below zero: never flat, so that no part of it stops learning.
_LEAK = 0.1
# Of the outputs at the start: the network begins as next to nothing, so that interpolation is what it improves on.
_FIRST_OUTPUT = 0.01


class ConditionedSiren(nn.Module):
    """An encoder of convolutions and a decoder of sine layers, for images of two axes.

    The encoder gives every pixel features of its surroundings. The decoder takes the features at a point (bilinear
    between pixels), the point's offset from the nearest pixel's centre, and the size of the pixel that is wanted there
    (as Chen, Liu, Wang 2021, arXiv 2012.09161, with sines for its layers).

    Parameters
    ----------
    channels
        Of what the encoder sees.
    convolutions, features
        Number of layers of the encoder, 3 x 3 each, and their width.
    layers, width
        Number of sine layers of the decoder, and their width.
    generator
        Of the random start.
    outputs
        Number of values that are told; None is `channels`.
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
        # As matrices, since that is what Muon takes.
        self.kernels = nn.ParameterList(
            _normal((features, 9 * n), math.sqrt(2 / (1 + _LEAK**2) / (9 * n)), generator) for n in inputs
        )
        self.kernel_biases = nn.ParameterList(torch.zeros(features) for _ in inputs)
        sizes = [features + 4, *[width] * layers]
        # Sitzmann et al. 2020 with omega_0 = 1: features and offsets have about unit size and take the paper's bound
        # without its factor; the first phases are drawn from a whole period.
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
        """How far the encoder sees, in pixels."""
        return len(self.kernels)

    def encode(self, values: Tensor) -> Tensor:
        """Return features: (1, channels, rows, columns) -> (1, features, rows, columns)."""
        for kernel, bias in zip(self.kernels, self.kernel_biases, strict=True):
            padded = functional.pad(values, (1, 1, 1, 1), mode="replicate")
            values = functional.conv2d(padded, kernel.unflatten(1, (-1, 3, 3)), bias)
            values = functional.leaky_relu(values, _LEAK)
        return values

    def decode(self, features: Tensor, positions: Sequence[npt.NDArray[np.float64]], sizes: Sequence[float]) -> Tensor:
        """Evaluate on the product of positions along each axis.

        Parameters
        ----------
        features
            (1, features, rows, columns).
        positions
            For each axis, (n,), in pixels from the centre of the first.
        sizes
            Of the wanted pixels along each axis, in pixels.

        Returns
        -------
        Tensor
            (1, outputs, *lengths), float32.
        """
        rows, columns = (_linear_weights(p, n).to(features) for p, n in zip(positions, features.shape[2:], strict=True))
        offsets = [torch.from_numpy(math.pi * (p - np.rint(p))).to(features) for p in positions]
        grid = (len(positions[0]), len(positions[1]))
        seen = [
            (rows @ features @ columns.T)[0].flatten(1),
            offsets[0][:, None].expand(grid).reshape(1, -1),
            offsets[1].expand(grid).reshape(1, -1),
            *(features.new_full((1, math.prod(grid)), size) for size in sizes),
        ]
        z = torch.cat(seen).T
        for weight, bias in zip(self.weights, self.biases, strict=True):
            z = self.activate(functional.linear(z, weight, bias))
        values = functional.linear(z, self.last_weight, self.last_bias).float()
        return values.T.reshape(1, -1, *grid)

    def activate(self, values: Tensor) -> Tensor:
        """Apply the decoder's nonlinearity: the sine."""
        return values.sin()


def _linear_weights(positions: npt.NDArray[np.float64], count: int) -> Tensor:
    """Weights of linear interpolation between pixels, the outermost going on: (positions, count)."""
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
