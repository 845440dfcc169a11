"""`NativeEngine`: the steps of a fit by the compiled library, on the CPU.

Without the library, the plain engine does the same, but more slowly. Threads take tiles in turn. The arithmetic of a
tile does not depend on its thread, so results are reproducible.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.engines.base import Engine, no_check
from napari_siren.core.native.pointers import (
    MOST_ENDS,
    MOST_FEATURES,
    MOST_ITEMS,
    MOST_LAYERS,
    array_pointer,
    check_counts,
    pointer,
)
from napari_siren.core.native.structures import Axis, Network, Rule
from napari_siren.core.network.losses import Loss, SquaredLoss
from napari_siren.core.network.orthogonalise import ORTHOGONALISATION
from napari_siren.core.network.siren import NetworkSpec, Siren

if TYPE_CHECKING:
    from napari_siren.core.network.optimizer import Optimizer

# Default bound for the values of the tiles in one call of a loss, in bytes.
_BLOCK_BYTES = 64 << 20
# Largest networks of the AMX kernels, the same as in amx.c: hidden features, sine layers, inputs and outputs.
_AMX_WIDTH, _AMX_LAYERS, _AMX_INPUTS, _AMX_OUTPUTS = 32, 8, 4, 16


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
        network, coords = self._network(siren, x)
        values = torch.empty(siren.tiles, siren.spec.outputs, x.shape[2])
        arguments = (_parameters(siren, theta), coords, pointer(values, values.shape, "values"))
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
        if len(axes) != siren.spec.inputs or out.ndim != len(axes) + 1:
            raise ValueError(f"{len(axes)} axes do not agree with the networks or the output. Pass one for each input.")
        mirrors = [_mirror(*pair) for pair in zip(axes, out.shape[1:], out.stride()[1:], strict=True)]
        network, _ = self._network(siren, torch.empty(1, len(axes), 0))  # The positions are in `axes`.
        cells = np.ascontiguousarray(cells)
        for column, axis in zip(cells.T, axes, strict=True):
            array_pointer(np.ascontiguousarray(column), np.int32, (siren.tiles,), (0, len(axis.starts)), "cells")
        arguments = (
            _parameters(siren, siren.theta),
            (Axis * len(axes))(*mirrors),
            ctypes.c_void_p(cells.ctypes.data),
            ctypes.c_int64(out.stride(0)),
            pointer(out, (siren.spec.outputs, *out.shape[1:]), "out"),
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
        size = matrices.shape[-1]
        count = math.prod(matrices.shape[:-2])
        check_counts(matrices=(count, MOST_ITEMS), features=(size, MOST_FEATURES))
        address = pointer(matrices, (*matrices.shape[:-2], size, size), "matrices")
        coefficients = self._coefficients.ctypes.data_as(ctypes.c_void_p)
        steps = len(self._coefficients)
        amx = self._has_amx(size)
        orthogonalise = self.library.siren_amx_orthogonalise if amx else self.library.siren_orthogonalise
        self._run(count, lambda a, b: orthogonalise(a, b, size, steps, coefficients, address))
        return matrices

    def update(self, optimizer: Optimizer, gradient: Tensor, rate: Tensor, average: Tensor) -> None:
        """See `Engine`."""
        config, shape, momentum = optimizer.config, optimizer.spec, optimizer.momentum
        matrices = 0 if momentum is None else shape.hidden_layers - 1
        _check_network(shape)
        check_counts(matrices=(matrices * len(rate), MOST_ITEMS))
        if optimizer.adam_columns + matrices * shape.hidden_features**2 != shape.parameters:
            raise ValueError("the columns of the optimiser do not agree with the networks")
        rule = Rule(
            shape.parameters,
            optimizer.adam_columns,
            matrices,
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
        tiles, adam = len(rate), optimizer.adam_columns
        hidden = (tiles, matrices, shape.hidden_features, shape.hidden_features)
        arguments = [
            *(pointer(t, (tiles, shape.parameters), "theta or gradient") for t in (optimizer.theta, gradient)),
            pointer(rate, (tiles,), "rate"),
            pointer(average, (tiles, shape.parameters), "average"),
            *(pointer(t, (tiles, adam), "mean or square") for t in (optimizer.mean, optimizer.square)),
            pointer(optimizer.count, (tiles, 1), "count"),
            None if momentum is None else pointer(momentum, hidden, "momentum"),
        ]
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
        network, coords = self._network(siren, x)
        tiles, samples = siren.tiles, x.shape[2]
        arguments = [
            _parameters(siren, siren.theta),
            coords,
            pointer(target, (tiles, siren.spec.outputs, samples), "target"),
            None if weight is None else pointer(weight, (tiles, samples), "weight"),
            None if factor is None else pointer(factor, (tiles,), "factor"),
            None if out is None else pointer(out, (tiles, siren.spec.parameters), "the gradient"),
            pointer(losses, (tiles,), "losses"),
        ]
        gradient = self._gradient_of(out)
        self._run(siren.tiles, lambda a, b: gradient(ctypes.byref(network), a, b, *arguments))

    def _network(self, siren: Siren, x: Tensor) -> tuple[Network, ctypes.c_void_p]:
        """Return the description of networks, and the address of their coordinates, after checking both."""
        return _network(siren, x)

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
        if count == 0:
            return
        # There is no check between the pieces: memory must not be freed before the running pieces have written to it.
        self.check()
        pieces = min(count, 1 if self.threads == 1 else 8 * self.threads)
        cuts = [count * i // pieces for i in range(pieces + 1)]
        work = [_pool(self.threads).submit(call, *pair) for pair in pairwise(cuts)]
        try:
            failed = any(piece.result() for piece in work)
        finally:
            # After an interrupt too, memory must not be freed before the running pieces have written to it.
            wait(work)
        if failed:
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
        if not (_suits_amx(spec) and isinstance(engine, NativeEngine) and amx_ready(engine.library)):
            return None
        return cls(engine.library, engine.threads, engine.block_bytes, check=engine.check)

    def _network(self, siren: Siren, x: Tensor) -> tuple[Network, ctypes.c_void_p]:
        """See `NativeEngine`."""
        if not _suits_amx(siren.spec):
            raise ValueError(f"{siren.spec} is too large for the kernels with AMX. Use the native engine.")
        return super()._network(siren, x)

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


def _suits_amx(spec: NetworkSpec) -> bool:
    """Return whether the kernels with AMX have space for a network."""
    return (
        spec.hidden_features <= _AMX_WIDTH
        and spec.hidden_layers <= _AMX_LAYERS
        and spec.inputs <= _AMX_INPUTS
        and spec.outputs <= _AMX_OUTPUTS
    )


def _check_network(spec: NetworkSpec) -> None:
    """Raise a ValueError if a size of a network is too large for the library."""
    if min(spec.inputs, spec.outputs, spec.hidden_layers, spec.hidden_features) < 1:
        raise ValueError(f"{spec} has a size below 1")
    check_counts(
        layers=(spec.hidden_layers, MOST_LAYERS),
        features=(spec.hidden_features, MOST_FEATURES),
        inputs=(spec.inputs, MOST_ENDS),
        outputs=(spec.outputs, MOST_ENDS),
        parameters=(spec.parameters, MOST_ITEMS),
    )


def _parameters(siren: Siren, theta: Tensor) -> ctypes.c_void_p:
    return pointer(theta, (siren.tiles, siren.spec.parameters), "theta")


def _mirror(axis: GridAxis, length: int, stride: int) -> Axis:
    """Return the description of an axis of a grid with a number of samples and a stride, after checking it."""
    cells, width = len(axis.starts), axis.positions.shape[1]
    if len(axis.counts) == cells and cells and int((axis.starts + axis.counts).max()) > length:
        raise ValueError("a cell has samples outside of the output")
    return Axis(
        array_pointer(axis.starts, np.int64, (cells,), (0, length + 1), "the starts of the cells"),
        array_pointer(axis.counts, np.int64, (cells,), (0, min(width, length) + 1), "the counts of the cells"),
        pointer(axis.positions, (cells, width), "positions"),
        pointer(axis.windows, (cells, width), "windows"),
        width,
        stride,
    )


def _network(siren: Siren, x: Tensor) -> tuple[Network, ctypes.c_void_p]:
    shape, (tiles, _, samples) = siren.spec, x.shape
    _check_network(shape)
    check_counts(tiles=(siren.tiles, MOST_ITEMS), samples=(samples, MOST_ITEMS))
    if tiles not in (1, siren.tiles):
        raise ValueError(f"there are coordinates for {tiles} networks. Pass them for 1 or {siren.tiles}.")
    coords = pointer(x, (tiles, shape.inputs, samples), "the coordinates")
    weights, biases = ((ctypes.c_int64 * len(c))(*c) for c in shape.columns)
    network = Network(
        shape.inputs,
        shape.outputs,
        shape.hidden_layers,
        shape.hidden_features,
        samples,
        siren.omega_0,
        shape.parameters,
        shape.inputs * samples if tiles > 1 else 0,
        weights,
        biases,
    )
    return network, coords
