"""`ResultPanel`: what can be had of a fit: the kind of error map, derivatives, the model, the code, the settings."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QWidget

from napari_siren.layers.outputs import ErrorKind


class ResultPanel(QWidget):
    """Buttons that act on the fit that is there, and on the settings that are shown."""

    error_chosen = Signal(str)
    """"signed" or "absolute"."""
    derivative = Signal(str)
    """"gradient_magnitude" or "laplacian"."""
    uncertainty = Signal()
    save_model = Signal()
    copy_code = Signal()
    save_settings = Signal()
    load_settings = Signal()

    def __init__(self, error: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.error_box = QComboBox()
        self.error_box.addItems(["signed", "absolute"])
        self.error_box.setCurrentText(error)
        self.error_box.setToolTip(
            "The error map: reconstruction − image, its sign in green and pink; or its magnitude. The layer is hidden "
            "at first: click its eye in the layer list."
        )
        self.gradient_button = _button(
            "Gradient magnitude", "Add how steep the field is, exact from the field, per unit of length."
        )
        self.laplacian_button = _button(
            "Laplacian", "Add the Laplacian of the field, exact from the field: edges and spots stand out."
        )
        self.uncertainty_button = _button(
            "Uncertainty",
            "Add the error that is to be expected at each pixel of the upscaled layer, in the image's units, learned "
            "from smaller copies of the image. Takes some seconds.",
        )
        self.model_button = _button(
            "Save model…", "Write the field to a small file. Dropped on napari it opens again, at any resolution."
        )
        self.code_button = _button("Copy as Python", "Put the code on the clipboard that does this fit again.")
        self.settings_button = _button("Save settings…", "Write the settings to a file, for scripts and other images.")
        self.load_button = _button("Load settings…", "Take the settings from a file.")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(QLabel("Error map"), 0, 0)
        grid.addWidget(self.error_box, 0, 1)
        grid.addWidget(self.gradient_button, 1, 0)
        grid.addWidget(self.laplacian_button, 1, 1)
        grid.addWidget(self.uncertainty_button, 2, 0)
        grid.addWidget(self.model_button, 2, 1)
        grid.addWidget(self.code_button, 3, 0)
        grid.addWidget(self.settings_button, 4, 0)
        grid.addWidget(self.load_button, 4, 1)
        self.error_box.currentTextChanged.connect(self.error_chosen)
        self.gradient_button.clicked.connect(lambda: self.derivative.emit("gradient_magnitude"))
        self.laplacian_button.clicked.connect(lambda: self.derivative.emit("laplacian"))
        self.uncertainty_button.clicked.connect(self.uncertainty)
        self.model_button.clicked.connect(self.save_model)
        self.code_button.clicked.connect(self.copy_code)
        self.settings_button.clicked.connect(self.save_settings)
        self.load_button.clicked.connect(self.load_settings)
        self.show_result(False)

    @property
    def error_kind(self) -> ErrorKind:
        """Whether the error map is signed or absolute."""
        return "absolute" if self.error_box.currentText() == "absolute" else "signed"

    def show_result(self, there: bool, with_image: bool = False) -> None:
        """Enable what needs a fit, and what needs the image that was fitted."""
        for button in (self.gradient_button, self.laplacian_button, self.model_button):
            button.setEnabled(there)
        self.uncertainty_button.setEnabled(there and with_image)


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    # Two in a row must fit a narrow dock.
    button.setMinimumWidth(10)
    return button
