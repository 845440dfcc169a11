"""How far a step of a fit is from what the machine can do: what it must do, counted, and what the machine does at best.

    python -m benchmarks.roofline [--device cpu] [--json FILE] [--quick]

The ceilings (matrix products, copies, sines) and the parts of a step are measured in one run, with as many threads as a
fit uses. Of a preset with one network for the whole image only a strip is evaluated, and its time scaled to the image.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from skimage.io import imread

from benchmarks import machine
from benchmarks.ceilings import (
    DTYPES,
    QUICK,
    Effort,
    copy_rate,
    large_product,
    lower_quartile,
    products_of,
    sine_rate,
    synchronise,
    thin_rates,
    time_of,
)
from benchmarks.costs import StepCosts, count_step
from napari_siren.core.device import resolve_device
from napari_siren.core.engines import Engine, low_precision_engine
from napari_siren.core.image.samples import Samples
from napari_siren.core.network.losses import ObservedLoss, SquaredLoss
from napari_siren.core.network.siren import Siren
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.plan import plan_fit
from napari_siren.core.training.trainer import TileTrainer
from napari_siren.io.images import sample_path

# Presets whose steps differ; tiles are fitted to what is learned by steps like those of "faithful", on other pixels.
SUBJECTS = ("faithful", "upscale", "fast", "paper")


@dataclass(frozen=True)
class Subject:
    """What is measured of a preset.

    Parameters
    ----------
    config, run
        Its settings, and a fit with them, in float32; of a strip where the image has one network.
    scale
        Pixels of the image over those of the run.
    costs
        Of a step over the image.
    """

    config: FitConfig
    run: TileTrainer
    scale: float
    costs: StepCosts

    @classmethod
    def from_preset(cls, preset: str, image: np.ndarray, device: torch.device, effort: Effort) -> Subject:
        config = FitConfig.preset(preset)
        rows = len(image)
        if plan_fit(image.shape[:2], image.shape[2], config).tiling.count == 1:
            rows = min(rows, max(1, effort.strip // image.shape[1]))
        run = TileTrainer(Samples.from_array(image[:rows]), config.override(precision="float32"), device, seed=0)
        scale = len(image) / rows
        batch = run.batches[0]
        data = batch.loss.data if isinstance(batch.loss, ObservedLoss) else batch.loss
        assert isinstance(data, SquaredLoss)
        # One network's samples grow with the image; its parameters do not.
        samples, pixels = (round(scale * n) for n in (batch.x.shape[2], data.target.shape[2]))
        return cls(config, run, scale, count_step(config, run.siren.spec, run.siren.tiles, samples, pixels))


def engines(run: TileTrainer) -> dict[str, Engine]:
    """The engines that a fit takes its gradients by, by the precision of their products."""
    low_precision = low_precision_engine(run.engine, run.siren.spec)
    return {"float32": run.engine} if low_precision is None else {"float32": run.engine, "bfloat16": low_precision}


def time_parts(subject: Subject, precision: str, engine: Engine, effort: Effort) -> dict[str, float]:
    """Seconds of the parts of a step over the image, and of a whole one.

    "step" is the lower quartile, as the parts are; "step_mean" has its share of the looks at the losses that are taken
    now and then.
    """
    run, scale = subject.run, subject.scale
    device, batch = run.device, run.batches[0]
    siren = Siren(run.siren.spec, run.siren.theta.clone(), run.siren.omega_0)
    gradient = torch.empty_like(siren.theta)
    # The networks stand still while they are measured.
    rate = torch.zeros(siren.tiles, device=device)
    sweep = time_of(lambda: engine.gradient(siren, batch.x, batch.loss, gradient), device, effort)
    update = time_of(lambda: run.engine.update(run.optimizer, gradient, rate, run.mean.theta), device, effort)
    look = time_of(lambda: run.losses(run.mean), device, effort)
    config = run.config if precision == "float32" else subject.config.override(precision="auto")
    steps = time_steps(TileTrainer(run.samples, config, device, seed=0), effort.steps)
    # Of a step, all but the update grows with the image.
    usual, mean = (update + scale * max(0.0, float(t) - update) for t in (lower_quartile(steps), np.mean(steps)))
    return {"gradient": scale * sweep, "update": update, "losses": scale * look, "step": usual, "step_mean": mean}


def time_steps(run: TileTrainer, count: int) -> list[float]:
    """Seconds of some steps; the first, which pays for fresh memory, is left out."""
    run.step()
    seconds = []
    for _ in range(count):
        synchronise(run.device)
        begin = time.perf_counter()
        run.step()
        synchronise(run.device)
        seconds.append(time.perf_counter() - begin)
    return seconds


def predict(costs: StepCosts, product: float, sines: dict[str, float], copy: float) -> dict[str, float]:
    """Seconds that each kind of work of a step would take at its ceiling.

    "back" is what a network of sines takes on its way back, beside its products: the cosines, kept until then, and the
    gradients times them. Its measure has a few products in it, so that it comes out too high rather than too low.
    """
    forward, pairs = (costs.sine_pairs / sines[key] for key in ("forward", "pairs"))
    return {
        "products": costs.products / product,
        "sines": forward,
        "back": max(0.0, pairs - forward),
        "orthogonalisation": costs.orthogonalisation / product,
        "memory": costs.memory / copy,
    }


def judge(
    costs: StepCosts, seconds: dict[str, float], predicted: dict[str, float], **ceilings: float
) -> dict[str, Any]:
    """Rates, their shares of the ceilings of products, and what a step would take at the ceilings."""
    gradient = costs.products / seconds["gradient"]
    step = (costs.products + costs.orthogonalisation) / seconds["step"]
    total = sum(predicted.values())
    floor = total - predicted["back"]
    return {
        "gflops": {"gradient": gradient / 1e9, "step": step / 1e9},
        "share": {name: {"gradient": gradient / rate, "step": step / rate} for name, rate in ceilings.items()},
        "predicted": predicted,
        "sum": total,
        "floor": floor,
        "floor_share_of_step": floor / seconds["step"],
        "bounded_by": max(predicted, key=lambda part: predicted[part]),
    }


def measure_ceilings(device: torch.device, effort: Effort) -> dict[str, Any]:
    """Rates of a large product, of a copy and of sines, on this machine now."""
    return {
        "large_product": {name: large_product(dtype, device, effort) for name, dtype in DTYPES.items()},
        "copy": copy_rate(device, effort),
        "sine": sine_rate(device, effort),
    }


def measure_floor(preset: str, image: np.ndarray, device: torch.device, effort: Effort) -> dict[str, Any]:
    """How near a step of a preset comes to its floor, both measured now: of the precision that most steps have."""
    row = measure_preset(preset, image, device, effort, measure_ceilings(device, effort))
    precision, part = list(row["precisions"].items())[-1]
    return {
        "preset": preset,
        "engine": row["engine"],
        "precision": precision,
        "step_seconds": part["seconds"]["step"],
        "floor_seconds": part["floor"],
        "floor_share_of_step": part["floor_share_of_step"],
    }


def measure_preset(
    preset: str, image: np.ndarray, device: torch.device, effort: Effort, ceilings: dict[str, Any]
) -> dict[str, Any]:
    subject = Subject.from_preset(preset, image, device, effort)
    shape, tiles = subject.run.siren.spec, subject.run.siren.tiles
    row: dict[str, Any] = {
        "engine": subject.run.engine.name,
        "layers": shape.hidden_layers,
        "width": shape.hidden_features,
        "tiles": tiles,
        "samples_of_a_tile": subject.costs.evaluations // tiles,
        "steps_over_all_pixels": len(subject.run.batches),
        "image_over_strip": subject.scale,
        "costs": asdict(subject.costs),
        "precisions": {},
    }
    for precision, engine in engines(subject.run).items():
        products = products_of(shape.hidden_features, DTYPES[precision], device, effort)
        sines = thin_rates(engine, shape.hidden_features, device, effort)
        seconds = time_parts(subject, precision, engine, effort)
        width, large = max(products["forward"], products["weights"]), ceilings["large_product"][precision]
        # Libraries are slow at bfloat16 products of a few features: the higher of the two is what the processor can do.
        predicted = predict(subject.costs, max(width, large), sines, ceilings["copy"])
        verdict = judge(subject.costs, seconds, predicted, width=width, large=large)
        row["precisions"][precision] = {"products": products, "sines": sines, "seconds": seconds, **verdict}
    return row


# ---- what is printed -------------------------------------------------------------------------------------------------


def print_counts(console: Console, presets: dict[str, dict[str, Any]]) -> None:
    table = Table("preset", "networks", "samples", "products", "sines", "orthogonalisation", "optimiser", "memory")
    table.title = "counted, a step: samples of a tile, GFLOP, million sines and as many cosines, GFLOP twice, MB"
    for name, row in presets.items():
        costs = row["costs"]
        numbers = {"products": 1e9, "sine_pairs": 1e6, "orthogonalisation": 1e9, "elementwise": 1e9, "memory": 1e6}
        networks, samples = f"{row['tiles']} of {row['layers']} x {row['width']}", str(row["samples_of_a_tile"])
        table.add_row(name, networks, samples, *(f"{costs[key] / unit:.3g}" for key, unit in numbers.items()))
    console.print(table)


def print_ceilings(console: Console, ceilings: dict[str, Any], presets: dict[str, dict[str, Any]]) -> None:
    large = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in ceilings["large_product"].items())
    console.print(
        f"large product {large}; copy {ceilings['copy'] / 1e9:.1f} GB/s; sine {ceilings['sine'] / 1e9:.2f} G/s"
    )
    table = Table("preset", "precision", "forward", "weights", "forward, memory", "weights, memory", "sines", "pairs")
    table.title = (
        "ceilings at the width of each preset: GFLOP/s of products; 1e9 sines, and pairs, a second of our engine"
    )
    for name, precision, part in parts_of(presets):
        rates = [f"{rate / 1e9:.1f}" for rate in part["products"].values()]
        table.add_row(name, precision, *rates, *(f"{rate / 1e9:.2f}" for rate in part["sines"].values()))
    console.print(table)


def print_steps(console: Console, presets: dict[str, dict[str, Any]]) -> None:
    times = ("gradient", "update", "losses", "step", "step_mean")
    table = Table("preset", "precision", *times, "GFLOP/s", "of products as wide", "of the large product")
    table.title = "measured: ms; and of the gradient, the step: rate of products, and its share of both ceilings"
    for name, precision, part in parts_of(presets):
        shares = (", ".join(f"{share:.0%}" for share in both.values()) for both in part["share"].values())
        rates = ", ".join(f"{rate:.1f}" for rate in part["gflops"].values())
        table.add_row(name, precision, *(f"{1000 * part['seconds'][key]:.1f}" for key in times), rates, *shares)
    console.print(table)
    for name, row in presets.items():
        if row["image_over_strip"] > 1:
            console.print(f"{name}: measured on a strip, 1/{row['image_over_strip']:.1f} of the image, and scaled")


def print_account(console: Console, presets: dict[str, dict[str, Any]]) -> None:
    kinds = ("products", "sines", "back", "orthogonalisation", "memory")
    table = Table("preset", "precision", *kinds, "sum", "floor", "measured", "floor / measured", "bounded by")
    table.title = (
        "what a step would take at the ceilings, ms; the floor is the sum without back, which is overestimated"
    )
    for name, precision, part in parts_of(presets):
        seconds = (*(part["predicted"][kind] for kind in kinds), part["sum"], part["floor"], part["seconds"]["step"])
        share = f"{part['floor_share_of_step']:.0%}"
        table.add_row(name, precision, *(f"{1000 * t:.2f}" for t in seconds), share, part["bounded_by"])
    console.print(table)


def parts_of(presets: dict[str, dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(name, precision, part) for name, row in presets.items() for precision, part in row["precisions"].items()]


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-roofline.json"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, whose figures mean nothing: to try it out")
    arguments = parser.parse_args(options)
    device, effort = resolve_device(arguments.device), QUICK if arguments.quick else Effort()
    image = imread(sample_path())
    image = image[:64, :96] if arguments.quick else image

    ceilings = measure_ceilings(device, effort)
    presets = {preset: measure_preset(preset, image, device, effort, ceilings) for preset in SUBJECTS}
    console = Console(width=180)
    print_counts(console, presets)
    print_ceilings(console, ceilings, presets)
    print_steps(console, presets)
    print_account(console, presets)
    report = {"machine": machine.describe(str(device)), "image": image.shape, "ceilings": ceilings, "presets": presets}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
