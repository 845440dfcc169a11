"""What an image larger than memory takes: its speed, its peak of memory, and whether it survives being killed.

    python -m benchmarks.scale [--preset fast] [--kills 10] [--data FOLDER] [--json FILE] [--quick]

The map of 33 megapixels is fitted and rendered at x2, from OME-Zarr to OME-Zarr, in a process of its own, and so are
mosaics of photographs of 0.1 to 16 megapixels. What they are compared with is a fit of 0.4 megapixels of the map in
memory. At last the map is done once more by processes that are killed at random moments.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from skimage.io import imread

import napari_siren as ns
from benchmarks import machine
from benchmarks.proportion import mosaic, peak_bytes, shape_of
from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.io.images import sample_path
from napari_siren.io.zarr.ome_zarr import open_ome_zarr, write_ome_zarr

MAP = Path("large") / "earth_8192x4096.jpg"
SIZES = (0.1, 0.4, 1.0, 4.0, 8.0, 16.0)
# Of the run that tries it out, in megapixels.
QUICK = 0.004
REFERENCE, REPEATS = (512, 768), 3
SCALE = 2
PHASES = ("scan", "fit", "render", "pyramid")
LEAST_SECONDS = 2.0


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Parameters
    ----------
    name
        Of the image; its OME-Zarr and the result are in `folder`.
    preset, seed, in_memory
        Of the fit, and whether it is to be one in memory.
    """

    name: str
    folder: Path
    preset: str
    seed: int = 0
    in_memory: bool = False

    @property
    def source(self) -> Path:
        return self.folder / f"{self.name}.ome.zarr"

    @property
    def out(self) -> Path:
        return self.folder / f"{self.name}_x{SCALE}_{self.seed}.ome.zarr"

    @property
    def report(self) -> Path:
        return self.folder / f"{self.name}_{self.seed}.json"


def perform(job: Job) -> None:
    """Do a job, and write down what it took, without what is loaded or compiled once."""
    with tempfile.TemporaryDirectory() as scratch:
        ns.fit_blocks(np.eye(32, dtype=np.float32), Path(scratch) / "x.ome.zarr", preset=job.preset, max_steps=2)
    shape = open_ome_zarr(job.source).array.shape
    image = np.asarray(open_ome_zarr(job.source).array) if job.in_memory else None
    before, begin, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    if image is not None:
        for _ in range(REPEATS):
            result = ns.fit(image, axes="CYX", preset=job.preset, seed=job.seed)
            result.render(scale=SCALE)
        found = {"psnr": result.metrics.psnr, "phases": {}}
    else:
        phases: dict[str, float] = {}

        def note(progress: ns.BlockProgress) -> None:
            phases[progress.phase] = progress.seconds

        options: dict[str, Any] = {"preset": job.preset, "seed": job.seed, "overwrite": True}
        done = ns.fit_blocks(job.source, job.out, SCALE, on_progress=note, **options)
        found = {"psnr": done.psnr, "blocks": done.blocks, "fitted": done.fitted, "phases": phases}
    repeats = REPEATS if job.in_memory else 1
    taken = {"seconds": (time.perf_counter() - begin) / repeats, "cpu_seconds": (time.process_time() - cpu) / repeats}
    report = {**found, **taken, "megapixels": shape[1] * shape[2] / 1e6, "shape": shape}
    job.report.write_text(json.dumps({**report, "bytes_before": before, "peak_bytes": peak_bytes()}))


def apart(job: Job) -> dict[str, Any]:
    """Do a job in a process of its own."""
    process = _start(job)
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"the process for {job.name} ended with {process.exitcode}")
    return dict(json.loads(job.report.read_text()))


def mean_of(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Of the reference, which is measured before the others and after them: other work may come and go."""
    both = {name: [before[name], after[name]] for name in ("seconds", "cpu_seconds")}
    return {**before, **{name: sum(pair) / 2 for name, pair in both.items()}, "before_and_after": both}


def killed(job: Job, kills: int, seconds: float, compared: Path) -> dict[str, Any]:
    """Do a job in processes that are killed at random moments; compare with what came of one that was not.

    A block is done twice where its file is not the same after a later kill.
    """
    rng, moments, twice = random.Random(0), [], 0
    known: dict[str, tuple[int, int]] = {}
    for _ in range(kills):
        process = _start(job)
        moments.append(rng.uniform(LEAST_SECONDS, max(LEAST_SECONDS, 2 * seconds / (kills + 1))))
        process.join(moments[-1])
        ended = process.exitcode is not None
        process.kill()
        process.join()
        now = _finished(job)
        twice += sum(name in now and now[name] != mark for name, mark in known.items())
        known = now
        if ended:
            break
    last = apart(job)
    return {
        "kills": len(moments) - ended,
        "moments": moments,
        "blocks": last["blocks"],
        "blocks_left_for_the_last": last["fitted"],
        "done_twice": twice,
        "the_same": _same(job.out, compared),
    }


def _start(job: Job) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=perform, args=(job,))
    process.start()
    return process


def _finished(job: Job) -> dict[str, tuple[int, int]]:
    """Of every block that is done: which file that is, and when it was written."""
    work = job.out.with_name(f".{job.out.name}.work")
    files = [*work.glob("field/*.safetensors"), *work.glob("rendered/*.json")]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def _same(one: Path, other: Path) -> bool:
    levels = len(open_ome_zarr(one).levels)
    pairs = ((open_ome_zarr(one, i).array, open_ome_zarr(other, i).array) for i in range(levels))
    return all(bool((a == b).all().compute()) for a, b in pairs)


def prepare(data: Path, folder: Path, sizes: Sequence[float], most: float) -> list[str]:
    """Write the images as OME-Zarr; give their names, the map last."""
    photographs = list(machine.images(data, "kodak").values()) or [imread(sample_path())]
    images: dict[str, Callable[[], np.ndarray]] = {}
    for size in sizes:
        if size <= most:
            images[f"{size:g}"] = partial(mosaic, photographs, shape_of(size))
    there = (data / MAP).is_file() and QUICK not in sizes
    whole = imread(data / MAP) if there else mosaic(photographs, shape_of(2 * QUICK))
    rows, columns = (min(n, m) for n, m in zip(REFERENCE, whole.shape, strict=False))
    # Land and sea, in the middle of the map.
    top, left = (whole.shape[0] - rows) // 3, (whole.shape[1] - columns) // 2
    images["reference"] = lambda: whole[top : top + rows, left : left + columns]
    images["map"] = lambda: whole
    for name, image in images.items():
        write_ome_zarr(folder / f"{name}.ome.zarr", image(), "YXC")
    return list(images)


def print_sizes(console: Console, rows: dict[str, dict[str, Any]]) -> None:
    reference = rows["reference"]
    for row in rows.values():
        for name in ("seconds", "cpu_seconds"):
            speed, its = (r["megapixels"] / r[name] for r in (row, reference))
            row[f"speed_by_{name}"], row[f"over_reference_by_{name}"] = speed, speed / its
    columns = [f"{phase}, s" for phase in PHASES]
    totals = ("total, s", "CPU, s", "MP / s", "over reference", "by CPU", "peak, MB", "PSNR")
    table = Table("image", "megapixels", "blocks", *columns, *totals)
    for name, row in rows.items():
        table.add_row(
            f"{name}, in memory" if row is reference else name,
            f"{row['megapixels']:.2f}",
            str(row.get("blocks", "")),
            *(f"{row['phases'][phase]:.2f}" if phase in row["phases"] else "" for phase in PHASES),
            f"{row['seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['speed_by_seconds']:.3f}",
            f"{row['over_reference_by_seconds']:.2f}",
            f"{row['over_reference_by_cpu_seconds']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['psnr']:.2f}",
        )
    console.print(table)


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="fast", choices=PRESET_NAMES)
    parser.add_argument("--kills", type=int, default=10, help="how often the second run of the map is killed")
    parser.add_argument("--data", type=Path, default=machine.DATA, help=f"folder with kodak/ and {MAP}")
    parser.add_argument("--most", type=float, default=SIZES[-1], help="leave out mosaics above so many megapixels")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-scale.json"))
    parser.add_argument("--quick", action="store_true", help="tiny images: to try it out")
    arguments = parser.parse_args(options)
    console = Console(width=160)
    folder = Path(tempfile.mkdtemp(prefix="benchmark-scale-"))
    try:
        names = prepare(arguments.data, folder, (QUICK,) if arguments.quick else SIZES, arguments.most)
        rows = {}
        for name in ["reference", *(name for name in names if name != "reference")]:
            rows[name] = apart(Job(name, folder, arguments.preset, in_memory=name == "reference"))
            console.print(f"{name}: {rows[name]['seconds']:.1f} s")
        again = apart(Job("reference", folder, arguments.preset, in_memory=True))
        rows["reference"] = mean_of(rows["reference"], again)
        print_sizes(console, rows)
        report = {"machine": machine.describe("cpu"), "preset": arguments.preset, "scale": SCALE, "sizes": rows}
        if arguments.kills:
            whole = Job("map", folder, arguments.preset)
            kept = whole.out.rename(folder / "unbroken.ome.zarr")
            report["killed"] = killed(whole, arguments.kills, rows["map"]["seconds"], kept)
            console.print(report["killed"])
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        console.print(f"written to {arguments.json}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
