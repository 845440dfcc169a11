"""`ScaleDialog`: the dialog for the resolution of a saved model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QDoubleSpinBox, QFormLayout, QLabel, QWidget

from napari_siren.core.result import FitResult
from napari_siren.errors import InputError
from napari_siren.layers.outputs import render_shape, spec_of
from napari_siren.ui.tasks.messages import decibels, size

# Range of the scale in output pixels per pixel.
_MIN_SCALE = 0.1
_MAX_SCALE = 16.0


class ScaleDialog(QDialog):
    """A dialog for the scale of a model, with the resulting image size.

    Parameters
    ----------
    result
        The loaded model.
    name
        Name of the model in the title.
    parent
        Window below the dialog.
    """

    def __init__(self, result: FitResult, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Open {name}")
        layout = result.field.layout
        self._spec = spec_of(result)
        self._bytes = layout.channels * np.dtype(layout.dtype).itemsize

        channels = f", {layout.channels} channels" if layout.channels > 1 else ""
        self.scale_box = QDoubleSpinBox()
        self.scale_box.setRange(_MIN_SCALE, _MAX_SCALE)
        self.scale_box.setSingleStep(0.5)
        self.scale_box.setValue(1.0)
        self.scale_box.setToolTip("Number of output pixels for each pixel of the original image, along each axis.")
        self.scale_box.valueChanged.connect(self._show_size)
        self.size_label = QLabel()
        self.size_label.setWordWrap(True)
        hint = QLabel("To always use the same scale, choose it in File > Preferences > napari-siren.")
        hint.setEnabled(False)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)

        form = QFormLayout(self)
        form.addRow("Fitted to:", QLabel(f"{self._pixels(layout.spatial_shape)}{channels}, {layout.dtype}"))
        form.addRow("Quality of the fit:", QLabel(f"PSNR {decibels(result.metrics.psnr)}"))
        form.addRow("Scale:", self.scale_box)
        form.addRow("Opens as:", self.size_label)
        form.addRow(hint)
        form.addRow(self.buttons)
        self._show_size()
        self.scale_box.selectAll()

    @property
    def scale(self) -> float:
        """Output pixels per pixel."""
        return float(self.scale_box.value())

    def _show_size(self) -> None:
        try:
            shape = render_shape(self._spec, self.scale, self._bytes)
        except InputError as error:
            text, possible = str(error), False
        else:
            text, possible = f"{self._pixels(shape)}, {size(math.prod(shape) * self._bytes)}", True
        self.size_label.setText(text)
        self.buttons.button(QDialogButtonBox.StandardButton.Open).setEnabled(possible)

    def _pixels(self, shape: tuple[int, ...]) -> str:
        letters = self._spec.axes.coordinates.lower()
        return f"{' × '.join(map(str, shape))} pixels ({', '.join(letters)})"


def ask_scale(result: FitResult, name: str, parent: Any = None) -> float | None:
    """Ask for the scale of a model.

    Parameters
    ----------
    result, name, parent
        The same as for `ScaleDialog`.

    Returns
    -------
    float or None
        Output pixels per pixel; None if the user has cancelled the dialog.
    """
    dialog = ScaleDialog(result, name, parent)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    scale = dialog.scale
    # Otherwise the parent would keep the dialog until napari is closed.
    dialog.deleteLater()
    return scale if accepted else None
