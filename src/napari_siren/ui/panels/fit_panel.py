"""`FitPanel`: purpose, scale and device of a fit, and the estimate of its size, time and memory."""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QGridLayout, QLabel, QSpinBox, QWidget
from superqt import QLabeledDoubleSlider

from napari_siren.core.settings.presets import PRESETS
from napari_siren.ui.background import start_function
from napari_siren.ui.logic.purposes import PURPOSES, Purpose, purpose_for
from napari_siren.ui.tasks.fit import explain, load_torch
from napari_siren.ui.widgets.purpose_icons import purpose_icon

# Largest scale of the slider, in output pixels per pixel.
_MAX_SCALE = 8.0
# Width and height of the icons of the purposes in pixels.
_ICON = 20


class FitPanel(QWidget):
    """The purpose, the scale (also as a pixel size), the settings of the purpose, the device, and the estimate.

    Parameters
    ----------
    preset, device
        Preset and device chosen at first.
    blur_panel
        Widget with the ways to describe the blur. It is shown for the removal of blur.
    parent
        The panel that contains this one.
    """

    preset_chosen = Signal(str)
    """Name of a newly chosen preset."""
    purpose_chosen = Signal()
    """Another purpose is shown."""
    scale_changed = Signal(float)
    """New scale, also while the slider moves."""

    def __init__(
        self, preset: str, device: str, blur_panel: QWidget | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.purpose_box = _purpose_box()
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        # In the section "All settings".
        self.preset_box = preset_box(preset)
        self.scale_slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.scale_slider.setRange(1, _MAX_SCALE)
        self.scale_slider.setDecimals(2)
        self.scale_slider.setSingleStep(0.5)
        self.scale_slider.setValue(2)
        self.scale_slider.setToolTip(
            "How many times finer the pixels of the result are. This is for the next fit. “Draw again” in the section "
            "“Result” draws the present result at this scale."
        )
        self.pixel_box = QDoubleSpinBox()
        self.pixel_box.setKeyboardTracking(False)
        self.pixel_box.setToolTip("The scale as a pixel size along x, in the layer's unit.")
        self.pixel_box.setAccessibleName("Pixel size of the result")
        self.scale_slider.setAccessibleName("Scale")
        self.width_box = QSpinBox()
        self.width_box.setKeyboardTracking(False)
        self.width_box.setSuffix(" pixels")
        self.width_box.setAccessibleName("Width of the result")
        self.width_box.setToolTip("The scale as a number of pixels along x.")
        self.blur_panel = blur_panel or QWidget()
        self.isotropic_box = QCheckBox("Cubic voxels")
        self.isotropic_box.setToolTip(
            "Make the result as fine along z as along x and y, so that it looks the same from all sides. The detail "
            "between the slices is learned from the sharp slices of the stack itself."
        )
        self.device_box = QComboBox()
        self.device_box.addItem(device)
        self.device_box.setAccessibleName("Device")
        self.device_box.setToolTip("The device for the fit. “auto” uses a graphics card (GPU) if there is one.")
        self.estimate = QLabel()
        self.estimate.setWordWrap(True)
        self.estimate.setToolTip("Size of the result, and expected time and memory, measured by a short trial here.")
        # Settings of the purpose, lent by the form of all settings.
        self.own_settings = QGridLayout()
        self.own_settings.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow(self.purpose_box)
        form.addRow(self.sentence)
        form.addRow("Scale", self.scale_slider)
        form.addRow("Pixel size", self.pixel_box)
        form.addRow("Width", self.width_box)
        form.addRow("", self.isotropic_box)
        form.addRow(self.own_settings)
        form.addRow(self.blur_panel)
        self._form = form
        form.addRow("Device", self.device_box)
        form.addRow(self.estimate)
        self._pixel, self._width, self._offered = 1.0, 1, False
        self.show_pixel(1.0, "pixel", 1)
        self._show_purpose(purpose_for(preset))
        self.purpose_box.currentIndexChanged.connect(self._choose_purpose)
        self.preset_box.currentTextChanged.connect(self._choose_preset)
        self.scale_slider.valueChanged.connect(self._scaled)
        self.pixel_box.valueChanged.connect(self._sized)
        self.width_box.valueChanged.connect(lambda width: self.scale_slider.setValue(width / self._width))
        self.isotropic_box.toggled.connect(self._choose_isotropic)
        start_function(_device_names, returned=self._list_devices)

    @property
    def purpose(self) -> Purpose:
        """The shown purpose."""
        chosen: Purpose = self.purpose_box.currentData()
        return chosen

    def set_colors(self, text: str) -> None:
        """Draw the icons in the colour of a theme's text, "#rrggbb"."""
        for i in range(self.purpose_box.count()):
            self.purpose_box.setItemIcon(i, purpose_icon(self.purpose_box.itemData(i).name, text))

    @property
    def scale(self) -> float:
        """Output pixels per pixel. It is 1 for purposes that do not enlarge."""
        return round(float(self.scale_slider.value()), 4) if self.purpose.enlarges else 1.0

    @property
    def device(self) -> str:
        """Name of the device."""
        return str(self.device_box.currentText())

    def show_preset(self, name: str) -> None:
        """Show a preset and its purpose, without emitting `preset_chosen`."""
        with QSignalBlocker(self.preset_box):
            self.preset_box.setCurrentText(name)
        self._show_purpose(purpose_for(name, self.isotropic))

    def recall_device(self, device: str) -> None:
        """Show the device of the last session, even if it is not available now."""
        if self.device_box.findText(device) < 0:
            self.device_box.addItem(device)
        self.device_box.setCurrentText(device)

    @property
    def isotropic(self) -> bool:
        """Whether the voxels of the upscaled layer should be cubes."""
        return bool(self.isotropic_box.isChecked())

    def show_pixel(self, pixel: float, unit: str, width: int) -> None:
        """Set pixel size and width of the image, and show those of the upscaled layer.

        Parameters
        ----------
        pixel
            Size of a pixel of the image along x.
        unit
            Symbol of its unit.
        width
            Number of pixels along x.
        """
        self._pixel, self._width = pixel, width
        with QSignalBlocker(self.width_box):
            self.width_box.setRange(width, round(_MAX_SCALE * width))
            self.width_box.setValue(round(width * self.scale))
        with QSignalBlocker(self.pixel_box):
            # There are enough decimals for the finest scale, also for 1 µm in metres.
            self.pixel_box.setDecimals(max(0, 4 - math.floor(math.log10(pixel))))
            self.pixel_box.setRange(pixel / _MAX_SCALE, pixel)
            self.pixel_box.setSingleStep(pixel / 20)
            self.pixel_box.setSuffix(f" {unit}")
            self.pixel_box.setValue(pixel / self.scale)

    def offer_cubes(self, offered: bool) -> None:
        """Show or hide the choice of cubic voxels. It is useful only if the image's voxels are not cubes."""
        self._offered = offered
        self._form.setRowVisible(self.isotropic_box, offered and self.purpose.enlarges)

    def _choose_purpose(self) -> None:
        purpose = self.purpose
        with QSignalBlocker(self.isotropic_box):
            self.isotropic_box.setChecked(purpose.name == "isotropic")
        changed = self.preset_box.currentText() != purpose.preset
        with QSignalBlocker(self.preset_box):
            self.preset_box.setCurrentText(purpose.preset)
        self._show_purpose(purpose)
        if changed:
            self.preset_chosen.emit(purpose.preset)
        self.scale_changed.emit(self.scale)

    def _choose_preset(self, name: str) -> None:
        self._show_purpose(purpose_for(name, self.isotropic))
        self.preset_chosen.emit(name)

    def _choose_isotropic(self, isotropic: bool) -> None:
        self._show_purpose(purpose_for(self.preset_box.currentText(), isotropic))
        self.scale_changed.emit(self.scale)

    def _show_purpose(self, purpose: Purpose) -> None:
        with QSignalBlocker(self.purpose_box):
            self.purpose_box.setCurrentIndex(PURPOSES.index(purpose))
        self.sentence.setText(purpose.sentence)
        self._form.setRowVisible(self.blur_panel, purpose.name == "deblur")
        for widget in (self.scale_slider, self.pixel_box, self.width_box):
            self._form.setRowVisible(widget, purpose.enlarges)
        self.offer_cubes(self._offered)
        self.purpose_chosen.emit()

    def _scaled(self) -> None:
        with QSignalBlocker(self.pixel_box):
            self.pixel_box.setValue(self._pixel / self.scale)
        with QSignalBlocker(self.width_box):
            self.width_box.setValue(round(self._width * self.scale))
        self.scale_changed.emit(self.scale)

    def _sized(self, size: float) -> None:
        if size > 0:
            self.scale_slider.setValue(self._pixel / size)

    def _list_devices(self, names: Any) -> None:
        if isinstance(names, Exception):
            self.estimate.setText(explain(names))
            return
        device = self.device
        with QSignalBlocker(self.device_box):
            self.device_box.clear()
            # A chosen device stays in the list even if it is not available. The fit then reports an error.
            self.device_box.addItems(list(dict.fromkeys(["auto", *names, device])))
            self.device_box.setCurrentText(device)


def _purpose_box() -> QComboBox:
    box = QComboBox()
    box.setIconSize(QSize(_ICON, _ICON))
    for i, purpose in enumerate(PURPOSES):
        box.addItem(purpose.title, purpose)
        box.setItemData(i, purpose.sentence, Qt.ItemDataRole.ToolTipRole)
    box.setAccessibleName("Purpose")
    box.setToolTip("What to do with the image.")
    font = box.font()
    font.setBold(True)
    box.setFont(font)
    return box


def preset_box(chosen: str) -> QComboBox:
    """Return a combo box of the presets."""
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
