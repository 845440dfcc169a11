"""`Update`: a progress report of a fit. `iter_updates`: the reports of a running fit. No Qt."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_siren.layers.outputs import draft_layer
from napari_siren.layers.spec import LayerData
from napari_siren.ui.logic.previews import Preview, Previewer
from napari_siren.ui.tasks.control import Control

if TYPE_CHECKING:
    from napari_siren.core.progress import Progress
    from napari_siren.core.steps import FitSteps
    from napari_siren.ui.tasks.fit import FitRequest


@dataclass(frozen=True, eq=False)
class Update:
    """A progress report of a fit.

    Parameters
    ----------
    progress
        The last step.
    steps, losses, psnrs
        Number, loss and PSNR of each step since the last report.
    preview
        The preview; None if none is due, or if the last one has not been shown yet.
    paused
        Whether the fit is paused now.
    draft
        LayerDataTuple of the unfinished result, once, if it is better than the image from the start.
    layers
        LayerDataTuples of the entries so far, by their roles, after the end of an entry of a series.
    """

    progress: Progress
    steps: list[int]
    losses: list[float]
    psnrs: list[float]
    preview: Preview | None
    paused: bool = False
    draft: LayerData | None = None
    layers: dict[str, LayerData] | None = None


def iter_updates(
    request: FitRequest, steps: FitSteps, control: Control, previews: bool = True
) -> Generator[Update, None, None]:
    """Run a fit to its end, and report its progress.

    Parameters
    ----------
    request
        The request of the fit.
    steps
        The fit.
    control
        Its control.
    previews
        Whether the reports have previews and drafts.

    Yields
    ------
    Update
        The progress, at the preview rate, and once more when the fit is paused.
    """
    control.attach(steps)
    buffer = _UpdateBuffer(request, control, previews)
    for count, progress in enumerate(steps, start=1):
        buffer.add(progress)
        if control.stopping or count == request.steps:
            steps.stop()
        elif control.paused:
            with steps.held():
                yield buffer.flush(progress, paused=True)
                control.wait()
        elif buffer.due:
            yield buffer.flush(progress)


class _UpdateBuffer:
    """A buffer of steps between two progress reports."""

    def __init__(self, request: FitRequest, control: Control, previews: bool) -> None:
        self.request, self.control, self.previews = request, control, previews
        self._drafted = False
        self.interval = 1 / request.preview_rate
        self.previewer = Previewer(request.spec, self.interval)
        self.last = -math.inf
        self._clear()

    @property
    def due(self) -> bool:
        """Whether the next report is due."""
        return time.perf_counter() - self.last >= self.interval

    def add(self, progress: Progress) -> None:
        """Append a step."""
        self.steps.append(progress.step)
        self.losses.append(progress.loss)
        self.psnrs.append(progress.psnr)

    def flush(self, progress: Progress, paused: bool = False) -> Update:
        """Return a report of the steps since the last one, and empty the buffer."""
        preview = draft = None
        if not self.previews:
            pass
        elif progress.phase is not None and progress.phase.name in ("restoring", "adapting"):
            draft = self._draft(progress)
        elif paused or self.control.take_turn():
            preview = self.previewer.look(progress, self.control.view)
        update = Update(progress, self.steps, self.losses, self.psnrs, preview, paused, draft)
        self._clear()
        self.last = time.perf_counter()
        return update

    def _draft(self, progress: Progress) -> LayerData | None:
        """Return the first picture of a ready network, which later passes change little."""
        if self._drafted:
            return None
        self._drafted = True
        request = self.request
        return draft_layer(request.spec, progress.field(), request.scale, request.label)

    def _clear(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.psnrs: list[float] = []
