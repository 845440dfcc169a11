"""`TritonEngine`: a step as a few fused kernels on a CUDA GPU, replayed as CUDA graphs.

Tensor cores compute the hidden products with float32 sums. A product of float32 factors is computed as three tf32
products. A squared loss is part of the gradient's kernel. Any other loss is computed in PyTorch, between two kernels.
The first kernel computes the values. The second one evaluates the networks again, and propagates the gradient from the
values back to the parameters.
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

from napari_siren.core.engines.base import no_check
from napari_siren.core.engines.triton.graphs import Graphs, record_cuda
from napari_siren.core.network.losses import Loss, SquaredLoss
from napari_siren.core.network.orthogonalise import ORTHOGONALISATION
from napari_siren.core.network.siren import NetworkSpec, Siren

if TYPE_CHECKING:
    from napari_siren.core.network.optimizer import Optimizer

# Default bound for the values of the tiles in one call of a loss, and for partial gradients, in bytes.
_BLOCK_BYTES = 1 << 30
# Parameters of one program of Adam's kernel.
_ADAM_BLOCK = 1024
# Compute capability of NVIDIA's Hopper GPUs, such as the H100.
_HOPPER = (9, 0)
# Number of programs that a multiprocessor holds at once, limited by their registers (docs/benchmarks/gpu.md). Number of
# multiprocessors of an H100, used if the device is not a GPU.
_RESIDENT, _MULTIPROCESSORS = 2, 132
# Largest number of sine layers with `Tuning.low_precision_block` samples; with more, the registers overflow.
_MOST_LAYERS_AT_ONCE = 3
# From Triton 3.10 on, a product and a sum would be rounded twice without fusion.
_OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}


@dataclass(frozen=True)
class Tuning:
    """The layout of the kernels on a GPU. It does not affect the results, except for rounding.

    Parameters
    ----------
    block, low_precision_block
        Number of samples that a program of the networks' kernels processes at once, in float32 and with bfloat16
        products. The activations of all layers must fit the registers. Networks wider than 32 take half.
    warps
        Number of warps of such a program.
    matrix_warps
        Number of warps of a program that orthogonalises a matrix of up to 32 x 32.
    """

    block: int = 32
    low_precision_block: int = 32
    warps: int = 4
    matrix_warps: int = 2

    @classmethod
    def for_device(cls, device: torch.device) -> Tuning:
        """Return the fastest layout for a device, among those measured (docs/benchmarks/gpu.md)."""
        hopper = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _HOPPER
        # Hopper's matrix instructions take 64 rows.
        return cls(low_precision_block=64 if hopper else cls.low_precision_block)


class TritonEngine:
    """Fitting steps by Triton's kernels, in float32 on a CUDA GPU.

    Parameters
    ----------
    device
        Device of the tensors.
    block_bytes
        Bound for the values of the tiles in one call of a loss, and for partial gradients, in bytes; None is 1 GiB.
    low_precision
        Whether gradients have bfloat16 products, float32 sums, and sines to 1e-4, with three correct digits. Losses
        stay exact.
    graphs
        Whether repeated work on the same memory is recorded as CUDA graphs.
    tuning
        Layout of the kernels; None is the fastest one measured for the device.
    check
        Function called between blocks. An exception from it ends the work.
    """

    def __init__(
        self,
        device: torch.device,
        block_bytes: int | None = None,
        *,
        low_precision: bool = False,
        graphs: bool = True,
        tuning: Tuning | None = None,
        check: Callable[[], None] = no_check,
    ) -> None:
        self.name = "triton, bfloat16" if low_precision else "triton"
        self.device = device
        self.block_bytes = block_bytes or _BLOCK_BYTES
        self.check = check
        self.tuning = tuning or Tuning.for_device(device)
        # This number of programs keeps the GPU busy. If there are fewer tiles, several programs share a tile.
        self.programs = _RESIDENT * _multiprocessors(device)
        self._low_precision = low_precision
        self._records = graphs and device.type == "cuda"
        self._graphs = Graphs(record_cuda if self._records else None)
        self._rate: Tensor | None = None

    def low_precision(self) -> TritonEngine:
        """Return the engine with gradients of three correct digits.

        In the first steps of a fit they do as well as exact ones.
        """
        return TritonEngine(
            self.device,
            self.block_bytes,
            low_precision=True,
            graphs=self._records,
            tuning=self.tuning,
            check=self.check,
        )

    def forward(self, siren: Siren, x: Tensor) -> Tensor:
        """See `Engine`."""
        return self._values(siren, x.contiguous(), low_precision=self._low_precision)

    def gradient(self, siren: Siren, x: Tensor, loss: Loss, out: Tensor) -> Tensor:
        """See `Engine`."""
        x = x.contiguous()
        if isinstance(loss, SquaredLoss):
            self.check()
            tensors = (siren.theta, x, loss.target, loss.weight, loss.factor, out)
            key = ("gradient", siren.spec, siren.omega_0, x.shape, _addresses(*tensors))
            return self._replayed(key, lambda: self._squared(siren, x, loss, out)).clone()
        losses = torch.empty(siren.tiles, device=x.device)
        for tiles, picked, coords in self._blocks(siren, x):
            values = self._values(picked, coords, low_precision=self._low_precision)
            losses[tiles], gradient = loss.value_and_gradient(values, tiles)
            self._gradient(picked, coords, gradient.contiguous(), None, None, out[tiles], None)
        return losses

    def losses(self, siren: Siren, x: Tensor, loss: Loss) -> Tensor:
        """See `Engine`."""
        x = x.contiguous()
        if isinstance(loss, SquaredLoss):
            self.check()
            return self._squared(siren, x, loss, None)
        losses = torch.empty(siren.tiles, device=x.device)
        for tiles, picked, coords in self._blocks(siren, x):
            losses[tiles] = loss.value_and_gradient(self._values(picked, coords, low_precision=False), tiles)[0]
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
        # A graph always reads the rates from the same memory.
        if self._rate is None or self._rate.shape != rate.shape:
            self._rate = torch.empty_like(rate)
        fixed_rate = self._rate.copy_(rate)
        tensors = (optimizer.theta, gradient, average, fixed_rate, *optimizer.state().values())
        # An entry keeps its work alive, and the work keeps the optimiser alive, so no other optimiser gets this id.
        key = ("update", id(optimizer), _addresses(*tensors))
        self._replayed(key, lambda: self._update(optimizer, gradient, fixed_rate, average))

    def shrink(self) -> bool:
        """See `Engine`."""
        self._graphs.clear()
        self.block_bytes //= 2
        return self.block_bytes >= 1 << 16

    def _replayed(self, key: Hashable, work: Callable[[], Tensor]) -> Tensor:
        with self._on_device():
            return self._graphs.run(key, work)

    def _on_device(self) -> AbstractContextManager[object]:
        # Triton launches on the current device, which may differ from the tensors' device.
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _launch(self, kernel: Any, grid: tuple[int, ...], *arguments: object, **sizes: object) -> None:
        with self._on_device():
            kernel[grid](*arguments, **{**_OPTIONS, **sizes})

    @cached_property
    def _coefficients(self) -> Tensor:
        return torch.tensor(ORTHOGONALISATION, device=self.device)

    # ---- networks ------------------------------------------------------------------------------------

    def _blocks(self, siren: Siren, x: Tensor) -> Iterator[tuple[slice, Siren, Tensor]]:
        """Yield ranges of tiles with values within the bound, with their networks and positions."""
        block = max(1, self.block_bytes // (4 * siren.spec.outputs * x.shape[2]))
        for first in range(0, siren.tiles, block):
            tiles = slice(first, min(first + block, siren.tiles))
            yield tiles, siren.pick(tiles), x[tiles] if len(x) > 1 else x

    def _parts(self, siren: Siren, samples: int, low_precision: bool) -> tuple[int, int]:
        """Return the number of programs of a tile, and the number of samples of each program."""
        block = _block(siren.spec, self.tuning, low_precision)
        blocks = -(-samples // block)
        affordable = self.block_bytes // (4 * siren.theta.numel())
        parts = max(1, min(blocks, self.programs // siren.tiles, affordable))
        share = -(-blocks // parts) * block
        return -(-samples // share), share

    def _values(self, siren: Siren, x: Tensor, *, low_precision: bool) -> Tensor:
        self.check()
        samples = x.shape[2]
        values = torch.empty(siren.tiles, siren.spec.outputs, samples, device=x.device)
        parts, share = self._parts(siren, samples, low_precision)
        arguments = (*_checked(siren.theta, x, values), samples, _stride(x), share, siren.omega_0)
        self._launch(
            _networks().forward_kernel,
            (siren.tiles, parts),
            *arguments,
            **_sizes(siren.spec, self.tuning, low_precision),
        )
        return values

    def _squared(self, siren: Siren, x: Tensor, loss: SquaredLoss, out: Tensor | None) -> Tensor:
        """Return the losses, and write the gradient to `out` unless it is None."""
        parts, _ = self._parts(siren, x.shape[2], self._low_precision and out is not None)
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
        """Launch `gradient_kernel`.

        If programs share a tile, each writes its own partial gradient. The partial gradients are added in order.
        """
        low_precision = self._low_precision and out is not None
        parts, share = self._parts(siren, x.shape[2], low_precision)
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
            **_sizes(siren.spec, self.tuning, low_precision),
            SQUARED=weight is not None,
            BACKWARD=out is not None,
        )
        if out is not None and partial is not None and parts > 1:
            torch.sum(partial, dim=0, out=out)

    # ---- the optimiser -------------------------------------------------------------------------------

    def _update(self, optimizer: Optimizer, gradient: Tensor, rate: Tensor, average: Tensor) -> Tensor:
        config, shape, columns = optimizer.config, optimizer.spec, optimizer.adam_columns
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
    """Return the size of a matrix with padding: a power of 2, and at least 16 for the tensor cores."""
    return int(max(16, 1 << (size - 1).bit_length()))


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return _MULTIPROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _block(spec: NetworkSpec, tuning: Tuning, low_precision: bool) -> int:
    # With more layers, the activations of the larger block do not fit the registers.
    block = tuning.low_precision_block if low_precision and spec.hidden_layers <= _MOST_LAYERS_AT_ONCE else tuning.block
    return block if _padded(spec.hidden_features) < 64 else max(16, block // 2)


def _sizes(spec: NetworkSpec, tuning: Tuning, low_precision: bool) -> dict[str, int | bool]:
    """Return the compile-time constants of the networks' kernels."""
    return {
        "INPUTS": spec.inputs,
        "OUTPUTS": spec.outputs,
        "LAYERS": spec.hidden_layers,
        "WIDTH": spec.hidden_features,
        "PADDED": _padded(spec.hidden_features),
        "PARAMETERS": spec.parameters,
        "BLOCK": _block(spec, tuning, low_precision),
        "LOW_PRECISION": low_precision,
        "num_warps": tuning.warps,
    }


def _matrix_sizes(size: int, tuning: Tuning) -> dict[str, int]:
    """Return the compile-time constants of the orthogonalisation kernels."""
    padded = _padded(size)
    # On Hopper, compilation for the largest matrices takes minutes with fewer warps.
    warps = 8 if padded == 64 else tuning.matrix_warps
    return {"SIZE": size, "PADDED": padded, "STEPS": len(ORTHOGONALISATION), "num_warps": warps}


def _stride(x: Tensor) -> int:
    return x[0].numel() if len(x) > 1 else 0


def _addresses(*tensors: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple((tensor.data_ptr(), *tensor.shape) for tensor in tensors)


def _checked(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    for tensor in tensors:
        if tensor is not None and (tensor.dtype != torch.float32 or not tensor.is_contiguous()):
            raise TypeError(
                f"a tensor is {tensor.dtype} with strides {tensor.stride()}. "
                "The Triton engine needs contiguous float32."
            )
    return tensors
