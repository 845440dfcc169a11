"""`ENGINES`: the engines in the order of preference, with the conditions for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from napari_siren.core.engines.base import Engine
from napari_siren.core.engines.native import LowPrecisionEngine, NativeEngine
from napari_siren.core.engines.pytorch import TorchEngine
from napari_siren.core.engines.self_check import verdict_on
from napari_siren.core.engines.triton import support
from napari_siren.core.engines.triton.engine import TritonEngine
from napari_siren.core.native.library import kernel
from napari_siren.core.network.siren import NetworkSpec

# Largest number of hidden features for the native engine. Wider networks are large products, in which PyTorch's
# libraries are faster.
NATIVE_WIDTH = 96


@dataclass(frozen=True)
class Workload:
    """The work that an engine is chosen for.

    Parameters
    ----------
    device, dtype
        Device and dtype of the parameters.
    spec, tiles
        Size of the networks, and their number.
    threads
        Number of threads on the CPU.
    block_bytes
        Bound for the data of one block, in bytes. None lets the engine choose.
    check
        Function that the engine calls between blocks. An exception from it ends the work.
    """

    device: torch.device
    dtype: torch.dtype
    spec: NetworkSpec
    tiles: int
    threads: int
    block_bytes: int | None
    check: Callable[[], None]


@dataclass(frozen=True)
class EngineKind:
    """An engine that can be chosen.

    Parameters
    ----------
    name
        Value of `FitConfig.engine`.
    pays
        Function that returns whether "auto" considers the engine for some work.
    unsupported_reason
        Function that returns why the engine cannot do some work, or None if it can.
    create
        Function that returns the engine.
    low_precision
        Function of an engine and of networks that returns the variant with gradients of two or three digits, or None
        if that would not be faster.
    """

    name: str
    pays: Callable[[Workload], bool]
    unsupported_reason: Callable[[Workload], str | None]
    create: Callable[[Workload], Engine]
    low_precision: Callable[[Engine, NetworkSpec], Engine | None]


def has_bfloat16(device: torch.device) -> bool:
    """Return whether matrix products of bfloat16 are faster on a device than those of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False) and not verdict_on(device).bfloat16
    # oneDNN uses the tiles of Intel's AMX, or the dot products of AVX-512 (Intel, and AMD from Zen 4 on).
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def _native_pays(work: Workload) -> bool:
    # Each thread processes whole tiles. With few tiles, most threads would be idle.
    return work.spec.hidden_features <= NATIVE_WIDTH and 4 * work.tiles >= work.threads


def _native_unsupported(work: Workload) -> str | None:
    if work.device.type != "cpu" or work.dtype != torch.float32:
        return f"it computes in float32 on the CPU, not in {work.dtype} on {work.device}"
    built = kernel()
    return built.message if built.library is None else None


def _native(work: Workload) -> Engine:
    library = kernel().library
    assert library is not None
    return NativeEngine(library, work.threads, work.block_bytes, check=work.check)


def _triton(work: Workload) -> Engine:
    graphs = not verdict_on(work.device).graphs
    return TritonEngine(work.device, work.block_bytes, graphs=graphs, check=work.check)


def _triton_low_precision(engine: Engine, spec: NetworkSpec) -> Engine | None:
    assert isinstance(engine, TritonEngine)
    return None if verdict_on(engine.device).bfloat16 else engine.low_precision()


def _torch_low_precision(engine: Engine, spec: NetworkSpec) -> Engine | None:
    assert isinstance(engine, TorchEngine)
    pays = spec.hidden_features > NATIVE_WIDTH and has_bfloat16(engine.device)
    return engine.low_precision() if pays else None


ENGINES: tuple[EngineKind, ...] = (
    EngineKind("native", _native_pays, _native_unsupported, _native, LowPrecisionEngine.from_engine),
    EngineKind(
        "triton",
        lambda work: work.device.type == "cuda",
        lambda work: support.unsupported_reason(work.device, work.dtype, work.spec),
        _triton,
        _triton_low_precision,
    ),
    EngineKind(
        "torch",
        lambda work: True,
        lambda work: None,
        lambda work: TorchEngine(work.device, work.block_bytes, check=work.check),
        _torch_low_precision,
    ),
)
