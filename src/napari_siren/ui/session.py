"""`Session`: the fits in a viewer, one after the other: start, pause, resume, stop, continue, render again."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, Signal

from napari_siren.core.clock import Cancelled
from napari_siren.layers.code import continued
from napari_siren.layers.outputs import (
    METADATA_KEY,
    RESULT_KEY,
    ErrorKind,
    derivative_layer,
    error_layer,
    scale_label,
    spec_of,
    uncertainty_layer,
    upscaled_layer,
)
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.background import CancellableWorker, activity, notify, release_memory, start_generator
from napari_siren.ui.logic.purposes import result_label
from napari_siren.ui.logic.viewport import box_in_view
from napari_siren.ui.renders import Render, Renders, Report
from napari_siren.ui.result_layers import ResultLayers
from napari_siren.ui.tasks.control import Control
from napari_siren.ui.tasks.fit import Outcome, explain, run_fit
from napari_siren.ui.tasks.jobs import Job, Origin
from napari_siren.ui.tasks.messages import (
    describe_map,
    describe_outcome,
    describe_progress,
    describe_remaining,
    describe_series,
)
from napari_siren.ui.tasks.updates import Update

if TYPE_CHECKING:
    from napari_siren.core.field.field import Derivative
    from napari_siren.core.result import FitResult


# Text in napari's activity dock, with the remaining time of the panel instead of an estimate by napari.
_BAR_FORMAT = "{l_bar}{bar}| {n_fmt} of {total_fmt}{postfix}"


class SessionState(Enum):
    """The state of a session."""

    IDLE = "idle"
    FITTING = "fitting"
    PAUSED = "paused"
    ENDING = "ending"


class Session(QObject):
    """The fits in a viewer, one at a time. Call all methods in the main thread.

    Parameters
    ----------
    viewer
        napari's viewer.
    parent
        The QObject that owns this one.
    """

    changed = Signal()
    """The state or the result has changed."""
    begun = Signal()
    """A new fit has begun, or the result has changed to that of a selected layer."""
    updated = Signal(object)
    """An `Update` has arrived."""
    message = Signal(str)
    """The current activity in words."""

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.state = SessionState.IDLE
        self.job: Job | None = None
        self.result: FitResult | None = None
        self.layers: ResultLayers | None = None
        self._control: Control | None = None
        self._worker: CancellableWorker | None = None
        self._bar: Any = None
        # The fits after the running one.
        self._queue: deque[Job] = deque()
        self._count, self._keep = 0, False
        self._origins: WeakKeyDictionary[FitResult, Origin] = WeakKeyDictionary()
        self.renders = Renders(self)
        self.renders.made.connect(self._on_made)
        viewer.layers.events.removed.connect(self._on_removed)

    # ---- a fit -----------------------------------------------------------------------------------------

    def start(self, *jobs: Job, keep: bool = False) -> None:
        """Do fits one after the other, and add their layers to the existing ones.

        Parameters
        ----------
        *jobs
            The fits. If one fails, its error is shown, and the others follow.
        keep
            Whether earlier results with the same names are kept.
        """
        if self.state is SessionState.IDLE and jobs:
            self._queue, self._count = deque(jobs), len(jobs)
            self._keep = keep
            self._start_next()

    def go_on(self, more_steps: int) -> None:
        """Continue the fit of the current result for `more_steps` steps, in the same layers."""
        if self.state is SessionState.IDLE and self.can_go_on and self.job is not None and self.result is not None:
            request = self.job.request.resumed(self.result, more_steps)
            self._count = 1
            self._begin(replace(self.job, request=request, code=continued(self.job.code, more_steps)))

    def pause(self) -> None:
        """Pause the fit until `resume` is called."""
        if self.state is SessionState.FITTING and self._control is not None:
            self._control.pause()
            self._enter(SessionState.PAUSED)

    def resume(self) -> None:
        """Continue the fit after a pause."""
        if self.state is SessionState.PAUSED and self._control is not None:
            self._control.go_on()
            self._enter(SessionState.FITTING)

    def stop(self) -> None:
        """End the fit, and keep its result."""
        if self.state in (SessionState.FITTING, SessionState.PAUSED) and self._control is not None:
            self._queue.clear()
            self._control.stop()
            self._enter(SessionState.ENDING)
            self.message.emit("Stopping; measuring and rendering the result…")

    def when_idle(self, action: Callable[[], None]) -> None:
        """Do something after the end of the running fit, or at once if there is none."""

        def act() -> None:
            if self.state is SessionState.IDLE:
                self.changed.disconnect(act)
                action()

        self.changed.connect(act)
        act()

    def close(self) -> None:
        """Cancel all work, and release all results and layers."""
        self._queue.clear()
        self.renders.forget()
        if self._control is not None:
            self._control.cancel()
            self._ended()
            if self.layers is not None:
                self.layers.rollback()
        self.job = self.result = self.layers = None
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        release_memory()

    @property
    def can_go_on(self) -> bool:
        """Whether the fit of the current result can be continued."""
        result = self.result
        if self.job is None or result is None or result.state is None:
            return False
        return result.field.has_tiles or result.history.stopped != "max_steps"

    @property
    def shown(self) -> Any | None:
        """Layer of the current result, also of fits one by one, or None."""
        if self.layers is None or self.state is not SessionState.IDLE:
            return None
        return self.layers.get("upscaled") or self.layers.get("reconstruction")

    @property
    def result_name(self) -> str:
        """Name of the layer of the current result, or an empty string."""
        return "" if self.shown is None else str(self.shown.name)

    @property
    def code(self) -> str:
        """Python code that repeats the fit of the current result, or an empty string."""
        return "" if self.job is None else self.job.code

    @property
    def age(self) -> float | None:
        """Seconds since the end of the fit of the current result. None if it was not made in this session."""
        origin = None if self.result is None else self._origins.get(self.result)
        return None if origin is None else time.monotonic() - origin.finished

    def pair(self) -> tuple[Any, Any] | None:
        """Return the original and the result to compare, or None."""
        return None if self.layers is None else self.layers.pair()

    def _start_next(self) -> None:
        job = self._queue.popleft()
        self.result = None
        self.layers = ResultLayers(self.viewer, job.source, job.request.spec, keep=self._keep)
        self.begun.emit()
        self._begin(job)

    def _begin(self, job: Job) -> None:
        self.renders.forget()
        self.job, request = job, job.request
        control = self._control = Control()
        # A viewer does not close its panels when it closes. With two viewers, napari ends the work of only one of them.
        self.destroyed.connect(control.cancel)
        self._enter(SessionState.FITTING)
        self._say("Preparing…")
        self._worker = start_generator(
            run_fit,
            request,
            control,
            call_off=control.cancel,
            yielded=self._on_update,
            returned=self._on_outcome,
        )
        # This comes last: napari handles events whenever it draws a bar, and during these the fit may even end.
        bar = activity(total=request.config.max_steps, desc=f"SIREN: {request.spec.name}", bar_format=_BAR_FORMAT)
        if self._control is control:
            self._bar = bar
        else:
            bar.close()

    def _on_update(self, update: Update) -> None:
        if self._control is None or self.layers is None:
            return
        if update.draft is not None:
            self.layers.show_draft(update.draft)
        if update.layers is not None:
            self.layers.show_entries(update.layers)
        if update.preview is not None:
            self.layers.show_preview(update.preview)
        if update.preview is not None or update.draft is not None:
            self._control.preview_shown()
        reconstruction = self.layers.get("reconstruction")
        if reconstruction is not None:
            self._control.view = box_in_view(self.viewer, reconstruction, self.layers.spec)
        self.updated.emit(update)
        if self.state is not SessionState.ENDING:
            self._say(describe_progress(update))
        if self._bar is not None:
            # This comes last: later updates, and even the outcome, may arrive while napari draws the bar.
            progress = update.progress
            self._bar.total = progress.max_steps * progress.entries
            self._bar.set_postfix_str(describe_remaining(progress.seconds_left), refresh=False)
            self._bar.update(progress.max_steps * progress.entry + progress.step - self._bar.n)

    def _on_outcome(self, outcome: Outcome) -> None:
        if self._control is None or self.layers is None:
            return
        self._ended()
        if outcome.result is not None and outcome.layers is not None:
            self.result = outcome.result
            if self.job is not None:
                # Without the result that it has continued, whose memory would never be free.
                self.job = replace(self.job, request=replace(self.job.request, resume=None, steps=None))
                self._origins[outcome.result] = Origin(self.job, time.monotonic())
            self.layers.show(outcome.layers)
            self.message.emit(describe_outcome(outcome.result))
        elif outcome.layers is not None and self.job is not None and self.job.request.series is not None:
            self.layers.show_entries(outcome.layers, last=True)
            self.message.emit(describe_series(outcome, len(self.job.request.series.indices)))
        else:
            self.layers.rollback()
            self.message.emit("Nothing was fitted." if outcome.error is None else explain(outcome.error))
        release_memory()
        if outcome.error is not None:
            notify(outcome.error)
        if self._queue:
            self._start_next()
        else:
            self._enter(SessionState.IDLE)

    def _ended(self) -> None:
        if self._control is not None:
            self.destroyed.disconnect(self._control.cancel)
        self._control = self._worker = None
        self.state = SessionState.IDLE
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, text: str) -> None:
        """Report the progress, with the number of the fit if there are several."""
        number = self._count - len(self._queue)
        self.message.emit(f"{number} of {self._count}. {text}" if self._count > 1 else text)

    def _enter(self, state: SessionState) -> None:
        self.state = state
        self.changed.emit()

    def _on_removed(self, event: Any = None) -> None:
        """Forget the result if all of its layers have been deleted."""
        if self.state is SessionState.IDLE and self.layers is not None and self.layers.deleted:
            self.renders.forget()
            self.job = self.result = self.layers = None
            self.changed.emit()

    # ---- the result --------------------------------------------------------------------------------------

    def adopt(self, layer: Any) -> None:
        """Make the model of a layer the current result. The model was opened from a file, or fitted before."""
        result = layer.metadata.get(RESULT_KEY)
        if result is None or result is self.result or self.state is not SessionState.IDLE:
            return
        self.renders.forget()
        origin = self._origins.get(result)
        self.job, self.result = None if origin is None else origin.job, result
        # Other layers of the same fit may still exist. If two have the same role, the selected one counts.
        siblings = [other for other in self.viewer.layers if other.metadata.get(RESULT_KEY) is result]
        roles = {_role(other): other for other in (*siblings, layer)}
        # The layer's name without the brackets at its end.
        spec = spec_of(result, re.sub(r" \[[^][]*\]$", "", layer.name)).placed_as(layer)
        self.layers = ResultLayers(self.viewer, layer, spec, roles)
        self.message.emit(f"Model of {layer.name}. {describe_outcome(result)}")
        self.begun.emit()
        self.changed.emit()

    def rescale(self, scale: float, isotropic: bool = False) -> None:
        """Render the upscaled layer at another scale, in the background. Only the latest of several requests counts."""

        def make(spec: LayerSpec, result: FitResult, report: Report) -> LayerData:
            scales = spec.scales(scale, isotropic)
            return upscaled_layer(spec, result, scales, result_label(result.config, scale_label(scales), isotropic))

        self._render("upscaled", make)

    def show_error(self, kind: ErrorKind) -> None:
        """Show the signed or the absolute error. A model that was opened from a file has no error map."""
        if self.result is not None and self.result.samples is not None:
            self._render("error", lambda spec, result, report: error_layer(spec, result, kind), displayed=True)

    def show_derivative(self, derivative: Derivative) -> None:
        """Add the layer of a derivative, at the scale of the result."""
        scale = self._scale()
        self._render(derivative, lambda spec, result, report: derivative_layer(spec, result, derivative, scale))

    def show_uncertainty(self) -> None:
        """Add a layer of the expected error of the result, at its scale. This needs the fitted image.

        A model that was opened from a file has no image. In this case an error message is shown instead.
        """
        scale = self._scale()
        self._render("uncertainty", lambda spec, result, report: uncertainty_layer(spec, result, scale, report))

    def _scale(self) -> float | Sequence[float]:
        """Return the scale of the current result, one for each coordinate or a number."""
        layer = None if self.layers is None else self.layers.get("upscaled")
        scale: Sequence[float] = [] if layer is None else layer.metadata.get(METADATA_KEY, {}).get("scale", [])
        numbers = set(scale)
        return scale if len(numbers) > 1 else next(iter(numbers), 1.0)

    def _render(self, role: str, make: Callable[[Any, FitResult, Report], LayerData], displayed: bool = False) -> None:
        if self.result is None or self.layers is None or self.state is not SessionState.IDLE:
            return
        spec, result = self.layers.placed(), self.result
        self.message.emit("Rendering…")
        self.renders.request(Render(role, lambda report: make(spec, result, report), displayed))

    def _on_made(self, render: Render, layer_data: LayerData | Exception) -> None:
        if self.result is None or self.layers is None:
            return
        if isinstance(layer_data, Cancelled):
            self.message.emit("Cancelled. The result is unchanged.")
        elif isinstance(layer_data, Exception):
            self.message.emit(explain(layer_data))
            notify(layer_data)
        else:
            self.layers.replace(render.role, layer_data, render.displayed)
            self.message.emit(describe_map(layer_data) or describe_outcome(self.result))


def _role(layer: Any) -> str:
    """Return the role of a layer of a fit. The layer of an opened model has the role of an upscaled layer."""
    role: str = layer.metadata.get(METADATA_KEY, {}).get("role", "upscaled")
    return role
