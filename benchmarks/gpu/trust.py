"""Parts of `benchmarks.gpu`: does the device compute what the CPU does?"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import napari_siren as ns
from benchmarks import machine
from benchmarks.gpu.parts import Found, Options, Save
from napari_siren.core.engines import verdict_on
from napari_siren.core.engines.self_check import driver_version

ROOT = Path(__file__).parents[2]
TESTS = ("tests/core/test_gpu.py", "tests/core/engines/test_triton.py")
# Of the processes that the tests are shared among: most of their time compiles kernels.
MOST_WORKERS = 12


def check(options: Options, save: Save) -> Found:
    """Describe the machine, and let the device check itself; "first" compiles, "again" reads the verdict."""
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device(options.device)
    found: Found = {
        "machine": machine.describe(str(device)),
        "python": platform.python_version(),
        "triton": _triton(),
        "cuda": torch.version.cuda,
        "driver": driver_version(),
    }
    save(found)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["multiprocessors"], found["memory"] = properties.multi_processor_count, properties.total_memory
    times = []
    for _ in range(2):
        verdict_on.cache_clear()
        begin = time.perf_counter()
        verdict = verdict_on(device)
        times.append(time.perf_counter() - begin)
    found |= {"verdict": asdict(verdict), "first_seconds": times[0], "again_seconds": times[1]}
    save(found)
    # The first fit after it: what else is compiled or started at the first use.
    begin = time.perf_counter()
    ns.fit(_waves(), device=options.device, max_steps=3)
    found["first_fit_seconds"] = time.perf_counter() - begin
    return found


def check_lines(found: Mapping[str, Any]) -> list[str]:
    described = found["machine"]
    failed = {k: v for k, v in found["verdict"].items() if v}
    return [
        f"{described['device']}, {described['date']}, torch {described['torch']}, triton {found['triton']}",
        f"self-check {failed or 'passed'} in {found['first_seconds']:.1f} s, from the cache in "
        f"{1000 * found['again_seconds']:.0f} ms; first small fit after it {found['first_fit_seconds']:.2f} s",
    ]


def tests(options: Options, save: Save) -> Found:
    """Run the tests that are marked "gpu", with a configuration of their own: the project's needs its plugins."""
    folder = options.out / "pytest"
    folder.mkdir(exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: needs a CUDA GPU\n    slow: takes seconds\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(folder / "pytest.ini")]
    command += ["--rootdir", str(ROOT), *TESTS] if options.rehearse else ["--rootdir", str(ROOT), "-m", "gpu", *TESTS]
    if options.rehearse:
        command += ["-k", "shrinking or memory or graphs"]
    elif importlib.util.find_spec("xdist"):
        command += ["-n", str(min(MOST_WORKERS, os.cpu_count() or 1))]
    paths = [str(ROOT / "src"), str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    log = options.out / "tests.txt"
    with log.open("w") as stream:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False)
    text = log.read_text()
    failures = [line[:160] for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    summary = [line for line in text.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    return {
        "status": done.returncode,
        "failures": failures,
        "summary": summary[-1].strip("= ") if summary else text[-300:],
    }


def tests_lines(found: Mapping[str, Any]) -> list[str]:
    return [found["summary"], *found["failures"][:3]]


def values(options: Options, save: Save) -> Found:
    """Fit two images on the CPU and on the device, and compare the ends."""
    pictures = machine.images(options.data, "kodak")
    pictures = dict(list(pictures.items())[::7]) if pictures else {"waves": _waves()}
    found: Found = {"images": {}}
    for name, image in list(pictures.items())[:2]:
        cut, steps = (image[:48, :48], 20) if options.rehearse else (image[:256, :384], 400)
        psnr = {d: ns.fit(cut, device=d, max_steps=steps).metrics.psnr for d in ("cpu", options.device)}
        found["images"][name] = {"cpu": psnr["cpu"], "device": psnr[options.device]}
        save(found)
    return found


def values_lines(found: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {row['cpu']:.2f} dB on the CPU, {row['device']:.2f} on the device ({row['device'] - row['cpu']:+.2f})"
        for name, row in found["images"].items()
    ]


def _waves() -> np.ndarray:
    y, x = np.mgrid[:80, :96] / 10
    waves = np.stack([np.sin(x) * np.cos(y), np.sin(x * y / 3), np.cos(x - 2 * y)], axis=-1)
    return np.rint(127.5 * (1 + waves)).astype(np.uint8)


def _triton() -> str:
    try:
        import triton
    except ImportError:
        return "not installed"
    return str(triton.__version__)
