"""How close upscaled images are to the truth: ours, and its rivals on the same machine in the same run.

    python -m benchmarks.upscale [--cases standard noise cifar aliased] [--sets Set5 Set14] [--scales 2 3 4]
        [--images N] [--only WORD] [--networks FOLDER] [--consistency] [--trust] [--pictures FOLDER] [--data FOLDER]
        [--device cpu] [--json FILE]

Means over a set of luminance PSNR and SSIM by the usual protocol (see `upscale_sets`), and seconds an image; with
published figures beside. The cases: "standard", the sets at the scales; "noise", Gaussian of 2 % and 5 % of the range
added to the small images of Set5 at x2; "cifar", ten images of 32 x 32, x2 from their copies of 16 x 16; "aliased",
Set5 at the scales with small images that are reduced without antialiasing, as the images on which the networks of
`upscale_networks` were trained. `--networks` adds these networks.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from skimage.io import imsave

import napari_siren as ns
from benchmarks import machine
from benchmarks.interpolators import bicubic, cubic_spline, lanczos, nearest
from benchmarks.pixel_grid import pixel_grid
from benchmarks.rectified import rectified
from benchmarks.trust import judge_image
from benchmarks.upscale_networks import colour_networks, networks
from benchmarks.upscale_sets import (
    NAMES,
    NOISES,
    SCALES,
    Pair,
    aliased,
    consistency,
    read_set,
    read_shrunk,
    score,
    with_noise,
)
from napari_siren.core.settings.config import detail_for
from napari_siren.core.storage.atomic import write_json

Method = Callable[[np.ndarray, int], np.ndarray | ns.FitResult]

CASES = ("standard", "noise", "cifar", "aliased")
# In place of the preset's 2,000.
QUICK_STEPS = 200
# No image should come out worse than by these.
SAFE = ("bicubic", "Lanczos")

# Means of PSNR over the set at x2, x3 and x4.
PUBLISHED: dict[str, dict[str, Any]] = {
    "SRCNN": {
        "source": "README of jbhuang0604/SelfExSR; trained on other images",
        "Set5": (36.28, 32.37, 30.08),
        "Set14": (32.00, 28.90, 27.13),
    },
    "SelfExSR": {
        "source": "Huang et al., CVPR 2015, and its README; one image only",
        "Set5": (36.50, 32.62, 30.33),
        "Set14": (32.23, 29.16, 27.40),
    },
    "ZSSR": {
        "source": "Shocher et al., CVPR 2018, arXiv 1712.06087; one image only",
        "Set5": (37.37, 33.42, 31.13),
        "Set14": (33.00, 29.80, 28.01),
    },
    "VDSR": {
        "source": "Kim et al., CVPR 2016, arXiv 1511.04587; trained on other images",
        "Set5": (37.53, 33.66, 31.35),
        "Set14": (33.03, 29.77, 28.01),
    },
}


def methods(device: str) -> dict[str, Method]:
    """Give what upscales, by name: from a small image, uint8 (rows, columns) or (rows, columns, 3), and a scale."""
    return {
        "nearest": nearest,
        "bicubic": bicubic,
        "Lanczos": lanczos,
        "cubic spline": cubic_spline,
        "point-fitted SIREN": lambda low, scale: ns.fit(low, device=device).render(scale=scale),
        "pixel grid, TV": pixel_grid,
        "ours, tiles alone": lambda low, scale: ns.upscale(low, scale, device=device, task_steps=0),
        "ours, quick": lambda low, scale: ns.upscale(
            low, scale, device=device, pretrained=None, task_steps=QUICK_STEPS
        ),
        "ours, from the image alone": lambda low, scale: ns.upscale(low, scale, device=device, pretrained=None),
        "ours, rectifiers for sines": lambda low, scale: rectified(low, scale, device),
        # As `ns.upscale`, which does not give the fit.
        "ours": lambda low, scale: ns.fit(low, preset="upscale", detail=detail_for(scale), device=device),
    }


def cases(options: argparse.Namespace) -> Iterator[tuple[str, str, list[Pair]]]:
    """Give the kind of each case, its name and its pairs."""
    if "standard" in options.cases:
        for name in options.sets:
            for scale in options.scales:
                yield "standard", f"{name} x{scale}", read_set(options.data, name, scale, options.images)
    if "noise" in options.cases:
        for share in NOISES:
            pairs = read_set(options.data, "Set5", 2, options.images)
            yield "noise", f"Set5 x2, noise {share:.0%}", with_noise(pairs, share)
    if "cifar" in options.cases:
        yield "cifar", "CIFAR x2", read_shrunk(options.data, "cifar", 2, options.images)
    if "aliased" in options.cases:
        for scale in options.scales:
            pairs = read_set(options.data, "Set5", scale, options.images)
            yield "aliased", f"Set5 x{scale}, aliased", aliased(pairs)


def scales_of(options: argparse.Namespace) -> list[int]:
    """Return the scales of the cases."""
    scaled = set(options.scales) if {"standard", "aliased"} & set(options.cases) else set()
    return sorted(scaled | ({2} if {"noise", "cifar"} & set(options.cases) else set()))


def run(chosen: dict[str, Method], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Upscale and judge; the report is written anew after each image, so that no end loses what was done."""
    report: dict[str, Any] = {
        "machine": machine.describe(options.device),
        "protocol": "luminance Y of 8-bit results (grey as it is), border of the scale cropped, peak 255; means",
        "published": PUBLISHED,
        "cases": {},
    }
    for kind, name, pairs in cases(options):
        if not pairs:
            raise SystemExit(f"there are no images for {name} in {options.data}; say where they are with --data")
        rows: dict[str, Any] = {method: {"images": {}} for method in chosen}
        report["cases"][name] = {"kind": kind, "methods": rows}
        for pair in pairs:
            for method, upscale in chosen.items():
                made, found, figures = measure(upscale, pair, with_consistency=options.consistency)
                rows[method]["images"][pair.name] = figures
                if options.trust and isinstance(made, ns.FitResult):
                    rows[method].setdefault("trust", {})[pair.name] = trust_in(made, found, pair)
                if options.pictures is not None:
                    keep(options.pictures / slug(name) / pair.name, {method: found, "truth": pair.high})
                console.print(f"{name} {pair.name}, {method}: {cell(figures)}", highlight=False)
            summarise(rows)
            write_json(options.json, report)
    return report


def measure(
    upscale: Method, pair: Pair, *, with_consistency: bool = False
) -> tuple[np.ndarray | ns.FitResult, np.ndarray, dict[str, float]]:
    """Give what a method made, the image, and its figures."""
    begin = time.perf_counter()
    made = upscale(pair.low, pair.scale)
    found = made.render(scale=pair.scale) if isinstance(made, ns.FitResult) else made
    seconds = time.perf_counter() - begin
    figures = {**asdict(score(found, pair.high, pair.scale)), "seconds": seconds}
    if with_consistency:
        figures["consistency"] = consistency(found, pair.low, pair.scale)
    return made, found, figures


def trust_in(result: ns.FitResult, found: np.ndarray, pair: Pair) -> dict[str, Any]:
    """Judge the uncertainty of a fit."""
    begin = time.perf_counter()
    uncertainty = result.uncertainty(pair.scale)
    seconds = time.perf_counter() - begin
    trust = judge_image(uncertainty, found, pair.high, pair.scale)
    return {
        "rank_correlation": trust.rank_correlation,
        "ratio": trust.ratio,
        "gain": trust.gain,
        "worst_tenth": trust.held_by_worst(0.1),
        "seconds": seconds,
        "curve": trust.curve.tolist(),
        "oracle": trust.oracle.tolist(),
    }


def keep(folder: Path, pictures: dict[str, np.ndarray]) -> None:
    """Write pictures as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        imsave(folder / f"{slug(name)}.png", picture, check_contrast=False)


def slug(name: str) -> str:
    """Give a name as that of a file."""
    return re.sub(r"\W+", "-", name).strip("-")


def summarise(rows: dict[str, Any]) -> None:
    """Add to each method its means, and the least that it gains on an image over the better of the safe ones."""
    safe = [rows[method]["images"] for method in SAFE if method in rows]
    for row in rows.values():
        images = row["images"]
        row["mean"] = {key: float(np.mean([f[key] for f in images.values()])) for key in next(iter(images.values()))}
        gains = [f["psnr"] - max(other[name]["psnr"] for other in safe) for name, f in images.items() if safe]
        row["least_gain"] = min(gains, default=None)
        if "trust" in row:
            keys = ("rank_correlation", "ratio", "gain", "worst_tenth", "seconds")
            row["mean_trust"] = {key: float(np.mean([t[key] for t in row["trust"].values()])) for key in keys}


def cell(figures: dict[str, float]) -> str:
    """Lay out PSNR, SSIM and seconds."""
    return f"{figures['psnr']:.2f}  {figures['ssim']:.4f}  {figures['seconds']:.2g} s"


def table_of(report: dict[str, Any], kind: str) -> Table | None:
    """Lay out the cases of a kind, and beneath them what has been published about them; None without any."""
    named = {name: case["methods"] for name, case in report["cases"].items() if case["kind"] == kind}
    if not named:
        return None
    table = Table("method", title=f"{kind}: PSNR in dB, SSIM, seconds an image; means")
    for name in named:
        table.add_column(name, justify="right", no_wrap=True)
    for method in next(iter(named.values())):
        table.add_row(method, *(cell(rows[method]["mean"]) for rows in named.values()))
    if kind == "standard":
        table.add_section()
        for name, figures in report["published"].items():
            table.add_row(f"{name} (published)", *(published(figures, case) for case in named))
        sources = [f"{name}: {figures['source']}" for name, figures in report["published"].items()]
        table.caption = "\n".join(["Published: quoted, not measured here.", *sources])
    return table


def published(figures: dict[str, Any], case: str) -> str:
    name, scale = case.split(" x")
    return f"{figures[name][SCALES.index(int(scale))]:.2f}"


def other_table(report: dict[str, Any], title: str, value: Callable[[dict[str, Any]], float | None]) -> Table:
    """Lay out one more figure of each method in each case, in dB."""
    table = Table("method", title=title)
    named = report["cases"]
    for name in named:
        table.add_column(name, justify="right", no_wrap=True)
    for method in next(iter(named.values()))["methods"]:
        values = [value(case["methods"][method]) for case in named.values()]
        table.add_row(method, *("-" if v is None else f"{v:.2f}" for v in values))
    return table


def parse(options: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--sets", nargs="+", choices=tuple(NAMES), default=tuple(NAMES))
    parser.add_argument("--scales", nargs="+", type=int, choices=SCALES, default=SCALES)
    parser.add_argument("--images", type=int, default=None, help="only the first N of each set")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="methods with one of these as a name, or else in it"
    )
    parser.add_argument(
        "--networks",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="folder with FSRCNN_x2.pb etc. (opencv-contrib-python-headless), realesr-animevideov3-x2.bin etc. (ncnn)",
    )
    parser.add_argument("--consistency", action="store_true", help="see results through the forward model, too: dB")
    parser.add_argument("--trust", action="store_true", help="judge the uncertainty that ours tells, too")
    parser.add_argument("--pictures", type=Path, default=None, help="folder to put all results in")
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with sr/Set5, sr/Set14 and cifar/")
    parser.add_argument("--device", default="cpu", help="of the SIRENs")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-upscale.json"))
    return parser.parse_args(options)


def main(options: list[str] | None = None) -> None:
    arguments = parse(options)
    console = Console(width=200)
    every = methods(arguments.device)
    if arguments.networks is not None:
        for read in (networks, colour_networks):
            rivals, skipped = read(arguments.networks, scales_of(arguments))
            every |= rivals
            for line in skipped:
                console.print(line, highlight=False)
    named = [word for word in arguments.only if word in every]
    words = [word for word in arguments.only if word not in every]
    chosen = {name: way for name, way in every.items() if name in named or any(word in name for word in words)}
    if not chosen:
        raise SystemExit(f"no method has any of {arguments.only} in its name; there are: {', '.join(every)}")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    # The first use compiles the kernel, or starts the device; that is no method's time.
    ns.fit(np.eye(32, dtype=np.float32), device=arguments.device, max_steps=3)
    report = run(chosen, arguments, console)
    for kind in CASES:
        if (table := table_of(report, kind)) is not None:
            console.print(table)
    title = f"least gain on an image over the better of {' and '.join(SAFE)}, dB"
    console.print(other_table(report, title, lambda row: row["least_gain"]))
    if arguments.consistency:
        title = "consistency: the result seen through the forward model against the small image, dB; means"
        console.print(other_table(report, title, lambda row: row["mean"]["consistency"]))
    if arguments.trust:
        for key in ("rank_correlation", "ratio"):
            title = f"uncertainty against true errors of luminance: {key.replace('_', ' ')}; means"
            console.print(other_table(report, title, lambda row, key=key: row.get("mean_trust", {}).get(key)))
    console.print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
