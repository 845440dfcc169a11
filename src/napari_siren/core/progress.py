"""`Progress` and `History`: the state of a fit after a step, and its course."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy.typing as npt

from napari_siren.core.field.tiling import RenderGrid
from napari_siren.errors import InputError

if TYPE_CHECKING:
    from napari_siren.core.field.field import Field

_LOG = logging.getLogger("napari_siren")
# Event at the first step of a continued fit. It is no note, because it was asked for.
_RESUMED = "resumed"


@dataclass(frozen=True)
class Phase:
    """A part of a fit.

    Parameters
    ----------
    name
        "drafting": tiles for an early preview; "restoring": passes of a ready network; "adapting": training of a ready
        network on the image; "learning": training of a network on the image; "fitting": tiles.
    step, steps
        Number of steps done in this part, and of all its steps.
    """

    name: Literal["drafting", "restoring", "adapting", "learning", "fitting"]
    step: int
    steps: int


@dataclass(frozen=True)
class Progress:
    """The state of a fit after a step.

    Parameters
    ----------
    step
        Number of steps done.
    max_steps
        Maximum number of steps.
    seconds
        Seconds since the fit began, including the earlier sessions of a resumed fit.
    measured_loss
        The loss, or a function that waits for it: a GPU may still be computing it.
    psnr
        PSNR in dB of the mean weights, which the fit keeps. It is updated every few steps, and estimated from their
        mean squared error (see `expected_rounded_mse`). The final metrics are exact.
    seconds_left
        Estimated remaining time in seconds; None if there is no basis for an estimate yet.
    field
        Function that returns the field of the current mean weights. The field shares their memory: use it before the
        next step, in the thread that runs the steps.
    phase
        Current part of the fit; None if it has only one part.
    entry, entries
        Index of this fit, and number of fits, if the entries of a series are fitted one by one. The other values are
        those of this fit alone.
    """

    step: int
    max_steps: int
    seconds: float
    measured_loss: float | Callable[[], float] = field(repr=False, compare=False)
    psnr: float
    seconds_left: float | None
    field: Callable[[], Field] = field(repr=False, compare=False)
    phase: Phase | None = None
    entry: int = 0
    entries: int = 1

    @cached_property
    def loss(self) -> float:
        """Mean squared error of the normalised values, with the weights of the optimiser (not the mean weights)."""
        return self.measured_loss() if callable(self.measured_loss) else self.measured_loss

    def preview(
        self, scale: float = 1.0, region: Sequence[tuple[float, float]] | None = None, antialias: bool = True
    ) -> npt.NDArray[Any]:
        """Render the current state of the fit.

        Parameters
        ----------
        scale
            Output pixels per pixel; below 1 for a small picture.
        region
            (start, stop) for each spatial axis, in pixels of the original; None is the whole image.
        antialias
            Whether output pixels are averages. False takes the value at the centre of each output pixel. With a scale
            below 1 this is coarse, but faster in proportion to the smaller size of the picture.

        Returns
        -------
        ndarray
            Rendered picture, with the image's order of axes and dtype.
        """
        field = self.field()
        grid = RenderGrid.from_layout(field.layout, scale=scale, region=region)
        picture: npt.NDArray[Any] = field.render(grid, antialias=antialias)
        return picture


class Timed(Protocol):
    """The progress of some work with an estimate of its remaining time."""

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        ...

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining seconds; None if there is no basis for an estimate yet."""
        ...


def share_done(progress: Timed) -> float:
    """Return the finished share of some work by its time, 0 to 1. It is 0 while there is no estimate.

    Of a series, all entries count equally.
    """
    remaining = progress.seconds_left
    share = 0.0 if remaining is None else progress.seconds / max(progress.seconds + remaining, 1e-9)
    return (progress.entry + share) / progress.entries if isinstance(progress, Progress) else share


class History:
    """The course of a fit.

    Parameters
    ----------
    step, seconds, loss, psnr
        Values of each step, as in `Progress`.
    events
        Pairs (step, description of the event): the notes (see `notes`), and a resumption.
    stopped
        Reason for the end of the fit: "max_steps", "max_seconds", "target_psnr", or "asked" (by the user).
    """

    def __init__(
        self,
        step: Sequence[int] = (),
        seconds: Sequence[float] = (),
        loss: Sequence[float] = (),
        psnr: Sequence[float] = (),
        events: Sequence[tuple[int, str]] = (),
        stopped: str = "",
    ) -> None:
        self.step, self.seconds, self.psnr = list(step), list(seconds), list(psnr)
        self.events, self.stopped = list(events), stopped
        self._loss = list(loss)
        self._unread: list[Progress] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.as_dict() == other.as_dict()

    def __repr__(self) -> str:
        return f"History({len(self.step)} steps, stopped={self.stopped!r}, events={self.events})"

    @property
    def loss(self) -> list[float]:
        """Loss of each step, as in `Progress`.

        Reading it waits for the losses of the steps since the last reading.
        """
        self._loss += [progress.loss for progress in self._unread]
        self._unread.clear()
        return self._loss

    def add(self, progress: Progress) -> None:
        """Append a step."""
        self.step.append(progress.step)
        self.seconds.append(progress.seconds)
        self.psnr.append(progress.psnr)
        self._unread.append(progress)

    def note(self, step: int, sentence: str) -> None:
        """Record an event that was not asked for: a fallback, a guess, a rollback. Each sentence is logged once."""
        if sentence not in self.notes:
            _LOG.warning("%s", sentence)
        self.events.append((step, sentence))

    def note_resumption(self, step: int) -> None:
        """Record the first step of a continued fit."""
        self.events.append((step, _RESUMED))

    @property
    def notes(self) -> list[str]:
        """Events that were not asked for, each once. The `notes` of a result's provenance begin with those of files."""
        return list(dict.fromkeys(event for _, event in self.events if event != _RESUMED))

    def to_dataframe(self) -> Any:
        """Return a pandas.DataFrame with a row for each step. It needs the package pandas.

        Raises
        ------
        ModuleNotFoundError
            pandas is not installed.
        """
        import pandas

        return pandas.DataFrame({name: getattr(self, name) for name in ("step", "seconds", "loss", "psnr")})

    def plot(self, axes: Any = None) -> Any:
        """Plot the PSNR of each step over the time.

        Parameters
        ----------
        axes
            Axes of matplotlib to draw on. None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        InputError
            matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise InputError('a plot needs matplotlib. Install it with: pip install "napari-siren[plots]".') from None

        axes = pyplot.subplots()[1] if axes is None else axes
        axes.plot(self.seconds, self.psnr)
        axes.set(xlabel="time in s", ylabel="PSNR in dB")
        return axes

    def copy(self) -> History:
        """Return an independent copy."""
        return History(**self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return all values, by the names of the parameters."""
        names = ("step", "seconds", "loss", "psnr", "events", "stopped")
        return {name: getattr(self, name) for name in names}
