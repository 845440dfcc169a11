"""Failures of pretrained networks: the figures and the picture of docs/guide/pretrained.md.

    python -m benchmarks.limits [--parts failures degraded drawn] [--only WORD] [--picture FILE] [--data FOLDER]
        [--device cpu] [--json FILE]

PSNR in dB of images that are enlarged twice, by several methods; `limits_sets` describes the images. For the failures
the table has the PSNR of the part in the picture.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import napari_siren as ns
from benchmarks import interpolators, machine
from benchmarks.limits_sets import PARTS, SCALE, Enlargement, Part, enlargements
from benchmarks.microscopy import chosen_methods
from benchmarks.study_pictures import panels
from napari_siren.core.storage.atomic import write_json

Method = Callable[[np.ndarray], np.ndarray]

# Enlargement of the picture's pixels, gap between its parts, and quality of its WebP.
_ZOOM, _GAP, _QUALITY = 2, 6, 80
# Percentiles of a micrograph that are black and white in the picture.
_LIMITS = (0.5, 99.3)


def methods(part: Part, device: str) -> dict[str, Method]:
    """Return the methods for the images of a part, by name."""

    def upscale(low: np.ndarray, **options: Any) -> np.ndarray:
        return ns.fit(low, preset="upscale", detail=SCALE, device=device, **options).render(scale=SCALE)

    def denoise_first(low: np.ndarray) -> np.ndarray:
        return upscale(ns.fit(low, preset="denoise", device=device).reconstruction)

    found: dict[str, Method] = {"bicubic": bicubic, "auto": upscale}
    if part == "degraded":
        robust = str(files("napari_siren") / "weights" / "robust.safetensors")
        return {**found, "robust": lambda low: upscale(low, pretrained=robust)}
    if part == "failures":
        found["denoised first"] = denoise_first
    return {**found, "None": lambda low: upscale(low, pretrained=None)}


def bicubic(low: np.ndarray) -> np.ndarray:
    """Enlarge by bicubic interpolation."""
    if low.dtype == np.uint8:
        return interpolators.bicubic(low, SCALE)
    rows, columns = (n * SCALE for n in low.shape)
    return np.asarray(Image.fromarray(low.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC))


def run(options: argparse.Namespace, console: Console) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Enlarge and compare. Return the report, and the results of the failures by the names of their images."""
    report: dict[str, Any] = {"machine": machine.describe(options.device), "parts": {}}
    pictures: dict[str, dict[str, np.ndarray]] = {}
    for part in options.parts:
        chosen = chosen_methods(methods(part, options.device), options.only)
        for image in enlargements(part, options.data):
            rows = report["parts"].setdefault(part, {}).setdefault(image.setting, {}).setdefault(image.name, {})
            results = {}
            for method, way in chosen.items():
                begin = time.perf_counter()
                results[method] = way(image.low)
                seconds = time.perf_counter() - begin
                psnr = {"psnr": image.psnr(results[method]), "shown": image.psnr_shown(results[method])}
                rows[method] = {**psnr, "seconds": seconds}
                console.print(f"{image.setting}, {image.name}, {method}: {psnr['psnr']:.2f}", highlight=False)
            if part == "failures":
                pictures |= {f"{image.setting}, {image.name}": shown_parts(image, results)}
            write_json(options.json, report)
    if not report["parts"]:
        raise SystemExit(f"there are no images in {options.data}. Set their folder with --data.")
    return report, pictures


def shown_parts(image: Enlargement, results: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the part for the picture of the small image, of each result and of the true image, in 8 bits and RGB."""
    pixels = image.low.repeat(SCALE, 0).repeat(SCALE, 1)
    limits = (0.0, 255.0) if image.high.dtype == np.uint8 else tuple(np.percentile(image.high, _LIMITS))
    parts = {}
    for title, values in {"input": pixels, **results, "truth": image.high}.items():
        part = values[image.shown].astype(np.float64)
        part = np.rint(255 * np.clip((part - limits[0]) / (limits[1] - limits[0]), 0, 1)).astype(np.uint8)
        part = part if part.ndim == 3 else np.stack([part] * 3, axis=-1)
        parts[title] = part.repeat(_ZOOM, 0).repeat(_ZOOM, 1)
    return parts


def draw(path: Path, pictures: dict[str, dict[str, np.ndarray]]) -> None:
    """Write a picture of the failures: a row each, with input, bicubic interpolation, our result and the true image."""
    shown = {}
    for name, parts in pictures.items():
        titles = [title for title in ("input", "bicubic", "auto", "truth") if title in parts]
        gap = np.full((len(parts["input"]), _GAP, 3), 255, dtype=np.uint8)
        row = [array for title in titles for array in (parts[title], gap)]
        shown[f"{name}: {', '.join(titles)}"] = np.concatenate(row[:-1], axis=1)
    panels(path, shown, columns=1, quality=_QUALITY)


def table_of(report: dict[str, Any], part: Part) -> Table:
    """Return the PSNR of each image, or means over the images of a setting if each has several."""
    settings = report["parts"][part]
    names = list(next(iter(next(iter(settings.values())).values())))
    table, figure = Table(part, *names, title=f"{part}: PSNR in dB"), "shown" if part == "failures" else "psnr"
    for setting, images in settings.items():
        if part == "degraded":
            means = (np.mean([rows[name]["psnr"] for rows in images.values()]) for name in names)
            table.add_row(setting, *(f"{mean:.2f}" for mean in means))
            continue
        for image, rows in images.items():
            table.add_row(f"{setting}: {image}", *(f"{rows[name][figure]:.2f}" for name in names))
    return table


def parse(options: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="methods with this name, or with this word in it"
    )
    parser.add_argument("--picture", type=Path, default=None, help="file for the picture of the failures, WebP")
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with kodak/ and microscopy/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-limits.json"))
    return parser.parse_args(options)


def main(options: list[str] | None = None) -> None:
    arguments = parse(options)
    if not any(chosen_methods(methods(part, arguments.device), arguments.only) for part in arguments.parts):
        raise SystemExit(f"no method has any of {arguments.only} in its name.")
    console = Console(width=200)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    report, pictures = run(arguments, console)
    for part in report["parts"]:
        console.print(table_of(report, part))
    if arguments.picture is not None and pictures:
        draw(arguments.picture, pictures)
    console.print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
