"""How a step is carried out: chosen by the device, by what is installed, and by whether it pays."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_siren.core.accel.engine import Engine
from napari_siren.core.accel.native import Kernel, NativeEngine, RoughEngine, kernel
from napari_siren.core.accel.plain import PlainEngine
from napari_siren.core.model import Siren, SirenShape
from napari_siren.errors import ConfigError

__all__ = ["Engine", "Kernel", "NativeEngine", "PlainEngine", "RoughEngine", "choose_engine", "forward", "kernel"]

# Wider networks are large products, at which PyTorch's libraries are the better.
_NATIVE_WIDTH = 96


def choose_engine(
    engine: str,
    device: torch.device,
    shape: SirenShape,
    tiles: int,
    *,
    dtype: torch.dtype = torch.float32,
    threads: int | None = None,
    block_bytes: int | None = None,
) -> Engine:
    """Choose how to carry out the steps of a fit.

    Parameters
    ----------
    engine
        ``"native"``, ``"plain"``, or ``"auto"``: native on a CPU with a compiler, for networks so narrow, and tiles so
        many, that it pays.
    device
        Where the tensors are.
    shape, tiles
        Size of the networks, and their number.
    dtype
        Of the parameters.
    threads
        On the CPU; None takes as many as PyTorch does.
    block_bytes
        Bound for what is worked on at once; None lets the engine choose.

    Raises
    ------
    ConfigError
        "native" was asked for and cannot be had; the message says why.
    """
    fits = device.type == "cpu" and dtype == torch.float32
    threads = threads or torch.get_num_threads()
    # Threads take tiles: with few of them most would be idle.
    pays = shape.hidden_features <= _NATIVE_WIDTH and 4 * tiles >= threads
    if engine == "native" or (engine == "auto" and fits and pays):
        built = kernel() if fits else Kernel(None, f"it computes in float32 on the CPU, not in {dtype} on {device}")
        if built.library is not None:
            return NativeEngine(built.library, threads, block_bytes)
        if engine == "native":
            raise ConfigError(f'engine="native" is not to be had: {built.message}. Use engine="auto".')
    return PlainEngine(device, block_bytes)


def forward(siren: Siren, x: Tensor) -> Tensor:
    """Evaluate networks by the best engine there is: x (tiles or 1, inputs, samples) -> (tiles, outputs, samples)."""
    engine = choose_engine("auto", siren.theta.device, siren.shape, siren.tiles, dtype=siren.theta.dtype)
    return engine.forward(siren, x)
