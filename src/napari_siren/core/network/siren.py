"""`Siren`: sine networks of one shape, batched over tiles, with the initialisation of the paper.

All parameters are one matrix with a row for each tile, and weights and biases are views of it. So a copy, a rollback
or a step of the optimiser is one operation, and the parameters of a tile are contiguous in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.settings.config import FitConfig


@dataclass(frozen=True)
class NetworkSpec:
    """The sizes of a sine network: `hidden_layers` sine layers, then a linear layer.

    Parameters
    ----------
    inputs, outputs
        Number of dimensions of the domain, and number of channels.
    hidden_layers, hidden_features
        Number of sine layers, and their width.
    """

    inputs: int
    outputs: int
    hidden_layers: int
    hidden_features: int

    @cached_property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Shape (outputs, inputs) of the weights of each layer."""
        width = self.hidden_features
        hidden = ((width, width),) * (self.hidden_layers - 1)
        return ((width, self.inputs), *hidden, (self.outputs, width))

    @property
    def parameters(self) -> int:
        """Number of parameters of one network."""
        return sum(outputs * (inputs + 1) for outputs, inputs in self.layers)

    @property
    def hidden_start(self) -> int:
        """First column of the hidden matrices. They come last, so they are one block."""
        return self.parameters - (self.hidden_layers - 1) * self.hidden_features**2

    @cached_property
    def columns(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First column of the weights of each layer, and first column of the biases of each layer."""
        weights, biases = [], []
        outer, hidden = 0, self.hidden_start
        for index, (outputs, inputs) in enumerate(self.layers):
            if 0 < index < self.hidden_layers:
                weights.append(hidden)
                hidden += outputs * inputs
            else:
                weights.append(outer)
                outer += outputs * inputs
            biases.append(outer)
            outer += outputs
        return tuple(weights), tuple(biases)

    def weights(self, theta: Tensor) -> list[Tensor]:
        """Return a view of the weights of each layer, (tiles, outputs, inputs), in parameters (tiles, parameters)."""
        return [
            theta[:, start : start + outputs * inputs].view(-1, outputs, inputs)
            for start, (outputs, inputs) in zip(self.columns[0], self.layers, strict=True)
        ]

    def biases(self, theta: Tensor) -> list[Tensor]:
        """Return a view of the biases of each layer, (tiles, outputs, 1), in parameters (tiles, parameters)."""
        return [
            theta[:, start : start + outputs].unsqueeze(2)
            for start, (outputs, _) in zip(self.columns[1], self.layers, strict=True)
        ]

    def hidden_matrices(self, theta: Tensor) -> Tensor:
        """Return a view of the hidden matrices, (tiles, hidden layers - 1, width, width), in (tiles, parameters)."""
        width = self.hidden_features
        return theta[:, self.hidden_start :].view(len(theta), self.hidden_layers - 1, width, width)


@dataclass(frozen=True)
class Siren:
    """Sine networks f_i(x), one for each tile: h <- sin(omega_0 (W h + b)), with a linear last layer.

    Parameters
    ----------
    spec
        Sizes, the same for all networks.
    theta
        Parameters, float32 or float64, (tiles, parameters).
    omega_0
        Factor inside every sine.
    """

    spec: NetworkSpec
    theta: Tensor
    omega_0: float

    @classmethod
    def initialise(cls, spec: NetworkSpec, tiles: int | Sequence[int], config: FitConfig, seed: int) -> Siren:
        """Draw networks as in Sitzmann et al. 2020, section 3.2 and supplement 1.

        With "unit" coordinates, the weights of the first layer are drawn from U(-1/n, 1/n), n the number of inputs of
        the layer. Those of the other layers are drawn from U(-sqrt(6/n)/omega_0, sqrt(6/n)/omega_0), and all biases
        from U(-1/sqrt(n), 1/sqrt(n)). With "pixel" coordinates, the frequencies of the first layer are drawn from
        U(-band, band) in radians per pixel instead, and its phases from U(-pi, pi).

        Parameters
        ----------
        spec, config
            Sizes and settings of the networks.
        tiles
            Number of tiles, or the numbers of the tiles. The start of a tile depends only on its number and the seed.
        seed
            Seed of the random initialisation.
        """
        bounds = torch.zeros(1, spec.parameters)
        pixel = config.coordinates == "pixel"
        for index, (weight, bias) in enumerate(zip(spec.weights(bounds), spec.biases(bounds), strict=True)):
            inputs = weight.shape[2]
            if index == 0:
                weight.fill_(config.band / config.omega_0 if pixel else 1 / inputs)
                bias.fill_(math.pi / config.omega_0 if pixel else 1 / math.sqrt(inputs))
            elif index < spec.hidden_layers:
                weight.fill_(config.weight_scale * math.sqrt(6 / inputs) / config.omega_0)
                bias.fill_(1 / math.sqrt(inputs))
            elif not config.standardise:
                weight.fill_(math.sqrt(6 / inputs) / config.omega_0)
                bias.fill_(1 / math.sqrt(inputs))
        numbers = range(tiles) if isinstance(tiles, int) else tiles
        theta = torch.empty(len(numbers), spec.parameters)
        for row, number in zip(theta, numbers, strict=True):
            # The start of tile 7 must not depend on whether tiles 0 to 6 exist.
            row.uniform_(-1, 1, generator=torch.Generator().manual_seed(_seed_of(seed, number)))
        return cls(spec, theta.mul_(bounds), config.omega_0)

    @property
    def tiles(self) -> int:
        """Number of networks."""
        return self.theta.shape[0]

    def pick(self, tiles: Tensor | slice) -> Siren:
        """Return the networks of some tiles."""
        return Siren(self.spec, self.theta[tiles], self.omega_0)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Siren:
        """Return the same networks on another device or in another precision."""
        return Siren(self.spec, self.theta.to(device=device, dtype=dtype), self.omega_0)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate every network.

        Parameters
        ----------
        x
            Positions, (tiles or 1, inputs, samples).

        Returns
        -------
        Tensor
            Values, (tiles, outputs, samples).
        """
        *hidden, last = self._affine()
        h = x.expand(self.tiles, -1, -1)
        for weight, bias in hidden:
            h = torch.baddbmm(bias, weight, h).sin_()
        return torch.baddbmm(last[1], last[0], h)

    def jet(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the value, the gradient, and the second derivative along each axis, exactly.

        This is forward differentiation through the layers. With z = W h + b, (sin z)' = cos(z) z' and
        (sin z)'' = cos(z) z'' - sin(z) z'^2.

        Parameters
        ----------
        x
            Positions, (tiles or 1, inputs, samples).

        Returns
        -------
        value : Tensor
            Values, (tiles, outputs, samples).
        gradient, curvature : Tensor
            First and second derivative along each input, (inputs, tiles, outputs, samples).
        """
        *hidden, last = self._affine()
        h = x.expand(self.tiles, -1, -1)
        first = torch.zeros(x.shape[1], *h.shape, dtype=h.dtype, device=h.device)
        for axis in range(x.shape[1]):
            first[axis, :, axis] = 1
        second = torch.zeros_like(first)
        for weight, bias in hidden:
            z = torch.baddbmm(bias, weight, h)
            dz, ddz = weight @ first, weight @ second
            h, cosine = z.sin(), z.cos()
            first, second = cosine * dz, cosine * ddz - h * dz * dz
        return torch.baddbmm(last[1], last[0], h), last[0] @ first, last[0] @ second

    def _affine(self) -> list[tuple[Tensor, Tensor]]:
        """Return weights and biases of each layer, with omega_0 multiplied into those of the sine layers."""
        pairs = list(zip(self.spec.weights(self.theta), self.spec.biases(self.theta), strict=True))
        if self.omega_0 != 1:
            pairs[:-1] = [(self.omega_0 * weight, self.omega_0 * bias) for weight, bias in pairs[:-1]]
        return pairs


def _seed_of(seed: int, number: int) -> int:
    """Return a seed for a pair of numbers; the seeds of neighbouring numbers are unrelated."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
