"""Self-checks of an accelerator, before a fit trusts it: once for each device, driver and version of the software.

A verdict is kept in the user's cache folder. A part with an error is logged, with the reason, and not used.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import torch
from pydantic import TypeAdapter

from napari_siren.core.engines.comparisons import (
    Problem,
    bfloat16_error,
    float32_error,
    problem,
    problems,
    replay_error,
    update_error,
)
from napari_siren.core.engines.native import NativeEngine
from napari_siren.core.engines.pytorch import TorchEngine
from napari_siren.core.engines.triton.engine import TritonEngine
from napari_siren.core.native.library import cache_folder, kernel
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.storage.atomic import write_json
from napari_siren.core.storage.records import parse_json
from napari_siren.core.storage.versions import version_of
from napari_siren.errors import StorageError

_LOG = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent
# Files that decide the numbers: the kernels, and this check of them. If one changes, the check is repeated.
_SOURCES = (
    *("triton/engine.py", "triton/kernels.py", "triton/update.py", "triton/graphs.py"),
    *("comparisons.py", "self_check.py"),
)
# Networks too wide for the kernels; PyTorch's own products compute them.
_WIDE = NetworkSpec(2, 3, 5, 256)
# A race between two engines: number of steps (the fastest counts) and of tiles.
_RACE_STEPS, _RACE_TILES = 5, 64


@dataclass(frozen=True)
class Verdict:
    """The reasons against the use of a device and its features; "" allows the use.

    Parameters
    ----------
    kernels
        Reason against Triton's kernels.
    graphs
        Reason against CUDA graphs of the kernels.
    bfloat16
        Reason against gradients with bfloat16 products.
    values
        Reason against plain PyTorch. Only devices without kernels are checked.
    slower
        Times of a step on the device and on the CPU, if the device is slower. Only devices without kernels are checked.
    """

    kernels: str = ""
    graphs: str = ""
    bfloat16: str = ""
    values: str = ""
    slower: str = ""

    def events(self) -> list[str]:
        """Return a sentence for each feature or device to avoid."""
        sentences = {
            "Triton's kernels are not used": self.kernels,
            "CUDA graphs are not used": self.graphs,
            "bfloat16 is not used": self.bfloat16,
            'this device computes wrong values, use device="cpu"': self.values,
            'this device is slower than the CPU, use device="cpu"': self.slower,
        }
        return [f"{sentence}: {reason}" for sentence, reason in sentences.items() if reason]


@cache
def verdict_on(device: torch.device) -> Verdict:
    """Return the verdict on a CUDA GPU or an Apple GPU, from the cache if the device was checked before.

    Parameters
    ----------
    device
        The GPU, such as "cuda:0" or "mps".
    """
    path = cache_folder() / "checks" / f"{_key(device)}.json"
    verdict = _read(path)
    if verdict is None:
        check = check_cuda if device.type == "cuda" else check_plain
        begin = time.perf_counter()
        verdict = check(device)
        _LOG.info("self-check of %s: %.1f s", device, time.perf_counter() - begin)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"device": _name(device), **asdict(verdict)})
        except (OSError, StorageError) as error:
            _LOG.info("the verdict on %s could not be cached: %s", device, error)
    for sentence in verdict.events():
        _LOG.warning("%s: %s", device, sentence)
    return verdict


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
        _first_error(
            lambda case: bfloat16_error(TritonEngine(device, graphs=False).low_precision(), case, device), cases[::2]
        )
        or _plain_bfloat16(device),
    )


def check_plain(device: torch.device) -> Verdict:
    """Compare plain PyTorch on a device with float64 on the CPU, and its speed with the CPU's engine."""
    error = _first_error(lambda case: float32_error(TorchEngine(device), case, device), list(problems()))
    return Verdict(values=error, slower="" if error else _race(device))


def _kernel_errors(device: torch.device, case: Problem) -> str:
    """Return the first error of programs with a tile each, or of several programs for each tile."""
    for shared in (False, True):
        engine = TritonEngine(device, graphs=False)
        engine.programs = engine.programs if shared else 1
        if error := float32_error(engine, case, device):
            return error
    return ""


def _plain_bfloat16(device: torch.device) -> str:
    wide = problem("a wide network", _WIDE, (16, 16))
    return _guarded(lambda: bfloat16_error(TorchEngine(device).low_precision(), wide, device))


def _first_error(find: Callable[[Problem], str], cases: list[Problem]) -> str:
    return next((error for case in cases if (error := _guarded(partial(find, case)))), "")


def _guarded(find: Callable[[], str]) -> str:
    try:
        return find()
    except Exception as error:  # Triton, compilers and drivers raise exceptions of any kind.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"it does not run here ({lines[0]})"


def _race(device: torch.device) -> str:
    """Return the times of a step of a photograph's fit on the device and on the CPU; "" if the device is faster."""
    library = kernel().library
    cpu = torch.device("cpu")
    rival = TorchEngine(cpu) if library is None else NativeEngine(library, torch.get_num_threads())
    own, other = _seconds(TorchEngine(device), device), _seconds(rival, cpu)
    times = f"a step takes {1000 * own:.1f} ms on this device and {1000 * other:.1f} ms on the CPU"
    return times if own > other else ""


def _seconds(engine: TorchEngine | NativeEngine, device: torch.device) -> float:
    case = problem("a race", NetworkSpec(2, 3, 3, 32), (26, 37), tiles=_RACE_TILES).on(device)
    gradient, times = torch.empty_like(case.siren.theta), []
    for _ in range(_RACE_STEPS):
        begin = time.perf_counter()
        float(engine.gradient(case.siren, case.x, case.loss, gradient).sum())  # Wait for the device.
        times.append(time.perf_counter() - begin)
    return min(times)


# ---- the key of a verdict: device, driver, versions ----------------------------------------------------------


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
    """Return the version of NVIDIA's driver, or the name and version of the system if there is no driver."""
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
        stored = parse_json(path.read_bytes())
        stored.pop("device")
        return TypeAdapter(Verdict).validate_python(stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # The file is missing or damaged.
        return None
