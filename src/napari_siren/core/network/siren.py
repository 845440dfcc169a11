"""`Siren`: sine networks of one shape, batched over tiles; the initialisation of the paper.

All the parameters are one matrix, a row for each tile, and weights and biases are views of it: a copy, a
rollback or an optimiser's step is one operation, and a tile's parameters lie together in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.config import FitConfig


@dataclass(frozen=True)
class SirenShape:
    """Sizes of a sine network: `hidden_layers` sine layers, then a linear one.

    Parameters
    ----------
    inputs, outputs
        Dimensions of the domain, and number of channels.
    hidden_layers, hidden_features
        Number of sine layers and their width.
    """

    inputs: int
    outputs: int
    hidden_layers: int
    hidden_features: int

    @cached_property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of every layer's weights."""
        width = self.hidden_features
        hidden = ((width, width),) * (self.hidden_layers - 1)
        return ((width, self.inputs), *hidden, (self.outputs, width))

    @property
    def parameters(self) -> int:
        """Number of parameters of one network."""
        return sum(out * (into + 1) for out, into in self.layers)

    @property
    def hidden_start(self) -> int:
        """First column of the hidden matrices: they come last, so that they are one block."""
        return self.parameters - (self.hidden_layers - 1) * self.hidden_features**2

    @cached_property
    def columns(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First column of each layer's weights, and of each layer's bias."""
        weights, biases = [], []
        outer, hidden = 0, self.hidden_start
        for index, (out, into) in enumerate(self.layers):
            if 0 < index < self.hidden_layers:
                weights.append(hidden)
                hidden += out * into
            else:
                weights.append(outer)
                outer += out * into
            biases.append(outer)
            outer += out
        return tuple(weights), tuple(biases)

    def weights(self, theta: Tensor) -> list[Tensor]:
        """Return views of the layers' weights, (tiles, out, in) each, of parameters (tiles, parameters)."""
        return [
            theta[:, start : start + out * into].view(-1, out, into)
            for start, (out, into) in zip(self.columns[0], self.layers, strict=True)
        ]

    def biases(self, theta: Tensor) -> list[Tensor]:
        """Return views of the layers' biases, (tiles, out, 1) each, of parameters (tiles, parameters)."""
        return [
            theta[:, start : start + out].unsqueeze(2)
            for start, (out, _) in zip(self.columns[1], self.layers, strict=True)
        ]

    def hidden_matrices(self, theta: Tensor) -> Tensor:
        """Return a view of the hidden matrices, (tiles, hidden layers - 1, width, width)."""
        width = self.hidden_features
        return theta[:, self.hidden_start :].view(len(theta), self.hidden_layers - 1, width, width)


@dataclass(frozen=True)
class Siren:
    """Sine networks f_i(x), one for each tile: h <- sin(omega_0 (W h + b)), the last layer linear.

    Parameters
    ----------
    shape
        Sizes, the same for all.
    theta
        float32 or float64, (tiles, parameters).
    omega_0
        Factor inside every sine.
    """

    shape: SirenShape
    theta: Tensor
    omega_0: float

    @classmethod
    def initialise(cls, shape: SirenShape, tiles: int | Sequence[int], config: FitConfig, seed: int) -> Siren:
        """Draw networks as in Sitzmann et al. 2020, section 3.2 and supplement 1.

        With "unit" coordinates: first layer U(-1/n, 1/n), the others U(-sqrt(6/n)/omega_0, sqrt(6/n)/omega_0), n the
        layer's inputs; biases U(-1/sqrt(n), 1/sqrt(n)). With "pixel" coordinates the first layer's frequencies are
        drawn from U(-band, band) in radians per pixel instead, its phases from U(-pi, pi).

        Parameters
        ----------
        shape, config
            Of the networks.
        tiles
            How many, or their numbers: what a tile starts from depends on its number and the seed alone.
        seed
            Of the draw.
        """
        bounds = torch.zeros(1, shape.parameters)
        pixel = config.coordinates == "pixel"
        for index, (weight, bias) in enumerate(zip(shape.weights(bounds), shape.biases(bounds), strict=True)):
            into = weight.shape[2]
            if index == 0:
                weight.fill_(config.band / config.omega_0 if pixel else 1 / into)
                bias.fill_(math.pi / config.omega_0 if pixel else 1 / math.sqrt(into))
            elif index < shape.hidden_layers:
                weight.fill_(config.weight_scale * math.sqrt(6 / into) / config.omega_0)
                bias.fill_(1 / math.sqrt(into))
            elif not config.standardise:
                weight.fill_(math.sqrt(6 / into) / config.omega_0)
                bias.fill_(1 / math.sqrt(into))
        numbers = range(tiles) if isinstance(tiles, int) else tiles
        theta = torch.empty(len(numbers), shape.parameters)
        for row, number in zip(theta, numbers, strict=True):
            # Where tile 7 starts must not depend on whether tiles 0 to 6 are there.
            row.uniform_(-1, 1, generator=torch.Generator().manual_seed(_seed_of(seed, number)))
        return cls(shape, theta.mul_(bounds), config.omega_0)

    @property
    def tiles(self) -> int:
        """Number of networks."""
        return self.theta.shape[0]

    def pick(self, tiles: Tensor | slice) -> Siren:
        """Return the networks of some tiles."""
        return Siren(self.shape, self.theta[tiles], self.omega_0)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Siren:
        """Return the same networks on another device or in another precision."""
        return Siren(self.shape, self.theta.to(device=device, dtype=dtype), self.omega_0)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate every network.

        Parameters
        ----------
        x
            (tiles or 1, inputs, samples).

        Returns
        -------
        Tensor
            (tiles, outputs, samples).
        """
        *hidden, last = self._affine()
        h = x.expand(self.tiles, -1, -1)
        for weight, bias in hidden:
            h = torch.baddbmm(bias, weight, h).sin_()
        return torch.baddbmm(last[1], last[0], h)

    def jet(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate value, gradient and the second derivative along each axis, exactly.

        Forward differentiation through the layers: with z = W h + b, (sin z)' = cos(z) z' and
        (sin z)'' = cos(z) z'' - sin(z) z'^2.

        Parameters
        ----------
        x
            (tiles or 1, inputs, samples).

        Returns
        -------
        value : Tensor
            (tiles, outputs, samples).
        gradient, curvature : Tensor
            (inputs, tiles, outputs, samples): first and second derivative along each input.
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
        """Weights and biases with omega_0 folded into those of the sine layers."""
        pairs = list(zip(self.shape.weights(self.theta), self.shape.biases(self.theta), strict=True))
        if self.omega_0 != 1:
            pairs[:-1] = [(self.omega_0 * weight, self.omega_0 * bias) for weight, bias in pairs[:-1]]
        return pairs


def _seed_of(seed: int, number: int) -> int:
    """Return a seed for each pair of numbers, so that neighbours have nothing in common."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
