"""The progress of the command line: bars in a terminal, and plain lines elsewhere."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from napari_siren.cli.tables import decibels, duration, outcome
from napari_siren.core.progress import share_done

if TYPE_CHECKING:
    from napari_siren.batch.run import BatchProgress
    from napari_siren.blockwise.fit import BlockProgress
    from napari_siren.core.progress import Progress
    from napari_siren.core.result import FitResult
    from napari_siren.core.steps import FitSteps
    from napari_siren.finetuning.result import TrainProgress

# Interval between two saved states of a resumable fit, in seconds.
_CHECKPOINT_SECONDS = 60.0
# Interval between two plain lines, in seconds.
_LINE_SECONDS = 5.0
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


class Display:
    """Bars on standard error. If that is no terminal, a plain line every few seconds.

    Parameters
    ----------
    quiet
        Whether to show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        console = Console(stderr=True, highlight=False)
        self._quiet, self._plain = quiet, not console.is_terminal
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), TextColumn("{task.fields[state]}"))
        self._bars = Bars(*columns, console=console, disable=quiet or self._plain)
        self._tasks: dict[str, TaskID] = {}
        self._due = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars.live.is_started:
            self._bars.stop()

    def update(self, key: str, share: float | None, state: str, title: str | None = None, last: bool = False) -> None:
        """Show the state of a piece of work.

        Parameters
        ----------
        key
            Name of the piece. A new name makes a new bar.
        share
            Finished share, 0 to 1. None leaves it.
        state
            A few words or numbers.
        title
            Words before the bar. None is the key, or the earlier words.
        last
            Whether the piece has ended. Its plain line is then printed in any case.
        """
        if self._quiet:
            return
        if self._plain:
            self._print_line(title or key, share, state, last)
            return
        self._bars.start()  # an error before the first update is shown without a bar
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(title or key, total=1.0, state=state)
        values = {} if title is None else {"description": title}
        self._bars.update(self._tasks[key], completed=share, state=state, **values)  # type: ignore[arg-type]

    def remove(self, key: str) -> None:
        """Remove a bar."""
        if key in self._tasks:
            self._bars.remove_task(self._tasks.pop(key))

    def print(self, line: str) -> None:
        """Print a line above the bars."""
        if not self._quiet:
            self._bars.console.print(Text(line), soft_wrap=True)

    def _print_line(self, title: str, share: float | None, state: str, last: bool) -> None:
        if not last and time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _LINE_SECONDS
        percent = "" if share is None else f"{100 * share:.0f} %  "
        self.print(f"{title}: {percent}{state}".rstrip())


def follow(steps: FitSteps, quiet: bool = False, checkpoint: Path | None = None) -> FitResult:
    """Run a fit to its end, and show its progress.

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
    with Display(quiet) as display, _stop_on_interrupt(lambda: display.print("stopping")) as interrupt:
        for progress in steps:
            display.update("fitting", share_done(progress), _state_of(progress))
            if interrupt.is_set():
                steps.stop()
            elif checkpoint is not None and time.monotonic() >= due:
                steps.snapshot().save(checkpoint, resumable=True)
                due = time.monotonic() + _CHECKPOINT_SECONDS
        result = steps.result
        state = f"{result.history.step[-1]} steps  {decibels(result.metrics.psnr)}"
        display.update("fitting", 1.0, state, "fitted", last=True)
        return result


def end(result: FitResult) -> None:
    """End the command with the exit status of SIGINT if Ctrl-C has ended the fit."""
    if result.history.stopped == "asked":
        _end_of_interrupt("result")


def _end_of_interrupt(kept: str) -> NoReturn:
    typer.echo(f"Stopped by Ctrl-C. The best {kept} so far is written.", err=True)
    raise typer.Exit(128 + signal.SIGINT)


@contextmanager
def one_bar(title: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show one bar during a block, and return the function to set its share, 0 to 1."""
    began = time.monotonic()
    with Display(quiet) as display:
        yield lambda share: display.update(title, share, _time_left(began, share).lstrip())


class BlockBar(Display):
    """The progress of a fit by blocks, with a bar for each phase."""

    def show(self, progress: BlockProgress) -> None:
        """Show the progress of the fit."""
        phase, remaining = progress.phase, progress.seconds_left
        time_left = "" if remaining is None or not remaining else f"  {duration(remaining)} left"
        count = "" if phase in ("scan", "pyramid") else f"{int(progress.done)}/{progress.total}"
        self.update(_PHASES[phase], progress.done / progress.total, count + time_left)


class BatchBars(Display):
    """The progress of a batch: one bar for each running fit, and one for all. Each ended job prints a line."""

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet)
        self._began = time.monotonic()

    def show(self, progress: BatchProgress) -> None:
        """Show the progress of a batch."""
        job, entry = progress.job, progress.entry
        share = progress.finished / progress.total if progress.total else 1.0
        if progress.state != "begun" and entry is None:
            self.update(job, progress.share, "")
        else:
            self.update("all", share, f"{progress.finished}/{progress.total}{_time_left(self._began, share)}")
        if entry is not None:
            self.remove(job)
            self.print(f"{progress.state}  {job}  {outcome(entry)}")
            for note in entry.notes:
                self.print(f"note  {job}  {note}")


class StoppableBar(Display):
    """The progress of some work. Ctrl-C ends it early, and a second Ctrl-C aborts."""

    def __enter__(self) -> Self:
        self._interruption = _stop_on_interrupt(lambda: self.print("stopping"))
        self._interrupt = self._interruption.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._interruption.__exit__(None, None, None)
        super().__exit__(*error)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._interrupt.is_set()


class SeriesBar(StoppableBar):
    """The progress of a time series, frame by frame."""

    def show(self, progress: Progress) -> str | None:
        """Show the progress, and return "stop" after Ctrl-C."""
        state = f"frame {progress.entry + 1}/{progress.entries}  {_state_of(progress)}"
        self.update("fitting", share_done(progress), state)
        return "stop" if self.interrupted else None


def end_series(done: int, count: int) -> None:
    """End the command with the exit status of SIGINT if Ctrl-C has ended a series before its last frame."""
    if done < count:
        typer.echo(f"Stopped by Ctrl-C. Written: the first {done} of {count} frames.", err=True)
        raise typer.Exit(128 + signal.SIGINT)


class TrainBar(StoppableBar):
    """The progress of a training on one's own images."""

    def end(self) -> None:
        """End the command with the exit status of SIGINT if Ctrl-C has ended the training."""
        if self.interrupted:
            _end_of_interrupt("network")

    def show(self, progress: TrainProgress) -> str | None:
        """Show the progress, and return "stop" after Ctrl-C."""
        if self.interrupted:
            return "stop"
        remaining, score, general = progress.seconds_left, progress.score, progress.general_score
        state = ""
        if remaining is not None and score is not None and general is not None:
            state = f"step {progress.step}  {decibels(score)} ({score - general:+.2f})  {duration(remaining)} left"
        self.update("training", share_done(progress), state, _TRAINING_PHASES[progress.phase])
        return None


def _time_left(began: float, share: float) -> str:
    """Return the remaining time of evenly distributed work in words, or "" at its start and its end."""
    if not 0 < share < 1:
        return ""
    return f"  {duration((time.monotonic() - began) * (1 - share) / share)} left"


def _state_of(progress: Progress) -> str:
    remaining = progress.seconds_left
    time_left = "" if remaining is None else f"  {duration(remaining)} left"
    # The PSNR is not known before the end of a restoration.
    psnr = "" if math.isnan(progress.psnr) else f"  {decibels(progress.psnr)}"
    return f"step {progress.step}/{progress.max_steps}{psnr}{time_left}"


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
