"""Batches of images: killed at random moments, by one worker and by two, and from a cold start or a warm one.

    python -m benchmarks.batch                        # all three; it needs both cores for itself
    python -m benchmarks.batch --only kills --images 30 --kills 10

"kills": the command `napari-siren batch` is ended by SIGKILL at random moments, again and again, and then run to its
end. All results must be those of a run that nobody disturbed, to the bit; each must have been taken down once, and
none of those that were there may have been written anew.

"workers": the same batch on a Dask scheduler with one worker, and with two, each of them a process pinned to a core of
its own. The time is from the submission, with the workers connected, to the report.

"warm": the frames of real time series, from a cold start with all steps and with a third of them, and with a third of
them from what the first frame has learned. Of "upscale" the truth is known: each frame is a copy, made smaller, of what
is measured against. The mean is over all frames but the first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage.io import imread

import napari_siren as ns
from benchmarks import machine
from benchmarks.interpolators import shrink
from napari_siren.batch.manifest import Manifest
from napari_siren.batch.plan import Settings
from napari_siren.batch.run import fit_batch
from napari_siren.core.image.metrics import psnr_of
from napari_siren.core.storage.atomic import write_json
from napari_siren.core.warm_start import WARM_SHARE
from napari_siren.io.images import write_image

PARTS = ("kills", "workers", "warm")
# Files, and what of them is a series of frames.
SERIES = {
    "golgi": ("neubias_xyt_calibrated_16bit__golgi_bfa_sum_projection.tif", ()),
    "scratch assay": ("ndev_scratch-assay-labeled-10T-2Ch.tiff", (1,)),
}
# Of a frame and of a crop that are fitted, in pixels.
SIDE, CROP = 128, 96


def crops(data: Path, folder: Path, count: int, side: int) -> None:
    """Write crops of photographs, each another one."""
    images = [imread(path) for path in sorted((data / "kodak").glob("*.png"))]
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(count):
        image = images[i % len(images)]
        row, column = (int(random.integers(0, n - side)) for n in image.shape[:2])
        write_image(folder / f"{i:02d}.png", image[row : row + side, column : column + side], "YXC")


# ---- killed at random moments -----------------------------------------------------------------------------


def killed(data: Path, count: int, kills: int, options: list[str], seed: int = 0) -> dict[str, Any]:
    """Run a batch to its end, once undisturbed and once killed so many times on the way."""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as place:
        images, calm, out = (Path(place) / name for name in ("images", "calm", "out"))
        crops(data, images, count, CROP)
        command = [sys.executable, "-m", "napari_siren", "batch", str(images), "-q", *options, "-o"]
        subprocess.run([*command, str(calm)], check=True)
        rewritten, moments = 0, []
        for _ in range(kills):
            before = written(out)
            moments.append(kill_once([*command, str(out)], out, int(random.integers(0, 4)), random.uniform(0, 3)))
            rewritten += sum(written(out).get(name) != moment for name, moment in before.items())
        before = written(out)
        subprocess.run([*command, str(out)], check=True)
        rewritten += sum(written(out).get(name) != moment for name, moment in before.items())
        done = Counter(entry["job"] for entry in lines(out) if entry["status"] == "done")
        same = [(out / path.name).read_bytes() == path.read_bytes() for path in sorted(calm.glob("*.png"))]
        return {
            "images": count,
            "kills": len([moment for moment in moments if moment["alive"]]),
            "right": sum(same),
            "taken_down_once": sum(done[path.name] == 1 for path in calm.glob("*.png")),
            "written_anew": rewritten,
            "left_lying": len(list(out.rglob("*.part"))),
            "moments": moments,
        }


def kill_once(command: list[str], out: Path, after: int, delay: float) -> dict[str, Any]:
    """Run a command, and kill it once so many more images are done, and some seconds later."""
    began, there = time.monotonic(), len(lines(out))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while len(lines(out)) < there + after and process.poll() is None:
            time.sleep(0.02)
        time.sleep(delay)
        alive = process.poll() is None
        process.kill()
    return {"alive": alive, "seconds": time.monotonic() - began, "done": len(lines(out))}


def lines(out: Path) -> list[dict[str, Any]]:
    """Lines of a manifest that are whole."""
    path = Manifest(out).path
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n") if line.endswith("}")]


def written(out: Path) -> dict[str, int]:
    """When each result that is taken down as done was written."""
    return {
        line["output"]: (out / line["output"]).stat().st_mtime_ns for line in lines(out) if line["status"] == "done"
    }


# ---- one worker and two -----------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(cores: list[int]) -> Iterator[str]:
    """Start a scheduler, and a worker on each of these cores; give the scheduler's address."""
    dask = [sys.executable, "-m", "dask"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as ends:

        def start(*words: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([*dask, *words], env=one_thread, **quiet)
            ends.callback(process.wait)
            ends.callback(process.send_signal, signal.SIGKILL)
            return process

        told = Path(place) / "scheduler.json"
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told))
        while not told.exists():
            time.sleep(0.1)
        address = json.loads(told.read_text(encoding="utf-8"))["address"]
        for core in cores:
            worker = start("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
            os.sched_setaffinity(worker.pid, {core})
        yield address


def by_workers(data: Path, count: int, side: int, overrides: dict[str, Any]) -> dict[str, Any]:
    """Time a batch on one worker, and on two."""
    from distributed import Client

    rows = []
    for cores in ([1], [0, 1]):
        with tempfile.TemporaryDirectory() as place, cluster(cores) as address:
            crops(data, Path(place) / "images", count, side)
            # The first fit of a process imports and compiles; that is no batch's time.
            crops(data, Path(place) / "first", 2 * len(cores), side)
            with Client(address) as client:
                client.wait_for_workers(len(cores))
            short = {**overrides, "max_steps": 2, "task_steps": 2}
            fit_batch(Path(place) / "first", Path(place) / "none", scheduler=address, warm_start=False, **short)
            began = time.perf_counter()
            report = fit_batch(
                Path(place) / "images", Path(place) / "out", scheduler=address, warm_start=False, **overrides
            )
            seconds = time.perf_counter() - began
            shares = Counter(entry.worker for entry in report.done)
            rows.append(
                {"workers": len(cores), "seconds": seconds, "done": len(report.done), "shares": [*shares.values()]}
            )
    return {"images": count, "side": side, "rows": rows, "factor": rows[0]["seconds"] / rows[1]["seconds"]}


# ---- a warm start -----------------------------------------------------------------------------------------


def warm(data: Path, frames: int, overrides: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Measure the frames of time series, cold, cold with a third of the steps, and warm with a third."""
    rows = []
    for name in SERIES:
        series = load_series(data, name)[:frames]
        for preset, given in overrides.items():
            rows.append({"series": name, "preset": preset, "frames": len(series), **compare(series, preset, given)})
    return rows


def load_series(data: Path, name: str) -> np.ndarray:
    """Give the middle of the frames of a time series: (frames, rows, columns), uint8."""
    file, channel = SERIES[name]
    array = tifffile.imread(data / "microscopy" / file)[channel].astype(np.float64)
    rows, columns = ((n - min(SIDE, n // 2 * 2)) // 2 for n in array.shape[1:])
    middle = array[:, rows : rows + SIDE, columns : columns + SIDE]
    low, high = np.percentile(middle, (0.1, 99.9))
    return np.rint(np.clip((middle - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def compare(series: np.ndarray, preset: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Give the mean PSNR in dB, and the mean time, of the frames after the first, for each way to start."""
    settings = Settings.from_options(
        2,
        preset,
        overrides,
        axes=None,
        spacing=None,
        frames="whole",
        format="auto",
        warm_start=True,
        seed=0,
        device="cpu",
    )
    low = [as_small(frame) if preset == "upscale" else frame for frame in series]
    first = ns.fit(low[0], axes="YX", config=settings.config, device="cpu")
    fewer = {name: math.ceil(getattr(settings.config, name) * WARM_SHARE) for name in ("task_steps", "max_steps")}
    third = settings.config.override(**fewer)
    ways: dict[str, dict[str, Any]] = {
        "cold": {"config": settings.config},
        "cold_third": {"config": third},
        "warm_third": {"config": third, "start": first},
    }
    told: dict[str, Any] = {}
    for way, options in ways.items():
        psnr, seconds = [], []
        for image, truth in zip(low[1:], series[1:], strict=True):
            result = ns.fit(image, axes="YX", device="cpu", **options)
            psnr.append(against(result, truth) if preset == "upscale" else result.metrics.psnr)
            seconds.append(result.history.seconds[-1])
        told[way] = {"psnr": float(np.mean(psnr)), "seconds": float(np.mean(seconds))}
    return told


def as_small(frame: np.ndarray) -> np.ndarray:
    """Half the size, as the super-resolution sets were made."""
    return np.rint(np.clip(shrink(frame, 2)[0], 0, 255)).astype(np.uint8)


def against(result: ns.FitResult, truth: np.ndarray) -> float:
    """Give the PSNR of a render of twice the size."""
    difference = result.render(scale=2).astype(np.float64) - truth
    return psnr_of(float(np.mean(difference**2)), 255.0)


# ---- all of it --------------------------------------------------------------------------------------------


def show(report: dict[str, Any]) -> None:
    if told := report.get("kills"):
        print(f"killed {told['kills']} times: {told['right']} of {told['images']} images right, ", end="")
        print(f"{told['taken_down_once']} taken down once, {told['written_anew']} written anew")
    if told := report.get("workers"):
        for row in told["rows"]:
            print(f"{row['workers']} worker(s): {row['seconds']:7.1f} s for {row['done']} images, {row['shares']}")
        print(f"{told['factor']:.2f} times as fast")
    for row in report.get("warm", ()):
        ways = "  ".join(
            f"{way} {row[way]['psnr']:.2f} dB {row[way]['seconds']:.2f} s"
            for way in ("cold", "cold_third", "warm_third")
        )
        print(f"{row['series']:14} {row['preset']:9} {ways}")


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="of the three")
    parser.add_argument("--images", type=int, default=30, help="that are in the batch that is killed")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--crops", type=int, default=12, help="that one worker and two have to do")
    parser.add_argument("--side", type=int, default=192, help="of these, in pixels")
    parser.add_argument("--frames", type=int, default=6, help="of each time series")
    parser.add_argument("--steps", type=int, default=None, help="of every fit, for a trial")
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with kodak/ and microscopy/")
    parser.add_argument("--json", type=Path, default=Path("docs/benchmarks/batch-cpu.json"))
    given = parser.parse_args(options)

    few = {} if given.steps is None else {"max_steps": given.steps, "task_steps": given.steps}
    report = json.loads(given.json.read_text(encoding="utf-8")) if given.json.exists() else {}
    report |= {"machine": machine.describe("cpu"), "warm_share": WARM_SHARE}
    if "kills" in given.only:
        words = ["--workers", "2", "--preset", "faithful", "--set", f"max_steps={given.steps or 400}"]
        report["kills"] = killed(given.data, given.images, given.kills, words)
    if "workers" in given.only:
        report["workers"] = by_workers(given.data, given.crops, given.side, {"task_steps": 200, **few})
    if "warm" in given.only:
        steps_only = {name: value for name, value in few.items() if name == "max_steps"}
        report["warm"] = warm(given.data, given.frames, {"faithful": steps_only, "upscale": few})
    show(report)
    write_json(given.json, report)


if __name__ == "__main__":
    main()
