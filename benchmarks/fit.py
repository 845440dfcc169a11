"""How well and how fast a fit memorises photographs, beside a plain SIREN on the same machine in the same run.

    python -m benchmarks.fit [--data FOLDER] [--device cpu] [--json FILE] [--images N]

For each image: PSNR and seconds of the preset "faithful"; the error next to tile borders against elsewhere; and for
Kodak's the seconds to 44 dB, and those of one step of the plain SIREN on the same image. What bounds the plain SIREN is
not what bounds ours, so that the ratio of the two differs from machine to machine. Beside it stands how near a step of
ours comes to the least time that this machine allows (as `benchmarks.roofline`). Then the time to import the package.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import napari_siren as ns
from benchmarks import machine
from benchmarks.ceilings import Effort
from benchmarks.peer import seconds_per_step
from benchmarks.roofline import measure_floor
from napari_siren.core.device import resolve_device

TARGET = 44.0
# A schedule as long as the target needs; with the default of 400 it takes about a quarter longer.
TARGET_STEPS = 200
# The first of a plain SIREN's steps also pays for fresh memory.
PEER_STEPS = 2
# Many short measurements: where other programs run, some of them are left alone.
EFFORT = Effort(repeats=45, seconds=0.01, steps=40)
PUBLISHED = {"SIREN": 33.47, "FINER": 36.35, "SL2A": 36.88}


def seam_ratio(result: ns.FitResult) -> float:
    """Mean absolute error on pixels within 1 px of a tile border, over the mean elsewhere."""
    error = np.abs(result.error).mean(axis=2)
    near = np.zeros(error.shape, dtype=bool)
    rows, columns = (axis.borders[1:-1] for axis in result.field.tiling.axes)
    for border in rows:
        near[border - 1 : border + 1] = True
    for border in columns:
        near[:, border - 1 : border + 1] = True
    return float(error[near].mean() / error[~near].mean())


def measure(image: np.ndarray, device: str, *, to_target: bool) -> dict[str, float]:
    row: dict[str, float] = {}
    begin = time.perf_counter()
    result = ns.fit(image, device=device)
    row["seconds"] = time.perf_counter() - begin
    row["psnr"] = result.metrics.psnr
    row["ssim"] = result.metrics.ssim or float("nan")
    row["steps"] = result.history.step[-1]
    row["parameters_per_value"] = result.field.representation.parameters / image.size
    row["seam_ratio"] = seam_ratio(result)
    if to_target:
        begin = time.perf_counter()
        reached = ns.fit(image, device=device, target_psnr=TARGET, max_steps=TARGET_STEPS)
        row["seconds_to_target"] = time.perf_counter() - begin
        row["target_psnr_reached"] = reached.metrics.psnr
        row["peer_step_seconds"] = min(seconds_per_step(image, device, PEER_STEPS))
        row["seconds_in_peer_steps"] = row["seconds"] / row["peer_step_seconds"]
        row["target_in_peer_steps"] = row["seconds_to_target"] / row["peer_step_seconds"]
    return row


def run_set(title: str, pictures: dict[str, np.ndarray], device: str, *, to_target: bool) -> dict[str, Any]:
    console = Console(width=190)
    rows: dict[str, dict[str, float]] = {}
    for name, image in pictures.items():
        rows[name] = measure(image, device, to_target=to_target)
        console.print(f"{title} {name}: " + ", ".join(f"{k} {v:.3g}" for k, v in rows[name].items()))
    keys = list(next(iter(rows.values())))
    columns = {key: [row[key] for row in rows.values()] for key in keys}
    mean = {key: float(np.mean(values)) for key, values in columns.items()}
    median = {key: float(np.median(values)) for key, values in columns.items()}
    table = Table("image", *keys, title=title)
    for name, row in {**rows, "mean": mean, "median": median}.items():
        table.add_row(name, *(f"{row[key]:.3f}" for key in keys))
    console.print(table)
    return {"images": rows, "mean": mean, "median": median, "worst_psnr": min(columns["psnr"])}


def import_milliseconds() -> float:
    """The best of five, in fresh interpreters, less the bare interpreter."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - begin)
        return min(times)

    return 1000 * (best("import napari_siren") - best("pass"))


def describe_floor(report: dict[str, Any]) -> str:
    floor = report["floor"]
    step, least = (1000 * floor[key] for key in ("step_seconds", "floor_seconds"))
    return (
        f"a step ({floor['precision']}): {step:.1f} ms; at this machine's ceilings {least:.1f} ms, "
        f"{floor['floor_share_of_step']:.0%} of it ({report['machine']['cpu']})"
    )


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with kodak/ and div2k16/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-fit.json"))
    parser.add_argument("--images", type=int, default=None, help="only the first N of each set")
    arguments = parser.parse_args(options)

    report: dict[str, Any] = {"machine": machine.describe(arguments.device)}
    kodak = dict(list(machine.images(arguments.data, "kodak").items())[: arguments.images])
    div2k = dict(list(machine.images(arguments.data, "div2k16").items())[: arguments.images])
    if not kodak:
        raise SystemExit(f"no images in {arguments.data / 'kodak'}; say where they are with --data")
    # The first use compiles the kernel, or starts the device; that is not the fit's time.
    ns.fit(next(iter(kodak.values()))[:64, :64], device=arguments.device, max_steps=3)

    report["kodak"] = run_set("kodak", kodak, arguments.device, to_target=True)
    if div2k:
        report["div2k16"] = run_set("div2k16", div2k, arguments.device, to_target=False)
        report["div2k16"]["published"] = PUBLISHED
    image = next(iter(kodak.values()))
    report["floor"] = measure_floor("faithful", image, resolve_device(arguments.device), EFFORT)
    report["import_milliseconds"] = import_milliseconds()

    mean, median = report["kodak"]["mean"], report["kodak"]["median"]
    print(f"plain SIREN 5x256, one step over every pixel: {median['peer_step_seconds']:.2f} s (median)")
    print(f"ours to {TARGET:g} dB: {median['target_in_peer_steps']:.3f} of such a step (median)")
    print(f"ours to the end: {mean['psnr']:.2f} dB in {mean['seconds_in_peer_steps']:.3f} of such a step (means)")
    print(describe_floor(report))
    print(f"import napari_siren: {report['import_milliseconds']:.0f} ms")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
