"""`RegionBox`: choice of the region to fit."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker, QTimer, Signal

from napari_siren.errors import InputError
from napari_siren.layers.reading import layer_kinds
from napari_siren.ui.logic.connections import Connections
from napari_siren.ui.logic.viewport import field_of_view
from napari_siren.ui.widgets.boxes import NarrowBox

# Texts of the regions that are not layers.
_WHOLE = "The whole image"
_VIEW = "What is in view"
# Milliseconds without a movement before a new view counts as a change.
_SETTLED_MS = 300
# Actions of a Shapes layer before the change of its shapes. Another event follows after the change.
_BEFORE_CHANGE = ("adding", "changing", "removing")


class RegionBox(NarrowBox):
    """The choice of a region: the whole image, the part in view, or a Shapes or Labels layer.

    Parameters
    ----------
    viewer
        napari's viewer.
    """

    changed = Signal()
    """Another region has been chosen, or the region has changed."""

    def __init__(self, viewer: Any) -> None:
        super().__init__(
            "Region",
            "The part to fit: the whole image, the part in view, the areas drawn in a Shapes layer, or the labelled "
            "areas of a Labels layer. A smaller region takes less time.",
        )
        self.viewer = viewer
        self._events = Connections()
        # A view changes many times in a second while it is moved.
        self._view_timer = QTimer(self)
        self._view_timer.setSingleShot(True)
        self._view_timer.setInterval(_SETTLED_MS)
        self._view_timer.timeout.connect(self.changed)
        self.currentIndexChanged.connect(self._picked)

    @property
    def layer(self) -> Any | None:
        """The chosen Shapes or Labels layer, or None."""
        return self.currentData()

    def region(self, layer: Any, plane: tuple[int | None, ...], level: int) -> Any:
        """Return the region of a layer for `fit_layer`.

        Parameters
        ----------
        layer, plane, level
            The image layer, its fixed indices, and its level.

        Raises
        ------
        InputError
            The part in view is chosen, but no pixel is in view.
        """
        if self.layer is not None:
            return self.layer
        if self.currentText() != _VIEW:
            return None
        view = field_of_view(self.viewer, layer, level)
        box = tuple(None if index is not None else edges for index, edges in zip(plane, view, strict=True))
        if any(edges is not None and edges[0] == edges[1] for edges in box):
            raise InputError(f"No part of “{layer.name}” is in view. Move it into view, or choose another “Region”.")
        return None if all(edges is None for edges in box) else box

    def list_layers(self) -> None:
        """List the Shapes and Labels layers of the viewer. The chosen one stays if it still exists."""
        region, previous_text = self.layer, self.currentText()
        region_layers = [layer for layer in self.viewer.layers if {"Shapes", "Labels"} & set(layer_kinds(layer))]
        with QSignalBlocker(self):
            self.clear()
            self.addItems([_WHOLE, _VIEW])
            for layer in region_layers:
                kind = "Shapes" if "Shapes" in layer_kinds(layer) else "Labels"
                self.addItem(f"{kind}: {layer.name}", layer)
            index = next((i for i, layer in enumerate(region_layers) if layer is region), None)
            self.setCurrentIndex(int(previous_text == _VIEW) if index is None else index + 2)
        self._watch()
        if region is not None and index is None:
            self.changed.emit()

    def disconnect_viewer(self) -> None:
        """Disconnect from the events of the viewer and of its layers."""
        self._view_timer.stop()
        self._events.clear()

    def _picked(self, _index: int = 0) -> None:
        self._watch()
        self.changed.emit()

    def _watch(self) -> None:
        """Follow the changes of the chosen region: a layer or the view."""
        region, emitters = self.layer, []
        if self.currentText() == _VIEW:
            camera, dims, canvas = (
                part.events for part in (self.viewer.scene.camera, self.viewer.dims, self.viewer.canvas)
            )
            emitters = [camera.zoom, camera.center, canvas.size, dims.current_step, dims.ndisplay, dims.order]
        else:
            self._view_timer.stop()
        self._events.set("view", self._on_view, emitters)
        kinds = layer_kinds(region)
        emitters = [region.events.data] if region is not None and kinds else []
        if region is not None and "Labels" in kinds:
            emitters.append(region.events.paint)
        elif region is not None and "Shapes" in kinds:
            # If shapes are selected, only these count.
            emitters.append(region.selected_data.events.items_changed)
        self._events.set("region", self._on_region, emitters)

    def _on_region(self, event: Any = None) -> None:
        if str(getattr(event, "action", "")) not in _BEFORE_CHANGE:
            self.changed.emit()

    def _on_view(self, event: Any = None) -> None:
        self._view_timer.start()
