"""`ResultPanel`: the current result: its name, its maps, and the ways to keep it."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel, QPushButton, QWidget

from napari_siren.layers.outputs import ErrorKind


class ResultPanel(QWidget):
    """The name of the current result, and its buttons."""

    error_chosen = Signal(str)
    """"signed" or "absolute"."""
    derivative = Signal(str)
    """"gradient_magnitude" or "laplacian"."""
    uncertainty = Signal()
    draw_again = Signal()
    save_image = Signal()
    save_model = Signal()
    copy_code = Signal()

    def __init__(self, error: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.error_box = QComboBox()
        self.error_box.addItems(["signed", "absolute"])
        self.error_box.setCurrentText(error)
        self.error_box.setToolTip(
            "Signed: reconstruction − image, positive and negative values in green and pink. Absolute: the size of the "
            "error. The layer is hidden at first. To see it, click its eye in the layer list."
        )
        self.gradient_button = _button(
            "Gradient",
            "Add a layer of the gradient magnitude: how fast the brightness changes per unit of length. It is computed "
            "exactly from the field.",
        )
        self.laplacian_button = _button(
            "Laplacian",
            "Add a layer of the Laplacian. Edges and spots stand out in it. It is computed exactly from the field.",
        )
        self.uncertainty_button = _button(
            "Uncertainty",
            "Add a layer of the expected error at each pixel of the upscaled layer, in the image's units. It is "
            "learned from smaller copies of the image. This takes about as long as the result, and can be cancelled.",
        )
        self.name = QLabel()
        self.name.setWordWrap(True)
        self.save_button = _button(
            "Save image…", "Save the result as OME-TIFF with its pixel size, as OME-Zarr, or as PNG."
        )
        self.again_button = _button(
            "Draw again", "Draw the result at the scale that is set above. This takes no new fit."
        )
        self.model_button = _button(
            "Save model…", "Save the fit to a small file. Drop the file on napari to open it again at any resolution."
        )
        self.code_button = _button("Copy code", "Copy the Python code that repeats this fit to the clipboard.")
        self.keep_box = QCheckBox("Keep earlier results")
        self.keep_box.setToolTip(
            "Keep the layers of an earlier result of the same image and purpose. Otherwise a new result replaces them."
        )
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.name, 0, 0, 1, 2)
        grid.addWidget(self.save_button, 1, 0)
        grid.addWidget(self.again_button, 1, 1)
        grid.addWidget(QLabel("Error map"), 2, 0)
        grid.addWidget(self.error_box, 2, 1)
        grid.addWidget(self.gradient_button, 3, 0)
        grid.addWidget(self.laplacian_button, 3, 1)
        grid.addWidget(self.uncertainty_button, 4, 0)
        grid.addWidget(self.model_button, 4, 1)
        grid.addWidget(self.code_button, 5, 0)
        grid.addWidget(self.keep_box, 5, 1)
        self.error_box.setAccessibleName("Error map")
        self.error_box.currentTextChanged.connect(self.error_chosen)
        self.gradient_button.clicked.connect(lambda: self.derivative.emit("gradient_magnitude"))
        self.laplacian_button.clicked.connect(lambda: self.derivative.emit("laplacian"))
        self.uncertainty_button.clicked.connect(self.uncertainty)
        self.save_button.clicked.connect(self.save_image)
        self.again_button.clicked.connect(self.draw_again)
        self.model_button.clicked.connect(self.save_model)
        self.code_button.clicked.connect(self.copy_code)
        self.show_result(False)

    @property
    def error_kind(self) -> ErrorKind:
        """Kind of the error map, "signed" or "absolute"."""
        return "absolute" if self.error_box.currentText() == "absolute" else "signed"

    @property
    def keeps(self) -> bool:
        """Whether earlier results are kept."""
        return bool(self.keep_box.isChecked())

    def show_name(self, name: str) -> None:
        """Show the name of the result, and how it was made."""
        self.name.setText(name)
        self.name.setVisible(bool(name))

    def show_result(
        self, there: bool, with_image: bool = False, with_code: bool = False, with_layer: bool | None = None
    ) -> None:
        """Enable the buttons for a result.

        Parameters
        ----------
        there
            Whether there is a result.
        with_image
            Whether the result has the fitted image.
        with_code
            Whether there is Python code for the result.
        with_layer
            Whether there is a layer to save. None is the same as `there`; fits one by one have layers without a result.
        """
        layer = there if with_layer is None else with_layer
        self.save_button.setEnabled(layer)
        self.code_button.setEnabled((there or layer) and with_code)
        for button in (
            self.again_button,
            self.gradient_button,
            self.laplacian_button,
            self.model_button,
        ):
            button.setEnabled(there)
        self.uncertainty_button.setEnabled(there and with_image)

    def show_running(self, roles: set[str]) -> None:
        """Disable the button of a map that is being made.

        Parameters
        ----------
        roles
            Roles of the layers that are being made.
        """
        if "uncertainty" in roles:
            self.uncertainty_button.setEnabled(False)


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    # Two buttons side by side must fit into a narrow dock.
    button.setMinimumWidth(10)
    return button
