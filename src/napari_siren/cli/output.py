"""The output of the command line: progress bars and tables."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from napari_siren.reporting.figures import value_unit
from napari_siren.reporting.fit_report import describe

if TYPE_CHECKING:
    from napari_siren.batch.manifest import Entry
    from napari_siren.batch.report import BatchReport
    from napari_siren.batch.run import BatchProgress
    from napari_siren.blockwise.fit import BlockProgress, BlocksResult
    from napari_siren.core.config import FitConfig
    from napari_siren.core.field.field import Field
    from napari_siren.core.progress import Progress
    from napari_siren.core.result import FitResult
    from napari_siren.core.steps import FitSteps
    from napari_siren.finetuning.result import TrainProgress, TrainResult

# Interval between two saved states of a resumable fit, in seconds.
_CHECKPOINT_SECONDS = 60.0

# Names of the phases of a fit by blocks.
_PHASES = {
    "scan": "scanning the image",
    "learn": "learning",
    "fit": "fitting blocks",
    "render": "rendering",
    "pyramid": "coarser levels",
}
# Names of the phases of a training.
_TRAINING_PHASES = {"read": "reading images", "prepare": "general weights", "train": "training"}
# Reasons for the end of a fit.
_STOPPED = {
    "max_steps": "all steps done",
    "max_seconds": "time limit reached",
    "target_psnr": "target PSNR reached",
    "asked": "stopped by the user",
    "": "not ended",
}


def follow(steps: FitSteps, quiet: bool = False, checkpoint: Path | None = None) -> FitResult:
    """Run a fit to its end with a progress bar.

    Ctrl-C ends the fit and keeps the best result so far. A second Ctrl-C aborts.

    Parameters
    ----------
    steps
        Steps from `fit_iter`.
    quiet
        Whether to show nothing.
    checkpoint
        File to save the state of the fit in, every minute, so that the fit can be continued. None saves nothing.
    """
    due = time.monotonic() + _CHECKPOINT_SECONDS
    text = TextColumn("{task.description}", markup=False)
    with Bar(text, BarColumn(), TextColumn("{task.fields[state]}"), console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("fitting", total=1.0, state="")
        with _stop_on_interrupt(lambda: bar.update(task, description="stopping")) as interrupt:
            for progress in steps:
                _show(bar, task, progress)
                if interrupt.is_set():
                    steps.stop()
                elif checkpoint is not None and time.monotonic() >= due:
                    steps.snapshot().save(checkpoint, resumable=True)
                    due = time.monotonic() + _CHECKPOINT_SECONDS
            result = steps.result
            state = f"{result.history.step[-1]} steps  {_decibels(result.metrics.psnr)}"
            bar.update(task, description="fitted", completed=1.0, state=state)
            return result


class BlockBar:
    """The progress bars of a fit by blocks, one for each phase.

    Parameters
    ----------
    quiet
        Whether to show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), TextColumn("{task.fields[state]}"))
        self._bar = Bar(*columns, console=Console(stderr=True), disable=quiet)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> BlockBar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._tasks:
            self._bar.stop()

    def show(self, progress: BlockProgress) -> None:
        """Show the progress of the fit."""
        phase = progress.phase
        if not self._tasks:  # an error before the first phase is shown without a bar
            self._bar.start()
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(_PHASES[phase], total=1.0, state="")
        share, remaining = progress.done / progress.total, progress.seconds_left
        time_left = "" if remaining is None or not remaining else f"  {_duration(remaining)} left"
        count = "" if phase in ("scan", "pyramid") else f"{int(progress.done)}/{progress.total}"
        self._bar.update(self._tasks[phase], completed=share, state=count + time_left)


def show_blocks(result: BlocksResult) -> None:
    """Print the metrics of a fit by blocks, and the file of the result."""
    blocks = f"{result.blocks} ({result.fitted} fitted in this run)"
    show_rows([("PSNR", _decibels(result.psnr)), ("RMSE", f"{result.rmse:.4g}"), ("blocks", blocks)])
    show_file(result.path, result.shape)


def show_fit(result: FitResult, files: Mapping[str, Path]) -> None:
    """Print the metrics of a fit, and the names of its files."""
    metadata = describe(result)
    unit = value_unit(metadata["image"]["dtype"])
    rows = [
        *_metrics(result),
        ("largest error", f"{result.metrics.max_abs:.4g} {unit}"),
        ("time", f"{metadata['seconds']:.1f} s, {metadata['steps']} steps ({_STOPPED[metadata['stopped']]})"),
        ("parameters per value", f"{metadata['parameters_per_value']:.2f}"),
        ("axes", metadata["image"]["axes"]),
        *(("note", note) for note in result.provenance.get("notes", ())),
        *((kind, path.name) for kind, path in files.items()),
    ]
    show_rows(rows)
    _print_line(f"The results are in {next(iter(files.values())).parent}{os.sep}")


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


class BatchBars:
    """The progress bars of a batch: one for each running fit, and one for all. Each ended job prints a line.

    Parameters
    ----------
    quiet
        Whether to show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        text = TextColumn("{task.description}", markup=False)
        console = Console(stderr=True, highlight=False)
        self._bar = Bar(text, BarColumn(), TextColumn("{task.fields[state]}"), console=console, disable=quiet)
        self._quiet = quiet
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> BatchBars:
        self._all = self._bar.add_task("all", total=None, state="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def show(self, progress: BatchProgress) -> None:
        """Show the progress of a batch."""
        if self._quiet:
            return
        self._bar.start()
        job, entry = progress.job, progress.entry
        count = f"{progress.finished}/{progress.total}"
        self._bar.update(self._all, total=progress.total, completed=progress.finished, state=count)
        if progress.state == "begun":
            return
        if entry is None:
            if job not in self._tasks:
                self._tasks[job] = self._bar.add_task(job, total=1.0, state="")
            self._bar.update(self._tasks[job], completed=progress.share)
            return
        if job in self._tasks:
            self._bar.remove_task(self._tasks.pop(job))
        for line in (f"{progress.state}  {job}  {_outcome(entry)}", *(f"note  {job}  {note}" for note in entry.notes)):
            self._bar.console.print(Text(line), soft_wrap=True)


def show_batch(report: BatchReport) -> None:
    """Print the results of a batch, or the jobs of a dry run."""
    if report.path is None:
        for name in report.planned:
            _print_line(f"to do  {name}")
        for entry in report.failed:
            _print_line(f"failed  {entry.job}  {_outcome(entry)}")
    counts = {"failed": report.failed, "done": report.done, "done before": report.skipped, "to do": report.planned}
    _print_line(", ".join(f"{len(entries)} {name}" for name, entries in counts.items() if entries) or "nothing to do")
    if report.path is not None:
        _print_line(f"Report: {report.path}")


def _outcome(entry: Entry) -> str:
    if entry.status == "failed":
        return entry.reason or ""
    psnr = entry.metrics.get("psnr")
    return f"{'' if psnr is None else _decibels(psnr) + '  '}{entry.seconds:.1f} s"


class TrainBar:
    """The progress bar of a training on one's own images. Ctrl-C ends the training, and a second Ctrl-C aborts.

    Parameters
    ----------
    quiet
        Whether to show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), TextColumn("{task.fields[state]}"))
        self._bar = Bar(*columns, console=Console(stderr=True), disable=quiet)
        self._task = self._bar.add_task("", total=1.0, state="")
        self._interruption = _stop_on_interrupt(lambda: self._bar.update(self._task, description="stopping"))

    def __enter__(self) -> TrainBar:
        self._interrupt = self._interruption.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._interruption.__exit__(None, None, None)
        if self._bar.live.is_started:
            if error[0] is None:
                self._bar.update(self._task, description="trained", completed=1.0)
            self._bar.stop()

    def show(self, progress: TrainProgress) -> str | None:
        """Show the progress, and return "stop" after Ctrl-C."""
        self._bar.start()
        remaining, score, general = progress.seconds_left, progress.score, progress.general_score
        share = 0.0 if remaining is None else progress.seconds / max(progress.seconds + remaining, 1e-9)
        state = ""
        if remaining is not None and score is not None and general is not None:
            state = f"step {progress.step}  {_decibels(score)} ({score - general:+.2f})  {_duration(remaining)} left"
        if self._interrupt.is_set():
            return "stop"
        self._bar.update(self._task, completed=share, description=_TRAINING_PHASES[progress.phase], state=state)
        return None


def show_training(result: TrainResult) -> None:
    """Print the scores of a training on one's own images, and its files."""
    note = "" if result.helped else ": it did not help, and the file holds the general weights"
    stopped = " (stopped; the same command goes on)" if result.stopped else ""
    held_out = ", ".join(result.held_out[:3]) + (", …" if len(result.held_out) > 3 else "")
    rows = [
        ("general weights", f"{_decibels(result.general_score)} on held-out images ({result.general})"),
        ("own weights", _decibels(result.score)),
        ("gain", f"{result.gain:+.2f} dB{note}"),
        ("images", f"{len(result.images)}{', which are noisy' if result.noisy else ''}; held out: {held_out}"),
        *(("skipped", f"{name}: {reason}") for name, reason in result.skipped.items()),
        ("time", f"{_duration(result.seconds)}, {result.steps} steps{stopped}"),
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


def _metrics(result: FitResult) -> list[tuple[str, str]]:
    metrics = result.metrics
    rows = [("PSNR", _decibels(metrics.psnr))]
    if metrics.psnr_heldout is not None:
        rows.append(("PSNR held out", _decibels(metrics.psnr_heldout)))
    if metrics.consistency is not None:
        rows.append(("consistency", _decibels(metrics.consistency)))
    rows.append(("SSIM", "not measured" if metrics.ssim is None else f"{metrics.ssim:.4f}"))
    return [*rows, ("RMSE", f"{metrics.rmse:.4g} {value_unit(result.field.layout.dtype)}")]


def _show(bar: Bar, task: TaskID, progress: Progress) -> None:
    remaining = progress.seconds_left
    share = 0.0 if remaining is None else progress.seconds / max(progress.seconds + remaining, 1e-9)
    time_left = "" if remaining is None else f"  {_duration(remaining)} left"
    state = f"step {progress.step}/{progress.max_steps}  {_decibels(progress.psnr)}{time_left}"
    bar.update(task, completed=share, state=state)


def _decibels(psnr: float) -> str:
    return "infinite (all values exact)" if math.isinf(psnr) else f"{psnr:.2f} dB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def _times(values: Iterable[object]) -> str:
    return " x ".join(map(str, values))


@contextmanager
def _stop_on_interrupt(notify: Callable[[], object]) -> Iterator[threading.Event]:
    """Yield an event for the first Ctrl-C. Later ones raise `KeyboardInterrupt` as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        notify()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
