"""`BatchForm`: which images a batch takes, what is done to them, and where."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from napari_siren.errors import InputError
from napari_siren.layers.reading import layer_kinds
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic.batch_task import BatchRequest, name_layers, whole_layer
from napari_siren.ui.logic.messages import images
from napari_siren.ui.panels.fit_panel import preset_box

_FOLDER, _FILES, _LAYERS = "A folder", "Files", "The selected layers"
_HERE, _CLUSTER = "This computer", "A Dask cluster"
_AS_FIT = "as in the tab Fit"
FORMATS = {
    "auto": "automatic",
    "png": "PNG",
    "tif": "TIFF",
    "ome.tif": "OME-TIFF",
    "ome.zarr": "OME-Zarr",
    "npy": "NumPy (npy)",
}
"""What the batch calls its kinds of files, and what the user does."""

_MOST_PROCESSES = 1024


class BatchForm(QWidget):
    """The rows of a batch, from the images to the processes.

    Parameters
    ----------
    viewer
        Of napari, whose selected layers may be taken.
    fit_options
        Gives the settings of the other tab, as `batch` takes them.
    parent
        The panel around it.
    """

    def __init__(self, viewer: Any, fit_options: Callable[[], dict[str, Any]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer, self._fit_options = viewer, fit_options
        self.files: list[Path] = []
        self._suggested = ""
        self._make_inputs()
        self._make_options()
        self._lay_out()
        self.source_box.currentIndexChanged.connect(self._show_rows)
        self.place_box.currentIndexChanged.connect(self._show_rows)
        self.folder.changed.connect(lambda text: self._suggest(Path(text)))
        self.files_button.clicked.connect(self._choose_files)
        viewer.layers.selection.events.changed.connect(self._show_layers)
        self._show_rows()
        self._show_layers()

    # ---- what is asked for ---------------------------------------------------------------------------------

    def request(self) -> BatchRequest:
        """Return what a batch would be asked for now.

        Raises
        ------
        SirenError
            No image was chosen or no folder for the results, or a layer or the settings of the other tab cannot be
            taken.
        """
        each = self.frames_box.isChecked()
        inputs, layers = self._inputs(each)
        if not self.out.text:
            raise InputError("choose a folder for the results first, with the button beside “Results”.")
        as_fit = self.preset_box.currentText() == _AS_FIT
        options = self._fit_options() if as_fit else {"preset": self.preset_box.currentText()}
        here = self.place_box.currentText() == _HERE
        if not (here or self.scheduler_edit.text().strip()):
            raise InputError("give the address of the cluster's scheduler, such as tcp://host:8786.")
        return BatchRequest(
            inputs,
            layers,
            Path(self.out.text).expanduser(),
            {
                "scale": self.scale_box.value(),
                "frames": "each" if each else "whole",
                "format": list(FORMATS)[self.format_box.currentIndex()],
                "workers": (self.workers_box.value() or None) if here else None,
                "scheduler": None if here else self.scheduler_edit.text().strip(),
                **options,
            },
        )

    def values(self) -> dict[str, Any]:
        """Return what is to be shown again in the next session."""
        return {
            "folder": self.folder.text,
            "pattern": self.pattern_edit.text(),
            "out": self.out.text,
            "scale": self.scale_box.value(),
            "preset": self.preset_box.currentText(),
            "format": self.format_box.currentText(),
            "each": self.frames_box.isChecked(),
            "place": self.place_box.currentText(),
            "workers": self.workers_box.value(),
            "scheduler": self.scheduler_edit.text(),
        }

    def recall(self, last: Any) -> None:
        """Show the values of the last session; what no longer makes sense is left as it is."""
        try:
            self.folder.set_text(last["folder"])
            self.pattern_edit.setText(last["pattern"])
            self.out.set_text(last["out"])
            self.scale_box.setValue(float(last["scale"]))
            for box, name in ((self.preset_box, "preset"), (self.format_box, "format"), (self.place_box, "place")):
                box.setCurrentText(last[name])
            self.frames_box.setChecked(last["each"])
            self.workers_box.setValue(last["workers"])
            self.scheduler_edit.setText(last["scheduler"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return

    def let_go(self) -> None:
        """Follow the viewer no longer."""
        self.viewer.layers.selection.events.changed.disconnect(self._show_layers)

    # ---- putting together ----------------------------------------------------------------------------------

    def _make_inputs(self) -> None:
        self.source_box = _choices(
            [_FOLDER, _FILES, _LAYERS],
            "Which images: those of a folder, some files, or the layers that are selected in the layer list "
            "(Ctrl or Shift selects several).",
        )
        self.folder = PathEdit("The folder with the images.")
        self.pattern_edit = QLineEdit()
        self.pattern_edit.setPlaceholderText("all images")
        self.pattern_edit.setToolTip(
            "Which files of the folder: <b>*.tif</b> takes those whose name ends in .tif, <b>**/*.tif</b> looks in the "
            "folders within too. Left empty, all images are taken, those of folders within included."
        )
        self.files_button = QPushButton("Choose files…")
        self.files_button.setToolTip("The images to take.")
        self.layers_label = QLabel()
        self.layers_label.setWordWrap(True)
        self.out = PathEdit(
            "The folder for the results: an image for each original, under the same name, and a report with pictures. "
            "Start the same batch again and what is done there is not done again."
        )

    def _make_options(self) -> None:
        self.scale_box = QDoubleSpinBox()
        self.scale_box.setRange(0.1, 16)
        self.scale_box.setSingleStep(0.5)
        self.scale_box.setValue(2)
        self.scale_box.setToolTip("Output pixels for each pixel, along each axis in space.")
        self.preset_box = preset_box("upscale")
        self.preset_box.addItem(_AS_FIT)
        self.preset_box.setItemData(
            self.preset_box.count() - 1,
            "The settings, device and seed that the other tab shows.",
            Qt.ItemDataRole.ToolTipRole,
        )
        self.format_box = _choices(
            FORMATS.values(),
            "Kind of file of the results. Automatic: PNG for photographs, and for all else OME-TIFF, which keeps the "
            "pixel size.",
        )
        self.frames_box = QCheckBox("Each frame of a time series by itself")
        self.frames_box.setToolTip(
            "Fit a film frame by frame, and put the results together in one file. Without it, files with a time axis "
            "are refused. Stacks of slices are always taken whole."
        )
        self.place_box = _choices(
            [_HERE, _CLUSTER], "Where to compute: on this computer, or on a cluster whose Dask scheduler is running."
        )
        self.workers_box = QSpinBox()
        self.workers_box.setRange(0, _MOST_PROCESSES)
        self.workers_box.setSpecialValueText("automatic")
        self.workers_box.setToolTip(
            "How many images to fit at the same time, each in a process of its own. Automatic: one for each GPU, or "
            "else for each core of the processor, as far as the memory goes."
        )
        self.scheduler_edit = QLineEdit()
        self.scheduler_edit.setPlaceholderText("tcp://host:8786")
        self.scheduler_edit.setToolTip(
            "The address of the scheduler; ask whoever runs the cluster. Its computers must see the images and the "
            "folder of the results under the same paths as this one."
        )

    def _lay_out(self) -> None:
        self._form = form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for label, editor in (
            ("Images", self.source_box),
            ("Folder", self.folder),
            ("Pattern", self.pattern_edit),
            ("Files", self.files_button),
            ("Layers", self.layers_label),
            ("Results", self.out),
            ("Scale", self.scale_box),
            ("Preset", self.preset_box),
            ("Format", self.format_box),
        ):
            form.addRow(label, editor)
        form.addRow(self.frames_box)
        for label, editor in (
            ("Compute on", self.place_box),
            ("Processes", self.workers_box),
            ("Address", self.scheduler_edit),
        ):
            form.addRow(label, editor)

    # ---- what is chosen ------------------------------------------------------------------------------------

    def _inputs(self, each: bool) -> tuple[tuple[str | Path, ...], Mapping[str, LayerSpec]]:
        source = self.source_box.currentText()
        if source == _FOLDER:
            return (self._pattern(),), {}
        if source == _FILES:
            if not self.files:
                raise InputError("choose the files of the images first.")
            return tuple(self.files), {}
        layers = self._selected()
        if not layers:
            raise InputError("select one or more Image layers in the layer list first.")
        return (), name_layers(whole_layer(layer, each) for layer in layers)

    def _pattern(self) -> str | Path:
        if not self.folder.text:
            raise InputError("choose the folder with the images first, with the button beside “Folder”.")
        folder, pattern = Path(self.folder.text).expanduser(), self.pattern_edit.text().strip()
        # Brackets in the name of the folder are no pattern.
        return str(Path(glob.escape(str(folder))) / pattern) if pattern else folder

    def _selected(self) -> list[Any]:
        """Image layers that are selected, in the order of the layer list."""
        chosen = self.viewer.layers.selection
        return [layer for layer in self.viewer.layers if layer in chosen and "Image" in layer_kinds(layer)]

    def _choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Choose the images")
        if names:
            self.files = [Path(name) for name in names]
            self.files_button.setText(f"{images(len(names))}…")
            self.files_button.setToolTip("\n".join(names[:20]))
            self._suggest(self.files[0].parent)

    def _suggest(self, folder: Path) -> None:
        """Propose a folder for the results beside that of the images, unless one was chosen."""
        if self.out.text in ("", self._suggested) and folder.name:
            self._suggested = str(folder.with_name(f"{folder.name}_upscaled"))
            self.out.set_text(self._suggested)

    def _show_rows(self) -> None:
        source, here = self.source_box.currentText(), self.place_box.currentText() == _HERE
        for editor, shown in (
            (self.folder, source == _FOLDER),
            (self.pattern_edit, source == _FOLDER),
            (self.files_button, source == _FILES),
            (self.layers_label, source == _LAYERS),
            (self.workers_box, here),
            (self.scheduler_edit, not here),
        ):
            self._form.setRowVisible(editor, shown)

    def _show_layers(self, event: Any = None) -> None:
        names = [layer.name for layer in self._selected()]
        self.layers_label.setText(f"{len(names)}: {', '.join(names)}" if names else "none is selected")


class PathEdit(QWidget):
    """A line for a folder, and a button that opens a dialog to choose one.

    Parameters
    ----------
    tooltip
        What the folder is for.
    """

    changed = Signal(str)
    """Another folder, also while it is typed."""

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setToolTip(tooltip)
        self.button = QPushButton("…")
        self.button.setToolTip("Choose a folder.")
        self.button.setMaximumWidth(30)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, 1)
        layout.addWidget(self.button)
        self.line.textChanged.connect(self.changed)
        self.button.clicked.connect(self._choose)

    @property
    def text(self) -> str:
        """The folder as it is typed; empty where there is none."""
        return str(self.line.text()).strip()

    def set_text(self, text: str) -> None:
        """Show a folder."""
        self.line.setText(text)

    def _choose(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose a folder", self.text)
        if chosen:
            self.set_text(chosen)


def _choices(names: Iterable[str], tooltip: str) -> QComboBox:
    box = QComboBox()
    box.addItems(names)
    box.setToolTip(tooltip)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box
