"""`Session`: the fits in a viewer, one after the other: start, pause, resume, stop, continue, render again."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from napari.utils import progress as activity
from qtpy.QtCore import QObject, Signal

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
from napari_siren.ui.background import CancellableWorker, notify, start_function, start_generator
from napari_siren.ui.logic.fit_task import Control, FitRequest, Outcome, Update, explain, run_fit
from napari_siren.ui.logic.messages import describe_outcome, describe_progress
from napari_siren.ui.logic.purposes import result_label
from napari_siren.ui.logic.viewport import box_in_view
from napari_siren.ui.result_layers import ResultLayers

if TYPE_CHECKING:
    from napari_siren.core.field.field import Derivative
    from napari_siren.core.result import FitResult


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
    adopted = Signal()
    """The result has changed to that of a selected layer."""
    updated = Signal(object)
    """An `Update` has arrived."""
    message = Signal(str)
    """The current activity in words."""

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.state = SessionState.IDLE
        self.request: FitRequest | None = None
        self.result: FitResult | None = None
        self.layers: ResultLayers | None = None
        self._control: Control | None = None
        self._worker: CancellableWorker | None = None
        self._bar: Any = None
        # For each role, the latest request to render: the function that renders, and `displayed` of `replace`.
        self._pending_renders: dict[str, tuple[Callable[[], LayerData], bool]] = {}
        # The roles that are being rendered.
        self._rendering: set[str] = set()
        viewer.layers.events.removed.connect(self._on_removed)

    # ---- a fit -----------------------------------------------------------------------------------------

    def start(self, request: FitRequest, source: Any) -> None:
        """Start a fit of a layer, and add its layers to the existing ones."""
        if self.state is SessionState.IDLE:
            self.result = None
            self.layers = ResultLayers(self.viewer, source, request.spec)
            self._begin(request)

    def go_on(self, more_steps: int) -> None:
        """Continue the last fit for `more_steps` steps, in the same layers."""
        if self.state is SessionState.IDLE and self.can_go_on and self.request is not None and self.result is not None:
            self._begin(self.request.resumed(self.result, more_steps))

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
            self._control.stop()
            self._enter(SessionState.ENDING)
            self.message.emit("Stopping; measuring and rendering the result…")

    def close(self) -> None:
        """Cancel the running fit, and release all results and layers."""
        self._pending_renders.clear()
        if self._control is not None:
            self._control.cancel()
            self._ended()
            if self.layers is not None:
                self.layers.rollback()
        self.request = self.result = self.layers = None
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        release_memory()

    @property
    def can_go_on(self) -> bool:
        """Whether the last fit can be continued."""
        result = self.result
        if self.request is None or result is None or result.state is None:
            return False
        return result.field.has_tiles or result.history.stopped != "max_steps"

    @property
    def shown(self) -> Any | None:
        """Layer of the current result, or None."""
        if self.layers is None or self.result is None:
            return None
        return self.layers.get("upscaled") or self.layers.get("reconstruction")

    @property
    def result_name(self) -> str:
        """Name of the layer of the current result, or an empty string."""
        return "" if self.shown is None else str(self.shown.name)

    def pair(self) -> tuple[Any, Any] | None:
        """Return the original and the result to compare, or None."""
        return None if self.layers is None else self.layers.pair()

    def _begin(self, request: FitRequest) -> None:
        self._pending_renders.clear()
        self.request = request
        control = self._control = Control()
        # A viewer does not close its panels when it closes. With two viewers, napari ends the work of only one of them.
        self.destroyed.connect(control.cancel)
        self._enter(SessionState.FITTING)
        self.message.emit("Preparing…")
        self._worker = start_generator(
            run_fit,
            request,
            control,
            call_off=control.cancel,
            yielded=self._on_update,
            returned=self._on_outcome,
        )
        # This comes last: napari handles events whenever it draws a bar, and during these the fit may even end.
        bar = activity(total=request.config.max_steps, desc=f"SIREN: {request.spec.name}")
        if self._control is control:
            self._bar = bar
        else:
            bar.close()

    def _on_update(self, update: Update) -> None:
        if self._control is None or self.layers is None:
            return
        if update.draft is not None:
            self.layers.show_draft(update.draft)
        if update.preview is not None:
            self.layers.show_preview(update.preview)
        if update.preview is not None or update.draft is not None:
            self._control.preview_shown()
        reconstruction = self.layers.get("reconstruction")
        if reconstruction is not None:
            self._control.view = box_in_view(self.viewer, reconstruction, self.layers.spec)
        self.updated.emit(update)
        if self.state is not SessionState.ENDING:
            self.message.emit(describe_progress(update))
        if self._bar is not None:
            # This comes last: later updates, and even the outcome, may arrive while napari draws the bar.
            self._bar.total = update.progress.max_steps
            self._bar.update(update.progress.step - self._bar.n)

    def _on_outcome(self, outcome: Outcome) -> None:
        if self._control is None or self.layers is None:
            return
        self._ended()
        if outcome.result is not None and outcome.layers is not None:
            self.result = outcome.result
            self.layers.show(outcome.layers)
            self.message.emit(describe_outcome(outcome.result))
        else:
            self.layers.rollback()
            self.message.emit("Nothing was fitted." if outcome.error is None else explain(outcome.error))
        release_memory()
        self._enter(SessionState.IDLE)
        if outcome.error is not None:
            notify(outcome.error)

    def _ended(self) -> None:
        if self._control is not None:
            self.destroyed.disconnect(self._control.cancel)
        self._control = self._worker = None
        self.state = SessionState.IDLE
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _enter(self, state: SessionState) -> None:
        self.state = state
        self.changed.emit()

    def _on_removed(self, event: Any = None) -> None:
        """Forget the result if all of its layers have been deleted."""
        if self.state is SessionState.IDLE and self.layers is not None and not self.layers.exist:
            self._pending_renders.clear()
            self.request = self.result = self.layers = None
            self.changed.emit()

    # ---- the result --------------------------------------------------------------------------------------

    def adopt(self, layer: Any) -> None:
        """Make the model of a layer the current result. The model was opened from a file, or fitted before."""
        result = layer.metadata.get(RESULT_KEY)
        if result is None or result is self.result or self.state is not SessionState.IDLE:
            return
        self._pending_renders.clear()
        self.request, self.result = None, result
        # Other layers of the same fit may still exist. If two have the same role, the selected one counts.
        siblings = [other for other in self.viewer.layers if other.metadata.get(RESULT_KEY) is result]
        roles = {_role(other): other for other in (*siblings, layer)}
        # The layer's name without the brackets at its end.
        spec = spec_of(result, re.sub(r" \[[^][]*\]$", "", layer.name)).placed_as(layer)
        self.layers = ResultLayers(self.viewer, layer, spec, roles)
        self.message.emit(f"Model of {layer.name}. {describe_outcome(result)}")
        self.adopted.emit()
        self.changed.emit()

    def rescale(self, scale: float, isotropic: bool = False) -> None:
        """Render the upscaled layer at another scale, in the background. Only the latest of several requests counts."""

        def make(spec: LayerSpec, result: FitResult) -> LayerData:
            scales = spec.scales(scale, isotropic)
            return upscaled_layer(spec, result, scales, result_label(result.config, scale_label(scales), isotropic))

        self._render_later("upscaled", make)

    def show_error(self, kind: ErrorKind) -> None:
        """Show the signed or the absolute error. A model that was opened from a file has no error map."""
        if self.result is not None and self.result.samples is not None:
            self._render_later("error", lambda spec, result: error_layer(spec, result, kind), displayed=True)

    def show_derivative(self, derivative: Derivative, scale: float = 1) -> None:
        """Add the layer of a derivative."""
        self._render_later(derivative, lambda spec, result: derivative_layer(spec, result, derivative, scale))

    def show_uncertainty(self, scale: float, isotropic: bool = False) -> None:
        """Add a layer of the expected error of the upscaled layer. This needs the fitted image.

        A model that was opened from a file has no image. In this case an error message is shown instead.
        """
        self._render_later(
            "uncertainty", lambda spec, result: uncertainty_layer(spec, result, spec.scales(scale, isotropic))
        )

    def _render_later(self, role: str, make: Callable[[Any, FitResult], LayerData], displayed: bool = False) -> None:
        if self.result is None or self.layers is None or self.state is not SessionState.IDLE:
            return
        spec, result = self.layers.placed(), self.result
        self._pending_renders[role] = (lambda: make(spec, result), displayed)
        if role not in self._rendering:
            self._render(role)

    def _render(self, role: str) -> None:
        make, displayed = self._pending_renders.pop(role)
        self._rendering.add(role)
        result = self.result
        self.message.emit("Rendering…")

        def returned(layer_data: LayerData | Exception) -> None:
            self._on_rendered(role, result, layer_data, displayed)

        start_function(make, returned=returned)

    def _on_rendered(
        self, role: str, result: FitResult | None, layer_data: LayerData | Exception, displayed: bool
    ) -> None:
        self._rendering.discard(role)
        if result is None or result is not self.result or self.layers is None:  # the render of an earlier fit
            pass
        elif isinstance(layer_data, Exception):
            self.message.emit(explain(layer_data))
            notify(layer_data)
        else:
            self.layers.replace(role, layer_data, displayed)
            self.message.emit(describe_outcome(result))
        if role in self._pending_renders:
            self._render(role)


def _role(layer: Any) -> str:
    """Return the role of a layer of a fit. The layer of an opened model has the role of an upscaled layer."""
    role: str = layer.metadata.get(METADATA_KEY, {}).get("role", "upscaled")
    return role


def release_memory() -> None:
    """Release the unused memory of the GPU after a fit. The memory of the CPU is released without this."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
