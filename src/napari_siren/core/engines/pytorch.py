"""The plain engine: PyTorch on any device, with a hand-derived backward pass.

Tiles and samples go by blocks. On a CPU a block is small enough for its activations to stay in cache (one thread-pool
product after the other finds them there); on a GPU it is as large as the memory bound allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_siren.core.network.losses import Loss, SquaredLoss
from napari_siren.core.network.orthogonalise import orthogonalise
from napari_siren.core.network.siren import Siren

if TYPE_CHECKING:
    from napari_siren.core.network.optimizer import Optimizer


class PlainEngine:
    """Steps in PyTorch.

    Parameters
    ----------
    device
        Where the tensors are.
    block_bytes
        Bound for the activations of a block; None takes what fits the cache on a CPU, 1 GiB elsewhere.
    rough
        Take gradients with hidden products of bfloat16, to two or three digits. Losses and values stay exact.
    """

    cache_bytes = 16 << 20

    def __init__(self, device: torch.device, block_bytes: int | None = None, *, rough: bool = False) -> None:
        self.name = "torch, bfloat16" if rough else "torch"
        self.device = device
        self._rough = rough
        if block_bytes is None:
            block_bytes = self.cache_bytes if device.type == "cpu" else 1 << 30
        self.block_bytes = block_bytes
        self.check: Callable[[], None] = lambda: None

    def rough(self) -> PlainEngine:
        """Return the engine for gradients to two or three digits, which do as well in the first steps of a fit."""
        rough = PlainEngine(self.device, self.block_bytes, rough=True)
        rough.check = self.check
        return rough

    def forward(self, siren: Siren, x: Tensor) -> Tensor:
        """See `Engine`."""
        values = torch.empty(siren.tiles, siren.shape.outputs, x.shape[2], dtype=x.dtype, device=x.device)
        for tiles, samples in self._blocks(siren, x.shape[2], splits_samples=True):
            block = x[tiles] if len(x) > 1 else x
            values[tiles, :, samples] = siren.pick(tiles).forward(block[:, :, samples])
        return values

    def gradient(self, siren: Siren, x: Tensor, loss: Loss, out: Tensor) -> Tensor:
        """See `Engine`."""
        out.zero_()
        losses = torch.zeros(siren.tiles, dtype=x.dtype, device=x.device)
        for tiles, samples in self._blocks(siren, x.shape[2], splits_samples=isinstance(loss, SquaredLoss)):
            block = x[tiles] if len(x) > 1 else x
            picked, coords = siren.pick(tiles), block[:, :, samples]
            losses[tiles] += _block_gradient(picked, coords, loss, tiles, samples, out[tiles], rough=self._rough)
        return losses

    def losses(self, siren: Siren, x: Tensor, loss: Loss) -> Tensor:
        """See `Engine`."""
        losses = torch.zeros(siren.tiles, dtype=x.dtype, device=x.device)
        for tiles, samples in self._blocks(siren, x.shape[2], splits_samples=isinstance(loss, SquaredLoss)):
            block = x[tiles] if len(x) > 1 else x
            values = siren.pick(tiles).forward(block[:, :, samples])
            losses[tiles] += _loss_of(loss, values, tiles, samples)[0]
        return losses

    def orthogonalise(self, matrices: Tensor) -> Tensor:
        """See `Engine`."""
        return orthogonalise(matrices)

    def update(self, optimizer: Optimizer, gradient: Tensor, rate: Tensor, average: Tensor) -> None:
        """See `Engine`."""
        optimizer.move(gradient, rate, self.orthogonalise)
        average.lerp_(optimizer.theta, 1 - optimizer.config.averaging)

    def shrink(self) -> bool:
        """See `Engine`."""
        self.block_bytes //= 2
        return self.block_bytes >= 1 << 16

    def _blocks(self, siren: Siren, samples: int, *, splits_samples: bool) -> Iterator[tuple[slice, slice]]:
        # Sines, cosines and two gradients of a layer's width, for each sample.
        bytes_per_sample = (
            (2 * siren.shape.hidden_layers + 2) * siren.shape.hidden_features * siren.theta.element_size()
        )
        affordable = max(1, self.block_bytes // bytes_per_sample)
        tiles = max(1, affordable // samples)
        chunk = samples if tiles > 1 or not splits_samples else min(samples, max(256, affordable))
        for t in range(0, siren.tiles, tiles):
            for p in range(0, samples, chunk):
                self.check()
                yield slice(t, min(t + tiles, siren.tiles)), slice(p, min(p + chunk, samples))


def _block_gradient(
    siren: Siren, x: Tensor, loss: Loss, tiles: slice, samples: slice, out: Tensor, *, rough: bool
) -> Tensor:
    """Add the gradient of a block to `out`, and return each tile's share of the loss."""
    omega_0, last = siren.omega_0, siren.shape.hidden_layers
    weights, biases = siren.shape.weights(siren.theta), siren.shape.biases(siren.theta)
    weight_gradients, bias_gradients = siren.shape.weights(out), siren.shape.biases(out)
    # omega_0 times the weights, of which there are few, in place of omega_0 times the phases.
    dtypes = [torch.bfloat16 if rough and 0 < layer < last else x.dtype for layer in range(last + 1)]
    slopes = [(omega_0 * weight).to(dtype) for weight, dtype in zip(weights[:-1], dtypes, strict=False)]
    inputs, cosines = [x.expand(siren.tiles, -1, -1)], []
    for layer in range(last):
        z = _affine(omega_0 * biases[layer], slopes[layer], inputs[-1])
        cosines.append(z.cos())
        inputs.append(z.sin_().to(dtypes[layer + 1]))
    values = torch.baddbmm(biases[-1], weights[-1], inputs[-1])
    losses, dz = _loss_of(loss, values, tiles, samples)
    weight_gradients[last].baddbmm_(dz, inputs[last].mT)
    bias_gradients[last].add_(dz.sum(dim=2, keepdim=True))
    dz = (weights[last].mT @ dz).mul_(cosines[-1])
    for layer in reversed(range(last)):
        bias_gradients[layer].add_(dz.sum(dim=2, keepdim=True), alpha=omega_0)
        dz = dz.to(dtypes[layer])
        weight_gradients[layer].add_(_product(dz, inputs[layer].mT), alpha=omega_0)
        if layer:
            dz = _product(slopes[layer].mT, dz) * cosines[layer - 1]
    return losses


def _product(a: Tensor, b: Tensor) -> Tensor:
    return (a[0] @ b[0])[None] if len(a) == len(b) == 1 else a @ b


def _affine(bias: Tensor, weight: Tensor, h: Tensor) -> Tensor:
    # The bias is a phase, which three digits would shift: it is added in float32.
    return torch.baddbmm(bias, weight, h) if h.dtype == bias.dtype else bias + _product(weight, h)


def _loss_of(loss: Loss, values: Tensor, tiles: slice, samples: slice) -> tuple[Tensor, Tensor]:
    if isinstance(loss, SquaredLoss):
        return loss.value_and_gradient(values, tiles, samples)
    return loss.value_and_gradient(values, tiles)
