"""`TorchEngine`: the plain engine, in PyTorch on any device, with a hand-derived backward pass.

Tiles and samples are processed in blocks. On a CPU, a block is small enough for its activations to stay in cache, where
the next product of the thread pool finds them. On a GPU, a block is as large as the memory bound allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_siren.core.engines.base import no_check
from napari_siren.core.network.losses import Loss, SquaredLoss
from napari_siren.core.network.orthogonalise import orthogonalise
from napari_siren.core.network.siren import Siren

if TYPE_CHECKING:
    from napari_siren.core.network.optimizer import Optimizer


class TorchEngine:
    """Fitting steps in PyTorch.

    Parameters
    ----------
    device
        Device of the tensors.
    block_bytes
        Bound for the activations of a block, in bytes. None is 16 MiB on a CPU, to fit the cache, and 1 GiB elsewhere.
    low_precision
        Whether the hidden products of gradients are in bfloat16, with two or three correct digits. Losses and values
        stay exact.
    check
        Function called between blocks. An exception from it ends the work.
    """

    # Default of `block_bytes` on a CPU, for activations to stay in cache.
    cache_bytes = 16 << 20

    def __init__(
        self,
        device: torch.device,
        block_bytes: int | None = None,
        *,
        low_precision: bool = False,
        check: Callable[[], None] = no_check,
    ) -> None:
        self.name = "torch, bfloat16" if low_precision else "torch"
        self.device = device
        self._low_precision = low_precision
        if block_bytes is None:
            block_bytes = self.cache_bytes if device.type == "cpu" else 1 << 30
        self.block_bytes = block_bytes
        self.check = check

    def low_precision(self) -> TorchEngine:
        """Return the engine with gradients of two or three correct digits.

        In the first steps of a fit they do as well as exact ones.
        """
        return TorchEngine(self.device, self.block_bytes, low_precision=True, check=self.check)

    def forward(self, siren: Siren, x: Tensor) -> Tensor:
        """See `Engine`."""
        values = torch.empty(siren.tiles, siren.spec.outputs, x.shape[2], dtype=x.dtype, device=x.device)
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
            losses[tiles] += _block_gradient(
                picked, coords, loss, tiles, samples, out[tiles], low_precision=self._low_precision
            )
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
        # Each sample has the sines and cosines of every hidden layer, and two gradients of a layer's width.
        bytes_per_sample = (2 * siren.spec.hidden_layers + 2) * siren.spec.hidden_features * siren.theta.element_size()
        affordable = max(1, self.block_bytes // bytes_per_sample)
        tiles = max(1, affordable // samples)
        chunk = samples if tiles > 1 or not splits_samples else min(samples, max(256, affordable))
        for t in range(0, siren.tiles, tiles):
            for p in range(0, samples, chunk):
                self.check()
                yield slice(t, min(t + tiles, siren.tiles)), slice(p, min(p + chunk, samples))


def _block_gradient(
    siren: Siren, x: Tensor, loss: Loss, tiles: slice, samples: slice, out: Tensor, *, low_precision: bool
) -> Tensor:
    """Add the gradient of a block to `out`, and return each tile's share of the loss."""
    omega_0, last = siren.omega_0, siren.spec.hidden_layers
    weights, biases = siren.spec.weights(siren.theta), siren.spec.biases(siren.theta)
    weight_gradients, bias_gradients = siren.spec.weights(out), siren.spec.biases(out)
    # Multiply omega_0 by the weights instead of the phases, since there are fewer weights.
    dtypes = [torch.bfloat16 if low_precision and 0 < layer < last else x.dtype for layer in range(last + 1)]
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
    # The bias is a phase. Three digits would shift it, so it is added in float32.
    return torch.baddbmm(bias, weight, h) if h.dtype == bias.dtype else bias + _product(weight, h)


def _loss_of(loss: Loss, values: Tensor, tiles: slice, samples: slice) -> tuple[Tensor, Tensor]:
    if isinstance(loss, SquaredLoss):
        return loss.value_and_gradient(values, tiles, samples)
    return loss.value_and_gradient(values, tiles)
