"""The peers' networks: from coordinates in [-1, 1]^2 to values. Written anew after the papers and their public code."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class Unavailable(RuntimeError):
    """A peer cannot run here; the message says why."""


class Sine(nn.Module):
    """sin(omega_0 (W x + b)), with the initial weights of Sitzmann et al. 2020 (arXiv 2006.09661)."""

    def __init__(self, inputs: int, outputs: int, omega_0: float = 30.0, first: bool = False) -> None:
        super().__init__()
        self.omega_0 = omega_0
        self.linear = nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / omega_0
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.omega_0 * self.linear(x))


class VariablePeriodic(Sine):
    """sin(omega_0 (|z| + 1) z) with z = W x + b (Liu et al. 2024, arXiv 2312.02434).

    As in the authors' code (liuzhen0212/FINER), no gradient goes through the factor |z| + 1.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.linear(x)
        return torch.sin(self.omega_0 * (z.detach().abs() + 1) * z)


class Gabor(nn.Module):
    """exp(i omega_0 z - |s_0 z|^2) with a complex z = W x + b (Saragadam et al. 2023, arXiv 2301.05187)."""

    # Smaller magnitudes are nothing beside the others, and arithmetic with subnormal numbers is slow.
    NOTHING = 1e-12

    def __init__(self, inputs: int, outputs: int, omega_0: float, s_0: float, first: bool = False) -> None:
        super().__init__()
        self.omega_0, self.s_0 = omega_0, s_0
        self.linear = nn.Linear(inputs, outputs, dtype=torch.float32 if first else torch.complex64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.linear(x)
        # By magnitude and phase, which is faster than one exponential of complex numbers.
        if z.is_complex():
            phase, square, damping = z.real, z.real.square() + z.imag.square(), self.omega_0 * z.imag
        else:
            phase, square, damping = z, z.square(), 0.0
        magnitude = functional.threshold(torch.exp(-damping - self.s_0**2 * square), self.NOTHING, 0.0)
        return torch.polar(magnitude, self.omega_0 * phase)


class RealPart(nn.Module):
    """The real part of complex values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.real


class MixedPrecision(nn.Module):
    """A SIREN whose hidden layers are in bfloat16.

    The first layer and the last stay in float32: rounded coordinates would blur the image.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        layers = list(network) if isinstance(network, nn.Sequential) else [*network.layers, network.last_layer]
        self.first, self.hidden, self.last = layers[0], nn.Sequential(*layers[1:-1]), layers[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            x = self.hidden(x)
        return self.last(x.float())


def plain_siren(channels: int, width: int = 256, layers: int = 5) -> nn.Module:
    """Make the network of Sitzmann et al. 2020 for images: 5 x 256, omega_0 30."""
    return nn.Sequential(
        Sine(2, width, first=True), *[Sine(width, width) for _ in range(layers - 1)], _siren_output(width, channels)
    )


def siren_pytorch(channels: int) -> nn.Module:
    """Make siren-pytorch's SirenNet, 5 x 256, with its defaults: w0_initial 30, w0 1, a linear output."""
    try:
        from siren_pytorch import SirenNet
    except ImportError as error:
        raise Unavailable(f'{error}; from a checkout, pip install ".[bench]" brings siren-pytorch') from None
    return SirenNet(dim_in=2, dim_hidden=256, dim_out=channels, num_layers=5)


def finer(channels: int, width: int = 256) -> nn.Module:
    """Make FINER as the authors' run for images: a first and three hidden layers of 256, omega_0 30.

    Their run leaves the first bias as PyTorch draws it: U(-k, k) with k = 1 / sqrt(2) for two inputs.
    """
    hidden = [VariablePeriodic(width, width) for _ in range(3)]
    return nn.Sequential(VariablePeriodic(2, width, first=True), *hidden, _siren_output(width, channels))


def wire(channels: int, width: int = 256) -> nn.Module:
    """Make WIRE as the authors' script for images (vishwa91/wire): a first and two hidden layers of 256 / sqrt(2).

    omega_0 = 20 and s_0 = 10 are those of the run for WIRE in FINER's repository, which found the rate 5e-3 the best
    with them; the authors' script suggests 20 and 30 for images.
    """
    features = int(width / math.sqrt(2))
    gabor = {"omega_0": 20.0, "s_0": 10.0}
    hidden = [Gabor(features, features, **gabor) for _ in range(2)]
    output = nn.Linear(features, channels, dtype=torch.complex64)
    return nn.Sequential(Gabor(2, features, **gabor, first=True), *hidden, output, RealPart())


class HashGrid(nn.Module):
    """A multiresolution hash grid with a small network behind it (Mueller et al. 2022, arXiv 2201.05989).

    By tiny-cuda-nn, with the settings of its sample that learns an image (data/config_hash.json).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        try:
            import tinycudann
        except (ImportError, OSError) as error:
            raise Unavailable(f"tiny-cuda-nn with its binding to PyTorch is not there ({error})") from None
        encoding = {
            "otype": "HashGrid",
            "n_levels": 16,
            "n_features_per_level": 2,
            "log2_hashmap_size": 15,
            "base_resolution": 16,
            "per_level_scale": 1.5,
        }
        network = {
            "otype": "FullyFusedMLP",
            "activation": "ReLU",
            "output_activation": "None",
            "n_neurons": 64,
            "n_hidden_layers": 2,
        }
        self.network = tinycudann.NetworkWithInputEncoding(2, channels, encoding, network)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network((x + 1) / 2).float()


class TorchHashGrid(nn.Module):
    """The same grid and network as `HashGrid`, in plain PyTorch: for machines without tiny-cuda-nn, and slower."""

    LEVELS, FEATURES, ENTRIES, BASE, GROWTH, WIDTH = 16, 2, 2**15, 16, 1.5, 64
    # Of the paper's spatial hash: x xor (y times a prime).
    PRIME = 2654435761

    def __init__(self, channels: int) -> None:
        super().__init__()
        sides = [math.floor(self.BASE * self.GROWTH**level) for level in range(self.LEVELS)]
        self.register_buffer("sides", torch.tensor(sides)[:, None, None])
        self.table = nn.Parameter(torch.empty(self.LEVELS * self.ENTRIES, self.FEATURES).uniform_(-1e-4, 1e-4))
        self.network = nn.Sequential(
            *(nn.Linear(self.LEVELS * self.FEATURES, self.WIDTH), nn.ReLU()),
            *(nn.Linear(self.WIDTH, self.WIDTH), nn.ReLU()),
            nn.Linear(self.WIDTH, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = (x[None] + 1) / 2 * self.sides  # (levels, points, 2)
        corner = place.floor()
        share = place - corner
        corner = corner.long()
        features = 0.0
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            rows, columns = corner[..., 0] + dy, corner[..., 1] + dx
            weight = (share[..., 0] if dy else 1 - share[..., 0]) * (share[..., 1] if dx else 1 - share[..., 1])
            features = features + weight[..., None] * self.table[self._entries(rows, columns)]
        return self.network(features.permute(1, 0, 2).flatten(1))

    def _entries(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return where the features of grid points are: one by one where all of a level fit, else by the hash."""
        side = self.sides[..., 0] + 1
        dense = rows * side + columns
        hashed = rows ^ (columns * self.PRIME)
        entry = torch.where(side * side <= self.ENTRIES, dense, hashed % self.ENTRIES)
        return entry + torch.arange(self.LEVELS, device=entry.device)[:, None] * self.ENTRIES


def _siren_output(width: int, channels: int) -> nn.Module:
    last = nn.Linear(width, channels)
    bound = math.sqrt(6 / width) / 30
    nn.init.uniform_(last.weight, -bound, bound)
    return last
