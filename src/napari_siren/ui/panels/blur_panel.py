"""`BlurPanel`: ways to describe the blur of an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from magicgui.widgets import request_values
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QPushButton, QWidget

from napari_siren.core.image.units import LENGTHS
from napari_siren.errors import InputError, SirenError
from napari_siren.layers.code import Code, viewer_layer
from napari_siren.layers.reading import layer_kinds
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.background import notify

# A PSF, a name for it, and the code that makes it, unless that needs a file.
_Blur = tuple[npt.NDArray[np.float64], str, Code | None]
# Largest relative difference between the pixel sizes of an image and of its bead.
_TOLERANCE = 0.01
_QUESTIONS = {
    "aperture": {
        "annotation": float,
        "value": 1.4,
        "label": "Numerical aperture (NA)",
        "options": {"min": 0.01, "max": 2, "step": 0.05, "tooltip": "The number after the magnification: 63x/1.4."},
    },
    "index": {
        "annotation": float,
        "value": 1.515,
        "label": "Refractive index",
        "options": {"min": 1, "max": 2, "step": 0.01, "tooltip": "1 for air, 1.33 for water, 1.515 for oil."},
    },
    "wavelength": {
        "annotation": float,
        "value": 520.0,
        "label": "Wavelength (nm)",
        "options": {
            "min": 100,
            "max": 3000,
            "tooltip": "Of the emitted light in a widefield microscope, of the laser in a confocal microscope.",
        },
    },
    "confocal": {
        "annotation": bool,
        "value": False,
        "label": "Confocal",
        "options": {"tooltip": "For a confocal microscope with a pinhole of one Airy unit. Otherwise it is widefield."},
    },
}


class BlurPanel(QWidget):
    """Buttons for the blur: from the label of the objective, or from the image of a bead.

    Parameters
    ----------
    viewer
        napari's viewer.
    spec
        Function that returns the spec of the image to restore. It may raise a `SirenError`.
    parent
        Parent widget.
    """

    chosen = Signal(dict)
    """Values of settings that describe the blur."""
    message = Signal(str)

    def __init__(self, viewer: Any, spec: Callable[[], LayerSpec], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer, self._spec = viewer, spec
        # The last PSF that was chosen here, and the code that makes it.
        self._made: tuple[npt.NDArray[np.float64], Code] | None = None
        self.objective_button = QPushButton("From the objective…")
        self.objective_button.setToolTip(
            "Compute the blur from the numerical aperture, the refractive index and the wavelength."
        )
        self.bead_button = QPushButton("From a bead")
        self.bead_button.setToolTip("Use the image of a bead as the blur: a layer, or a file.")
        self._menu = QMenu(self.bead_button)
        self._menu.aboutToShow.connect(self._list_beads)
        self.bead_button.setMenu(self._menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.objective_button, self.bead_button):
            # Two buttons side by side must fit into a narrow dock.
            button.setMinimumWidth(10)
            row.addWidget(button)
        self.objective_button.clicked.connect(self._ask_objective)

    def use_objective(self, aperture: float, index: float, wavelength: float, confocal: bool = False) -> None:
        """Choose the PSF of an objective.

        Parameters
        ----------
        aperture, index
            Numerical aperture, and refractive index of the immersion.
        wavelength
            Wavelength in nanometres.
        confocal
            Whether the microscope is confocal.
        """
        self._choose(lambda: self._objective(aperture, index, wavelength, confocal))

    def use_layer(self, layer: Any) -> None:
        """Choose the bead of a layer."""
        code = Code(f"ns.psf_from_bead({viewer_layer(layer.name)}.data)")
        sizes = [abs(float(s)) for s in layer.scale]
        self._choose(lambda: self._bead(layer.name, np.asarray(layer.data), sizes, code))

    def use_file(self, path: str) -> None:
        """Choose the bead of an image file."""

        def read() -> _Blur:
            from napari_siren.io.images import read_image

            picture = read_image(path)
            return self._bead(Path(path).name, np.squeeze(np.asarray(picture.array)), picture.spacing)

        self._choose(read)

    def code_of(self, psf: Any) -> Code | None:
        """Return the code that makes a PSF, or None if it is not the last one that was chosen here."""
        if self._made is None or not np.array_equal(self._made[0], np.asarray(psf)):
            return None
        return self._made[1]

    def _choose(self, make: Callable[[], _Blur]) -> None:
        try:
            psf, name, code = make()
        except SirenError as error:
            notify(error)
            return
        self._made = None if code is None else (psf, code)
        settings = {"psf": psf, "psf_width": None, "observation": "measured"}
        text = f"The blur is {name}, {' × '.join(map(str, psf.shape))} pixels."
        self.chosen.emit(settings)
        self.message.emit(text)

    def _objective(self, aperture: float, index: float, wavelength: float, confocal: bool) -> _Blur:
        from napari_siren.core.blur.objective import psf_from_objective

        spec = self._spec()
        if spec.unit not in LENGTHS:
            raise InputError(
                f"the pixel size of “{spec.name}” has no unit of length. Set it with the button “Pixel size” or “Voxel "
                "size” first."
            )
        count, nanometres = len(spec.axes.spatial), 1e3 * LENGTHS[spec.unit]
        if count < 2:
            raise InputError(f"“{spec.name}” has one axis in space, and the blur of an objective needs two or three.")
        sizes = [float(size) * nanometres for size in spec.spacing[-count:]]
        options: dict[str, Any] = {
            "numerical_aperture": aperture,
            "wavelength": wavelength,
            "refractive_index": index,
            "confocal": confocal,
        }
        psf = psf_from_objective(sizes, **options)
        code = Code(f"ns.psf_from_objective({sizes}, {', '.join(f'{k}={v}' for k, v in options.items())})")
        return psf, f"that of a {'confocal' if confocal else 'widefield'} microscope, NA {aperture:g}", code

    def _bead(self, name: str, data: Any, spacing: Any, code: Code | None = None) -> _Blur:
        from napari_siren.core.blur.bead import psf_from_bead

        spec = self._spec()
        count = len(spec.axes.spatial)
        if data.ndim != count:
            raise InputError(f"“{name}” has {data.ndim} axes, and the image has {count} in space. Choose another bead.")
        sizes = spec.spacing[-count:]
        if spacing is not None and not np.allclose(np.asarray(spacing)[-count:], sizes, rtol=_TOLERANCE):
            wanted = " × ".join(f"{size:.4g}" for size in sizes)
            raise InputError(
                f"the pixels of “{name}” are not as large as those of the image ({wanted}). Rescale the bead image, or "
                "correct its pixel size."
            )
        return psf_from_bead(data), f"“{name}”", code

    def _ask_objective(self) -> None:
        answers = request_values(_QUESTIONS, title="The objective", parent=self)
        if answers is not None:
            self.use_objective(**answers)

    def _list_beads(self) -> None:
        self._menu.clear()
        for layer in self.viewer.layers:
            if "Image" in layer_kinds(layer) and not layer.rgb and not layer.multiscale:
                self._menu.addAction(layer.name, lambda layer=layer: self.use_layer(layer))
        self._menu.addSeparator()
        self._menu.addAction("File…", self._ask_file)

    def _ask_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Image of a bead", "", "Images (*.tif *.tiff *.npy *.png)")
        if name:
            self.use_file(name)
