"""`BatchForm`: the inputs, the settings, the output folder and the processes of a batch."""

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
from napari_siren.io import formats
from napari_siren.layers.reading import layer_kinds
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic.missing import FILL_NAN, FILL_NAN_TIP
from napari_siren.ui.panels.fit_panel import preset_box
from napari_siren.ui.tasks.batch import REPLACE, BatchRequest, name_layers, whole_layer
from napari_siren.ui.tasks.messages import images

# Texts of the kinds of inputs.
_FOLDER = "A folder"
_FILES = "Files"
_LAYERS = "The selected layers"
# Texts of the places to compute.
_HERE = "This computer"
_CLUSTER = "A Dask cluster"
# Text of the choice instead of a preset.
_AS_FIT = "as in the tab Fit"
FORMATS: dict[str, str] = {
    "auto": "automatic",
    **{name: entry.title for name, entry in formats.FORMATS.items() if entry.for_batches},
}
"""Text in the form for each file format of `fit_batch`."""

# Largest number of processes in the form.
_MAX_PROCESSES = 1024


class BatchForm(QWidget):
    """The form of a batch, from the images to the processes.

    Parameters
    ----------
    viewer
        napari's viewer; its selected layers can be inputs.
    fit_options
        Function that returns the settings of the other tab as keyword arguments of `fit_batch`.
    parent
        The panel that contains the form.
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

    # ---- the request ---------------------------------------------------------------------------------------

    def request(self) -> BatchRequest:
        """Return the request of a batch with the present settings.

        Raises
        ------
        SirenError
            There is no image, no folder for the results or no address of a cluster; or a layer or the settings of the
            other tab cannot be used.
        """
        each = self.frames_box.isChecked()
        inputs, layers = self._inputs(each)
        if not self.out.text:
            raise InputError("there is no folder for the results. Choose one with the button beside “Results”.")
        as_fit = self.preset_box.currentText() == _AS_FIT
        options = self._fit_options() if as_fit else {"preset": self.preset_box.currentText()}
        here = self.place_box.currentText() == _HERE
        if not (here or self.scheduler_edit.text().strip()):
            raise InputError(
                "there is no address of the cluster's scheduler. Enter it in “Address”, for example tcp://host:8786."
            )
        return BatchRequest(
            inputs,
            layers,
            Path(self.out.text).expanduser(),
            {
                "scale": self.scale_box.value(),
                "frames": "each" if each else "whole",
                "fill_nan": self.nan_box.isChecked(),
                "overwrite": self.replace_box.isChecked(),
                "format": list(FORMATS)[self.format_box.currentIndex()],
                "workers": (self.workers_box.value() or None) if here else None,
                "scheduler": None if here else self.scheduler_edit.text().strip(),
                **options,
            },
        )

    def values(self) -> dict[str, Any]:
        """Return the values to show again in the next session."""
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
            "fill_nan": self.nan_box.isChecked(),
        }

    def recall(self, last: Any) -> None:
        """Show the values of the last session. From the first invalid one on, the present values stay."""
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
            self.nan_box.setChecked(last["fill_nan"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return

    def disconnect_viewer(self) -> None:
        """Disconnect from the events of the viewer."""
        self.viewer.layers.selection.events.changed.disconnect(self._show_layers)

    # ---- construction --------------------------------------------------------------------------------------

    def _make_inputs(self) -> None:
        self.source_box = _choices(
            [_FOLDER, _FILES, _LAYERS],
            "The images to fit: the images in a folder, single files, or the layers that are selected in the layer "
            "list. Hold Ctrl or Shift to select several.",
        )
        self.folder = PathEdit("The folder with the images.")
        self.pattern_edit = QLineEdit()
        self.pattern_edit.setPlaceholderText("all images")
        self.pattern_edit.setToolTip(
            "The files of the folder to fit: <b>*.tif</b> takes the files whose names end in .tif; <b>**/*.tif</b> "
            "also takes those in subfolders. Leave it empty to take all images, including those in subfolders."
        )
        self.files_button = QPushButton("Choose files…")
        self.files_button.setToolTip("The images to fit.")
        self.layers_label = QLabel()
        self.layers_label.setWordWrap(True)
        self.out = PathEdit(
            "The folder for the results: one image for each original, with the same name, and a report with pictures. "
            "If you start the same batch again, images that are already done in this folder are skipped."
        )

    def _make_options(self) -> None:
        self.scale_box = QDoubleSpinBox()
        self.scale_box.setRange(0.1, 16)
        self.scale_box.setSingleStep(0.5)
        self.scale_box.setValue(2)
        self.scale_box.setToolTip("Number of output pixels for each pixel, along each axis in space.")
        self.preset_box = preset_box("upscale")
        self.preset_box.addItem(_AS_FIT)
        self.preset_box.setItemData(
            self.preset_box.count() - 1,
            "The settings, device and seed of the other tab.",
            Qt.ItemDataRole.ToolTipRole,
        )
        self.format_box = _choices(
            FORMATS.values(),
            "File format of the results. Automatic: PNG for photographs, and OME-TIFF for all other images, because it "
            "keeps the pixel size.",
        )
        self.frames_box = QCheckBox("Each frame of a time series by itself")
        self.frames_box.setToolTip(
            "Fit a film frame by frame, and save the results together in one file. Without this choice, images with a "
            "time axis are refused. A stack of slices is always fitted as a whole."
        )
        self.nan_box = QCheckBox(FILL_NAN)
        self.nan_box.setToolTip(FILL_NAN_TIP)
        self.replace_box = QCheckBox(REPLACE)
        self.replace_box.setToolTip(
            "Replace results that were made with other settings, and files that are no results of a batch. Without "
            "this choice, a batch that would replace them does not start. The choice is not remembered."
        )
        self.place_box = _choices(
            [_HERE, _CLUSTER], "The place to compute: this computer, or a cluster with a running Dask scheduler."
        )
        self.workers_box = QSpinBox()
        self.workers_box.setRange(0, _MAX_PROCESSES)
        self.workers_box.setSpecialValueText("automatic")
        self.workers_box.setToolTip(
            "Number of images to fit at the same time, each in its own process. Automatic: one for each graphics card "
            "(GPU); without a GPU one for each core of the processor, if there is enough memory."
        )
        self.scheduler_edit = QLineEdit()
        self.scheduler_edit.setPlaceholderText("tcp://host:8786")
        self.scheduler_edit.setToolTip(
            "The address of the scheduler. Ask the administrator of the cluster for it. The computers of the cluster "
            "must find the images and the folder of the results under the same paths as this computer."
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
        form.addRow(self.nan_box)
        form.addRow(self.replace_box)
        for label, editor in (
            ("Compute on", self.place_box),
            ("Processes", self.workers_box),
            ("Address", self.scheduler_edit),
        ):
            form.addRow(label, editor)

    # ---- inputs --------------------------------------------------------------------------------------------

    def _inputs(self, each: bool) -> tuple[tuple[str | Path, ...], Mapping[str, LayerSpec]]:
        source = self.source_box.currentText()
        if source == _FOLDER:
            return (self._pattern(),), {}
        if source == _FILES:
            if not self.files:
                raise InputError("there are no images. Choose their files with the button “Choose files…”.")
            return tuple(self.files), {}
        layers = self._selected()
        if not layers:
            raise InputError("no Image layer is selected. Select one or more in the layer list.")
        return (), name_layers(whole_layer(layer, each) for layer in layers)

    def _pattern(self) -> str | Path:
        if not self.folder.text:
            raise InputError("there is no folder with images. Choose one with the button beside “Folder”.")
        folder, pattern = Path(self.folder.text).expanduser(), self.pattern_edit.text().strip()
        # Brackets in the name of the folder are escaped, since they are not a pattern.
        return str(Path(glob.escape(str(folder))) / pattern) if pattern else folder

    def _selected(self) -> list[Any]:
        """Return the selected image layers, in the order of the layer list."""
        selection = self.viewer.layers.selection
        return [layer for layer in self.viewer.layers if layer in selection and "Image" in layer_kinds(layer)]

    def _choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Choose the images")
        if names:
            self.files = [Path(name) for name in names]
            self.files_button.setText(f"{images(len(names))}…")
            self.files_button.setToolTip("\n".join(names[:20]))
            self._suggest(self.files[0].parent)

    def _suggest(self, folder: Path) -> None:
        """Suggest a folder for the results beside the folder of the images, unless the user has chosen one."""
        if self.out.text in ("", self._suggested) and folder.name:
            self._suggested = str(folder.with_name(f"{folder.name}_upscaled"))
            self.out.set_text(self._suggested)

    def _show_rows(self) -> None:
        source, here = self.source_box.currentText(), self.place_box.currentText() == _HERE
        for editor, visible in (
            (self.folder, source == _FOLDER),
            (self.pattern_edit, source == _FOLDER),
            (self.files_button, source == _FILES),
            (self.layers_label, source == _LAYERS),
            (self.workers_box, here),
            (self.scheduler_edit, not here),
        ):
            self._form.setRowVisible(editor, visible)

    def _show_layers(self, event: Any = None) -> None:
        names = [layer.name for layer in self._selected()]
        self.layers_label.setText(f"{len(names)}: {', '.join(names)}" if names else "No Image layer is selected.")


class PathEdit(QWidget):
    """A line for a folder, with a button to choose it in a dialog.

    Parameters
    ----------
    tooltip
        Tooltip of the line: the purpose of the folder.
    """

    changed = Signal(str)
    """The new folder, also while the user is typing."""

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
        """The folder in the line, or an empty string."""
        return str(self.line.text()).strip()

    def set_text(self, text: str) -> None:
        """Show a folder."""
        self.line.setText(text)

    def _choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a folder", self.text)
        if folder:
            self.set_text(folder)


def _choices(names: Iterable[str], tooltip: str) -> QComboBox:
    box = QComboBox()
    box.addItems(names)
    box.setToolTip(tooltip)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box
