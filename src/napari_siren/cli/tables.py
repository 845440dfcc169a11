"""The results of the command line: tables, lines and JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_siren.core.storage.atomic import json_safe
from napari_siren.reporting.fit_report import describe
from napari_siren.reporting.lengths import describe_length
from napari_siren.reporting.noise import describe_noise
from napari_siren.reporting.views import shows_scaled_error, value_unit

if TYPE_CHECKING:
    from napari_siren.batch.manifest import Entry
    from napari_siren.batch.report import BatchReport
    from napari_siren.blockwise.fit import BlocksResult
    from napari_siren.core.field.field import Field
    from napari_siren.core.result import FitResult
    from napari_siren.core.settings.config import FitConfig
    from napari_siren.finetuning.result import TrainResult
    from napari_siren.io.picture import ImageInfo, Picture

# Longest time of a fit without an announcement, in seconds.
_SHORT_SECONDS = 10.0
# Reasons for the end of a fit.
_STOPPED = {
    "max_steps": "all steps done",
    "max_seconds": "time limit reached",
    "target_psnr": "target PSNR reached",
    "asked": "stopped by the user",
    "": "not ended",
}


def print_json(content: Mapping[str, Any]) -> None:
    """Print strict JSON on standard output: infinite numbers are strings, and NaN is null."""
    typer.echo(json.dumps(json_safe(content), indent=2, ensure_ascii=False, allow_nan=False))


def batch_as_json(report: BatchReport) -> dict[str, Any]:
    """Return the results of a batch as plain values."""
    return {
        "ok": report.ok,
        "folder": str(report.folder),
        "report": None if report.path is None else str(report.path),
        "done": [entry.as_json() for entry in report.done],
        "done_before": [entry.as_json() for entry in report.skipped],
        "failed": [entry.as_json() for entry in report.failed],
        "to_do": list(report.planned),
        "notes": list(report.notes),
    }


def show_expectation(image: Picture | ImageInfo, config: FitConfig, device: str, quiet: bool) -> None:
    """Print the expected time of a fit on standard error, if it is more than a few seconds."""
    expected = None if quiet else _expected_seconds(image, config, device)
    if expected is not None and expected > _SHORT_SECONDS:
        typer.echo(f"The fit is expected to take about {duration(expected)}.", err=True)


def show_series(picture: Picture, config: FitConfig, device: str, quiet: bool, count: int) -> None:
    """Print on standard error that frames are done one by one, and the expected time of a frame if it is long."""
    if quiet:
        return
    seconds = _expected_seconds(picture, config, device) or 0.0
    about = f", the first in about {duration(seconds)}" if seconds > _SHORT_SECONDS else ""
    typer.echo(f"{count} frames are done one by one{about}.", err=True)


def _expected_seconds(image: Picture | ImageInfo, config: FitConfig, device: str) -> float | None:
    from napari_siren.core.cost.estimate import estimate
    from napari_siren.core.image.axes import Axes, spacing_in_space

    if config.max_seconds is not None and config.max_seconds <= _SHORT_SECONDS:
        return config.max_seconds
    axes, shape = image.frame
    letters = Axes(axes)
    channels = 1 if letters.channel is None else shape[letters.channel]
    sizes = [n for n, letter in zip(letters.pick(shape), letters.coordinates, strict=True) if letter != "T"]
    spacing: Any = spacing_in_space(image.spacing, axes)
    expected = estimate(sizes, channels, config, device, spacing=spacing).seconds
    return expected if expected is None or config.max_seconds is None else min(expected, config.max_seconds)


def show_blocks(result: BlocksResult) -> None:
    """Print the metrics of a fit by blocks, and the file of the result."""
    blocks = f"{result.blocks} ({result.fitted} fitted in this run)"
    rows = [("PSNR", decibels(result.psnr)), ("RMSE", f"{result.rmse:.4g}"), ("blocks", blocks)]
    show_rows([*rows, *(("note", note) for note in result.notes)])
    show_file(result.path, result.shape)


def show_fit(result: FitResult, files: Mapping[str, Path], unit: str | None = None) -> None:
    """Print the metrics of a fit, and the names of its files.

    Parameters
    ----------
    result
        Result of the fit.
    files
        Paths of the files, by their kinds.
    unit
        Unit of the spacing, or None.
    """
    metadata = describe(result)
    rows = [
        *_metrics(result, unit),
        *_noise(result),
        ("largest error", f"{result.metrics.max_abs:.4g} {value_unit(metadata['image']['dtype'])}"),
        ("time", f"{metadata['seconds']:.1f} s, {metadata['steps']} steps ({_STOPPED[metadata['stopped']]})"),
        ("parameters per value", f"{metadata['parameters_per_value']:.2f}"),
        ("axes", metadata["image"]["axes"]),
        *(("note", note) for note in result.provenance.get("notes", ())),
        *((kind, path.name) for kind, path in files.items()),
    ]
    show_rows(rows)
    _print_line(f"The results are in {next(iter(files.values())).parent}{os.sep}")


def show_noise(result: FitResult, quiet: bool) -> None:
    """Print the noise that was removed on standard error. Other fits have no record of it."""
    for _, text in () if quiet else _noise(result):
        typer.echo(f"Noise: {text}.", err=True)


def show_file(path: Path, shape: Iterable[int]) -> None:
    """Print the file and the shape of a picture."""
    size = " x ".join(map(str, shape))
    _print_line(f"Written: {path} ({size})")


def _representation(field: Field, config: FitConfig) -> list[tuple[str, str]]:
    """Return the rows on the networks of a field, or on its samples."""
    if not field.has_tiles:
        shape = " x ".join(map(str, field.representation.shape))
        return [("representation", f"spline through {shape} restored samples")]
    network = field.siren.spec
    return [
        ("network", f"{network.hidden_layers} sine layers of {network.hidden_features}, omega_0 {config.omega_0:g}"),
        ("tiles", f"{_times(field.tiling.counts)}, blended over {2 * config.overlap:g} pixels"),
    ]


def show_model(result: FitResult, path: Path) -> None:
    """Print the properties of a model."""
    metadata = describe(result)
    image, field = metadata["image"], result.field
    unit = image["unit"] or ("pixels" if set(image["spacing"]) == {1.0} else "(no unit)")
    config = result.config
    rows = [
        ("model", str(path)),
        ("image", f"{image['name'] or 'unnamed'}, {image['dtype']}, axes {image['axes']}, {_times(image['shape'])}"),
        ("spacing", f"{_times(f'{s:g}' for s in image['spacing'])} {unit}"),
        *_representation(field, config),
        ("parameters", f"{metadata['parameters']:,} ({metadata['parameters_per_value']:.2f} per value)"),
        *_metrics(result),
        *_noise(result),
        ("largest error", f"{result.metrics.max_abs:.4g} {value_unit(image['dtype'])}"),
        (
            "fit",
            f"preset {config.name}, {metadata['steps']} steps, {metadata['seconds']:.1f} s "
            f"({_STOPPED[metadata['stopped']]})",
        ),
        ("can be resumed", "no" if result.state is None else f"yes, from step {result.state.step}"),
        ("seed", str(metadata.get("seed"))),
        ("device", f"{metadata.get('device')}, {metadata.get('engine')} engine, {metadata.get('platform')}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in metadata.get("versions", {}).items())),
        ("SHA-256 of image", str(metadata.get("data_sha256"))),
        *(("note", note) for note in metadata.get("notes", ())),
    ]
    show_rows(rows)


def show_batch(report: BatchReport) -> None:
    """Print the results of a batch, or the jobs of a dry run."""
    if report.path is None:
        for name in report.planned:
            _print_line(f"to do  {name}")
        for entry in report.failed:
            _print_line(f"failed  {entry.job}  {outcome(entry)}")
    counts = {"failed": report.failed, "done": report.done, "done before": report.skipped, "to do": report.planned}
    _print_line(", ".join(f"{len(entries)} {name}" for name, entries in counts.items() if entries) or "nothing to do")
    if report.path is not None:
        _print_line(f"Report: {report.path}")


def outcome(entry: Entry) -> str:
    """Return the reason of a failure, or the PSNR and the time of a finished job."""
    if entry.status == "failed":
        return entry.reason or ""
    psnr = entry.metrics.get("psnr")
    return f"{'' if psnr is None else decibels(psnr) + '  '}{entry.seconds:.1f} s"


def show_training(result: TrainResult) -> None:
    """Print the scores of a training on one's own images, and its files."""
    note = "" if result.helped else ": it did not help, and the file holds the general weights"
    stopped = " (stopped; the same command continues)" if result.stopped else ""
    held_out = ", ".join(result.held_out[:3]) + (", …" if len(result.held_out) > 3 else "")
    rows = [
        ("general weights", f"{decibels(result.general_score)} on held-out images ({result.general})"),
        ("own weights", decibels(result.score)),
        ("gain", f"{result.gain:+.2f} dB{note}"),
        ("images", f"{len(result.images)}{', which are noisy' if result.noisy else ''}; held out: {held_out}"),
        *(("skipped", f"{name}: {reason}") for name, reason in result.skipped.items()),
        ("time", f"{duration(result.seconds)}, {result.steps} steps{stopped}"),
        *((kind, str(path)) for kind, path in result.files.items()),
    ]
    show_rows(rows)


def show_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print a table of names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    Console(highlight=False).print(table)


def _print_line(line: str) -> None:
    Console(highlight=False).print(line, soft_wrap=True, markup=False)


def _metrics(result: FitResult, unit: str | None = None) -> list[tuple[str, str]]:
    metrics = result.metrics
    rows = [("PSNR", decibels(metrics.psnr))]
    if metrics.psnr_heldout is not None:
        rows.append(("PSNR held out", decibels(metrics.psnr_heldout)))
    if metrics.consistency is not None:
        rows.append(("consistency", decibels(metrics.consistency)))
    if metrics.rse is not None and metrics.rsp is not None and shows_scaled_error(result):
        rows.append(("RSE", f"{metrics.rse:.4g} {value_unit(result.field.layout.dtype)}"))
        rows.append(("RSP", f"{metrics.rsp:.4f}"))
    if metrics.image_resolution is not None:
        rows.append(("image resolution", describe_length(metrics.image_resolution, result, unit)))
    rows.append(("SSIM", "not measured" if metrics.ssim is None else f"{metrics.ssim:.4f}"))
    return [*rows, ("RMSE", f"{metrics.rmse:.4g} {value_unit(result.field.layout.dtype)}")]


def _noise(result: FitResult) -> list[tuple[str, str]]:
    record = result.provenance.get("noise")
    return [] if record is None else [("noise", describe_noise(record))]


def decibels(psnr: float) -> str:
    """Return a PSNR in words."""
    return "infinite (all values exact)" if math.isinf(psnr) else f"{psnr:.2f} dB"


def duration(seconds: float) -> str:
    """Return a time in words."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def _times(values: Iterable[object]) -> str:
    return " x ".join(map(str, values))
