"""The Triton engine: a step as a few fused kernels on a CUDA GPU, replayed as CUDA graphs.

The hidden products go to the tensor cores with float32 sums, their float32 factors as three tf32 products. A squared
loss is part of the gradient's kernel; any other sits in PyTorch between two kernels, one that gives the values, and one
that evaluates the networks again and takes the gradient with respect to the values back to the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_siren.core.engines.triton.graphs import Graphs, record_cuda
from napari_siren.core.network.losses import Loss, SquaredLoss
from napari_siren.core.network.orthogonalise import ORTHOGONALISATION
from napari_siren.core.network.siren import Siren, SirenShape

if TYPE_CHECKING:
    from napari_siren.core.network.optimizer import Optimizer

_BLOCK_BYTES = 1 << 30
_ADAM_BLOCK = 1024
_HOPPER = (9, 0)
# Programs that a multiprocessor holds at once, by their registers; and multiprocessors where they cannot be counted.
_RESIDENT, _MULTIPROCESSORS = 2, 132
_MOST_LAYERS_AT_ONCE = 3
# From Triton 3.10 on a product and a sum would otherwise be rounded twice.
_OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}


@dataclass(frozen=True)
class Tuning:
    """How the kernels are laid out on a GPU; the numbers they give do not depend on it, but for rounding.

    Parameters
    ----------
    block, rough_block
        Samples at once of a program of the networks' kernels, in float32 and with products of bfloat16: so many that
        the activations of all layers fit the registers. Networks wider than 32 take half.
    warps
        Of such a program.
    matrix_warps
        Of a program that orthogonalises a matrix of up to 32 x 32.
    """

    block: int = 32
    rough_block: int = 32
    warps: int = 4
    matrix_warps: int = 2

    @classmethod
    def of(cls, device: torch.device) -> Tuning:
        """Return the layout that was the fastest on such a device, of those tried (docs/benchmarks/gpu.md)."""
        hopper = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _HOPPER
        # Its matrix instructions take 64 rows.
        return cls(rough_block=64 if hopper else cls.rough_block)


class TritonEngine:
    """Steps by Triton's kernels, float32 on a CUDA GPU.

    Parameters
    ----------
    device
        Where the tensors are.
    block_bytes
        Bound for the values of the tiles that a loss sees at once, and for partial gradients; None is 1 GiB.
    rough
        Take gradients with bfloat16 products, float32 sums, and sines to 1e-4: to three digits. Losses stay exact.
    graphs
        Record what comes back on the same memory as CUDA graphs.
    tuning
        The layout of the kernels.
    """

    def __init__(
        self,
        device: torch.device,
        block_bytes: int | None = None,
        *,
        rough: bool = False,
        graphs: bool = True,
        tuning: Tuning | None = None,
    ) -> None:
        self.name = "triton, bfloat16" if rough else "triton"
        self.device = device
        self.block_bytes = block_bytes or _BLOCK_BYTES
        self.check: Callable[[], None] = lambda: None
        self.tuning = tuning or Tuning.of(device)
        # With fewer tiles than so many programs, which keep the GPU busy, several programs share a tile.
        self.programs = _RESIDENT * _multiprocessors(device)
        self._rough = rough
        self._records = graphs and device.type == "cuda"
        self._graphs = Graphs(record_cuda if self._records else None)
        self._rate: Tensor | None = None

    def rough(self) -> TritonEngine:
        """Return the engine for gradients to three digits, which do as well in the first steps of a fit."""
        rough = TritonEngine(self.device, self.block_bytes, rough=True, graphs=self._records, tuning=self.tuning)
        rough.check = self.check
        return rough

    def forward(self, siren: Siren, x: Tensor) -> Tensor:
        """See `Engine`."""
        return self._values(siren, x.contiguous(), rough=self._rough)

    def gradient(self, siren: Siren, x: Tensor, loss: Loss, out: Tensor) -> Tensor:
        """See `Engine`."""
        x = x.contiguous()
        if isinstance(loss, SquaredLoss):
            self.check()
            tensors = (siren.theta, x, loss.target, loss.weight, loss.factor, out)
            key = ("gradient", siren.shape, siren.omega_0, x.shape, _addresses(*tensors))
            return self._replayed(key, lambda: self._squared(siren, x, loss, out)).clone()
        losses = torch.empty(siren.tiles, device=x.device)
        for tiles, picked, coords in self._blocks(siren, x):
            values = self._values(picked, coords, rough=self._rough)
            losses[tiles], given = loss.value_and_gradient(values, tiles)
            self._gradient(picked, coords, given.contiguous(), None, None, out[tiles], None)
        return losses

    def losses(self, siren: Siren, x: Tensor, loss: Loss) -> Tensor:
        """See `Engine`."""
        x = x.contiguous()
        if isinstance(loss, SquaredLoss):
            self.check()
            return self._squared(siren, x, loss, None)
        losses = torch.empty(siren.tiles, device=x.device)
        for tiles, picked, coords in self._blocks(siren, x):
            losses[tiles] = loss.value_and_gradient(self._values(picked, coords, rough=False), tiles)[0]
        return losses

    def orthogonalise(self, matrices: Tensor) -> Tensor:
        """See `Engine`."""
        matrices = matrices.contiguous()
        size = matrices.shape[-1]
        count = matrices.numel() // size**2
        arguments = (*_checked(matrices), self._coefficients)
        self._launch(_updates().orthogonalise_kernel, (count,), *arguments, **_matrix_sizes(size, self.tuning))
        return matrices

    def update(self, optimizer: Optimizer, gradient: Tensor, rate: Tensor, average: Tensor) -> None:
        """See `Engine`."""
        # A graph reads the rates where it has always read them.
        if self._rate is None or self._rate.shape != rate.shape:
            self._rate = torch.empty_like(rate)
        kept = self._rate.copy_(rate)
        tensors = (optimizer.theta, gradient, average, kept, *optimizer.state().values())
        # An entry keeps its work, and that the optimiser, whose number is therefore no other's.
        key = ("update", id(optimizer), _addresses(*tensors))
        self._replayed(key, lambda: self._update(optimizer, gradient, kept, average))

    def shrink(self) -> bool:
        """See `Engine`."""
        self._graphs.clear()
        self.block_bytes //= 2
        return self.block_bytes >= 1 << 16

    def _replayed(self, key: Hashable, work: Callable[[], Tensor]) -> Tensor:
        with self._on_device():
            return self._graphs.run(key, work)

    def _on_device(self) -> AbstractContextManager[object]:
        # Triton launches on the current device, which need not be the tensors'.
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _launch(self, kernel: Any, grid: tuple[int, ...], *arguments: object, **sizes: object) -> None:
        with self._on_device():
            kernel[grid](*arguments, **{**_OPTIONS, **sizes})

    @cached_property
    def _coefficients(self) -> Tensor:
        return torch.tensor(ORTHOGONALISATION, device=self.device)

    # ---- networks ------------------------------------------------------------------------------------

    def _blocks(self, siren: Siren, x: Tensor) -> Iterator[tuple[slice, Siren, Tensor]]:
        """Ranges of tiles whose values fit the bound, with their networks and positions."""
        block = max(1, self.block_bytes // (4 * siren.shape.outputs * x.shape[2]))
        for first in range(0, siren.tiles, block):
            tiles = slice(first, min(first + block, siren.tiles))
            yield tiles, siren.pick(tiles), x[tiles] if len(x) > 1 else x

    def _parts(self, siren: Siren, samples: int, rough: bool) -> tuple[int, int]:
        """How many programs a tile has, and how many samples each of them."""
        block = _block(siren.shape, self.tuning, rough)
        blocks = -(-samples // block)
        affordable = self.block_bytes // (4 * siren.theta.numel())
        parts = max(1, min(blocks, self.programs // siren.tiles, affordable))
        share = -(-blocks // parts) * block
        return -(-samples // share), share

    def _values(self, siren: Siren, x: Tensor, *, rough: bool) -> Tensor:
        self.check()
        samples = x.shape[2]
        values = torch.empty(siren.tiles, siren.shape.outputs, samples, device=x.device)
        parts, share = self._parts(siren, samples, rough)
        arguments = (*_checked(siren.theta, x, values), samples, _stride(x), share, siren.omega_0)
        self._launch(
            _networks().forward_kernel, (siren.tiles, parts), *arguments, **_sizes(siren.shape, self.tuning, rough)
        )
        return values

    def _squared(self, siren: Siren, x: Tensor, loss: SquaredLoss, out: Tensor | None) -> Tensor:
        """Return the losses, and write the gradient where it is wanted."""
        parts, _ = self._parts(siren, x.shape[2], self._rough and out is not None)
        losses = torch.empty(parts, siren.tiles, device=x.device)
        self._gradient(siren, x, loss.target, loss.weight, loss.factor, out, losses)
        return losses.sum(dim=0)

    def _gradient(
        self,
        siren: Siren,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None,
        factor: Tensor | None,
        out: Tensor | None,
        losses: Tensor | None,
    ) -> None:
        """See `gradient_kernel`; the programs that share a tile write apart, and are added in order."""
        rough = self._rough and out is not None
        parts, share = self._parts(siren, x.shape[2], rough)
        partial = out
        if out is not None and parts > 1:
            partial = torch.empty(parts, *siren.theta.shape, device=x.device)
        self._launch(
            _networks().gradient_kernel,
            (siren.tiles, parts),
            *_checked(siren.theta, x, target, weight, factor, partial, losses),
            x.shape[2],
            _stride(x),
            share,
            siren.tiles,
            siren.omega_0,
            **_sizes(siren.shape, self.tuning, rough),
            SQUARED=weight is not None,
            BACKWARD=out is not None,
        )
        if out is not None and partial is not None and parts > 1:
            torch.sum(partial, dim=0, out=out)

    # ---- the optimiser -------------------------------------------------------------------------------

    def _update(self, optimizer: Optimizer, gradient: Tensor, rate: Tensor, average: Tensor) -> Tensor:
        config, shape, columns = optimizer.config, optimizer.shape, optimizer.adam_columns
        tiles = len(gradient)
        optimizer.count.add_(1)
        self._launch(
            _updates().adam_kernel,
            (tiles, -(-columns // _ADAM_BLOCK)),
            *_checked(optimizer.theta, gradient, average, optimizer.mean, optimizer.square, optimizer.count, rate),
            config.learning_rate,
            config.beta1,
            config.beta2,
            math.log2(config.beta1) if config.beta1 else -math.inf,
            math.log2(config.beta2) if config.beta2 else -math.inf,
            optimizer.epsilon,
            config.averaging,
            COLUMNS=columns,
            PARAMETERS=shape.parameters,
            BLOCK=_ADAM_BLOCK,
            num_warps=4,
        )
        if optimizer.momentum is not None:
            self._launch(
                _updates().muon_kernel,
                (tiles, shape.hidden_layers - 1),
                *_checked(optimizer.theta, gradient, average, optimizer.momentum, rate, self._coefficients),
                config.muon_learning_rate,
                config.momentum,
                config.averaging,
                START=shape.hidden_start,
                PARAMETERS=shape.parameters,
                MATRICES=shape.hidden_layers - 1,
                **_matrix_sizes(shape.hidden_features, self.tuning),
            )
        return average


def _networks() -> Any:
    from napari_siren.core.engines.triton import kernels as triton_kernels

    return triton_kernels


def _updates() -> Any:
    from napari_siren.core.engines.triton import update as triton_update

    return triton_update


def _padded(size: int) -> int:
    """Return the power of 2 that a matrix is filled up to, at least what a tensor core takes."""
    return int(max(16, 1 << (size - 1).bit_length()))


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return _MULTIPROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _block(shape: SirenShape, tuning: Tuning, rough: bool) -> int:
    # More layers have more activations than the registers hold with the larger block.
    block = tuning.rough_block if rough and shape.hidden_layers <= _MOST_LAYERS_AT_ONCE else tuning.block
    return block if _padded(shape.hidden_features) < 64 else max(16, block // 2)


def _sizes(shape: SirenShape, tuning: Tuning, rough: bool) -> dict[str, int | bool]:
    """Return what the networks' kernels are compiled for."""
    return {
        "INPUTS": shape.inputs,
        "OUTPUTS": shape.outputs,
        "LAYERS": shape.hidden_layers,
        "WIDTH": shape.hidden_features,
        "PADDED": _padded(shape.hidden_features),
        "PARAMETERS": shape.parameters,
        "BLOCK": _block(shape, tuning, rough),
        "ROUGH": rough,
        "num_warps": tuning.warps,
    }


def _matrix_sizes(size: int, tuning: Tuning) -> dict[str, int]:
    """Return what the kernels that orthogonalise are compiled for."""
    padded = _padded(size)
    # On Hopper the compiler takes minutes for the largest with fewer warps.
    warps = 8 if padded == 64 else tuning.matrix_warps
    return {"SIZE": size, "PADDED": padded, "STEPS": len(ORTHOGONALISATION), "num_warps": warps}


def _stride(x: Tensor) -> int:
    return x[0].numel() if len(x) > 1 else 0


def _addresses(*tensors: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple((tensor.data_ptr(), *tensor.shape) for tensor in tensors)


def _checked(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    for tensor in tensors:
        if tensor is not None and (tensor.dtype != torch.float32 or not tensor.is_contiguous()):
            raise TypeError(f"the Triton engine needs contiguous float32, not {tensor.dtype} {tensor.stride()}")
    return tensors
