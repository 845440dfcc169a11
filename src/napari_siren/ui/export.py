"""`ExportActions`: save the image, the model, the settings and the code of a fit; load settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.history import get_save_history, update_save_history
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget

from napari_siren.core.settings.config import FitConfig
from napari_siren.core.storage.atomic import atomic_write
from napari_siren.errors import SirenError
from napari_siren.io.formats import FORMATS
from napari_siren.ui.background import notify, start_function
from napari_siren.ui.logic.image_file import (
    TIFF_SUFFIXES,
    default_name,
    image_suffix,
    is_plain_picture,
    spec_to_save,
    write_layer,
)
from napari_siren.ui.tasks.fit import explain

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult

# Filters of the file dialogs.
_MODELS = "SIREN models (*.safetensors)"
_SETTINGS = "Settings (*.json)"
_TIFF, _ZARR, _PNG = "OME-TIFF (*.ome.tif *.tif)", "OME-Zarr (*.ome.zarr)", "PNG (*.png)"
# Suffixes of the names for each filter of images. A name without a suffix gets the first one.
_IMAGES = {_TIFF: TIFF_SUFFIXES, _ZARR: FORMATS["ome.zarr"].suffixes, _PNG: FORMATS["png"].suffixes}


class ExportActions(QObject):
    """The actions to save and load by file dialogs and the clipboard.

    Parameters
    ----------
    parent
        Parent widget of the dialogs.
    result
        Function that returns the latest result, or None.
    config
        Function that returns the settings.
    layer
        Function that returns the layer of the current result, or None.
    original
        Function that returns the layer that the result is of, or None. An image is saved beside its original.
    """

    message = Signal(str)
    settings_loaded = Signal(object)

    def __init__(
        self,
        parent: QWidget,
        result: Callable[[], FitResult | None],
        config: Callable[[], FitConfig],
        layer: Callable[[], Any | None] = lambda: None,
        original: Callable[[], Any | None] = lambda: None,
    ) -> None:
        super().__init__(parent)
        self._parent, self._result, self._config = parent, result, config
        self._layer, self._original = layer, original

    def save_image(self) -> None:
        """Ask for a file, and write the pixels of the current result to it in the background."""
        layer = self._layer()
        if layer is None:
            return
        try:
            spec = spec_to_save(layer)
        except SirenError as error:
            self._report(error)
            return
        filters = [_TIFF, _ZARR]
        if is_plain_picture(spec, layer.dtype):
            filters.append(_PNG)
        path = self._ask_where_image(layer, filters)
        if path is not None:
            update_save_history(str(path))
            self.message.emit(f"Saving {path.name}…")
            start_function(write_layer, path, spec, layer.metadata, returned=self._image_saved)

    def save_model(self) -> None:
        """Ask for a file, and write the model to it in the background."""
        result = self._result()
        path = None if result is None else self._ask_where("Save model", _MODELS, ".safetensors")
        if result is not None and path is not None:
            start_function(result.save, path, returned=self._saved)

    def copy_code(self, make: Callable[[], str]) -> None:
        """Copy Python code to the clipboard.

        Parameters
        ----------
        make
            Function that returns the code. It may raise a `SirenError`.
        """
        try:
            code = make()
        except SirenError as error:
            self._report(error)
            return
        QApplication.clipboard().setText(code)
        self.message.emit("The code is on the clipboard.")

    def save_settings(self) -> None:
        """Ask for a file, and write the settings to it."""
        try:
            text = self._config().model_dump_json(indent=2)
            path = self._ask_where("Save settings", _SETTINGS, ".json")
            if path is not None:
                with atomic_write(path) as temporary_path:
                    temporary_path.write_text(text + "\n", encoding="utf-8")
                self.message.emit(f"Saved {path.name}.")
        except SirenError as error:
            self._report(error)

    def load_settings(self) -> None:
        """Ask for a file, and emit its settings."""
        name, _ = QFileDialog.getOpenFileName(self._parent, "Load settings", "", _SETTINGS)
        if not name:
            return
        try:
            self.settings_loaded.emit(FitConfig.from_file(name))
            self.message.emit(f"Loaded the settings of {Path(name).name}.")
        except SirenError as error:
            self._report(error)

    def _ask_where(self, title: str, kinds: str, suffix: str) -> Path | None:
        name, _ = QFileDialog.getSaveFileName(self._parent, title, "", kinds)
        if not name or name.lower().endswith(suffix):
            return Path(name) if name else None
        path = Path(name + suffix)
        # The dialog has checked only the name as it was typed, without the suffix.
        return path if not path.exists() or self._may_replace(path) else None

    def _ask_where_image(self, layer: Any, filters: list[str]) -> Path | None:
        proposal = _folder_of(layer, self._original()) / default_name(layer)
        name, chosen = QFileDialog.getSaveFileName(self._parent, "Save image", str(proposal), ";;".join(filters))
        if not name:
            return None
        path = _with_suffix(Path(name), chosen or _TIFF)
        # The dialog has checked only the name as it was typed.
        return path if str(path) == name or not path.exists() or self._may_replace(path) else None

    def _may_replace(self, path: Path) -> bool:
        answer = QMessageBox.question(self._parent, "Save", f"{path.name} already exists. Replace it?")
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _saved(self, path: Path | Exception) -> None:
        if isinstance(path, Exception):
            self._report(path)
        else:
            self.message.emit(f"Saved {path.name}.")

    def _image_saved(self, message: str | Exception) -> None:
        if isinstance(message, Exception):
            self._report(message)
        else:
            self.message.emit(message)

    def _report(self, error: Exception) -> None:
        self.message.emit(explain(error))
        notify(error)


def _with_suffix(path: Path, chosen: str) -> Path:
    """Return a path with a suffix of the chosen filter.

    The first filter is chosen at first. With it, the suffix of the name decides, if it is that of an image.
    """
    suffix = image_suffix(path.name)
    if suffix.lower() in _IMAGES[chosen] or (suffix and chosen == _TIFF):
        return path
    stem = path.name[: len(path.name) - len(suffix)]
    return path.with_name(stem + _IMAGES[chosen][0])


def _folder_of(*layers: Any) -> Path:
    """Return the folder of the first layer with a file of the user, else the folder of the last saved file."""
    for layer in layers:
        source = getattr(layer, "source", None)
        path = getattr(source, "path", None)
        # A sample is in the folder of its plugin.
        if path and getattr(source, "sample", None) is None and "://" not in str(path):
            folder = Path(path).parent
            if folder.is_dir():
                return folder
    return Path(get_save_history()[0])
