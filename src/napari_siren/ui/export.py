"""`ExportActions`: save the model, the settings and the code of a fit; load settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget

from napari_siren.core.atomic import atomic_write
from napari_siren.core.config import FitConfig
from napari_siren.errors import SirenError
from napari_siren.ui.background import notify, start_function
from napari_siren.ui.logic.fit_task import explain

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult

# Filters of the file dialogs.
_MODELS = "SIREN models (*.safetensors)"
_SETTINGS = "Settings (*.json)"


class ExportActions(QObject):
    """The actions to save and load by file dialogs and the clipboard.

    Parameters
    ----------
    parent
        Parent widget of the dialogs.
    result
        Function that returns the latest result, or None.
    code
        Function that returns the Python code of the fit.
    config
        Function that returns the settings.
    """

    message = Signal(str)
    settings_loaded = Signal(object)

    def __init__(
        self,
        parent: QWidget,
        result: Callable[[], FitResult | None],
        code: Callable[[], str],
        config: Callable[[], FitConfig],
    ) -> None:
        super().__init__(parent)
        self._parent, self._result, self._code, self._config = parent, result, code, config

    def save_model(self) -> None:
        """Ask for a file, and write the model to it in the background."""
        result = self._result()
        path = None if result is None else self._ask_where("Save model", _MODELS, ".safetensors")
        if result is not None and path is not None:
            start_function(result.save, path, returned=self._saved)

    def copy_code(self) -> None:
        """Copy the Python code of the fit to the clipboard."""
        try:
            code = self._code()
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

    def _may_replace(self, path: Path) -> bool:
        answer = QMessageBox.question(self._parent, "Save", f"{path.name} already exists. Replace it?")
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _saved(self, path: Path | Exception) -> None:
        if isinstance(path, Exception):
            self._report(path)
        else:
            self.message.emit(f"Saved {path.name}.")

    def _report(self, error: Exception) -> None:
        self.message.emit(explain(error))
        notify(error)
