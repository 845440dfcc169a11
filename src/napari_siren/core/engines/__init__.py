"""How a step is carried out: chosen by the device, by what is installed, and by whether it pays."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_siren.core.device import resolve_device
from napari_siren.core.engines.base import Engine
from napari_siren.core.engines.native.engine import NativeEngine, RoughEngine
from napari_siren.core.engines.native.library import Kernel, kernel
from napari_siren.core.engines.pytorch import PlainEngine
from napari_siren.core.engines.self_check import Verdict, verdict_on
from napari_siren.core.engines.triton.engine import TritonEngine
from napari_siren.core.engines.triton.support import why_not
from napari_siren.core.network.siren import Siren, SirenShape
from napari_siren.errors import ConfigError

__all__ = [
    "Engine",
    "Kernel",
    "NativeEngine",
    "PlainEngine",
    "RoughEngine",
    "TritonEngine",
    "Verdict",
    "choose_device",
    "choose_engine",
    "forward",
    "has_bfloat16",
    "kernel",
    "rough_engine",
    "verdict_on",
]

# Wider networks are large products, at which PyTorch's libraries are the better.
_NATIVE_WIDTH = 96


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device of a name, as `resolve_device`; "auto" leaves out a GPU of Apple's that the CPU outruns.

    Which is the faster is measured at the first use, and kept.

    Raises
    ------
    DeviceError
        The name means nothing, or the device is not there.
    """
    chosen = resolve_device(device)
    if str(device) == "auto" and chosen.type == "mps":
        verdict = verdict_on(chosen)
        if verdict.values or verdict.slower:
            return torch.device("cpu")
    return chosen


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
        ``"native"``, ``"triton"``, ``"torch"``, or ``"auto"``: native on a CPU with a compiler, for networks so narrow,
        and tiles so many, that it pays; Triton on a CUDA GPU, for networks that its kernels are for.
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
        "native" or "triton" was asked for and cannot be had; the message says why.
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
    if engine == "triton" or (engine == "auto" and device.type == "cuda"):
        reason = why_not(device, dtype, shape)
        if reason is None:
            return TritonEngine(device, block_bytes, graphs=not verdict_on(device).graphs)
        if engine == "triton":
            raise ConfigError(f'engine="triton" is not to be had: {reason}. Use engine="auto".')
    return PlainEngine(device, block_bytes)


def rough_engine(engine: Engine, shape: SirenShape) -> Engine | None:
    """Return the kin of an engine whose gradients have two or three digits, or None where none would be faster."""
    if isinstance(engine, TritonEngine):
        return None if verdict_on(engine.device).bfloat16 else engine.rough()
    if isinstance(engine, PlainEngine):
        pays = shape.hidden_features > _NATIVE_WIDTH and has_bfloat16(engine.device)
        return engine.rough() if pays else None
    return RoughEngine.of(engine, shape)


def has_bfloat16(device: torch.device) -> bool:
    """Whether matrix products of bfloat16 are faster there than those of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False) and not verdict_on(device).bfloat16
    # What oneDNN uses: the tiles of Intel's AMX, or the dot products of AVX-512 (Intel's, AMD's from Zen 4 on).
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def forward(siren: Siren, x: Tensor) -> Tensor:
    """Evaluate networks by the best engine there is: x (tiles or 1, inputs, samples) -> (tiles, outputs, samples)."""
    engine = choose_engine("auto", siren.theta.device, siren.shape, siren.tiles, dtype=siren.theta.dtype)
    return engine.forward(siren, x)
