"""`NativeEngine`: the steps of a fit by the compiled library, on the CPU.

Without a C compiler, the plain engine does the same, but more slowly. Threads take tiles in turn. The arithmetic of a
tile does not depend on its thread, so results are reproducible.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.engines.base import Engine, no_check
from napari_siren.core.network.losses import Loss, SquaredLoss
from napari_siren.core.network.orthogonalise import ORTHOGONALISATION
from napari_siren.core.network.siren import NetworkSpec, Siren

if TYPE_CHECKING:
    from napari_siren.core.network.optimizer import Optimizer

# Default bound for the values of the tiles in one call of a loss, in bytes.
_BLOCK_BYTES = 64 << 20
# Largest networks of the AMX kernels, the same as in amx.c: hidden features, sine layers, inputs and outputs.
_AMX_WIDTH, _AMX_LAYERS, _AMX_INPUTS, _AMX_OUTPUTS = 32, 8, 4, 16


class _Network(ctypes.Structure):
    """Mirror of `Network` in siren.c."""

    _fields_ = (
        ("inputs", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("layers", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("samples", ctypes.c_int32),
        ("omega", ctypes.c_float),
        ("tile_stride", ctypes.c_int64),
        ("coords_stride", ctypes.c_int64),
        ("weights", ctypes.POINTER(ctypes.c_int64)),
        ("biases", ctypes.POINTER(ctypes.c_int64)),
    )


class _Axis(ctypes.Structure):
    """Mirror of `Axis` in siren.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("starts", "counts", "positions", "windows")),
        *((name, ctypes.c_int64) for name in ("width", "stride")),
    )


class _Rule(ctypes.Structure):
    """Mirror of `Rule` in update.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("parameters", "adam", "matrices", "size", "steps", "amx")),
        *((name, ctypes.c_float) for name in ("learning_rate", "beta1", "beta2", "epsilon")),
        *((name, ctypes.c_float) for name in ("muon_learning_rate", "momentum", "averaging")),
        ("coefficients", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class GridAxis:
    """An axis of a grid, sorted by the cells with at least one sample.

    Parameters
    ----------
    starts, counts
        First sample of each cell and its number of samples, int64, (cells,).
    positions, windows
        Positions of the samples in the coordinates of the cell's networks, and weights of these networks there,
        float32, (cells, largest number of samples of a cell).
    """

    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    positions: Tensor
    windows: Tensor


class NativeEngine:
    """Fitting steps by the compiled kernel, in float32 on the CPU.

    Parameters
    ----------
    library
        The compiled kernel.
    threads
        Number of threads.
    block_bytes
        Bound for the values of the tiles in one call of a loss, in bytes; None is 64 MiB.
    check
        Function called between blocks. An exception from it ends the work.
    """

    name = "native"

    def __init__(
        self,
        library: ctypes.CDLL,
        threads: int,
        block_bytes: int | None = None,
        *,
        check: Callable[[], None] = no_check,
    ) -> None:
        self.library = library
        self.threads = threads
        self.block_bytes = block_bytes or _BLOCK_BYTES
        self.check = check
        self._coefficients = np.array(ORTHOGONALISATION, dtype=np.float32)

    def forward(self, siren: Siren, x: Tensor) -> Tensor:
        """See `Engine`."""
        x = x.contiguous()
        theta = siren.theta.contiguous()
        values = torch.empty(siren.tiles, siren.spec.outputs, x.shape[2])
        network = _network(siren, x)
        arguments = (_pointer(theta), _pointer(x), _pointer(values))
        forward = self._forward()
        self._run(siren.tiles, lambda a, b: forward(ctypes.byref(network), a, b, *arguments))
        return values

    def blend(self, siren: Siren, cells: npt.NDArray[np.int32], axes: Sequence[GridAxis], out: Tensor) -> None:
        """Add networks on a grid, times their windows, to `out`. Only the output is kept in memory.

        Parameters
        ----------
        siren
            The networks. No two of them may share a sample.
        cells
            Cell of each network along each axis, int32, (networks, dimensions).
        axes
            One axis for each dimension.
        out
            The output, float32, (channels, *samples along each axis).
        """
        mirrors = [
            _Axis(
                axis.starts.ctypes.data,
                axis.counts.ctypes.data,
                _pointer(axis.positions),
                _pointer(axis.windows),
                axis.positions.shape[1],
                stride,
            )
            for axis, stride in zip(axes, out.stride()[1:], strict=True)
        ]
        network = _network(siren, torch.empty(1, len(axes), 0))  # The positions are in `axes`.
        arguments = (
            _pointer(siren.theta),
            (_Axis * len(axes))(*mirrors),
            np.ascontiguousarray(cells).ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(out.stride(0)),
            _pointer(out),
        )
        blend = self.library.siren_blend
        self._run(siren.tiles, lambda a, b: blend(ctypes.byref(network), a, b, *arguments))

    def gradient(self, siren: Siren, x: Tensor, loss: Loss, out: Tensor) -> Tensor:
        """See `Engine`."""
        x = x.contiguous()
        losses = torch.empty(siren.tiles)
        if isinstance(loss, SquaredLoss):
            self._gradient(siren, x, loss.target, loss.weight, loss.factor, out, losses)
            return losses
        for tiles in self._blocks(siren, x):
            picked, coords = siren.pick(tiles), x[tiles] if len(x) > 1 else x
            losses[tiles], gradient = loss.value_and_gradient(self.forward(picked, coords), tiles)
            self._gradient(picked, coords, gradient.contiguous(), None, None, out[tiles], losses[tiles])
        return losses

    def losses(self, siren: Siren, x: Tensor, loss: Loss) -> Tensor:
        """See `Engine`."""
        losses = torch.empty(siren.tiles)
        if isinstance(loss, SquaredLoss):
            self._gradient(siren, x.contiguous(), loss.target, loss.weight, loss.factor, None, losses)
            return losses
        for tiles in self._blocks(siren, x):
            values = self.forward(siren.pick(tiles), x[tiles] if len(x) > 1 else x)
            losses[tiles] = loss.value_and_gradient(values, tiles)[0]
        return losses

    def orthogonalise(self, matrices: Tensor) -> Tensor:
        """See `Engine`."""
        matrices = matrices.contiguous()
        size, count = matrices.shape[-1], matrices.numel() // matrices.shape[-1] ** 2
        coefficients = self._coefficients.ctypes.data_as(ctypes.c_void_p)
        steps = len(self._coefficients)
        amx = self._has_amx(size)
        orthogonalise = self.library.siren_amx_orthogonalise if amx else self.library.siren_orthogonalise
        self._run(count, lambda a, b: orthogonalise(a, b, size, steps, coefficients, _pointer(matrices)))
        return matrices

    def update(self, optimizer: Optimizer, gradient: Tensor, rate: Tensor, average: Tensor) -> None:
        """See `Engine`."""
        config, shape, momentum = optimizer.config, optimizer.spec, optimizer.momentum
        rule = _Rule(
            shape.parameters,
            optimizer.adam_columns,
            0 if momentum is None else shape.hidden_layers - 1,
            shape.hidden_features,
            len(self._coefficients),
            self._has_amx(shape.hidden_features),
            config.learning_rate,
            config.beta1,
            config.beta2,
            optimizer.epsilon,
            config.muon_learning_rate,
            config.momentum,
            config.averaging,
            self._coefficients.ctypes.data,
        )
        tensors = (
            optimizer.theta,
            gradient,
            rate,
            average,
            optimizer.mean,
            optimizer.square,
            optimizer.count,
            momentum,
        )
        arguments = [None if t is None else _pointer(t) for t in tensors]
        self._run(len(rate), lambda a, b: self.library.siren_update(ctypes.byref(rule), a, b, *arguments))

    def shrink(self) -> bool:
        """See `Engine`."""
        self.block_bytes //= 2
        return self.block_bytes >= 1 << 16

    def _blocks(self, siren: Siren, x: Tensor) -> Iterator[slice]:
        """Yield ranges of tiles with values within the bound."""
        block = max(1, self.block_bytes // (4 * siren.spec.outputs * x.shape[2]))
        for first in range(0, siren.tiles, block):
            yield slice(first, min(first + block, siren.tiles))

    def _gradient(
        self,
        siren: Siren,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None,
        factor: Tensor | None,
        out: Tensor | None,
        losses: Tensor,
    ) -> None:
        network = _network(siren, x)
        tensors = (siren.theta, x, target, weight, factor, out, losses)
        arguments = [None if t is None else _pointer(t) for t in tensors]
        gradient = self._gradient_of(out)
        self._run(siren.tiles, lambda a, b: gradient(ctypes.byref(network), a, b, *arguments))

    def _has_amx(self, size: int) -> bool:
        return size <= _AMX_WIDTH and amx_ready(self.library)

    def _forward(self) -> Any:
        return self.library.siren_forward

    def _gradient_of(self, out: Tensor | None) -> Any:
        return self.library.siren_gradient

    def _run(self, count: int, call: Callable[[int, int], int]) -> None:
        """Call for ranges of `count` items, in parallel.

        Each thread gets several ranges, so that a slow core does not delay the others.
        """
        # There is no check between the pieces: memory must not be freed before the running pieces have written to it.
        self.check()
        pieces = min(count, 1 if self.threads == 1 else 8 * self.threads)
        cuts = [count * i // pieces for i in range(pieces + 1)]
        if any(_pool(self.threads).map(call, cuts[:-1], cuts[1:])):
            raise MemoryError("the native engine could not allocate its scratch memory. Free some memory.")


class LowPrecisionEngine(NativeEngine):
    """The native engine with bfloat16 products and float32 sums in networks and gradients, by Intel's AMX.

    Values and gradients have three correct digits; squared losses and updates are those of `NativeEngine`. In the first
    steps of a fit, far from the end, three digits do as well as seven, in half the time.
    """

    name = "native, bfloat16"

    @classmethod
    def from_engine(cls, engine: Engine, spec: NetworkSpec) -> LowPrecisionEngine | None:
        """Return the bfloat16 variant of an engine, or None if networks or machine do not support it."""
        suits = (
            spec.hidden_features <= _AMX_WIDTH
            and spec.hidden_layers <= _AMX_LAYERS
            and spec.inputs <= _AMX_INPUTS
            and spec.outputs <= _AMX_OUTPUTS
        )
        if not (suits and isinstance(engine, NativeEngine) and amx_ready(engine.library)):
            return None
        return cls(engine.library, engine.threads, engine.block_bytes, check=engine.check)

    def _forward(self) -> Any:
        return self.library.siren_amx_forward

    def _gradient_of(self, out: Tensor | None) -> Any:
        return super()._gradient_of(out) if out is None else self.library.siren_amx_gradient


@cache
def amx_ready(library: ctypes.CDLL) -> bool:
    """Return whether the kernel has AMX and this process may use it."""
    return bool(library.siren_amx_ready())


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="siren")


def _network(siren: Siren, x: Tensor) -> _Network:
    shape = siren.spec
    weights, biases = ((ctypes.c_int64 * len(c))(*c) for c in shape.columns)
    return _Network(
        shape.inputs,
        shape.outputs,
        shape.hidden_layers,
        shape.hidden_features,
        x.shape[2],
        siren.omega_0,
        shape.parameters,
        x[0].numel() if len(x) > 1 else 0,
        weights,
        biases,
    )


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise TypeError(
            f"a tensor is {tensor.dtype} on {tensor.device} with strides {tensor.stride()}. "
            "The native engine needs contiguous float32 on the CPU."
        )
    return ctypes.c_void_p(tensor.data_ptr())
