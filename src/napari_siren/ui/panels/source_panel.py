"""`SourcePanel`: choice of the layer and of the part of it to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QPushButton, QSizePolicy, QWidget

from napari_siren.errors import InputError
from napari_siren.layers.code import viewer_layer
from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.layers.reading import layer_kinds
from napari_siren.layers.series import LayerSeries
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.dialogs.data import ask_data
from napari_siren.ui.logic.connections import Connections
from napari_siren.ui.logic.layer_axes import (
    LayerState,
    axes_in_space,
    axis_letters,
    is_anisotropic,
    is_unlabelled_stack,
    layer_state,
    sizes_text,
)
from napari_siren.ui.logic.missing import FILL_NAN, FILL_NAN_TIP, may_have_nan
from napari_siren.ui.logic.viewport import shown_slice, square_around
from napari_siren.ui.panels.extent_box import ExtentBox
from napari_siren.ui.panels.region_box import RegionBox
from napari_siren.ui.widgets.axes_question import AxesQuestion
from napari_siren.ui.widgets.boxes import NarrowBox

SIDE = 128
"""Side of the square of a trial in pixels."""

# Smallest width of the button with the pixel size, in pixels.
_BUTTON_WIDTH = 80


@dataclass(frozen=True, eq=False)
class Source:
    """A layer and the part of it to fit.

    Parameters
    ----------
    layer
        Image layer of napari.
    region, plane, level, fill_nan, one_by_one
        The same as for `fit_layer`.
    """

    layer: Any
    region: Any
    plane: tuple[int | None, ...] | None
    level: int
    fill_nan: bool
    one_by_one: tuple[int, ...] | None = None

    def series(self) -> LayerSeries:
        """Return the entries to fit one by one, usually a single one, without reading the pixels."""
        return LayerSeries.from_layer(
            self.layer, None, self.region, self.plane, self.level, self.fill_nan, self.one_by_one or ()
        )

    def spec(self) -> LayerSpec:
        """Return the spec of the pixels to fit, without reading the pixels. Of several entries, it is the first one."""
        return self.series().first

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `fit_layer`, with the Python code of a layer instead of the layer."""
        region = viewer_layer(self.region.name) if layer_kinds(self.region) else self.region
        return {
            "region": region,
            "plane": self.plane,
            "level": self.level,
            "fill_nan": self.fill_nan,
            "one_by_one": self.one_by_one,
        }


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
        self.layer_box = NarrowBox(
            "Image", "The image layer to fit. It follows the layer that is selected in the layer list."
        )
        self.level_box = NarrowBox("Level", "The resolution level of a multiscale image to fit.")
        self.region_box = RegionBox(viewer)
        self.extent_box = ExtentBox(viewer)
        self.nan_box = QCheckBox(FILL_NAN)
        self.nan_box.setToolTip(FILL_NAN_TIP)
        self.voxel_button = QPushButton()
        self.voxel_button.clicked.connect(self._ask_data)
        # Long numbers must not make the dock wider.
        self.voxel_button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.voxel_button.setMinimumWidth(_BUTTON_WIDTH)
        self.voxel_label = QLabel()
        self.axes_question = AxesQuestion()
        self.axes_question.answered.connect(self._label_first_axis)
        self.axes_question.details.connect(self._ask_data)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self._form = form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Image", self.layer_box)
        form.addRow(self.axes_question)
        for label, box in (("Level", self.level_box), ("Region", self.region_box), ("Extent", self.extent_box)):
            form.addRow(label, box)
        form.addRow(self.nan_box)
        form.addRow(self.voxel_label, self.voxel_button)
        form.addRow(self.hint)
        self.layer_box.currentIndexChanged.connect(self._picked)
        self.region_box.changed.connect(self._on_region)
        for box in (self.level_box, self.extent_box):
            box.currentIndexChanged.connect(self.changed)
        self.nan_box.toggled.connect(self.changed)
        self._state: LayerState | None = None
        self._several: list[Any] = []
        self._events = Connections()
        layers = viewer.layers.events
        self._events.set("list", self._list_layers, (layers.inserted, layers.removed, layers.reordered))
        self._events.set("active", self._follow, [viewer.layers.selection.events.active])
        self._events.set("selection", self._on_selection, [viewer.layers.selection.events.changed])
        self._list_layers()
        self._picked()
        self._follow()

    @property
    def layer(self) -> Any | None:
        """The chosen layer, or None."""
        return self.layer_box.currentData()

    @property
    def layers(self) -> list[Any]:
        """The layers to fit: the chosen one, or all selected images if it is one of several."""
        selected = self.viewer.layers.selection
        images = [
            layer
            for layer in self.viewer.layers
            if layer in selected and "Image" in layer_kinds(layer) and METADATA_KEY not in layer.metadata
        ]
        if len(images) > 1 and self.layer in images:
            return images
        return [] if self.layer is None else [self.layer]

    @property
    def fill_nan(self) -> bool:
        """Whether NaN and infinite values are missing pixels. A hidden tick, of another layer, does not count."""
        return bool(self.nan_box.isChecked() and self._form.isRowVisible(self.nan_box))

    def sources(self) -> list[Source]:
        """Return the layers and the parts of them to fit. The errors are those of `source`."""
        return [self.source(layer) for layer in self.layers] or [self.source()]

    def square(self, position: Sequence[float], all_slices: bool) -> Source:
        """Return a square of the chosen layer.

        Parameters
        ----------
        position
            Position of its middle in the world. Near the border of the layer, the square is moved into it.
        all_slices
            Whether the slices and frames of the extent belong to it, and not only the shown one.

        Raises
        ------
        InputError
            For the same reasons as in `source`, or the position is outside of the layer.
        """
        source = self.source()
        layer, level = source.layer, source.level
        box = square_around(self.viewer, layer, position, SIDE, level)
        if box is None:
            raise InputError(f"“{layer.name}” is not there. Click on the image to try that place.")
        plane = self.extent_box.plane(layer, level) if all_slices else shown_slice(self.viewer, layer, level)
        return replace(source, region=box, plane=plane if any_held(plane) else None, one_by_one=None)

    def source(self, layer: Any = None) -> Source:
        """Return a layer and the part of it to fit, as the viewer shows it now.

        Parameters
        ----------
        layer
            The layer; None is the chosen one. The region, the extent and the level are those in the panel.

        Raises
        ------
        InputError
            There is no image layer; or the part in view should be fitted, but no pixel is in view.
        """
        layer = self.layer if layer is None else layer
        if layer is None:
            raise InputError("There is no image layer. Open or drop an image, or use File > Open Sample.")
        self._check_axes(layer)
        level = max(0, self.level_box.currentIndex()) if layer.multiscale else 0
        plane = self.extent_box.plane(layer, level)
        region = self.region_box.region(layer, plane, level)
        if self.extent_box.extent == "each":
            one_by_one = tuple(axis for axis, index in enumerate(plane) if index is not None)
            return Source(layer, region, None, level, self.fill_nan, one_by_one or None)
        return Source(layer, region, plane if any_held(plane) else None, level, self.fill_nan)

    def offer_filling(self) -> None:
        """Show the tick box for NaN if a layer to fit may have NaN or infinite values, and hide it otherwise."""
        self._form.setRowVisible(self.nan_box, any(may_have_nan(layer) for layer in self.layers))

    def take_all_frames(self) -> None:
        """Choose all frames of a time series, instead of the shown one."""
        if self.layer is not None and "T" in axis_letters(self.layer):
            self.extent_box.choose("stack")

    def pick(self, layer: Any) -> bool:
        """Choose an image layer; a layer of a fit is possible, too. Return False if it is not an image layer."""
        index = self.layer_box.findData(layer)
        if index >= 0:
            self.layer_box.setCurrentIndex(index)
        return bool(index >= 0)

    @property
    def anisotropic(self) -> bool:
        """Whether the pixel size of the layer differs between the axes in space."""
        return self.layer is not None and is_anisotropic(self.layer)

    def disconnect_viewer(self) -> None:
        """Disconnect from the events of the viewer and of its layers."""
        self.region_box.disconnect_viewer()
        self._events.clear()

    def _check_axes(self, layer: Any) -> None:
        letters = axis_letters(layer)
        button = f"Press the button beside “{self.voxel_label.text()}” and correct the letters of the axes."
        if letters.count("C") + layer.rgb > 1:
            raise InputError(f"“{layer.name}” has two axes of channels. {button}")
        if not axes_in_space(layer):
            raise InputError(f"“{layer.name}” has no axis in space. {button}")

    # ---- what the data is ---------------------------------------------------------------------------------

    def _ask_data(self) -> None:
        layer = self.layer
        # The events of the layer report what has changed.
        if layer is not None:
            ask_data(layer, self)

    def _label_first_axis(self, letter: str) -> None:
        layer = self.layer
        if layer is not None:
            layer.axis_labels = (letter.lower(), "y", "x")

    # ---- following the viewer ----------------------------------------------------------------------------

    def _list_layers(self, event: Any = None) -> None:
        chosen_layer = self.layer
        self._events.set("names", self._list_layers, [layer.events.name for layer in self.viewer.layers])
        images = [layer for layer in self.viewer.layers if "Image" in layer_kinds(layer)]
        with QSignalBlocker(self.layer_box):
            self.layer_box.clear()
            for layer in images:
                self.layer_box.addItem(layer.name, layer)
            # If the chosen layer has been removed, the topmost one is chosen. Layers of a fit come last in this choice.
            candidates = [layer for layer in images if METADATA_KEY not in layer.metadata] or images
            replacement = candidates[-1] if candidates else None
            self.pick(chosen_layer if chosen_layer in images else replacement)
        self.region_box.list_layers()
        if self.layer is not chosen_layer:
            self._picked()
        self._show_hint()

    def _follow(self, event: Any = None) -> None:
        active = self.viewer.layers.selection.active
        self._show_hint()
        if active is None or "Image" not in layer_kinds(active):
            return
        if METADATA_KEY in active.metadata:
            # A fit has made this layer. The next fit is more likely of the image than of this layer.
            self.activated.emit(active)
        else:
            self.pick(active)

    def _on_selection(self, event: Any = None) -> None:
        several = self.layers if len(self.layers) > 1 else []
        if several != self._several:
            self._several = several
            self._show_hint()
            self.offer_filling()
            self.changed.emit()

    def _show_hint(self) -> None:
        active = self.viewer.layers.selection.active
        text = ""
        if self.layer is None:
            text = "Open or drop an image."
        elif active is not None and "Image" not in layer_kinds(active) and active is not self.region_box.layer:
            text = f"“{active.name}” is a {active.__class__.__name__} layer. Only an Image layer can be fitted."
        elif len(self.layers) > 1:
            text = f"{len(self.layers)} images are selected. All are done, one after the other."
        self.hint.setText(text)
        self.hint.setVisible(bool(text))

    def _picked(self, _index: int = 0) -> None:
        layer = self.layer
        names = ("scale", "units", "axis_labels", "data")
        emitters = [] if layer is None else [getattr(layer.events, name) for name in names]
        self._events.set("layer", self._on_layer, emitters)
        self._state = None
        self._show_layer()
        self._show_hint()
        self.changed.emit()

    def _on_layer(self, event: Any = None) -> None:
        """Show a change of the chosen layer. New pixels of the same shape, as from a camera, are no change."""
        if layer_state(self.layer) != self._state:
            self._show_layer()
            self.changed.emit()
        else:
            self.offer_filling()

    def _show_layer(self) -> None:
        layer, before = self.layer, self._state
        self._state = None if layer is None else layer_state(layer)
        unlabelled = layer is not None and is_unlabelled_stack(layer)
        if unlabelled:
            self.axes_question.ask(layer)
        self._form.setRowVisible(self.axes_question, unlabelled)
        for row in (self.layer_box, self.region_box, self.voxel_button):
            self._form.setRowVisible(row, layer is not None)
        if layer is not None:
            self._show_sizes(layer)
        self.offer_filling()
        self._list_levels(layer, keep=before is not None)
        if before is None or self._state is None or before.names != self._state.names:
            self._form.setRowVisible(self.extent_box, self.extent_box.list_extents(layer))

    def _show_sizes(self, layer: Any) -> None:
        name = "Voxel size" if len(axes_in_space(layer)) > 2 else "Pixel size"
        self.voxel_label.setText(name)
        self.voxel_button.setText(f"{sizes_text(layer)}…")
        self.voxel_button.setAccessibleName(f"{name}: {sizes_text(layer)}")
        self.voxel_button.setToolTip(
            f"{sizes_text(layer, digits=9)}. Click to correct the axes, the distance between pixel centres, and the "
            "unit. napari then also draws the layer with the new size."
        )

    def _list_levels(self, layer: Any, keep: bool) -> None:
        levels = [] if layer is None or not layer.multiscale else [level.shape[: layer.ndim] for level in layer.data]
        texts = [f"{i}: {_sides(shape)}" for i, shape in enumerate(levels)]
        if not keep or texts != [self.level_box.itemText(i) for i in range(self.level_box.count())]:
            with QSignalBlocker(self.level_box):
                self.level_box.clear()
                self.level_box.addItems(texts)
        self._form.setRowVisible(self.level_box, bool(levels))

    def _on_region(self) -> None:
        self._show_hint()
        self.changed.emit()


def any_held(plane: tuple[int | None, ...]) -> bool:
    """Return whether a plane has a fixed index along any axis."""
    return any(index is not None for index in plane)


def _sides(shape: Any) -> str:
    return " × ".join(str(n) for n in shape)
