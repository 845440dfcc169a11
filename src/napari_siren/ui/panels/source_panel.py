"""`SourcePanel`: choice of the layer and of the part of it to fit."""

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

# Texts of the regions that are not layers.
_WHOLE = "The whole image"
_VIEW = "What is in view"
# Texts of the extents.
_SLICE = "This slice"
_STACK = "This stack"
_EVERYTHING = "The whole stack"
# Largest number of axes in space and time that a fit can have.
_MAX_COORDINATES = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A layer and the part of it to fit.

    Parameters
    ----------
    layer
        Image layer of napari.
    region, plane, level
        The same as for `fit_layer`.
    """

    layer: Any
    region: Any
    plane: tuple[int | None, ...] | None
    level: int

    def spec(self) -> LayerSpec:
        """Return the spec of the pixels to fit, without reading the pixels."""
        return LayerSpec.from_layer(self.layer, None, self.region, self.plane, self.level, lazily=True)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `fit_layer`, with the Python code of a layer instead of the layer."""
        region = viewer_layer(self.region.name) if layer_kinds(self.region) else self.region
        return {"region": region, "plane": self.plane, "level": self.level}


class SourcePanel(QWidget):
    """The choice of an image layer and of the part of it to fit. The choice follows the active layer.

    Parameters
    ----------
    viewer
        napari's viewer.
    parent
        The panel that contains this one.
    """

    changed = Signal()
    """The layer or the part to fit has changed."""
    activated = Signal(object)
    """A layer with a model has become the active layer."""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layer_box = _combo("The image layer to fit. It follows the layer that is selected in the layer list.")
        self.level_box = _combo("The resolution level of a multiscale image to fit.")
        self.region_box = _combo(
            "The part to fit: the whole image, the part in view, the areas drawn in a Shapes layer, or the labelled "
            "areas of a Labels layer. A smaller region takes less time."
        )
        self.extent_box = _combo(
            "Fit only the slice that is shown, or the whole stack. In a stack, neighbouring slices help each other."
        )
        self.voxel_button = QPushButton()
        self.voxel_button.setToolTip(
            "The distance between pixel centres along each axis of the layer. Click to correct it. The distance "
            "between slices matters for the detail between them. napari then also draws the layer with the new size."
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
        """The chosen layer, or None."""
        return self.layer_box.currentData()

    def source(self) -> Source:
        """Return the layer and the part of it to fit, as the viewer shows it now.

        Raises
        ------
        InputError
            There is no image layer; or the part in view should be fitted, but no pixel is in view.
        """
        layer = self.layer
        if layer is None:
            raise InputError("there is no image layer to fit. Open an image, or use File > Open Sample > napari-siren.")
        level = max(0, self.level_box.currentIndex()) if layer.multiscale else 0
        plane = self._plane(layer, level)
        return Source(layer, self._region(layer, plane, level), plane if any_held(plane) else None, level)

    def pick(self, layer: Any) -> bool:
        """Choose an image layer; a layer of a fit is possible, too. Return False if it is not an image layer."""
        index = self.layer_box.findData(layer)
        if index >= 0:
            self.layer_box.setCurrentIndex(index)
        return bool(index >= 0)

    @property
    def anisotropic(self) -> bool:
        """Whether the pixel size of the layer differs between the axes in space."""
        layer = self.layer
        sizes = [] if layer is None else [abs(float(layer.scale[axis])) for axis in _in_space(layer)]
        return len(sizes) > 1 and max(sizes) > (1 + 1e-6) * min(sizes)

    def disconnect_viewer(self) -> None:
        """Disconnect from the events of the viewer."""
        layers = self.viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            event.disconnect(self._list_layers)
        self.viewer.layers.selection.events.active.disconnect(self._follow)
        for layer in self._named:
            layer.events.name.disconnect(self._list_layers)
        self._named = []

    def _region(self, layer: Any, plane: tuple[int | None, ...], level: int) -> Any:
        region_layer = self.region_box.currentData()
        if region_layer is not None:
            return region_layer
        if self.region_box.currentText() != _VIEW:
            return None
        view = field_of_view(self.viewer, layer, level)
        box = tuple(None if index is not None else edges for index, edges in zip(plane, view, strict=True))
        if any(edges is not None and edges[0] == edges[1] for edges in box):
            raise InputError(
                f"no part of {layer_title(layer)} is in view. Move the layer into view, or choose another region."
            )
        return None if all(edges is None for edges in box) else box

    def _plane(self, layer: Any, level: int) -> tuple[int | None, ...]:
        """Return the shown index along each axis outside of the extent, and None along the other axes."""
        displayed, position = shown_axes(self.viewer, layer), shown_plane(self.viewer, layer, level)
        coordinates = _coordinates(layer)
        fitted = [axis for axis in coordinates if axis in displayed]
        if self.extent_box.currentText() != _SLICE:
            hidden = [axis for axis in coordinates if axis not in displayed]
            room = _MAX_COORDINATES - len(fitted)
            fitted += hidden[len(hidden) - room :] if room < len(hidden) else hidden
        return tuple(
            position[axis] if axis in coordinates and axis not in fitted else None for axis in range(layer.ndim)
        )

    # ---- the voxel size -----------------------------------------------------------------------------------

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
        answers = request_values(questions, title=f"Voxel size of {layer.name}", parent=self)
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
        chosen_layer, chosen_region = self.layer, self.region_box.currentData()
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
            # If the chosen layer has been removed, the topmost one is chosen. Layers of a fit come last in this choice.
            candidates = [layer for layer in images if METADATA_KEY not in layer.metadata] or images
            replacement = candidates[-1] if candidates else None
            self.pick(chosen_layer if chosen_layer in images else replacement)
        self._list_regions(chosen_region)
        if self.layer is not chosen_layer:
            self._picked()

    def _list_regions(self, region: Any) -> None:
        region_layers = [layer for layer in self.viewer.layers if {"Shapes", "Labels"} & set(layer_kinds(layer))]
        previous_text = self.region_box.currentText()
        with QSignalBlocker(self.region_box):
            self.region_box.clear()
            self.region_box.addItems([_WHOLE, _VIEW])
            for layer in region_layers:
                kind = "Shapes" if "Shapes" in layer_kinds(layer) else "Labels"
                self.region_box.addItem(f"{kind}: {layer.name}", layer)
            exists = region in region_layers
            index = _index(region_layers, region) + 2 if exists else int(previous_text == _VIEW)
            self.region_box.setCurrentIndex(index)
        if region is not None and not exists:
            self.changed.emit()

    def _follow(self, event: Any = None) -> None:
        active = self.viewer.layers.selection.active
        unsuitable = active is not None and "Image" not in layer_kinds(active)
        self.hint.setVisible(unsuitable)
        if active is None:
            return
        if unsuitable:
            kind = active.__class__.__name__
            self.hint.setText(f"“{active.name}” is a {kind} layer. Only an Image layer can be fitted.")
        elif METADATA_KEY in active.metadata:
            # A fit has made this layer. The next fit is more likely of the image than of this layer.
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
        extents = [_SLICE, _STACK if len(coordinates) > _MAX_COORDINATES else _EVERYTHING]
        with QSignalBlocker(self.extent_box):
            self.extent_box.clear()
            self.extent_box.addItems(extents)
            # In a time series the default is one frame, since anything may happen between two frames.
            self.extent_box.setCurrentIndex(0 if "T" in kinds and len(coordinates) <= _MAX_COORDINATES else 1)
        self._form.setRowVisible(self.extent_box, len(coordinates) > 2)


def any_held(plane: tuple[int | None, ...]) -> bool:
    """Return whether a plane has a fixed index along any axis."""
    return any(index is not None for index in plane)


def _coordinates(layer: Any) -> list[int]:
    """Return the axes of a layer in space and time."""
    labels = attribute(layer, "axis_labels", ("",) * layer.ndim)
    return [axis for axis, label in enumerate(labels) if axis_kind(label) != "C"]


def _in_space(layer: Any) -> list[int]:
    """Return the axes of a layer in space."""
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
