"""What the command line shows: the bar of a fit in progress, and tables."""

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
    from napari_siren.core.progress import Progress
    from napari_siren.core.result import FitResult
    from napari_siren.core.steps import FitSteps

_CHECKPOINT_SECONDS = 60.0

_PHASES = {
    "scan": "looking at the image",
    "learn": "learning",
    "fit": "fitting blocks",
    "render": "rendering",
    "pyramid": "coarser levels",
}
_STOPPED = {
    "max_steps": "all steps done",
    "max_seconds": "time limit reached",
    "target_psnr": "target PSNR reached",
    "asked": "stopped by you",
    "": "not ended",
}


def follow(steps: FitSteps, quiet: bool = False, checkpoint: Path | None = None) -> FitResult:
    """Run a fit to its end with a live bar. Ctrl-C ends it and keeps the best so far, a second one aborts.

    Parameters
    ----------
    steps
        From `fit_iter`.
    quiet
        Show nothing.
    checkpoint
        Where to save what is needed to go on, each minute; None saves nothing.
    """
    due = time.monotonic() + _CHECKPOINT_SECONDS
    text = TextColumn("{task.description}", markup=False)
    with Bar(text, BarColumn(), TextColumn("{task.fields[state]}"), console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("fitting", total=1.0, state="")
        with _stop_on_interrupt(lambda: bar.update(task, description="stopping")) as asked:
            for progress in steps:
                _show(bar, task, progress)
                if asked.is_set():
                    steps.stop()
                elif checkpoint is not None and time.monotonic() >= due:
                    steps.snapshot().save(checkpoint, resumable=True)
                    due = time.monotonic() + _CHECKPOINT_SECONDS
            result = steps.result
            state = f"{result.history.step[-1]} steps  {_decibels(result.metrics.psnr)}"
            bar.update(task, description="fitted", completed=1.0, state=state)
            return result


class BlockBar:
    """The bar of a large image that is fitted block by block; one line for each phase.

    Parameters
    ----------
    quiet
        Show nothing.
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
        """Show how far it is."""
        phase = progress.phase
        if not self._tasks:  # an error before it is to stand alone
            self._bar.start()
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(_PHASES[phase], total=1.0, state="")
        share, left = progress.done / progress.total, progress.seconds_left
        ahead = "" if left is None or not left else f"  {_duration(left)} left"
        counted = "" if phase in ("scan", "pyramid") else f"{int(progress.done)}/{progress.total}"
        self._bar.update(self._tasks[phase], completed=share, state=counted + ahead)


def show_blocks(result: BlocksResult) -> None:
    """Print how well a fit by blocks went, and where the result is."""
    blocks = f"{result.blocks}, of which {result.fitted} were fitted now"
    show_rows([("PSNR", _decibels(result.psnr)), ("RMSE", f"{result.rmse:.4g}"), ("blocks", blocks)])
    show_file(result.path, result.shape)


def show_fit(result: FitResult, files: Mapping[str, Path]) -> None:
    """Print how well a fit went, and where its files are."""
    told = describe(result)
    unit = value_unit(told["image"]["dtype"])
    rows = [
        *_metrics(result),
        ("largest error", f"{result.metrics.max_abs:.4g} {unit}"),
        ("time", f"{told['seconds']:.1f} s, {told['steps']} steps ({_STOPPED[told['stopped']]})"),
        ("parameters per value", f"{told['parameters_per_value']:.2f}"),
        ("axes taken for", told["image"]["axes"]),
        *(("note", event) for step, event in result.history.events if step == 0),
        *((kind, path.name) for kind, path in files.items()),
    ]
    show_rows(rows)
    _say(f"The pictures are in {next(iter(files.values())).parent}{os.sep}")


def show_file(path: Path, shape: Iterable[int]) -> None:
    """Print where one picture was written."""
    size = " x ".join(map(str, shape))
    _say(f"Written: {path} ({size})")


def show_model(result: FitResult, path: Path) -> None:
    """Print what is known of a model."""
    told = describe(result)
    image, field = told["image"], result.field
    network = field.siren.shape
    unit = image["unit"] or ("pixels" if set(image["spacing"]) == {1.0} else "(no unit)")
    config = result.config
    rows = [
        ("model", str(path)),
        ("image", f"{image['name'] or 'unnamed'}, {image['dtype']}, axes {image['axes']}, {_times(image['shape'])}"),
        ("spacing", f"{_times(f'{s:g}' for s in image['spacing'])} {unit}"),
        ("network", f"{network.hidden_layers} sine layers of {network.hidden_features}, omega_0 {config.omega_0:g}"),
        ("tiles", f"{_times(told['tiles'])}, cross-faded over {2 * config.overlap:g} pixels"),
        ("parameters", f"{told['parameters']:,} ({told['parameters_per_value']:.2f} per value)"),
        *_metrics(result),
        ("largest error", f"{result.metrics.max_abs:.4g} {value_unit(image['dtype'])}"),
        (
            "fit",
            f"preset {config.name}, {told['steps']} steps, {told['seconds']:.1f} s ({_STOPPED[told['stopped']]})",
        ),
        ("can be resumed", "no" if result.state is None else f"yes, from step {result.state.step}"),
        ("seed", str(told.get("seed"))),
        ("device", f"{told.get('device')}, {told.get('engine')} engine, {told.get('platform')}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in told.get("versions", {}).items())),
        ("image's SHA-256", str(told.get("data_sha256"))),
    ]
    show_rows(rows)


class BatchBars:
    """A line for each image that is being fitted, one for all, and one that stays for each that has ended.

    Parameters
    ----------
    quiet
        Show nothing.
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
        """Show how far a batch is."""
        if self._quiet:
            return
        self._bar.start()
        job, entry = progress.job, progress.entry
        counted = f"{progress.finished}/{progress.total}"
        self._bar.update(self._all, total=progress.total, completed=progress.finished, state=counted)
        if progress.state == "begun":
            return
        if entry is None:
            if job not in self._tasks:
                self._tasks[job] = self._bar.add_task(job, total=1.0, state="")
            self._bar.update(self._tasks[job], completed=progress.share)
            return
        if job in self._tasks:
            self._bar.remove_task(self._tasks.pop(job))
        self._bar.console.print(Text(f"{progress.state}  {job}  {_outcome(entry)}"), soft_wrap=True)


def show_batch(report: BatchReport) -> None:
    """Print what a batch has done, or, of a dry run, what there is to do."""
    if report.path is None:
        for name in report.planned:
            _say(f"to do  {name}")
        for entry in report.failed:
            _say(f"failed  {entry.job}  {_outcome(entry)}")
    counts = {"failed": report.failed, "done": report.done, "done before": report.skipped, "to do": report.planned}
    _say(", ".join(f"{len(entries)} {name}" for name, entries in counts.items() if entries) or "nothing to do")
    if report.path is not None:
        _say(f"Report: {report.path}")


def _outcome(entry: Entry) -> str:
    if entry.status == "failed":
        return entry.reason or ""
    psnr = entry.metrics.get("psnr")
    return f"{'' if psnr is None else _decibels(psnr) + '  '}{entry.seconds:.1f} s"


def show_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and what they stand for."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    Console(highlight=False).print(table)


def _say(line: str) -> None:
    Console(highlight=False).print(line, soft_wrap=True, markup=False)


def _metrics(result: FitResult) -> list[tuple[str, str]]:
    metrics = result.metrics
    rows = [("PSNR", _decibels(metrics.psnr))]
    if metrics.psnr_heldout is not None:
        rows.append(("PSNR held out", _decibels(metrics.psnr_heldout)))
    if metrics.consistency is not None:
        rows.append(("consistency", _decibels(metrics.consistency)))
    rows.append(("SSIM", "not measured" if metrics.ssim is None else f"{metrics.ssim:.4f}"))
    return [*rows, ("RMSE", f"{metrics.rmse:.4g} {value_unit(result.field.format.dtype)}")]


def _show(bar: Bar, task: TaskID, progress: Progress) -> None:
    left = progress.seconds_left
    done = 0.0 if left is None else progress.seconds / max(progress.seconds + left, 1e-9)
    ahead = "" if left is None else f"  {_duration(left)} left"
    state = f"step {progress.step}/{progress.max_steps}  {_decibels(progress.psnr)}{ahead}"
    bar.update(task, completed=done, state=state)


def _decibels(psnr: float) -> str:
    return "infinite (every value right)" if math.isinf(psnr) else f"{psnr:.2f} dB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def _times(values: Iterable[object]) -> str:
    return " x ".join(map(str, values))


@contextmanager
def _stop_on_interrupt(tell: Callable[[], object]) -> Iterator[threading.Event]:
    """Return an event that the first Ctrl-C sets; from then on Ctrl-C does what it always does."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        tell()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
