"""`FitPanel`: how to fit: preset, scale, device, and what it will take."""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QWidget
from superqt import QLabeledDoubleSlider

from napari_siren.core.presets import PRESETS
from napari_siren.ui.background import start_function
from napari_siren.ui.logic.fit_task import explain, load_torch

_MOST_SCALE = 8.0


class FitPanel(QWidget):
    """Preset, scale (also as a pixel size), device, and the estimate of time and memory.

    Parameters
    ----------
    preset, device
        What is chosen at first.
    parent
        The panel around it.
    """

    preset_chosen = Signal(str)
    """Another preset."""
    scale_changed = Signal(float)
    """Another scale, while the slider moves too."""

    def __init__(self, preset: str, device: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.preset_box = preset_box(preset)
        self.scale_slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.scale_slider.setRange(1, _MOST_SCALE)
        self.scale_slider.setDecimals(2)
        self.scale_slider.setSingleStep(0.5)
        self.scale_slider.setValue(2)
        self.scale_slider.setToolTip(
            "How many times finer the upscaled layer is. After a fit, move it and the layer is rendered anew: "
            "no fitting is needed."
        )
        self.pixel_box = QDoubleSpinBox()
        self.pixel_box.setKeyboardTracking(False)
        self.pixel_box.setToolTip("The same as a pixel size, in the layer's own units (along x).")
        self.isotropic_box = QCheckBox("Cubic voxels")
        self.isotropic_box.setToolTip(
            "Make the upscaled layer as fine along z as across, so that it looks alike from all sides. With the preset "
            "“upscale” the stack's own sharp slices teach what lies between them."
        )
        self.device_box = QComboBox()
        self.device_box.addItem(device)
        self.device_box.setToolTip("Where to compute. “auto” takes a GPU where there is one.")
        self.estimate = QLabel()
        self.estimate.setWordWrap(True)
        self.estimate.setToolTip("What the fit will take, measured by a short trial on this machine.")
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Preset", self.preset_box)
        form.addRow("Scale", self.scale_slider)
        form.addRow("Pixel size", self.pixel_box)
        form.addRow("", self.isotropic_box)
        self._form = form
        form.addRow("Device", self.device_box)
        form.addRow(self.estimate)
        self._pixel = 1.0
        self.show_pixel(1.0, "pixel")
        self.preset_box.currentTextChanged.connect(self.preset_chosen)
        self.scale_slider.valueChanged.connect(self._scaled)
        self.pixel_box.valueChanged.connect(self._sized)
        self.isotropic_box.toggled.connect(lambda: self.scale_changed.emit(self.scale))
        start_function(_device_names, returned=self._list_devices)

    @property
    def scale(self) -> float:
        """Output pixels per pixel."""
        return round(float(self.scale_slider.value()), 4)

    @property
    def device(self) -> str:
        """Name of the device."""
        return str(self.device_box.currentText())

    def show_preset(self, name: str) -> None:
        """Show a preset that was chosen elsewhere."""
        with QSignalBlocker(self.preset_box):
            self.preset_box.setCurrentText(name)

    def recall_device(self, device: str) -> None:
        """Show a device that was chosen in the last session, there or not."""
        if self.device_box.findText(device) < 0:
            self.device_box.addItem(device)
        self.device_box.setCurrentText(device)

    @property
    def isotropic(self) -> bool:
        """Whether voxels are to be cubes."""
        return bool(self.isotropic_box.isChecked())

    def show_pixel(self, pixel: float, unit: str) -> None:
        """Say how large a pixel of the image is."""
        self._pixel = pixel
        with QSignalBlocker(self.pixel_box):
            # Enough for the finest scale: 1 µm may be given in metres.
            self.pixel_box.setDecimals(max(0, 4 - math.floor(math.log10(pixel))))
            self.pixel_box.setRange(pixel / _MOST_SCALE, pixel)
            self.pixel_box.setSingleStep(pixel / 20)
            self.pixel_box.setSuffix(f" {unit}")
            self.pixel_box.setValue(pixel / self.scale)

    def offer_cubes(self, offered: bool) -> None:
        """Show the choice of cubic voxels only where they are none already."""
        self._form.setRowVisible(self.isotropic_box, offered)

    def _scaled(self) -> None:
        with QSignalBlocker(self.pixel_box):
            self.pixel_box.setValue(self._pixel / self.scale)
        self.scale_changed.emit(self.scale)

    def _sized(self, size: float) -> None:
        if size > 0:
            self.scale_slider.setValue(self._pixel / size)

    def _list_devices(self, names: Any) -> None:
        if isinstance(names, Exception):
            self.estimate.setText(explain(names))
            return
        chosen = self.device
        with QSignalBlocker(self.device_box):
            self.device_box.clear()
            # One that is chosen but not there stays: the fit then says so.
            self.device_box.addItems(list(dict.fromkeys(["auto", *names, chosen])))
            self.device_box.setCurrentText(chosen)


def preset_box(chosen: str) -> QComboBox:
    """Make a box to choose a preset in."""
    box = QComboBox()
    for i, preset in enumerate(PRESETS):
        box.addItem(preset.name)
        box.setItemData(i, preset.tip, Qt.ItemDataRole.ToolTipRole)
    box.setCurrentText(chosen)
    box.setToolTip("<br>".join(f"<b>{preset.name}</b>: {preset.tip}" for preset in PRESETS))
    return box


def _device_names() -> list[str]:
    load_torch()
    from napari_siren.core.device import available_devices

    return available_devices()
