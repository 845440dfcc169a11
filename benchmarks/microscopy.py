"""How close images of microscopes come to the truth: ours, and its rivals on the same machine in the same run.

    python -m benchmarks.microscopy [--kinds missing thick plane denoise blur burst] [--only WORD] [--images WORD]
        [--noise2void PYTHON] [--data FOLDER] [--device cpu] [--json FILE]

PSNR, SSIM, MicroSSIM (see `microscopy_sets`; it needs `pip install ".[bench]"`) and seconds an image, in the mean; and
what ours gain over each rival, in the mean and at the least.

The kinds: "missing", slices taken out of stacks; "thick", slices averaged along z; "plane", x2 of single images;
"denoise", one frame of 400; "blur", deconvolution; "burst", one image of eight frames.

Noise2Void needs a Python with the package `careamics`, which `--noise2void` names. It is left out without it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import napari_siren as ns
from benchmarks import machine, noise2void, noise2vst
from benchmarks import microscopy_rivals as rivals
from benchmarks.microscopy_rivals import CUBIC, DENOISERS, LINEAR, usable_denoisers
from benchmarks.microscopy_sets import KINDS, SCALE, Case, Given, Kind, cases, score
from napari_siren.core.storage.atomic import write_json

Blind = Callable[[Given], np.ndarray]
# What a method tells of itself goes into the report beside its figures.
Method = Callable[[Case], tuple[np.ndarray, dict[str, Any]]]

OURS = "ours"
_FLOAT = "float32"
# Half of an interval that holds 80 % of the values, over the mean absolute error: of Laplace's distribution; that of a
# normal one is the same to 1 in 1,000.
INTERVAL = float(np.log(5))
# By name, the seconds of the processor for which Noise2Void is trained; None is for its own number of epochs.
NOISE2VOID = {"Noise2Void, 10 s": 10.0, "Noise2Void, 30 s": 30.0, "Noise2Void, default": None}


def methods(kind: Kind, device: str, noise2void_python: Path | None = None) -> dict[str, Method]:
    """Give what does a kind of task, by name. Noise2Void needs a Python with CAREamics."""
    return {**_rivals(kind, noise2void_python), **_ours(kind, device)}


def _rivals(kind: Kind, noise2void_python: Path | None) -> dict[str, Method]:
    stacks: dict[str, Blind] = {
        "linear": partial(rivals.interpolated, order=LINEAR),
        "cubic spline": partial(rivals.interpolated, order=CUBIC),
        **{
            f"{name}, smoothed by {what}": partial(rivals.smoothed_and_interpolated, order=order, by=by)
            for what, by in (("pixels", rivals.by_pixels), ("slices", rivals.by_slices))
            for name, order in (("linear", LINEAR), ("cubic spline", CUBIC))
        },
    }
    denoisers = usable_denoisers(DENOISERS)
    blind: dict[Kind, dict[str, Blind]] = {
        "missing": stacks,
        "thick": stacks,
        "plane": {
            "bicubic": rivals.bicubic,
            "Lanczos": rivals.lanczos,
            "cubic spline": partial(rivals.interpolated, order=CUBIC),
            "bicubic, smoothed": rivals.smoothed_and_bicubic,
        },
        "denoise": {"the frame itself": as_given} | {name: partial(rivals.denoised, name=name) for name in denoisers},
        "blur": {"the data itself": as_given},
        "burst": {
            "first frame, bicubic": rivals.bicubic,
            "first frame, Lanczos": rivals.lanczos,
            "mean of aligned frames": rivals.mean_of_aligned,
            "shift-and-add": rivals.shift_and_add,
        },
    }
    found = {name: _told_nothing(way) for name, way in blind[kind].items()}
    if kind == "blur":
        found["Richardson-Lucy, best count"] = partial(_richardson_lucy, rivals.best_richardson_lucy)
        found["Richardson-Lucy, edges wrapped"] = partial(_richardson_lucy, rivals.best_wrapped_richardson_lucy)
    if kind == "denoise":
        found |= {f"Noise2VST, {steps} steps": partial(_noise2vst, steps) for steps in noise2vst.STEPS}
    if kind == "denoise" and noise2void_python is not None:
        found |= {name: partial(_noise2void, noise2void_python, limit) for name, limit in NOISE2VOID.items()}
    return found


def _ours(kind: Kind, device: str) -> dict[str, Method]:
    """Give our methods through the public interface, as it is."""

    def fill(given: Given) -> np.ndarray:
        options: dict[str, Any] = {"axes": given.axes, "spacing": given.spacing, "missing": given.missing}
        return _rendered(ns.fit(given.image, preset="upscale", device=device, **options), 1)

    def upscale(given: Given) -> np.ndarray:
        return ns.upscale(given.image, given.scale, axes=given.axes, spacing=given.spacing, device=device)

    def deblur(given: Given) -> np.ndarray:
        return _rendered(ns.fit(given.image, axes=given.axes, preset="deblur", psf=given.psf, device=device), 1)

    def join(given: Given) -> np.ndarray:
        return _rendered(ns.fit_burst(given.image, axes=given.axes, device=device), SCALE)

    def first_frame(given: Given) -> np.ndarray:
        return ns.upscale(given.image[0], given.scale, device=device)

    ways: dict[Kind, dict[str, Blind]] = {
        "missing": {OURS: fill},
        "thick": {OURS: upscale},
        "plane": {OURS: upscale},
        "blur": {OURS: deblur},
        "burst": {OURS: join, f"{OURS}, first frame": first_frame},
    }
    if kind == "denoise":
        return {OURS: partial(_denoised, device)}
    return {name: _told_nothing(way) for name, way in ways[kind].items()}


def _denoised(device: str, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
    """Denoise, and say how many true values the intervals hold that are to hold 80 %; their time does not count."""
    begin = time.perf_counter()
    result = ns.fit(case.given.image, preset="denoise", device=device)
    found = _rendered(result, 1)
    seconds = time.perf_counter() - begin
    held = np.abs(found - case.truth) <= INTERVAL * result.uncertainty(1)
    return found, {"seconds": seconds, "held": float(held.mean())}


def as_given(given: Given) -> np.ndarray:
    return given.image


def _told_nothing(way: Blind) -> Method:
    return lambda case: (way(case.given), {})


def _richardson_lucy(
    way: Callable[[Given, np.ndarray], tuple[np.ndarray, int]], case: Case
) -> tuple[np.ndarray, dict[str, Any]]:
    found, iterations = way(case.given, case.truth)
    return found, {"iterations": iterations}


def _noise2vst(steps: int, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
    """Denoise by Noise2VST, and report the error of the masked pixels with each network."""
    found, errors = noise2vst.denoise(case.given.image, steps)
    return found, {"masked_errors": errors}


def _noise2void(python: Path, limit: float | None, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
    """Denoise by Noise2Void. The start of the other Python does not count."""
    return noise2void.denoise(case.given.image, python, limit)


def _rendered(result: ns.FitResult, scale: int) -> np.ndarray:
    image: np.ndarray = result.render(scale=scale, dtype=_FLOAT)
    return image


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Do the tasks and judge; the report is written anew after each image, so that no end loses what was done."""
    report: dict[str, Any] = {
        "machine": machine.describe(options.device),
        "protocol": "PSNR, SSIM, MicroSSIM; peak: max - min of the truth; SSIMs of planes; of missing slices only",
        "kinds": {},
    }
    for kind in options.kinds:
        chosen = chosen_methods(methods(kind, options.device, options.noise2void), options.only)
        if not chosen:
            continue
        settings: dict[str, Any] = {}
        for case in cases(kind, options.data):
            if not any(word in case.name for word in options.images):
                continue
            rows = settings.setdefault(case.setting, {method: {"images": {}} for method in chosen})
            for method, way in chosen.items():
                figures = rows[method]["images"][case.name] = measure(way, case)
                console.print(f"{kind}, {case.setting}, {case.name}, {method}: {cell(figures)}", highlight=False)
            summarise(rows)
            report["kinds"][kind] = settings
            write_json(options.json, report)
    if not report["kinds"]:
        raise SystemExit(f"there is nothing to judge in {options.data}; say where the images are with --data")
    return report


def measure(way: Method, case: Case) -> dict[str, Any]:
    begin = time.perf_counter()
    found, told = way(case)
    seconds = time.perf_counter() - begin
    return {**asdict(score(found, case)), "seconds": seconds, **told}


def chosen_methods(every: dict[str, Method], words: list[str]) -> dict[str, Method]:
    """Give the methods with one of these words as a name, or else in it."""
    named = [word for word in words if word in every]
    others = [word for word in words if word not in every]
    return {name: way for name, way in every.items() if name in named or any(word in name for word in others)}


def summarise(rows: dict[str, Any]) -> None:
    """Add to each method its means, and to ours what they gain over each rival: "mean" and "least", in dB."""
    for method, row in rows.items():
        images = row["images"]
        keys = ("psnr", "ssim", "micro_ssim", "seconds")
        values = {key: [figures[key] for figures in images.values()] for key in keys}
        row["mean"] = {key: None if None in numbers else float(np.mean(numbers)) for key, numbers in values.items()}
        if not method.startswith(OURS):
            continue
        row["gains"] = {}
        for rival in (name for name in rows if not name.startswith(OURS)):
            gains = [figures["psnr"] - rows[rival]["images"][name]["psnr"] for name, figures in images.items()]
            row["gains"][rival] = {"mean": float(np.mean(gains)), "least": min(gains)}


def cell(figures: dict[str, Any]) -> str:
    """Lay out PSNR, SSIM, MicroSSIM where there is one, and seconds."""
    micro = "" if figures["micro_ssim"] is None else f"{figures['micro_ssim']:.4f}  "
    return f"{figures['psnr']:.2f}  {figures['ssim']:.4f}  {micro}{figures['seconds']:.2g} s"


def table_of(report: dict[str, Any], kind: str) -> Table:
    """Lay out a kind's means."""
    settings = report["kinds"][kind]
    table = Table("method", title=f"{kind}: PSNR in dB, SSIM, MicroSSIM (with microssim), seconds an image; means")
    for setting, rows in settings.items():
        count = len(next(iter(rows.values()))["images"])
        table.add_column(f"{setting} ({count})", justify="right", no_wrap=True)
    for method in next(iter(settings.values())):
        table.add_row(method, *(cell(rows[method]["mean"]) for rows in settings.values()))
    return table


def gains_of(report: dict[str, Any], kind: str) -> Table | None:
    """Lay out what ours gain; None where they did not run, or no rival did."""
    settings = report["kinds"][kind]
    first = next(iter(settings.values()))
    names = {method: list(row.get("gains", {})) for method, row in first.items()}
    against = max(names.values(), key=len)
    if not against:
        return None
    table = Table("setting", "method", title=f"{kind}: gain in dB in the mean (least on an image) over")
    for rival in against:
        table.add_column(rival, justify="right", no_wrap=True)
    for setting, rows in settings.items():
        for method in (name for name in names if names[name]):
            gains = rows[method]["gains"].values()
            table.add_row(setting, method, *(f"{gain['mean']:+.2f} ({gain['least']:+.2f})" for gain in gains))
    return table


def parse(options: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="methods with one of these as a name, or else in it"
    )
    parser.add_argument("--images", nargs="+", default=[""], metavar="WORD", help="those with one of these in the name")
    parser.add_argument("--noise2void", type=Path, metavar="PYTHON", help="a Python that has the package careamics")
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with microscopy/, kodak/ and div2k16/")
    parser.add_argument("--device", default="cpu", help="of the SIRENs")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-microscopy.json"))
    return parser.parse_args(options)


def main(options: list[str] | None = None) -> None:
    arguments = parse(options)
    console = Console(width=200)
    if "denoise" in arguments.kinds and not noise2void.usable(arguments.noise2void):
        console.print("Noise2Void is left out: --noise2void names no Python with CAREamics")
        arguments.noise2void = None
    every = [methods(kind, arguments.device, arguments.noise2void) for kind in arguments.kinds]
    if not any(chosen_methods(ways, arguments.only) for ways in every):
        names = ", ".join(name for ways in every for name in ways)
        raise SystemExit(f"no method has any of {arguments.only} in its name; there are: {names}")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    # The first use compiles the kernel, or starts the device; that is no method's time.
    ns.fit(np.eye(32, dtype=np.float32), device=arguments.device, max_steps=3)
    report = run(arguments, console)
    for kind in report["kinds"]:
        console.print(table_of(report, kind))
        if (gains := gains_of(report, kind)) is not None:
            console.print(gains)
    console.print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
