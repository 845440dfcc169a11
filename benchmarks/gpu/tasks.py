"""Parts of `benchmarks.gpu`: enlarging, training, a large image, and the peers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.io import imread

import napari_siren as ns
from benchmarks import machine
from benchmarks import peers as peers_benchmark
from benchmarks.ceilings import synchronise
from benchmarks.gpu.parts import Found, Options, Save
from benchmarks.interpolators import bicubic
from benchmarks.upscale_sets import read_set, score
from napari_siren.core.settings.config import detail_for

ROOT = Path(__file__).parents[2]
LARGE = Path("large") / "earth_8192x4096.jpg"
CONTENDERS = (
    "ours, faithful",
    "plain SIREN",
    "plain SIREN, compiled, bfloat16",
    "siren-pytorch",
    "WIRE",
    "FINER",
    "hash",
)


def enlarging(options: Options, save: Save) -> Found:
    """Enlarge Set5 by 2 and by 4, from each image alone: luminance PSNR and seconds, bicubic beside."""
    found: Found = {"cases": {}}
    begin, slowest = time.perf_counter(), 0.0
    for scale in (2, 4):
        for pair in read_set(options.data, "Set5", scale, 1 if options.rehearse else None)[::-1]:
            if time.perf_counter() - begin + slowest > options.seconds:
                return found
            low = pair.low[:24, :24] if options.rehearse else pair.low
            high = pair.high[: scale * len(low), : scale * low.shape[1]]
            steps = {"task_steps": 5, "max_steps": 5} if options.rehearse else {}
            started = time.perf_counter()
            fitted = ns.fit(low, preset="upscale", detail=detail_for(scale), device=options.device, **steps)
            made = fitted.render(scale=scale)
            seconds = time.perf_counter() - started
            slowest = max(slowest, seconds)
            row = {
                "psnr": score(made, high, scale).psnr,
                "bicubic": score(bicubic(low, scale), high, scale).psnr,
                "seconds": seconds,
                "pixels": int(np.prod(made.shape[:2])),
            }
            found["cases"].setdefault(f"x{scale}", {})[pair.name] = row
            save(found)
    return found


def enlarging_lines(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for scale, rows in found["cases"].items():
        mean = {key: np.mean([row[key] for row in rows.values()]) for key in ("psnr", "bicubic", "seconds")}
        each = ", ".join("{} {psnr:.2f} in {seconds:.1f} s".format(name, **row) for name, row in rows.items())
        lines.append(
            f"Set5 {scale}, {len(rows)} images: {mean['psnr']:.2f} dB (bicubic {mean['bicubic']:.2f}), "
            f"{mean['seconds']:.1f} s an image: {each}"
        )
    return lines


def training(options: Options, save: Save) -> Found:
    """Train the learned start, where its script and the photographs are there."""
    script, photographs = ROOT / "training" / "run.py", options.data / "photos"
    if not (script.exists() and photographs.exists()):
        return {"skipped": "there is no training yet" if not script.exists() else "the photographs are not there"}
    minutes = 0.05 if options.rehearse else options.seconds / 60 - 0.5
    out = options.out / "training"
    command = [
        sys.executable,
        "-m",
        "training.run",
        "enlarge",
        "--data",
        str(photographs),
        "--minutes",
        f"{minutes:.2f}",
    ]
    command += ["--device", options.device, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (options.out / "training.txt").write_text(done.stdout + done.stderr)
    return {"status": done.returncode, "end": (done.stdout or done.stderr)[-1500:], "minutes": minutes}


def training_lines(found: Mapping[str, Any]) -> list[str]:
    return [found["skipped"]] if "skipped" in found else found["end"].strip().splitlines()[-4:]


def large(options: Options, save: Save) -> Found:
    """Fit a map of 33 megapixels, `fast` and `faithful`: seconds, PSNR, and the peak of the device's memory."""
    path = options.data / LARGE
    image = imread(path) if path.exists() else np.zeros((0, 0, 3), np.uint8)
    if options.rehearse:
        image = image[:96, :96]
    found: Found = {"megapixels": image.shape[0] * image.shape[1] / 1e6, "presets": {}}
    if not image.size:
        return {**found, "skipped": f"{path} is not there"}
    ns.fit(image[:256, :256], device=options.device, max_steps=12)
    for preset in ("fast", "faithful"):
        if options.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        steps = {"max_steps": 5} if options.rehearse else {}
        result = ns.fit(image, preset=preset, device=options.device, **steps)
        synchronise(torch.device(options.device))
        row = {"seconds": time.perf_counter() - begin, "psnr": result.metrics.psnr}
        row["stepping_seconds"] = result.history.seconds[-1]
        row["peak_bytes"] = torch.cuda.max_memory_allocated() if options.device == "cuda" else 0
        row["events"] = result.history.events
        found["presets"][preset] = row
        save(found)
        begin = time.perf_counter()
        result.render(scale=0.5)
        row["half_size_render_seconds"] = time.perf_counter() - begin
        save(found)
        del result
    return found


def large_lines(found: Mapping[str, Any]) -> list[str]:
    return [
        f"{found['megapixels']:.1f} megapixels, {preset}: {row['psnr']:.2f} dB in {row['seconds']:.1f} s (of it "
        f"{row['stepping_seconds']:.1f} in steps), peak {row['peak_bytes'] / 1e9:.1f} GB"
        for preset, row in found["presets"].items()
    ]


def peers(options: Options, save: Save) -> Found:
    """Give each contender the same seconds for one photograph."""
    pictures = dict(list(machine.images(options.data, "kodak").items())[:1])
    limit = 10.0
    if options.rehearse:
        pictures, limit = {name: image[:32, :32] for name, image in pictures.items()}, 0.3
    chosen = peers_benchmark.contenders()
    found: Found = {"limit_seconds": limit, "contenders": {}}
    for label, fit in chosen.items():
        # Compilers take minutes of a rehearsal.
        if not label.startswith(CONTENDERS) or (options.rehearse and "compiled" in label):
            continue
        for name, image in pictures.items():
            try:
                curve = fit(name, image, options.device, limit)
            except RuntimeError as error:  # a package, a compiler or memory that is not there
                found["contenders"][label] = {"skipped": str(error)[:200]}
                continue
            found["contenders"][label] = {
                "psnr": curve.psnr[-1],
                "seconds": curve.seconds[-1],
                "steps": curve.steps,
                "step_seconds": curve.step_seconds,
                "seconds_to": {f"{t:g}": curve.seconds_to(t) for t in (30, 35, 40, 44)},
                "parameters": curve.parameters,
                "compile_seconds": curve.compile_seconds,
            }
        save(found)
    return found


def peers_lines(found: Mapping[str, Any]) -> list[str]:
    def told(row: Mapping[str, Any]) -> str:
        if "skipped" in row:
            return "left out"
        return f"{row['psnr']:.1f} dB in {row['seconds']:.2g} s ({1000 * row['step_seconds']:.2g} ms a step)"

    rows = [f"{label}: {told(row)}" for label, row in found["contenders"].items()]
    return ["; ".join(rows[i : i + 3]) for i in range(0, len(rows), 3)]
