"""Self-checks of an accelerator, before a fit trusts it: once for each device, driver and version of the software.

A verdict is kept in the user's cache. What fails is logged, with the reason, and not used.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import torch

from napari_siren.core.atomic import write_json
from napari_siren.core.engines.comparisons import (
    Problem,
    bfloat16_error,
    float32_error,
    problem,
    problems,
    replay_error,
    update_error,
)
from napari_siren.core.engines.native.engine import NativeEngine
from napari_siren.core.engines.native.library import cache_folder, kernel
from napari_siren.core.engines.pytorch import PlainEngine
from napari_siren.core.engines.triton.engine import TritonEngine
from napari_siren.core.network.siren import SirenShape
from napari_siren.core.versions import version_of
from napari_siren.errors import StorageError

_LOG = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent
# What decides the numbers: the kernels, and this check of them.
_SOURCES = (
    *("triton/engine.py", "triton/kernels.py", "triton/update.py", "triton/graphs.py"),
    *("comparisons.py", "self_check.py"),
)
# Networks wider than the kernels are for, which PyTorch's own products serve.
_WIDE = SirenShape(2, 3, 5, 256)
# Of a race between two engines: steps, of which the fastest counts, and tiles.
_RACE_STEPS, _RACE_TILES = 5, 64


@dataclass(frozen=True)
class Verdict:
    """What may be used on a device: "" where it may, else the reason why not.

    Parameters
    ----------
    kernels
        Triton's kernels.
    graphs
        CUDA graphs of them.
    bfloat16
        Gradients with products of bfloat16.
    values
        Plain PyTorch, on devices that have no kernels.
    slower
        Whether it is slower than the CPU, and by how much; asked of devices that have no kernels.
    """

    kernels: str = ""
    graphs: str = ""
    bfloat16: str = ""
    values: str = ""
    slower: str = ""

    def events(self) -> list[str]:
        """Return a sentence for each thing that is not used, or should not be."""
        sentences = {
            "Triton's kernels are not used": self.kernels,
            "CUDA graphs are not used": self.graphs,
            "bfloat16 is not used": self.bfloat16,
            'this device computes wrongly, use device="cpu"': self.values,
            'this device is slower than the CPU, use device="cpu"': self.slower,
        }
        return [f"{sentence}: {reason}" for sentence, reason in sentences.items() if reason]


@cache
def verdict_on(device: torch.device) -> Verdict:
    """Return what may be used on a CUDA GPU or one of Apple's; from the cache where it was found before.

    Parameters
    ----------
    device
        "cuda:0", "mps" or alike.
    """
    path = cache_folder() / "checks" / f"{_key(device)}.json"
    known = _read(path)
    if known is None:
        check = check_cuda if device.type == "cuda" else check_plain
        begin = time.perf_counter()
        known = check(device)
        _LOG.info("self-check of %s: %.1f s", device, time.perf_counter() - begin)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"device": _name(device), **asdict(known)})
        except (OSError, StorageError) as error:
            _LOG.info("the verdict on %s is not kept: %s", device, error)
    for sentence in known.events():
        _LOG.warning("%s: %s", device, sentence)
    return known


def check_cuda(device: torch.device) -> Verdict:
    """Compare Triton's kernels, CUDA graphs and bfloat16 on a device with float64 on the CPU."""
    cases = list(problems())
    kernels = _first_error(lambda case: _kernel_errors(device, case), cases) or _guarded(
        lambda: update_error(TritonEngine(device, graphs=False), device)
    )
    if kernels:
        return Verdict(kernels, "they need the kernels", _plain_bfloat16(device))
    return Verdict(
        "",
        _guarded(lambda: replay_error(TritonEngine(device), TritonEngine(device, graphs=False), cases[0], device)),
        _first_error(lambda case: bfloat16_error(TritonEngine(device, graphs=False).rough(), case, device), cases[::2])
        or _plain_bfloat16(device),
    )


def check_plain(device: torch.device) -> Verdict:
    """Compare plain PyTorch on a device with float64 on the CPU, and its speed with that of the kernel there."""
    wrong = _first_error(lambda case: float32_error(PlainEngine(device), case, device), list(problems()))
    return Verdict(values=wrong, slower="" if wrong else _race(device))


def _kernel_errors(device: torch.device, case: Problem) -> str:
    """Compare with programs that have a tile each, and with some that share one."""
    for shared in (False, True):
        engine = TritonEngine(device, graphs=False)
        engine.programs = engine.programs if shared else 1
        if wrong := float32_error(engine, case, device):
            return wrong
    return ""


def _plain_bfloat16(device: torch.device) -> str:
    wide = problem("a wide network", _WIDE, (16, 16))
    return _guarded(lambda: bfloat16_error(PlainEngine(device).rough(), wide, device))


def _first_error(find: Callable[[Problem], str], cases: list[Problem]) -> str:
    return next((wrong for case in cases if (wrong := _guarded(partial(find, case)))), "")


def _guarded(find: Callable[[], str]) -> str:
    try:
        return find()
    except Exception as error:  # of Triton, of compilers and of drivers: of any kind
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"it does not run here ({lines[0]})"


def _race(device: torch.device) -> str:
    """Compare the time of a step of a photograph's fit with that on the CPU; "" where the device is faster."""
    library = kernel().library
    cpu = torch.device("cpu")
    rival = PlainEngine(cpu) if library is None else NativeEngine(library, torch.get_num_threads())
    here, there = _seconds(PlainEngine(device), device), _seconds(rival, cpu)
    return f"a step takes {1000 * here:.1f} ms there and {1000 * there:.1f} ms on the CPU" if here > there else ""


def _seconds(engine: PlainEngine | NativeEngine, device: torch.device) -> float:
    case = problem("a race", SirenShape(2, 3, 3, 32), (26, 37), tiles=_RACE_TILES).on(device)
    gradient, times = torch.empty_like(case.siren.theta), []
    for _ in range(_RACE_STEPS):
        begin = time.perf_counter()
        float(engine.gradient(case.siren, case.x, case.loss, gradient).sum())  # waits for the device
        times.append(time.perf_counter() - begin)
    return min(times)


# ---- what a verdict holds for ------------------------------------------------------------------------------


def _key(device: torch.device) -> str:
    parts = [_name(device), driver_version(), torch.__version__, str(torch.version.cuda), version_of("triton")]
    digest = hashlib.sha256("\n".join(parts).encode())
    for name in _SOURCES:
        digest.update((_FOLDER / name).read_bytes())
    return digest.hexdigest()[:16]


def _name(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{device.type}, {platform.machine()}"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}"


def driver_version() -> str:
    """Return the version of NVIDIA's driver, or what the system says of itself where there is none."""
    text = Path("/proc/driver/nvidia/version")
    if text.is_file():
        return text.read_text().splitlines()[0]
    number = ctypes.c_int()
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        library.cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return platform.platform()
    return str(number.value)


def _read(path: Path) -> Verdict | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        kept.pop("device")
        return Verdict(**kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or damaged
        return None
