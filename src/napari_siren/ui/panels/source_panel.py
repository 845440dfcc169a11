"""`SourcePanel`: which layer to fit, and what of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from magicgui.widgets import request_values
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QPushButton, QSizePolicy, QWidget

from napari_siren.errors import InputError
from napari_siren.layers.code import viewer_layer
from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.layers.reading import attribute, axis_kind, layer_kinds, layer_title
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic.viewport import field_of_view, shown_axes, shown_plane

_WHOLE, _VIEW = "The whole image", "What is in view"
_SLICE, _STACK, _EVERYTHING = "This slice", "This stack", "The whole stack"
_MOST_COORDINATES = 3


@dataclass(frozen=True, eq=False)
class Source:
    """What is to be fitted.

    Parameters
    ----------
    layer
        Of napari.
    region, plane, level
        As `fit_layer` takes them.
    """

    layer: Any
    region: Any
    plane: tuple[int | None, ...] | None
    level: int

    def spec(self) -> LayerSpec:
        """Read everything but the pixels."""
        return LayerSpec.of(self.layer, None, self.region, self.plane, self.level, lazily=True)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `fit_layer`, layers by the code for them."""
        region = viewer_layer(self.region.name) if layer_kinds(self.region) else self.region
        return {"region": region, "plane": self.plane, "level": self.level}


class SourcePanel(QWidget):
    """Picks an image layer, which follows the active one, and a region of it.

    Parameters
    ----------
    viewer
        Of napari.
    parent
        The panel around it.
    """

    changed = Signal()
    """Something else is to be fitted."""
    activated = Signal(object)
    """A layer with a model has become the active one."""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layer_box = _combo("The image layer to fit. It follows the layer that is selected in the layer list.")
        self.level_box = _combo("Which resolution of a multiscale image to fit.")
        self.region_box = _combo(
            "Fit all of it, what is in view, the areas drawn in a Shapes layer, or what is labelled in a Labels layer. "
            "A smaller region takes less time."
        )
        self.extent_box = _combo(
            "Fit the slice that is shown, or the stack as a whole: neighbours then help each other."
        )
        self.voxel_button = QPushButton()
        self.voxel_button.setToolTip(
            "The distance between the centres of pixels along each axis, as the layer has it. Click to correct it: how "
            "far apart slices are decides what is learned between them. The layer is then drawn so in napari, too."
        )
        self.voxel_button.clicked.connect(self._ask_voxel)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self._form = form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for label, box in (
            ("Image", self.layer_box),
            ("Level", self.level_box),
            ("Region", self.region_box),
            ("Extent", self.extent_box),
        ):
            form.addRow(label, box)
        form.addRow("Voxel", self.voxel_button)
        form.addRow(self.hint)
        self.layer_box.currentIndexChanged.connect(self._picked)
        for box in (self.level_box, self.region_box, self.extent_box):
            box.currentIndexChanged.connect(self.changed)
        layers = viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            event.connect(self._list_layers)
        viewer.layers.selection.events.active.connect(self._follow)
        self._named: list[Any] = []
        self._list_layers()
        self._follow()

    @property
    def layer(self) -> Any | None:
        """The layer that is picked, or None."""
        return self.layer_box.currentData()

    def source(self) -> Source:
        """Return what is to be fitted, as the viewer shows it now.

        Raises
        ------
        InputError
            There is no image layer, or nothing of it is in view and that is what is to be fitted.
        """
        layer = self.layer
        if layer is None:
            raise InputError("there is no image layer to fit. Open an image, or File > Open Sample > napari-siren.")
        level = max(0, self.level_box.currentIndex()) if layer.multiscale else 0
        plane = self._plane(layer, level)
        return Source(layer, self._region(layer, plane, level), plane if any_held(plane) else None, level)

    def pick(self, layer: Any) -> bool:
        """Pick an image layer, one that comes from a fit included; False where it is none."""
        index = self.layer_box.findData(layer)
        if index >= 0:
            self.layer_box.setCurrentIndex(index)
        return bool(index >= 0)

    @property
    def anisotropic(self) -> bool:
        """Whether the pixels of the layer are further apart along one axis in space than along another."""
        layer = self.layer
        sizes = [] if layer is None else [abs(float(layer.scale[axis])) for axis in _in_space(layer)]
        return len(sizes) > 1 and max(sizes) > (1 + 1e-6) * min(sizes)

    def let_go(self) -> None:
        """Follow the viewer no longer."""
        layers = self.viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            event.disconnect(self._list_layers)
        self.viewer.layers.selection.events.active.disconnect(self._follow)
        for layer in self._named:
            layer.events.name.disconnect(self._list_layers)
        self._named = []

    def _region(self, layer: Any, plane: tuple[int | None, ...], level: int) -> Any:
        chosen = self.region_box.currentData()
        if chosen is not None:
            return chosen
        if self.region_box.currentText() != _VIEW:
            return None
        seen = field_of_view(self.viewer, layer, level)
        box = tuple(None if index is not None else edges for index, edges in zip(plane, seen, strict=True))
        if any(edges is not None and edges[0] == edges[1] for edges in box):
            raise InputError(f"nothing of {layer_title(layer)} is in view. Move it there, or choose another region.")
        return None if all(edges is None for edges in box) else box

    def _plane(self, layer: Any, level: int) -> tuple[int | None, ...]:
        """Hold the coordinates that the extent leaves out, at what is shown."""
        shown, position = shown_axes(self.viewer, layer), shown_plane(self.viewer, layer, level)
        coordinates = _coordinates(layer)
        free = [axis for axis in coordinates if axis in shown]
        if self.extent_box.currentText() != _SLICE:
            hidden = [axis for axis in coordinates if axis not in shown]
            room = _MOST_COORDINATES - len(free)
            free += hidden[len(hidden) - room :] if room < len(hidden) else hidden
        return tuple(position[axis] if axis in coordinates and axis not in free else None for axis in range(layer.ndim))

    # ---- the size of a voxel ------------------------------------------------------------------------------

    def _show_voxel(self) -> None:
        layer = self.layer
        if layer is not None:
            sizes = " × ".join(f"{abs(float(layer.scale[axis])):.4g}" for axis in _coordinates(layer))
            self.voxel_button.setText(f"{sizes} {layer.units[-1]:~P}…")

    def _ask_voxel(self) -> None:
        layer = self.layer
        if layer is None:
            return
        axes = _coordinates(layer)
        questions: dict[str, Any] = {
            f"axis_{axis}": {
                "label": f"{layer.axis_labels[axis]} ({layer.units[axis]:~P})",
                "widget_type": "FloatSpinBox",
                "value": abs(float(layer.scale[axis])),
                "options": {"min": 1e-9, "max": 1e9, "step": 0.01, "tooltip": "Distance between pixel centres."},
            }
            for axis in axes
        }
        answers = request_values(questions, title=f"Voxel of {layer.name}", parent=self)
        if answers is None:
            return
        scale = np.array(layer.scale, dtype=float)
        for axis in axes:
            scale[axis] = np.copysign(answers[f"axis_{axis}"], scale[axis])
        layer.scale = scale
        self._show_voxel()
        self.changed.emit()

    # ---- following the viewer ----------------------------------------------------------------------------

    def _list_layers(self, event: Any = None) -> None:
        picked, region = self.layer, self.region_box.currentData()
        for layer in self._named:
            layer.events.name.disconnect(self._list_layers)
        self._named = list(self.viewer.layers)
        for layer in self._named:
            layer.events.name.connect(self._list_layers)
        images = [layer for layer in self.viewer.layers if "Image" in layer_kinds(layer)]
        with QSignalBlocker(self.layer_box):
            self.layer_box.clear()
            for layer in images:
                self.layer_box.addItem(layer.name, layer)
            # Where it is gone: the topmost one, rather not one that a fit has made.
            others = [layer for layer in images if METADATA_KEY not in layer.metadata] or images
            instead = others[-1] if others else None
            self.pick(picked if picked in images else instead)
        self._list_regions(region)
        if self.layer is not picked:
            self._picked()

    def _list_regions(self, chosen: Any) -> None:
        marks = [layer for layer in self.viewer.layers if {"Shapes", "Labels"} & set(layer_kinds(layer))]
        kept = self.region_box.currentText()
        with QSignalBlocker(self.region_box):
            self.region_box.clear()
            self.region_box.addItems([_WHOLE, _VIEW])
            for layer in marks:
                kind = "Shapes" if "Shapes" in layer_kinds(layer) else "Labels"
                self.region_box.addItem(f"{kind}: {layer.name}", layer)
            index = _index(marks, chosen) + 2 if chosen in marks else int(kept == _VIEW)
            self.region_box.setCurrentIndex(index)
        if chosen is not None and chosen not in marks:
            self.changed.emit()

    def _follow(self, event: Any = None) -> None:
        active = self.viewer.layers.selection.active
        wrong = active is not None and "Image" not in layer_kinds(active)
        self.hint.setVisible(wrong)
        if active is None:
            return
        if wrong:
            kind = active.__class__.__name__
            self.hint.setText(f"“{active.name}” is a {kind} layer; a fit is of an Image layer.")
        elif METADATA_KEY in active.metadata:
            # Made by a fit: the next one is rather of the image than of this.
            self.activated.emit(active)
        else:
            self.pick(active)

    def _picked(self, _index: int = 0) -> None:
        layer = self.layer
        levels = [] if layer is None or not layer.multiscale else [level.shape[: layer.ndim] for level in layer.data]
        with QSignalBlocker(self.level_box):
            self.level_box.clear()
            self.level_box.addItems([f"{i}: {_sides(shape)}" for i, shape in enumerate(levels)])
        self._form.setRowVisible(self.level_box, bool(levels))
        self._form.setRowVisible(self.voxel_button, layer is not None and len(_coordinates(layer)) > 2)
        self._show_voxel()
        self._list_extents(layer)
        self.changed.emit()

    def _list_extents(self, layer: Any) -> None:
        coordinates = [] if layer is None else _coordinates(layer)
        kinds = [] if layer is None else [axis_kind(label) for label in layer.axis_labels]
        extents = [_SLICE, _STACK if len(coordinates) > _MOST_COORDINATES else _EVERYTHING]
        with QSignalBlocker(self.extent_box):
            self.extent_box.clear()
            self.extent_box.addItems(extents)
            # Time goes on between the frames; what is in one need not be in the next.
            self.extent_box.setCurrentIndex(0 if "T" in kinds and len(coordinates) <= _MOST_COORDINATES else 1)
        self._form.setRowVisible(self.extent_box, len(coordinates) > 2)


def any_held(plane: tuple[int | None, ...]) -> bool:
    """Tell whether a plane holds any axis."""
    return any(index is not None for index in plane)


def _coordinates(layer: Any) -> list[int]:
    """Axes of a layer in space and time."""
    labels = attribute(layer, "axis_labels", ("",) * layer.ndim)
    return [axis for axis, label in enumerate(labels) if axis_kind(label) != "C"]


def _in_space(layer: Any) -> list[int]:
    """Axes of a layer in space."""
    return [axis for axis in _coordinates(layer) if axis_kind(layer.axis_labels[axis]) != "T"]


def _sides(shape: Any) -> str:
    return " × ".join(str(n) for n in shape)


def _index(layers: list[Any], layer: Any) -> int:
    return next(i for i, other in enumerate(layers) if other is layer)


def _combo(tooltip: str) -> QComboBox:
    box = QComboBox()
    box.setToolTip(tooltip)
    # A long name must not make the dock wider.
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box
