"""Denoising of pictures: ours and other methods, on the same machine in the same run.

    python -m benchmarks.denoise [--kinds photographs micrographs] [--images N] [--only WORD] [--bm3d PYTHON]
        [--data FOLDER] [--device cpu] [--json FILE]

PSNR in dB and seconds an image, means over the images; `denoise_sets` describes the images. The report also has the
seconds of the processor, on which other programs have less influence. Ours runs through the public interface, as it is:
"blind" estimates the noise from the image, "noise given" has the parameters of the camera. Gaussian filter, non-local
means, total variation and wavelets have the settings that are best by comparison with the true image; their seconds are
those of a single filter with these settings. Wavelets need PyWavelets, and are left out without it. BM3D has the noise
given, or for micrographs that of our noise model, and for photons the generalised Anscombe transform. It needs a Python
with the package `bm3d`, which `--bm3d` names.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import napari_siren as ns
from benchmarks import bm3d_process, machine
from benchmarks.denoise_sets import KINDS, Case, Kind, Noise, cases
from benchmarks.microscopy import chosen_methods
from benchmarks.microscopy_rivals import DENOISERS, usable_denoisers
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.record import noise_record
from napari_siren.core.storage.atomic import write_json

# The second result has further figures for the report. Its seconds replace the measured ones.
Method = Callable[[Case], tuple[np.ndarray, dict[str, Any]]]

OURS = "ours"
TIMES = ("seconds", "processor_seconds")
RIVALS = ("Gaussian", "non-local means", "total variation", "wavelet")
# Gain of noise without photons: `camera_gain` has to be positive.
_NO_PHOTONS = 1e-9


def methods(kind: Kind, device: str, bm3d: Path | None) -> dict[str, Method]:
    """Return the methods for a kind of images, by name."""
    found: dict[str, Method] = {"noisy": lambda case: (case.noisy, {})}
    found |= {f"{name}, set by the truth": partial(best_by_truth, name=name) for name in usable_denoisers(RIVALS)}
    if kind == "photographs" and bm3d is not None:
        found["BM3D, noise given"] = partial(by_bm3d, python=bm3d)
    if kind == "micrographs" and bm3d is not None:
        found["BM3D, noise estimated by ours"] = partial(by_bm3d, python=bm3d)
    found[f"{OURS}, blind"] = partial(ours, device=device)
    if kind == "photographs":
        found[f"{OURS}, noise given"] = lambda case: ours(case, device, **camera(case))
    return found


def ours(case: Case, device: str, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Denoise by the preset."""
    result = ns.fit(case.noisy, preset="denoise", device=device, **options)
    denoised: np.ndarray = result.render(dtype="float32")
    return denoised, {"weights": result.provenance.get("pretrained", {}).get("weights")}


def camera(case: Case) -> dict[str, float]:
    """Return the settings for a known noise."""
    assert case.noise is not None
    return {"camera_gain": case.noise.gain or _NO_PHOTONS, "camera_offset": 0.0, "read_noise": case.noise.deviation}


def best_by_truth(case: Case, name: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Denoise by one of `DENOISERS`, with the settings of the largest PSNR."""
    denoiser, choices = DENOISERS[name]
    low, span = float(case.noisy.min()), float(np.ptp(case.noisy)) or 1.0
    scaled = (case.noisy.astype(np.float64) - low) / span
    best, details = scaled, {}
    for values in product(*choices.values()):
        settings = dict(zip(choices, values, strict=True))
        begin = clocks()
        result = denoiser(scaled, **settings)
        duration = since(begin)
        if not details or case.psnr(low + span * result) > case.psnr(low + span * best):
            best, details = result, {"settings": settings, **duration}
    return low + span * best, details


def by_bm3d(case: Case, python: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Denoise by BM3D in another Python, with the known noise, or with the noise that our model finds in the image."""
    noise, dark = (case.noise, 0.0) if case.noise is not None else estimated_noise(case.noisy)
    photons = noise.gain > 0
    values = anscombe(case.noisy - dark, noise) if photons else case.noisy
    sigma = 1.0 if photons else noise.deviation
    with tempfile.TemporaryDirectory() as folder:
        image, result = Path(folder) / "image.npy", Path(folder) / "result.npy"
        np.save(image, values.astype(np.float64))
        command = [python, bm3d_process.__file__, image, result, str(sigma)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        denoised: np.ndarray = np.load(result)
    seconds = dict(zip(TIMES, map(float, printed.split()), strict=True))
    return inverse_anscombe(denoised, noise) + dark if photons else denoised, seconds


def estimated_noise(noisy: np.ndarray) -> tuple[Noise, float]:
    """Return the noise that our model finds in an image, and the value of a pixel without light.

    The model does not separate that value from the read noise. A negative variance at 0 is put down to the value alone.
    """
    found = noise_record(Samples.from_array(noisy.astype(np.float32)), ns.FitConfig.preset("denoise"))
    [gain], [at_zero], [least] = (found[name] for name in ("gain", "variance_at_zero", "least_deviation"))
    if gain == 0:
        return Noise(0.0, least), 0.0
    return Noise(gain, float(np.sqrt(max(0.0, at_zero)))), max(0.0, -at_zero / gain)


def anscombe(values: np.ndarray, noise: Noise) -> np.ndarray:
    """Transform values to noise of unit variance (Starck, Murtagh and Bijaoui 1998)."""
    counts, read = values / noise.gain, noise.deviation / noise.gain
    transformed: np.ndarray = 2 * np.sqrt(np.maximum(counts + 3 / 8 + read**2, 0))
    return transformed


def inverse_anscombe(transformed: np.ndarray, noise: Noise) -> np.ndarray:
    """Invert the expected transform: the closed form of the exact unbiased inverse.

    Makitalo and Foi 2013, doi 10.1109/TIP.2012.2202675.
    """
    d, read = np.maximum(transformed, 1e-3), noise.deviation / noise.gain
    root = np.sqrt(3 / 2)
    counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8 - read**2
    # Below the transform of a signal of 0, the closed form has no meaning.
    least = 2 * np.sqrt(3 / 8 + read**2)
    values: np.ndarray = noise.gain * np.where(d < least, 0.0, np.maximum(counts, 0.0))
    return values


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Denoise and compare. The report is written after each image, so nothing is lost by an interruption."""
    report: dict[str, Any] = {
        "machine": machine.describe(options.device),
        "protocol": "PSNR of unrounded results; peak: 255 for photographs, max - min of the truth for micrographs",
        "kinds": {},
    }
    for kind in options.kinds:
        chosen = chosen_methods(methods(kind, options.device, options.bm3d), options.only)
        if not chosen:
            continue
        settings: dict[str, Any] = {}
        for case in cases(kind, options.data, options.images):
            rows = settings.setdefault(case.setting, {method: {"images": {}} for method in chosen})
            for method, way in chosen.items():
                figures = rows[method]["images"][case.name] = measure(way, case)
                console.print(f"{case.setting}, {case.name}, {method}: {cell(figures)}", highlight=False)
            for row in rows.values():
                images = row["images"].values()
                row["mean"] = {key: float(np.mean([f[key] for f in images])) for key in ("psnr", *TIMES)}
            report["kinds"][kind] = settings
            write_json(options.json, report)
    if not report["kinds"]:
        raise SystemExit(f"there are no images in {options.data}. Set their folder with --data.")
    return report


def measure(way: Method, case: Case) -> dict[str, Any]:
    """Return the figures of a method for an image."""
    begin = clocks()
    result, details = way(case)
    return {"psnr": case.psnr(result), **since(begin), **details}


def clocks() -> tuple[float, float]:
    """Return the time of the clock and of the processor, in seconds."""
    return time.perf_counter(), time.process_time()


def since(begin: tuple[float, float]) -> dict[str, float]:
    """Return the seconds of both clocks since a moment."""
    return {name: end - start for name, start, end in zip(TIMES, begin, clocks(), strict=True)}


def cell(figures: dict[str, Any]) -> str:
    """Return PSNR and seconds as text."""
    return f"{figures['psnr']:.2f}  {figures['seconds']:.2g} s"


def table_of(report: dict[str, Any], kind: str) -> Table:
    """Return the means of a kind. Few images have a column each."""
    settings = report["kinds"][kind]
    table = Table("method", title=f"{kind}: PSNR in dB, seconds an image")
    first = next(iter(settings.values()))
    for setting in settings:
        table.add_column(f"{setting}, mean", justify="right", no_wrap=True)
    names = list(next(iter(first.values()))["images"]) if len(settings) == 1 else []
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for method in first:
        means = [cell(rows[method]["mean"]) for rows in settings.values()]
        table.add_row(method, *means, *(f"{first[method]['images'][name]['psnr']:.2f}" for name in names))
    return table


def parse(options: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--images", type=int, default=None, metavar="N", help="only the first N images of each kind")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="methods with this name, or with this word in it"
    )
    parser.add_argument("--bm3d", type=Path, default=None, metavar="PYTHON", help="a Python that has the package bm3d")
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with kodak/ and microscopy/")
    parser.add_argument("--device", default="cpu", help="device of ours")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-denoise.json"))
    return parser.parse_args(options)


def main(options: list[str] | None = None) -> None:
    arguments = parse(options)
    every = [name for kind in arguments.kinds for name in methods(kind, arguments.device, arguments.bm3d)]
    if not any(chosen_methods(dict.fromkeys(every), arguments.only)):
        raise SystemExit(f"no method has any of {arguments.only} in its name. There are: {', '.join(every)}.")
    console = Console(width=200)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    # The first use compiles the kernel, or starts the device. Its time is not counted.
    ns.fit(np.eye(32, dtype=np.float32), preset="denoise", device=arguments.device)
    report = run(arguments, console)
    for kind in report["kinds"]:
        console.print(table_of(report, kind))
    console.print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
