"""`Session`: one fit after the other in a viewer; starts, pauses, resumes, stops, continues and re-renders them."""

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
    spec_of,
    uncertainty_layer,
    upscaled_layer,
)
from napari_siren.layers.spec import LayerData
from napari_siren.ui.background import SteeredWorker, notify, start_function, start_generator
from napari_siren.ui.logic.fit_task import Control, FitRequest, Outcome, Update, explain, run_fit
from napari_siren.ui.logic.messages import describe_outcome, describe_progress
from napari_siren.ui.logic.viewport import box_in_view
from napari_siren.ui.result_layers import ResultLayers

if TYPE_CHECKING:
    from napari_siren.core.field.field import Derivative
    from napari_siren.core.result import FitResult


class State(Enum):
    """What a session is doing."""

    IDLE = "idle"
    FITTING = "fitting"
    PAUSED = "paused"
    ENDING = "ending"


class Session(QObject):
    """Fits in a viewer, one at a time. All methods are for the main thread.

    Parameters
    ----------
    viewer
        Of napari.
    parent
        A QObject that owns this one.
    """

    changed = Signal()
    """The state or the result is another."""
    adopted = Signal()
    """The result is that of a layer which has been selected."""
    told = Signal(object)
    """An `Update` came."""
    said = Signal(str)
    """What is going on, in words."""

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.state = State.IDLE
        self.request: FitRequest | None = None
        self.result: FitResult | None = None
        self.layers: ResultLayers | None = None
        self._control: Control | None = None
        self._worker: SteeredWorker | None = None
        self._bar: Any = None
        # Latest wishes by role, and the roles that are being rendered.
        self._wishes: dict[str, tuple[Callable[[], LayerData], bool]] = {}
        self._rendering: set[str] = set()

    # ---- a fit -----------------------------------------------------------------------------------------

    def start(self, request: FitRequest, source: Any) -> None:
        """Begin a fit of a layer; its layers come beside those that are there."""
        if self.state is State.IDLE:
            self.result = None
            self.layers = ResultLayers(self.viewer, source, request.spec)
            self._begin(request)

    def go_on(self, more_steps: int) -> None:
        """Take so many steps more from where the last fit ended, in its own layers."""
        if self.state is State.IDLE and self.can_go_on and self.request is not None and self.result is not None:
            self._begin(self.request.resumed(self.result, more_steps))

    def pause(self) -> None:
        """Take no further step, until `resume`."""
        if self.state is State.FITTING and self._control is not None:
            self._control.pause()
            self._enter(State.PAUSED)

    def resume(self) -> None:
        """Take steps again."""
        if self.state is State.PAUSED and self._control is not None:
            self._control.go_on()
            self._enter(State.FITTING)

    def stop(self) -> None:
        """End the fit, and keep what it has."""
        if self.state in (State.FITTING, State.PAUSED) and self._control is not None:
            self._control.stop()
            self._enter(State.ENDING)
            self.said.emit("Stopping; measuring and rendering what is there…")

    def close(self) -> None:
        """Call off what is going on, and let go of everything."""
        self._wishes.clear()
        if self._control is not None:
            self._control.cancel()
            self._ended()
            if self.layers is not None:
                self.layers.take_back()
        self.request = self.result = self.layers = None
        release_memory()

    @property
    def can_go_on(self) -> bool:
        """Whether there is a fit to take more steps of."""
        return self.request is not None and self.result is not None and self.result.state is not None

    def _begin(self, request: FitRequest) -> None:
        self._wishes.clear()
        self.request = request
        control = self._control = Control()
        # A viewer that closes does not close its panels; and of two viewers napari calls off the work of one only.
        self.destroyed.connect(control.cancel)
        self._enter(State.FITTING)
        self.said.emit("Preparing…")
        self._worker = start_generator(
            run_fit,
            request,
            control,
            call_off=control.cancel,
            yielded=self._on_update,
            returned=self._on_outcome,
        )
        # Last: napari handles events whenever it draws a bar, by which the fit may even have ended.
        bar = activity(total=request.config.max_steps, desc=f"SIREN: {request.spec.name}")
        if self._control is control:
            self._bar = bar
        else:
            bar.close()

    def _on_update(self, update: Update) -> None:
        if self._control is None or self.layers is None:
            return
        if update.preview is not None:
            self.layers.show_preview(update.preview)
            self._control.preview_shown()
        shown = self.layers.get("reconstruction")
        if shown is not None:
            self._control.view = box_in_view(self.viewer, shown, self.layers.spec)
        self.told.emit(update)
        if self.state is not State.ENDING:
            self.said.emit(describe_progress(update))
        if self._bar is not None:
            # Last: later news, and even the outcome, may come while napari draws it.
            self._bar.total = update.progress.max_steps
            self._bar.update(update.progress.step - self._bar.n)

    def _on_outcome(self, outcome: Outcome) -> None:
        if self._control is None or self.layers is None:
            return
        self._ended()
        if outcome.result is not None and outcome.layers is not None:
            self.result = outcome.result
            self.layers.show(outcome.layers)
            self.said.emit(describe_outcome(outcome.result))
        else:
            self.layers.take_back()
            self.said.emit("Nothing was fitted." if outcome.error is None else explain(outcome.error))
        release_memory()
        self._enter(State.IDLE)
        if outcome.error is not None:
            notify(outcome.error)

    def _ended(self) -> None:
        if self._control is not None:
            self.destroyed.disconnect(self._control.cancel)
        self._control = self._worker = None
        self.state = State.IDLE
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _enter(self, state: State) -> None:
        self.state = state
        self.changed.emit()

    # ---- what was fitted ---------------------------------------------------------------------------------

    def adopt(self, layer: Any) -> None:
        """Take up the model that a layer comes from: one that was opened, or fitted before."""
        result = layer.metadata.get(RESULT_KEY)
        if result is None or result is self.result or self.state is not State.IDLE:
            return
        self._wishes.clear()
        self.request, self.result = None, result
        # Others of the same fit may still be there; of two in a role it is the one that was selected.
        siblings = [other for other in self.viewer.layers if other.metadata.get(RESULT_KEY) is result]
        roles = {_role(other): other for other in (*siblings, layer)}
        # The layer's name without what is in the brackets behind it.
        spec = spec_of(result, re.sub(r" \[[^][]*\]$", "", layer.name)).placed_as(layer)
        self.layers = ResultLayers(self.viewer, layer, spec, roles)
        self.said.emit(f"The model of {layer.name}. {describe_outcome(result)}")
        self.adopted.emit()
        self.changed.emit()

    def rescale(self, scale: float, isotropic: bool = False) -> None:
        """Render the upscaled layer at another scale, in the background; of many wishes the last one counts."""
        self._wish("upscaled", lambda spec, result: upscaled_layer(spec, result, spec.scales(scale, isotropic)))

    def show_error(self, kind: ErrorKind) -> None:
        """Show the error signed or absolute; of a model that was opened there is none."""
        if self.result is not None and self.result.samples is not None:
            self._wish("error", lambda spec, result: error_layer(spec, result, kind), displayed=True)

    def show_derivative(self, derivative: Derivative, scale: float = 1) -> None:
        """Add the layer of a derivative."""
        self._wish(derivative, lambda spec, result: derivative_layer(spec, result, derivative, scale))

    def show_uncertainty(self, scale: float, isotropic: bool = False) -> None:
        """Add the layer of the error to be expected of the upscaled layer; a model that was opened cannot tell."""
        self._wish("uncertainty", lambda spec, result: uncertainty_layer(spec, result, spec.scales(scale, isotropic)))

    def _wish(self, role: str, make: Callable[[Any, FitResult], LayerData], displayed: bool = False) -> None:
        if self.result is None or self.layers is None or self.state is not State.IDLE:
            return
        spec, result = self.layers.placed(), self.result
        self._wishes[role] = (lambda: make(spec, result), displayed)
        if role not in self._rendering:
            self._render(role)

    def _render(self, role: str) -> None:
        make, displayed = self._wishes.pop(role)
        self._rendering.add(role)
        result = self.result
        self.said.emit("Rendering…")

        def returned(made: LayerData | Exception) -> None:
            self._on_rendered(role, result, made, displayed)

        start_function(make, returned=returned)

    def _on_rendered(self, role: str, result: FitResult | None, made: LayerData | Exception, displayed: bool) -> None:
        self._rendering.discard(role)
        if result is None or result is not self.result or self.layers is None:  # of an earlier fit
            pass
        elif isinstance(made, Exception):
            self.said.emit(explain(made))
            notify(made)
        else:
            self.layers.replace(role, made, displayed)
            self.said.emit(describe_outcome(result))
        if role in self._wishes:
            self._render(role)


def _role(layer: Any) -> str:
    """Tell what a layer that comes from a fit shows; one that was opened is like an upscaled one."""
    role: str = layer.metadata.get(METADATA_KEY, {}).get("role", "upscaled")
    return role


def release_memory() -> None:
    """Return back the memory of a GPU that a fit no longer needs; that of the CPU goes by itself."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
