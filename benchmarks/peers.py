"""PSNR over time of ours and of other ways to fit an image, on the same machine in the same run.

    python -m benchmarks.peers [--data FOLDER] [--device cpu] [--seconds 120] [--images 1] [--json FILE] [--only WORD]

Each contender has so many seconds for each Kodak image; ours end earlier where they are done. The table has the seconds
to some PSNRs, and the PSNR at equal times. The curves go to the JSON file, for `python -m benchmarks.peers_plot`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import napari_siren as ns
from benchmarks import machine
from benchmarks.curve import PUBLISHED, PUBLISHED_SOURCE, TARGETS, Curve, by_contender, mean
from benchmarks.peer import PLAIN, RECIPES, fit_peer

MOMENTS = (10.0, 30.0)
RATIO_TARGET = 44.0
OURS: dict[str, dict[str, Any]] = {
    "ours, faithful": {"preset": "faithful"},
    "ours, faithful to 44 dB": {"target_psnr": RATIO_TARGET},
    "ours, fast": {"preset": "fast"},
    "ours, upscale": {"preset": "upscale"},
    "ours, paper": {"preset": "paper"},
}

Contender = Callable[[str, np.ndarray, str, float], Curve]


def fit_ours(label: str, name: str, image: np.ndarray, device: str, limit: float) -> Curve:
    """Fit one of ours: from array to result, all included. The PSNR on the way is the fit's own, a bound from below."""
    options = {"device": device, **OURS[label]}
    # The first use compiles the kernel, or starts the device.
    ns.fit(image[:64, :64], max_steps=3, **options)
    curve = Curve(label, name)
    steps_seconds = []
    begin = before = time.perf_counter()
    steps = ns.fit_iter(image, max_seconds=limit, **options)
    for progress in steps:
        now = time.perf_counter()
        steps_seconds.append(now - before)
        before = now
        # It is looked at every few steps only.
        if not curve.psnr or progress.psnr != curve.psnr[-1]:
            curve.add(now - begin, progress.psnr)
    curve.add(time.perf_counter() - begin, steps.result.metrics.psnr)
    curve.parameters = steps.result.field.representation.parameters
    # The time may be over before the first step.
    curve.steps = len(steps_seconds)
    curve.step_seconds = float(np.median(steps_seconds)) if steps_seconds else time.perf_counter() - begin
    return curve


def contenders() -> dict[str, Contender]:
    """Give what fits and measures each contender, by its name."""
    ours = {label: lambda *case, label=label: fit_ours(label, *case) for label in OURS}
    return {**ours, **{recipe.name: lambda *case, recipe=recipe: fit_peer(recipe, *case) for recipe in RECIPES}}


def summarise(curves: list[Curve], limit: float) -> list[dict[str, Any]]:
    """Give a row for each contender: means over the images; None where one of them did not get there."""
    plain = mean(curve.step_seconds for curve in by_contender(curves).get(PLAIN.name, []))
    rows = []
    for name, group in by_contender(curves).items():
        to_target = mean(curve.seconds_to(RATIO_TARGET) for curve in group)
        rows.append(
            {
                "contender": name,
                "parameters": mean(curve.parameters for curve in group),
                "steps": mean(curve.steps for curve in group),
                "step_seconds": mean(curve.step_seconds for curve in group),
                "compile_seconds": mean(curve.compile_seconds for curve in group),
                "seconds": mean(curve.seconds[-1] for curve in group),
                "psnr": mean(curve.psnr[-1] for curve in group),
                "seconds_to": {f"{t:g}": mean(curve.seconds_to(t) for curve in group) for t in TARGETS},
                "psnr_at": {f"{m:g}": mean(curve.psnr_at(m) for curve in group) for m in (*MOMENTS, limit)},
                "plain_steps_to_44": None if plain is None or to_target is None else to_target / plain,
            }
        )
    return rows


def table_of(rows: list[dict[str, Any]], limit: float) -> Table:
    """Lay out the rows, and beneath them what has been published."""
    table = Table(title="seconds until so many dB are reached, and dB after so many seconds")
    table.add_column("contender", no_wrap=True)
    heads = ["parameters", "steps", "s / step", *(f"{t:g} dB" for t in TARGETS), "44 dB in\nplain steps"]
    heads += [*(f"{m:g} s" for m in (*MOMENTS, limit)), "end, dB", "end, s"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        at = [_decibels(psnr) for psnr in row["psnr_at"].values()]
        to = [_number(seconds) for seconds in row["seconds_to"].values()]
        sizes = [f"{row['parameters']:,.0f}", f"{row['steps']:.0f}", _number(row["step_seconds"])]
        ends = [_decibels(row["psnr"]), _number(row["seconds"])]
        table.add_row(row["contender"], *sizes, *to, _number(row["plain_steps_to_44"]), *at, *ends)
    table.add_section()
    for entry in PUBLISHED:
        blanks = [""] * (len(heads) - 2)
        table.add_row(f"{entry['name']} (published, V100)", *blanks, _decibels(entry["psnr"]), f"{entry['seconds']:g}")
    table.caption = f"Published: quoted from {PUBLISHED_SOURCE}; other hardware, not measured here."
    return table


def report_of(curves: list[Curve], skipped: dict[str, str], device: str, limit: float) -> dict[str, Any]:
    """Give all that is kept."""
    return {
        "machine": machine.describe(device),
        "limit_seconds": limit,
        "contenders": summarise(curves, limit),
        "skipped": skipped,
        "published": {"source": PUBLISHED_SOURCE, "figures": list(PUBLISHED)},
        "curves": [asdict(curve) for curve in curves],
    }


def run(pictures: dict[str, np.ndarray], device: str, limit: float, only: str, path: Path) -> dict[str, Any]:
    """Fit every contender to every image; the file is written anew after each, so that no end loses what was done."""
    console = Console(width=180)
    curves: list[Curve] = []
    skipped: dict[str, str] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = {label: fit for label, fit in contenders().items() if only in label}
    for name, image in pictures.items():
        for label, fit in chosen.items():
            try:
                curve = fit(name, image, device, limit)
            except RuntimeError as error:  # a package, a device, a compiler or memory that is not there
                skipped[label] = str(error)
                console.print(f"{label}: left out. {error}", markup=False)
                continue
            curves.append(curve)
            console.print(
                f"{label}, {name}: {curve.psnr[-1]:.2f} dB in {curve.seconds[-1]:.3g} s, {curve.steps} steps"
                + (f"; compiled in {curve.compile_seconds:.1f} s, not counted" if curve.compile_seconds else "")
            )
            report = report_of(curves, skipped, device, limit)
            path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if not curves:
        raise SystemExit(f"nothing was fitted: {skipped or f'no contender has {only!r} in its name'}")
    report = report_of([c for c in curves if c.name not in skipped], skipped, device, limit)
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console.print(table_of(report["contenders"], limit))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with kodak/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each contender and image")
    parser.add_argument("--images", type=int, default=1, help="the first N")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-peers.json"))
    parser.add_argument("--only", default="", help="contenders with this in their names")
    arguments = parser.parse_args()

    pictures = dict(list(machine.images(arguments.data, "kodak").items())[: arguments.images])
    if not pictures:
        raise SystemExit(f"no images in {arguments.data / 'kodak'}; say where they are with --data")
    report = run(pictures, arguments.device, arguments.seconds, arguments.only, arguments.json)
    rows = {row["contender"]: row for row in report["contenders"]}
    if PLAIN.name in rows:
        step = rows[PLAIN.name]["step_seconds"]
        print(f"one step of the plain SIREN over every pixel: {step:.3g} s (median)")
        for label in [label for label in OURS if label in rows]:
            seconds, psnr = rows[label]["seconds"], rows[label]["psnr"]
            print(f"{label}: {psnr:.2f} dB in {seconds:.3g} s = {seconds / step:.2f} of its steps")
    print(f"written to {arguments.json}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
