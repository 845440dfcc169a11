"""Whether the time of a fit grows in proportion to the pixels, and what rendering takes.

    python -m benchmarks.proportion [--most MEGAPIXELS] [--data FOLDER] [--device cpu] [--json FILE] [--quick]

Each size is fitted in a process of its own, for a few steps, so that its peak of memory is its own. The images are
mosaics of photographs. 33 megapixels take about 6 GB.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from skimage.io import imread

import napari_siren as ns
from benchmarks import machine
from benchmarks.ceilings import lower_quartile
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.core.training.plan import plan_fit
from napari_siren.errors import SirenError
from napari_siren.io.images import sample_path

# Of a few hundred steps a fit of usual length has.
STEPS = 20
SIZES = (0.1, 0.4, 1.0, 4.0, 8.0, 16.0, 33.0)
# What the others are compared with: about the size of a Kodak photograph.
REFERENCE = 0.4
SCALES = (2, 4, 8)
PHASES = ("setup", "step", "closing", "total")
# Presets whose networks differ.
RENDERED = ("faithful", "upscale", "fast")


@dataclass(frozen=True)
class Job:
    """A fit to be measured.

    Parameters
    ----------
    megapixels
        Of the image.
    preset, steps, device
        Of the fit.
    data
        Folder that has photographs in kodak/; without any, the one that comes with the package is taken.
    """

    megapixels: float
    preset: str
    steps: int
    device: str
    data: Path


def shape_of(megapixels: float) -> tuple[int, int]:
    """Rows and columns of an image of about so many megapixels, three to two."""
    rows = round(math.sqrt(megapixels * 1e6 * 2 / 3))
    return rows, round(1.5 * rows)


def mosaic(photographs: list[np.ndarray], shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Lay photographs side by side, uint8 RGB: each mirrored and of another contrast whenever its turn comes again."""
    rng = np.random.default_rng(seed)
    lying = [photo if photo.shape[0] <= photo.shape[1] else photo.swapaxes(0, 1) for photo in photographs]
    rows, columns = (min(photo.shape[axis] for photo in lying) for axis in (0, 1))
    canvas = np.empty((*shape, 3), dtype=np.uint8)
    corners = ((r, c) for r in range(0, shape[0], rows) for c in range(0, shape[1], columns))
    for (r, c), photo in zip(corners, cycle(lying), strict=False):
        gain, flips = rng.uniform(0.7, 1.0), rng.choice([-1, 1], size=2)
        panel = photo[:rows, :columns][:: flips[0], :: flips[1]][: shape[0] - r, : shape[1] - c]
        canvas[r : r + rows, c : c + columns] = np.rint(panel * gain)
    return canvas


def measure(job: Job) -> dict[str, Any]:
    """Fit one size: seconds of each phase, and bytes of memory at most, of this process."""
    photographs = list(machine.images(job.data, "kodak").values()) or [imread(sample_path())]
    image = mosaic(photographs, shape_of(job.megapixels))
    # The first fit loads or compiles the kernel; its time and its memory are not of this size.
    ns.fit(image[:32, :32], preset=job.preset, device=job.device, max_steps=2)
    before = psutil.Process().memory_info().rss
    config = FitConfig.preset(job.preset, max_steps=job.steps, memory_fraction=0.95)
    begin = time.perf_counter()
    steps = ns.fit_iter(image, config=config, device=job.device)
    ready = time.perf_counter()
    ends = [ready]
    for _ in range(job.steps):
        next(steps)
        ends.append(time.perf_counter())
    result = steps.stop()
    seconds = {"setup": ready - begin, "closing": time.perf_counter() - ends[-1], "all_steps": ends[-1] - ready}
    each = np.diff(ends).tolist()
    return {
        "megapixels": image.shape[0] * image.shape[1] / 1e6,
        "shape": list(image.shape),
        "photographs": len(photographs),
        "tiles": result.field.tiling.count if result.field.has_tiles else 0,
        "psnr": result.metrics.psnr,
        "seconds": {**seconds, "step": lower_quartile(each), "slowest_step": max(each), "total": sum(seconds.values())},
        "planned_bytes": plan_fit(image.shape[:2], image.shape[2], config).total,
        "bytes_before": before,
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """The most bytes of memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says may be of the process that started this one.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return 1024 * int(lines["VmHWM"].split()[0])
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_apart(job: Job) -> dict[str, Any]:
    """As `measure`, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, job).result()


def compare(rows: list[dict[str, Any]]) -> None:
    """Add the seconds for each megapixel, and their ratios to those of the reference, to rows in place."""
    for row in rows:
        row["seconds_per_megapixel"] = {phase: row["seconds"][phase] / row["megapixels"] for phase in PHASES}
    reference = min(rows, key=lambda row: abs(math.log(row["megapixels"] / REFERENCE)))["seconds_per_megapixel"]
    for row in rows:
        row["ratio"] = {phase: row["seconds_per_megapixel"][phase] / reference[phase] for phase in PHASES}


def measure_rendering(preset: str, image: np.ndarray, device: str, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds to render a fitted photograph at each scale: the first time, and the lower quartile of a few more."""
    # What the weights are does not matter to the time.
    result = ns.fit(image, preset=preset, device=device, max_steps=2)
    found = {}
    for scale in SCALES:
        seconds = []
        for _ in range(1 + repeats):
            begin = time.perf_counter()
            shape = result.render(scale=scale).shape
            seconds.append(time.perf_counter() - begin)
        pixels = shape[0] * shape[1] / 1e6
        found[str(scale)] = {"megapixels": pixels, "first": seconds[0], "seconds": lower_quartile(seconds[1:])}
    return found


def print_growth(console: Console, rows: list[dict[str, Any]]) -> None:
    columns = [f"{phase}, s" for phase in PHASES], [f"{phase} / MP, x" for phase in PHASES]
    table = Table("megapixels", "tiles", *columns[0], "step / MP, ms", *columns[1], "peak, MB", "planned, MB")
    table.title = f"seconds; and for a megapixel, over those at {REFERENCE:g} megapixels: 1 is in proportion"
    for row in rows:
        table.add_row(
            f"{row['megapixels']:.2f}",
            str(row["tiles"]),
            *(f"{row['seconds'][phase]:.3g}" for phase in PHASES),
            f"{1000 * row['seconds_per_megapixel']['step']:.1f}",
            *(f"{row['ratio'][phase]:.2f}" for phase in PHASES),
            *(f"{row[key] / 1e6:.0f}" for key in ("peak_bytes", "planned_bytes")),
        )
    console.print(table)


def print_rendering(console: Console, rendering: dict[str, dict[str, dict[str, float]]], size: str) -> None:
    table = Table(
        "preset", *(f"x{scale}" for scale in SCALES), title=f"seconds to render {size} pixels (the first time)"
    )
    for preset, scales in rendering.items():
        table.add_row(preset, *(f"{found['seconds']:.3f} ({found['first']:.3f})" for found in scales.values()))
    console.print(table)


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=float, default=SIZES[-1], help="leave out sizes above so many megapixels")
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with kodak/")
    parser.add_argument("--preset", default="fast", choices=PRESET_NAMES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-proportion.json"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes in this process: to try it out")
    arguments = parser.parse_args(options)
    sizes = (0.002, 0.004) if arguments.quick else [size for size in SIZES if size <= arguments.most]
    steps, run = (3, measure) if arguments.quick else (STEPS, measure_apart)
    console = Console(width=180)

    rows, refused = [], {}
    for size in sizes:
        try:
            rows.append(run(Job(size, arguments.preset, steps, arguments.device, arguments.data)))
        except (SirenError, BrokenProcessPool) as error:  # the other sizes are no worse for it
            refused[str(size)] = str(error)
        console.print(f"{size:g} megapixels: {refused.get(str(size), 'measured')}")
    compare(rows)
    print_growth(console, rows)
    photo = imread(sample_path())
    photo = photo[:32, :48] if arguments.quick else photo
    rendering = {p: measure_rendering(p, photo, arguments.device, 1 if arguments.quick else 8) for p in RENDERED}
    print_rendering(console, rendering, f"{photo.shape[1]} x {photo.shape[0]}")
    report = {
        "machine": machine.describe(arguments.device),
        "preset": arguments.preset,
        "steps": steps,
        "sizes": rows,
        "refused": refused,
        "rendering": rendering,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
