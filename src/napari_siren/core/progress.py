"""What a fit tells while it goes on, and afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from napari_siren.core.field.tiling import RenderGrid

if TYPE_CHECKING:
    from napari_siren.core.field.field import Field


@dataclass(frozen=True)
class Progress:
    """Where a fit stands after a step.

    Parameters
    ----------
    step
        Steps done.
    max_steps
        Steps at most to do.
    seconds
        Since the fit began, earlier sessions of a resumed fit included.
    measured_loss
        The loss, or what waits for it: a GPU may still be at work on it.
    psnr
        dB, of the mean weights, which are kept; looked at every few steps, and estimated from their mean squared error
        (see `expected_rounded_mse`). The final metrics are exact.
    seconds_left
        Estimated; None while there is nothing to estimate from.
    field
        Gives the field of the mean weights as they are when called. It shares their memory: use it before the next
        step, in the thread that takes the steps.
    """

    step: int
    max_steps: int
    seconds: float
    measured_loss: float | Callable[[], float] = field(repr=False, compare=False)
    psnr: float
    seconds_left: float | None
    field: Callable[[], Field] = field(repr=False, compare=False)

    @cached_property
    def loss(self) -> float:
        """Mean squared error of the normalised values, of the weights that are moved."""
        return self.measured_loss() if callable(self.measured_loss) else self.measured_loss

    def preview(
        self, scale: float = 1.0, region: Sequence[tuple[float, float]] | None = None, antialias: bool = True
    ) -> npt.NDArray[Any]:
        """Render the fit as it is now.

        Parameters
        ----------
        scale
            Output pixels per pixel; below 1 for a small picture.
        region
            (start, stop) for each spatial axis, in pixels of the original; None is all of it.
        antialias
            False takes the value at the centre of each output pixel: with a scale below 1 faster by as much as the
            picture is smaller, and as coarse.

        Returns
        -------
        ndarray
            The image's order of axes and dtype.
        """
        now = self.field()
        grid = RenderGrid.of(now.format.spatial_shape, now.format.spacing, scale=scale, region=region)
        rendered: npt.NDArray[Any] = now.render(grid, antialias=antialias)
        return rendered


class History:
    """The course of a fit.

    Parameters
    ----------
    step, seconds, loss, psnr
        One entry for each step, as in `Progress`.
    events
        (step, what happened): rollbacks, memory that ran out, a resumption.
    stopped
        Why the fit ended: "max_steps", "max_seconds", "target_psnr" or "asked".
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
        """As in `Progress`. The steps since it was last read are waited for."""
        self._loss += [progress.loss for progress in self._unread]
        self._unread.clear()
        return self._loss

    def add(self, progress: Progress) -> None:
        """Append a step."""
        self.step.append(progress.step)
        self.seconds.append(progress.seconds)
        self.psnr.append(progress.psnr)
        self._unread.append(progress)

    def copy(self) -> History:
        """Return a copy that does not change with this one."""
        return History(**self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, by the names of the parameters."""
        names = ("step", "seconds", "loss", "psnr", "events", "stopped")
        return {name: getattr(self, name) for name in names}
