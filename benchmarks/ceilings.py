"""What a machine does at best, measured: matrix products, copies, and sines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from napari_siren.core.engines import Engine
from napari_siren.core.network.losses import SquaredLoss
from napari_siren.core.network.siren import NetworkSpec, Siren

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Effort:
    """How much work to spend on a measurement.

    Parameters
    ----------
    repeats, seconds
        Repetitions, and the least that each should take.
    steps
        Of a fit, in turn.
    side
        Of the large square product.
    far, near
        Bytes that no cache holds, and that the cache of one thread does.
    strip
        Samples of an image that has one network.
    """

    repeats: int = 9
    seconds: float = 0.05
    steps: int = 20
    side: int = 2048
    far: int = 256 << 20
    near: int = 1 << 20
    strip: int = 16_384


QUICK = Effort(repeats=2, seconds=0.0, steps=3, side=64, far=1 << 16, near=1 << 14, strip=128)


def time_of(call: Callable[[], object], device: torch.device, effort: Effort) -> float:
    """Seconds of a call: the lower quartile, since what else goes on for a moment only makes it slower."""

    def once(times: int) -> float:
        synchronise(device)
        begin = time.perf_counter()
        for _ in range(times):
            call()
        synchronise(device)
        return (time.perf_counter() - begin) / times

    once(1)
    times = max(1, math.ceil(effort.seconds / once(1)))
    return lower_quartile([once(times) for _ in range(effort.repeats)])


def lower_quartile(values: list[float]) -> float:
    return sorted(values)[len(values) // 4]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def large_product(dtype: torch.dtype, device: torch.device, effort: Effort) -> float:
    """Operations a second of one large square product."""
    a, b, out = (torch.ones(effort.side, effort.side, dtype=dtype, device=device) for _ in range(3))
    return 2 * effort.side**3 / time_of(lambda: torch.mm(a, b, out=out), device, effort)


def products_of(width: int, dtype: torch.dtype, device: torch.device, effort: Effort) -> dict[str, float]:
    """Operations a second of a layer's products: batches that stay in the cache, and one that does not.

    "forward" has matrices of width x width times width x samples, "weights" has width x samples times samples x width;
    of each the best number of samples counts.
    """

    def rates(samples: int, total: int) -> tuple[float, float]:
        tiles = max(1, total // (2 * width * samples * dtype.itemsize))
        w = torch.full((tiles, width, width), 1 / width, dtype=dtype, device=device)
        h, z = (torch.ones(tiles, width, samples, dtype=dtype, device=device) for _ in range(2))
        operations = 2 * tiles * width * width * samples
        forward = time_of(lambda: torch.bmm(w, h, out=z), device, effort)
        weights = time_of(lambda: torch.bmm(z, h.mT, out=w), device, effort)
        return operations / forward, operations / weights

    in_cache = [rates(samples, cache_bytes(device, effort)) for samples in (128, 256, 1024)]
    out_of_cache = rates(1024, effort.far)
    return {
        "forward": max(rate for rate, _ in in_cache),
        "weights": max(rate for _, rate in in_cache),
        "forward_memory": out_of_cache[0],
        "weights_memory": out_of_cache[1],
    }


def cache_bytes(device: torch.device, effort: Effort) -> int:
    """Bytes that stay in the cache: of all threads of a CPU, or of a GPU."""
    return effort.near * (torch.get_num_threads() if device.type == "cpu" else 16)


def copy_rate(device: torch.device, effort: Effort) -> float:
    """Bytes a second, those read and those written, of a copy that no cache holds."""
    source = torch.ones(effort.far // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / time_of(lambda: target.copy_(source), device, effort)


def sine_rate(device: torch.device, effort: Effort) -> float:
    """Sines a second by PyTorch, in the cache."""
    z = torch.linspace(-8, 8, cache_bytes(device, effort) // 8, device=device)
    out = torch.empty_like(z)
    return z.numel() / time_of(lambda: torch.sin(z, out=out), device, effort)


def thin_rates(engine: Engine, width: int, device: torch.device, effort: Effort) -> dict[str, float]:
    """Sines a second of an engine going forwards, and in a gradient, where each comes with its cosine and the way back.

    The networks have one sine layer, one input and one output, so that their products take a few operations a sine.
    """
    shape = NetworkSpec(1, 1, 1, width)
    tiles, samples = 8 * torch.get_num_threads(), max(32, effort.near // 256)
    siren = Siren(shape, torch.ones(tiles, shape.parameters, device=device), 1.0)
    x = torch.linspace(-8, 8, samples, device=device)[None, None].contiguous()
    loss = SquaredLoss(torch.zeros(tiles, 1, samples, device=device), torch.ones(tiles, samples, device=device))
    out = torch.empty_like(siren.theta)
    sines = tiles * samples * width
    return {
        "forward": sines / time_of(lambda: engine.forward(siren, x), device, effort),
        "pairs": sines / time_of(lambda: engine.gradient(siren, x, loss, out), device, effort),
    }
