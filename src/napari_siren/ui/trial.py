"""`Trial`: a small square of an image, done with the present settings and shown in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_siren.errors import SirenError
from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.layers.spec import LayerData
from napari_siren.ui.background import CancellableWorker, start_generator
from napari_siren.ui.tasks.control import Control
from napari_siren.ui.tasks.fit import FitRequest, Outcome, explain, run_fit
from napari_siren.ui.tasks.messages import duration
from napari_siren.ui.tasks.updates import Update

# Gap between two squares, as a share of their width.
_GAP = 0.05

Variants = Sequence[tuple[str, Mapping[str, Any]]]
"""Name of each variant, and the values of its settings that differ from the present ones."""


class Trial(QObject):
    """A square of an image, done with the present settings, or with several variants side by side.

    A click on the image moves the square. The layers of a trial go away at its end.

    Parameters
    ----------
    viewer
        napari's viewer.
    request
        Function that returns the request of a fit of a square of the image, for a position in the world and the values
        of some settings. It may raise a `SirenError`.
    parent
        The QObject that owns this one.
    """

    message = Signal(str)
    """The current activity in words."""
    changed = Signal()
    """The trial has begun or ended."""

    def __init__(
        self, viewer: Any, request: Callable[[Any, Mapping[str, Any]], FitRequest], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.viewer, self._request = viewer, request
        self.active = False
        self.source: Any = None
        self._variants: Variants = ()
        self._control: Control | None = None
        self._worker: CancellableWorker | None = None
        # Requests that are not done yet, with their numbers, and the layers by these numbers.
        self._waiting: list[tuple[int, FitRequest]] = []
        self._layers: dict[int, Any] = {}
        self._start = 0.0

    def begin(self, source: Any, variants: Variants = (("", {}),)) -> None:
        """Try the square under the mouse, or in the middle of the view.

        Parameters
        ----------
        source
            Image layer.
        variants
            Settings to try side by side.
        """
        self.end()
        canvas = self.viewer.mouse_over_canvas
        centre = (*self.viewer.dims.point[:-2], *self.viewer.scene.camera.center[-2:])
        self.source, self._variants = source, variants
        self.active = True
        self.viewer.mouse_drag_callbacks.append(self._on_press)
        self.viewer.layers.events.removed.connect(self._on_removed)
        self.changed.emit()
        self.move(self.viewer.cursor.position if canvas else centre)

    def move(self, position: Sequence[float]) -> None:
        """Try the square around a position in the world."""
        self._stop()
        try:
            requests = [self._request(position, overrides) for _, overrides in self._variants]
        except SirenError as error:
            self.message.emit(str(error))
            return
        self._remove_layers()
        self._waiting = list(enumerate(requests))
        self._start = time.monotonic()
        self._next()

    def end(self) -> None:
        """End the trial, and remove its layers."""
        if not self.active:
            return
        self.active = False
        self._stop()
        self.viewer.mouse_drag_callbacks.remove(self._on_press)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self._remove_layers()
        self.source = None
        self.changed.emit()

    # ---- one variant after the other ---------------------------------------------------------------------------

    def _next(self) -> None:
        if not self._waiting:
            names = ", ".join(name for name, _ in self._variants if name)
            order = f"From left to right: {names}. " if names else ""
            seconds = duration(time.monotonic() - self._start)
            self.message.emit(f"{order}Tried in {seconds}. Click on the image to try another place.")
            return
        number, request = self._waiting.pop(0)
        name = self._variants[number][0]
        self.message.emit(f"Trying {name or 'a square of the image'}…")
        control = self._control = Control()
        self.destroyed.connect(control.cancel)
        self._worker = start_generator(
            _numbered,
            number,
            request,
            control,
            call_off=control.cancel,
            yielded=self._on_update,
            returned=self._on_outcome,
        )

    def _stop(self) -> None:
        self._waiting.clear()
        if self._control is not None:
            self._control.cancel()
            self.destroyed.disconnect(self._control.cancel)
        self._control = self._worker = None

    def _on_update(self, update: tuple[int, Control, Update]) -> None:
        number, control, content = update
        if control is not self._control:
            return
        if content.draft is not None:
            self._show(number, content.draft)
        control.preview_shown()

    def _on_outcome(self, outcome: tuple[int, Control, Outcome]) -> None:
        number, control, content = outcome
        if control is not self._control:
            return
        self.destroyed.disconnect(control.cancel)
        self._control = self._worker = None
        if content.layers is not None:
            self._show(number, content.layers["upscaled"])
            self._next()
        else:
            self._waiting.clear()
            self.message.emit("Nothing was tried." if content.error is None else explain(content.error))

    # ---- layers ------------------------------------------------------------------------------------------------

    def _show(self, number: int, layer_data: LayerData) -> None:
        """Show the pixels of a variant, in its layer or in a new one."""
        data, meta, _ = layer_data
        layer = self._layers.get(number)
        if layer is not None:
            layer.data = data
            return
        name = self._variants[number][0]
        selection = set(self.viewer.layers.selection)
        meta = {**meta, "name": f"try: {name}" if name else "try", "metadata": {METADATA_KEY: {"role": "trial"}}}
        layer = self.viewer.add_image(data, **meta)
        self._layers[number] = layer
        # napari has selected the new layer.
        self.viewer.layers.selection = selection
        layer.translate = layer.translate + number * self._step(layer)
        layer.bounding_box.visible = True
        layer.bounding_box.points = False

    def _step(self, layer: Any) -> Any:
        """Return the distance between two squares in the world, along the last displayed axis."""
        axis = self.viewer.dims.displayed[-1] - (self.viewer.dims.ndim - layer.ndim)
        step = np.zeros(layer.ndim)
        step[axis] = (1 + _GAP) * abs(np.diff(layer.extent.world[:, axis])[0] + layer.scale[axis])
        return step

    def _remove_layers(self) -> None:
        layers, self._layers = self._layers, {}
        for layer in layers.values():
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    def _on_removed(self, event: Any = None) -> None:
        if self.source not in self.viewer.layers:
            self.end()
        self._layers = {number: layer for number, layer in self._layers.items() if layer in self.viewer.layers}

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Move the square to a click. A drag is left to napari, which moves the view."""
        yield
        dragged = False
        while event.type == "mouse_move":
            dragged = True
            yield
        if not dragged and self.active:
            self.move(event.position)


def _numbered(number: int, request: FitRequest, control: Control) -> Any:
    """Run a fit, and mark its reports with its number and its control."""
    fit = run_fit(request, control)
    while True:
        try:
            update = next(fit)
        except StopIteration as end:
            return number, control, end.value
        yield number, control, update
