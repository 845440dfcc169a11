"""Parts of `benchmarks.gpu`: how fast a fit is, and what bounds it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import napari_siren as ns
from benchmarks import machine
from benchmarks.ceilings import DTYPES, QUICK, Effort, copy_rate, large_product, sine_rate, synchronise, time_of
from benchmarks.gpu.parts import Found, Options, Save
from benchmarks.peer import seconds_per_step
from benchmarks.roofline import measure_preset
from napari_siren.core.engines import TorchEngine, TritonEngine
from napari_siren.core.engines.triton.engine import Tuning
from napari_siren.core.image.samples import Samples
from napari_siren.core.training.trainer import TileTrainer

TARGET, TARGET_STEPS, PEER_STEPS = 44.0, 200, 3
# A GPU is slow until it has been busy for a while.
WARM_UP_SECONDS = 0.3
FAST = Effort(repeats=5, seconds=0.02, steps=60, side=8192, far=1 << 30, near=1 << 20)
LAYOUTS = ((32, 4), (64, 4), (16, 2), (32, 2), (16, 1), (64, 8))
PROGRAMS = (1, 264, 1024)


def fits(options: Options, save: Save) -> Found:
    """Fit photographs to the end, and to 44 dB, beside a step of the plain SIREN in float32."""
    found: Found = {"images": {}}
    pictures = _pictures(options)
    first = next(iter(pictures.values()))
    ns.fit(first, device=options.device, max_steps=20, target_psnr=90)
    for name, image in pictures.items():
        row: dict[str, float] = {}
        row["seconds"], result = _timed_fit(image, options.device)
        row["psnr"], row["peak_bytes"] = result.metrics.psnr, _peak(options.device)
        row["seconds_to_44"], reached = _timed_fit(
            image, options.device, target_psnr=TARGET, max_steps=20 if options.rehearse else TARGET_STEPS
        )
        row["psnr_at_44"] = reached.metrics.psnr
        peer = min(seconds_per_step(image, options.device, PEER_STEPS))
        row |= {"plain_step_seconds": peer, "to_44_in_plain_steps": row["seconds_to_44"] / peer}
        found["images"][name] = row
        found["median"] = {key: float(np.median([r[key] for r in found["images"].values()])) for key in row}
        found["mean_psnr"] = float(np.mean([r["psnr"] for r in found["images"].values()]))
        save(found)
    return found


def fits_lines(found: Mapping[str, Any]) -> list[str]:
    median, rows = found["median"], found["images"].values()
    worst = [max(row[key] for row in rows) for key in ("seconds", "seconds_to_44")]
    return [
        f"{len(rows)} Kodak images: {found['mean_psnr']:.2f} dB (mean) in {median['seconds']:.3f} s; 44 dB in "
        f"{median['seconds_to_44']:.3f} s (medians; worst {worst[0]:.3f} and {worst[1]:.3f})",
        f"a step of the plain 5 x 256 SIREN, float32: {1000 * median['plain_step_seconds']:.1f} ms; to 44 dB in "
        f"{median['to_44_in_plain_steps']:.2f} of them",
    ]


def roofline(options: Options, save: Save) -> Found:
    """Measure the ceilings of the device, the share that a step reaches, and where the time of a step goes."""
    device, effort = torch.device(options.device), QUICK if options.rehearse else FAST
    image = next(iter(_pictures(options).values()))
    _warm_up(device)
    ceilings = {
        "large_product": {name: large_product(dtype, device, effort) for name, dtype in DTYPES.items()},
        "copy": copy_rate(device, effort),
        "sine": sine_rate(device, effort),
    }
    found: Found = {"ceilings": ceilings, "presets": {}}
    save(found)
    for preset in ("faithful", "upscale"):
        found["presets"][preset] = measure_preset(preset, image, device, effort, ceilings)
        save(found)
    found["profile"] = _profile(image, options)
    return found


def roofline_lines(found: Mapping[str, Any]) -> list[str]:
    ceilings = found["ceilings"]
    rates = ", ".join(f"{name} {rate / 1e12:.0f} TFLOP/s" for name, rate in ceilings["large_product"].items())
    lines = [f"ceilings: {rates}, copy {ceilings['copy'] / 1e12:.2f} TB/s, sines {ceilings['sine'] / 1e9:.0f} G/s"]
    for preset, row in found["presets"].items():
        for precision, part in row["precisions"].items():
            seconds = {name: f"{1e6 * value:.0f}" for name, value in part["seconds"].items()}
            parts = f"gradient {seconds['gradient']}, update {seconds['update']}"
            floor = f"{1e6 * part['floor']:.0f} us = {part['floor_share_of_step']:.0%}, bound by {part['bounded_by']}"
            lines.append(f"{preset}, {precision}: step {seconds['step']} us ({parts}), floor {floor}")
    busiest = sorted(found.get("profile", {}).items(), key=lambda item: -item[1])[:4]
    return [*lines, "of a step on the device: " + ", ".join(f"{name[:28]} {us:.1f} us" for name, us in busiest)]


def sweep(options: Options, save: Save) -> Found:
    """Time the kernels in other layouts, and beside the plain engine."""
    device = torch.device(options.device)
    image = next(iter(_pictures(options).values()))
    image = image[:24, :24] if options.rehearse else image
    run = TileTrainer(Samples.from_array(image), ns.FitConfig(), device, seed=0)
    batch, out = run.batches[0], torch.empty_like(run.siren.theta)
    effort = QUICK if options.rehearse else Effort(repeats=5, seconds=0.01)
    found: Found = {"layouts": {}, "matrix_warps": {}}
    begin = time.perf_counter()
    for block, warps in LAYOUTS[: 2 if options.rehearse else None]:
        for low_precision in (True, False):
            if time.perf_counter() - begin > 0.8 * options.seconds:
                break
            engine = TritonEngine(device, low_precision=low_precision, tuning=Tuning(block, block, warps))
            compiled = time.perf_counter()
            engine.gradient(run.siren, batch.x, batch.loss, out)
            synchronise(device)
            compiled = time.perf_counter() - compiled
            times = {}
            for programs in PROGRAMS[: 1 if options.rehearse else None]:
                engine.programs = programs
                _warm_up(device)
                times[str(programs)] = _graph_seconds(engine, run, device, effort)
            key = f"{'bfloat16' if low_precision else 'float32'}, block {block}, {warps} warps"
            found["layouts"][key] = {"by_programs": times, "first_use": compiled}
            save(found)
    rate = torch.zeros_like(run.best.rates)
    for warps in (1, 2, 4):
        engine = TritonEngine(device, tuning=Tuning(matrix_warps=warps))
        _warm_up(device)
        update = time_of(lambda: engine.update(run.optimizer, out, rate, run.mean.theta), device, effort)  # noqa: B023
        found["matrix_warps"][str(warps)] = update
    plain = TorchEngine(device)
    found["plain"] = time_of(lambda: plain.gradient(run.siren, batch.x, batch.loss, out), device, effort)
    return found


def sweep_lines(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for precision in ("bfloat16", "float32"):
        rows = {key: min(row["by_programs"].items(), key=lambda item: item[1]) for key, row in found["layouts"].items()}
        ordered = sorted((t, key, n) for key, (n, t) in rows.items() if key.startswith(precision))
        lines.append("; ".join(f"{key}, {n} programs {1e6 * t:.0f} us" for t, key, n in ordered[:3]))
    updates = ", ".join(f"{warps} warps {1e6 * t:.0f} us" for warps, t in found["matrix_warps"].items())
    return [*lines, f"update by {updates}; gradient by plain PyTorch {1e6 * found['plain']:.0f} us"]


def _graph_seconds(engine: TritonEngine, run: TileTrainer, device: torch.device, effort: Effort) -> float:
    batch, out = run.batches[0], torch.empty_like(run.siren.theta)
    return time_of(lambda: engine.gradient(run.siren, batch.x, batch.loss, out), device, effort)


def _profile(image: np.ndarray, options: Options) -> dict[str, float]:
    """Microseconds that each kernel takes of a step, all kernels of 100 steps together over their number."""
    if options.device != "cuda":
        return {}
    steps = 100
    run = TileTrainer(Samples.from_array(image), ns.FitConfig(), torch.device("cuda"), seed=0)
    for _ in range(20):
        run.step()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            run.step()
        torch.cuda.synchronize()
    return {row.key: row.device_time_total / steps for row in profile.key_averages() if row.device_time_total > 0}


def _timed_fit(image: np.ndarray, device: str, **settings: Any) -> tuple[float, ns.FitResult]:
    synchronise(torch.device(device))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    result = ns.fit(image, device=device, **settings)
    synchronise(torch.device(device))
    return time.perf_counter() - begin, result


def _peak(device: str) -> int:
    return int(torch.cuda.max_memory_allocated()) if device == "cuda" else 0


def _warm_up(device: torch.device) -> None:
    if device.type != "cuda":
        return
    a = torch.ones(4096, 4096, device=device)
    end = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < end:
        a @ a
        torch.cuda.synchronize()


def _pictures(options: Options) -> dict[str, np.ndarray]:
    pictures = machine.images(options.data, "kodak")
    if not options.rehearse:
        return pictures
    return {name: image[:48, :64] for name, image in list(pictures.items())[:2]}
