"""Folders of tiny images, settings for very short fits of them, and clusters for batches."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from forking import start
from waiting import LIMIT, wait_until

from napari_siren.batch.plan import Settings
from napari_siren.io.images import write_image

# Settings for a fit of a few milliseconds.
TINY: dict[str, Any] = {"hidden_features": 8, "hidden_layers": 1, "max_steps": 4, "engine": "torch"}
# The command of Dask, on one thread.
_DASK = """
import torch
from dask.__main__ import main

torch.set_num_threads(1)
main()
"""
AS_OPTIONS = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]


def settings(scale: Any = 2, **given: Any) -> Settings:
    """Return the settings of a tiny fit."""
    options = {
        "axes": None,
        "spacing": None,
        "frames": "whole",
        "format": "auto",
        "warm_start": False,
        "seed": 0,
        "device": "cpu",
    }
    named = {name: given.pop(name, value) for name, value in options.items()}
    return Settings.from_options(scale, given.pop("preset", "fast"), {**TINY, **given}, **named)


def photos(folder: Path, count: int, shape: tuple[int, ...] = (20, 24, 3)) -> list[Path]:
    """Write RGB images of noise, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    return [write_image(folder / f"{i:02d}.png", image, "YXC") for i, image in enumerate(images)]


def shades(folder: Path, count: int) -> list[Path]:
    """Write RGB images of one scene, each with a little noise of its own, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:20, :24]
    random = np.random.default_rng(0)
    images = [np.stack([5 * x + 5 * y] * 3, axis=-1) + random.integers(0, 9, (20, 24, 3)) for _ in range(count)]
    return [write_image(folder / f"{i:02d}.png", a.astype(np.uint8), "YXC") for i, a in enumerate(images)]


def movie(path: Path, frames: int = 3) -> Path:
    """Write a time series with two named channels and a pixel size, and return its file."""
    t, c, y, x = np.indices((frames, 2, 12, 16))
    array = (500 + 100 * t + 200 * c * np.sin(y / 3) + 50 * np.cos(x / 2 + t)).astype(np.uint16)
    return write_image(path, array, "TCYX", (0.2, 0.1), "µm", ("DAPI", "GFP"), (5.0, "s"))


def done_lines(out: Path) -> Counter[str]:
    """Return the number of entries with the status "done" of each job."""
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines() if line.endswith("}")]
    return Counter(line["job"] for line in lines if line["status"] == "done")


@contextlib.contextmanager
def dask_processes(folder: Path, preloads: list[str]) -> Iterator[tuple[str, list[BaseProcess]]]:
    """Start a scheduler and its workers as separate processes, as on a cluster.

    Each worker runs one of the preloads when it starts. The address of the scheduler and the workers are yielded.
    """
    from distributed import Client

    told = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", told]
    started = [start(_DASK, "scheduler", *options)]
    try:
        # The file may exist before it is complete.
        wait_until(lambda: told.exists() and told.read_text().endswith("\n}"))
        address = json.loads(told.read_text())["address"]
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        for i, code in enumerate(preloads):
            preload = folder / f"preload_{i}.py"
            preload.write_text(code)
            started.append(start(_DASK, "worker", address, *options, "--preload", preload))
        with Client(address, set_as_default=False, timeout=LIMIT) as client:
            client.wait_for_workers(len(preloads), timeout=LIMIT)
        yield address, started[1:]
    finally:
        for process in started:
            process.kill()
            process.join()
