"""Engines: implementations of a fitting step, chosen by device, installed software and expected speed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_siren.core.device import resolve_device
from napari_siren.core.engines.base import Engine, no_check
from napari_siren.core.engines.native import LowPrecisionEngine, NativeEngine
from napari_siren.core.engines.pytorch import TorchEngine
from napari_siren.core.engines.registry import ENGINES, NATIVE_WIDTH, EngineKind, Workload, has_bfloat16
from napari_siren.core.engines.self_check import Verdict, verdict_on
from napari_siren.core.engines.triton.engine import TritonEngine
from napari_siren.core.native.library import Kernel, kernel
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import ConfigError

__all__ = [
    "ENGINES",
    "Engine",
    "EngineKind",
    "Kernel",
    "LowPrecisionEngine",
    "NativeEngine",
    "TorchEngine",
    "TritonEngine",
    "Verdict",
    "Workload",
    "choose_device",
    "choose_engine",
    "fallbacks",
    "forward",
    "has_bfloat16",
    "kernel",
    "low_precision_engine",
    "verdict_on",
]


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device with a given name, as `resolve_device` does.

    "auto" leaves out an Apple GPU if it is slower than the CPU, or computes wrong values. Both are checked at the first
    use, and the verdict is cached.

    Raises
    ------
    DeviceError
        The name is unknown, or the device is not available.
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
    spec: NetworkSpec,
    tiles: int,
    *,
    dtype: torch.dtype = torch.float32,
    threads: int | None = None,
    block_bytes: int | None = None,
    check: Callable[[], None] = no_check,
) -> Engine:
    """Return an engine for the steps of a fit.

    Parameters
    ----------
    engine
        ``"native"``, ``"triton"``, ``"torch"``, or ``"auto"``. "auto" takes the native engine on a CPU with the kernel,
        if the networks are narrow enough and the tiles numerous enough for it to pay. It takes Triton on a CUDA GPU, if
        its kernels support the networks. Otherwise it takes PyTorch.
    device
        Device of the tensors.
    spec, tiles
        Size of the networks, and their number.
    dtype
        Dtype of the parameters.
    threads
        Number of threads on the CPU; None takes as many as PyTorch does.
    block_bytes
        Bound for the data of one block, in bytes; None lets the engine choose.
    check
        Function that the engine calls between blocks. An exception from it ends the work.

    Raises
    ------
    ConfigError
        "native" or "triton" was requested and is not available. The message gives the reason.
    """
    work = Workload(device, dtype, spec, tiles, threads or torch.get_num_threads(), block_bytes, check)
    for kind in ENGINES:
        if engine == kind.name or (engine == "auto" and kind.pays(work)):
            reason = kind.unsupported_reason(work)
            if reason is None:
                return kind.create(work)
            if engine != "auto":
                raise ConfigError(f'engine="{engine}" is not available: {reason}. Use engine="auto".')
    raise ConfigError(f"engine={engine!r} is unknown. Choose auto, {', '.join(kind.name for kind in ENGINES)}.")


def fallbacks(device: torch.device, config: FitConfig) -> list[str]:
    """Return a sentence for each faster way of a fit that is not available on a device.

    Parameters
    ----------
    device
        Device of the fit.
    config
        Settings of the fit. Another engine than "auto" is no fallback.
    """
    if device.type != "cpu":
        return verdict_on(device).events()
    built = kernel()
    if built.library is not None or config.engine != "auto" or config.hidden_features > NATIVE_WIDTH:
        return []
    return [f"the compiled kernel is not used: {built.message}"]


def low_precision_engine(engine: Engine, spec: NetworkSpec) -> Engine | None:
    """Return the variant of an engine with gradients of two or three digits, or None if none would be faster."""
    kind = next(kind for kind in ENGINES if engine.name.split(",")[0] == kind.name)
    return kind.low_precision(engine, spec)


def forward(siren: Siren, x: Tensor) -> Tensor:
    """Evaluate networks by the best available engine: x (tiles or 1, inputs, samples) -> (tiles, outputs, samples)."""
    engine = choose_engine("auto", siren.theta.device, siren.spec, siren.tiles, dtype=siren.theta.dtype)
    return engine.forward(siren, x)
