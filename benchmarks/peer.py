"""The peers: how each is fitted, and the harness that fits it for so many seconds and measures its PSNR on the way.

The plain SIREN is written after the common public implementations (Sitzmann et al. 2020 and siren-pytorch): PyTorch,
5 x 256, every pixel at each step, eager, float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from benchmarks.curve import Curve
from benchmarks.peer_networks import (
    HashGrid,
    MixedPrecision,
    TorchHashGrid,
    Unavailable,
    finer,
    plain_siren,
    siren_pytorch,
    wire,
)
from napari_siren.core.clock import Stopwatch
from napari_siren.core.image.metrics import psnr_of

# The PSNR is measured when the time has grown by so much since it was last, or after each step if that is longer.
GROWTH = 1.05
# Pixels at a time: of the compiled peers on a CPU, whose cache that fits, and on a GPU, which that fills; and of the
# others when they are measured.
CPU_CHUNK, GPU_CHUNK, CHUNK = 2**12, 2**17, 2**16


@dataclass(frozen=True)
class Recipe:
    """How a peer is fitted, by Adam on the mean squared error.

    Parameters
    ----------
    name
        Of the contender.
    network
        Makes it, from a number of channels.
    rate, betas, eps
        Of Adam.
    decay_epochs
        Passes over the image in which the rate goes down to a tenth; None is a constant rate.
    batch
        Random pixels a step, without repeating any within a pass; None is every pixel.
    scale_rate
        Takes of the rate the share that a batch is of the image.
    signed
        Fits values in [-1, 1], not [0, 1].
    fast
        By torch.compile, in chunks whose gradients are summed, hidden layers in bfloat16.
    cuda_only
        Runs on NVIDIA's GPUs only.
    """

    name: str
    network: Callable[[int], nn.Module]
    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay_epochs: int | None = None
    batch: int | None = None
    scale_rate: bool = False
    signed: bool = False
    fast: bool = False
    cuda_only: bool = False


PLAIN = Recipe("plain SIREN", plain_siren)
# No rate is published with it. Of 1e-4, 1e-3, 3e-3 and 1e-2 this was the best on 64 x 64 pixels, after 60 steps: with
# its w0 of 1 the hidden weights are 30 times as large as the plain SIREN's, and so is the rate that suits them.
_PYPI = Recipe("siren-pytorch", siren_pytorch, rate=3e-3)
RECIPES = (
    PLAIN,
    _PYPI,
    replace(PLAIN, name="plain SIREN, compiled, bfloat16", fast=True),
    replace(_PYPI, name="siren-pytorch, compiled, bfloat16", fast=True),
    # liuzhen0212/FINER, run_finer.sh and train_image.py.
    Recipe("FINER", finer, rate=5e-4, decay_epochs=5000, signed=True),
    # vishwa91/wire, wire_image_denoise.py: batches of 256^2 pixels, 2000 passes, "WIRE works best at 5e-3 to 2e-2".
    Recipe("WIRE", wire, rate=5e-3, decay_epochs=2000, batch=2**16, scale_rate=True),
    # NVlabs/tiny-cuda-nn, samples/mlp_learning_an_image_pytorch.py; of its loss, which is relative, the plain form.
    HASH_GRID := Recipe("hash grid", HashGrid, rate=1e-2, betas=(0.9, 0.99), eps=1e-15, batch=2**16, cuda_only=True),
    replace(HASH_GRID, name="hash grid, plain PyTorch", network=TorchHashGrid, cuda_only=False),
)


class Peer:
    """A peer that is being fitted to an image of dtype uint8.

    Parameters
    ----------
    recipe, image, device
        How, to what (rows, columns, channels), and where.

    Raises
    ------
    Unavailable
        It cannot run here.
    """

    def __init__(self, recipe: Recipe, image: np.ndarray, device: str) -> None:
        if recipe.cuda_only and not device.startswith("cuda"):
            raise Unavailable("it runs on NVIDIA's GPUs only")
        self.recipe, self.image, self.device = recipe, image, torch.device(device)
        torch.manual_seed(0)
        network = recipe.network(image.shape[2])
        self.network = (MixedPrecision(network) if recipe.fast else network).to(device)
        axes = [torch.linspace(-1, 1, n, device=device) for n in image.shape[:2]]
        self.x = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2)
        values = torch.from_numpy(image.reshape(-1, image.shape[2]).astype(np.float32) / 255).to(device)
        self.y = 2 * values - 1 if recipe.signed else values
        self.batch = min(recipe.batch or len(self.x), len(self.x))
        self.rate = recipe.rate * (self.batch / len(self.x) if recipe.scale_rate else 1.0)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.rate, betas=recipe.betas, eps=recipe.eps)
        self.epochs = 0.0
        self.forward: Callable[[torch.Tensor], torch.Tensor] = self.network
        self._order: Iterator[torch.Tensor] = iter(())

    @property
    def parameters(self) -> int:
        """Real numbers that are fitted."""
        return sum(p.numel() * (2 if p.is_complex() else 1) for p in self.network.parameters())

    def compile(self) -> float:
        """Compile where the recipe says so, for every shape that will come; give the seconds that took."""
        if not self.recipe.fast:
            return 0.0
        begin = time.perf_counter()
        torch.compiler.reset()  # else the graphs of other images count towards the limit at which it gives up
        self.forward = torch.compile(self.network, dynamic=False)
        chunks = list(self._chunks())
        for chunk in (chunks[0], chunks[-1]):
            self._backward(chunk).item()
        self.optimizer.zero_grad()
        return time.perf_counter() - begin

    def step(self) -> float:
        """Take a step, wait for its end, and give its loss."""
        if self.recipe.decay_epochs is not None:
            left = 0.1 ** min(1.0, self.epochs / self.recipe.decay_epochs)
            self.optimizer.param_groups[0]["lr"] = self.rate * left
        self.optimizer.zero_grad()
        loss = torch.stack([self._backward(pixels) for pixels in self._pixels()]).sum()
        self.optimizer.step()
        self.epochs += self.batch / len(self.x)
        return loss.item()  # waits for the device

    def psnr(self) -> float:
        """Measure the rounded, clipped image: dB, peak 255."""
        with torch.no_grad():
            values = torch.cat([self.forward(self.x[chunk]) for chunk in self._chunks()])
        values = (values + 1) / 2 if self.recipe.signed else values
        # Where a fit has diverged there is no number: black.
        found = (255 * values.nan_to_num(0.0).clamp(0, 1)).round().cpu().numpy().reshape(self.image.shape)
        return psnr_of(float(np.square(found - self.image.astype(np.float64)).mean()), 255.0)

    def _backward(self, pixels: slice | torch.Tensor) -> torch.Tensor:
        error = self.forward(self.x[pixels]) - self.y[pixels]
        loss = error.square().sum() / (self.batch * self.y.shape[1])
        loss.backward()
        return loss.detach()

    def _pixels(self) -> Iterator[slice | torch.Tensor]:
        """Give the pixels of the next step: all at once, in chunks, or the next random ones."""
        if self.recipe.batch is not None:
            if (batch := next(self._order, None)) is None:
                self._order = iter(torch.randperm(len(self.x), device=self.device).split(self.batch))
                batch = next(self._order)
            yield batch
        elif self.recipe.fast:
            yield from self._chunks()
        else:
            yield slice(None)

    def _chunks(self) -> Iterator[slice]:
        compiled = CPU_CHUNK if self.device.type == "cpu" else GPU_CHUNK
        size = compiled if self.recipe.fast else CHUNK
        for begin in range(0, len(self.x), size):
            yield slice(begin, min(begin + size, len(self.x)))


def fit_peer(recipe: Recipe, name: str, image: np.ndarray, device: str, limit: float) -> Curve:
    """Fit a peer for so many seconds; measuring and compiling are not counted.

    Raises
    ------
    Unavailable
        It cannot run here.
    """
    # The first use starts libraries and the device.
    Peer(replace(recipe, fast=False), image[:32, :32], device).step()
    clock = Stopwatch()
    peer = Peer(recipe, image, device)
    curve = Curve(recipe.name, name, parameters=peer.parameters)
    with clock.held():
        curve.compile_seconds = peer.compile()
    times: list[float] = []
    measured = 0.0
    while clock.seconds < limit:
        begin = clock.seconds
        peer.step()
        with clock.held():
            times.append(clock.seconds - begin)
            if clock.seconds >= min(GROWTH * measured, limit):
                curve.add(clock.seconds, peer.psnr())
                measured = clock.seconds
    curve.steps, curve.step_seconds = len(times), float(np.median(times))
    return curve


def seconds_per_step(image: np.ndarray, device: str, steps: int) -> list[float]:
    """Seconds of each of the plain SIREN's first steps, the very first included (it also pays for fresh memory)."""
    peer = Peer(PLAIN, image, device)
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        peer.step()
        seconds.append(time.perf_counter() - begin)
    return seconds
