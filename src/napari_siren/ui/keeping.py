"""`Keeper`: what is taken out of the panel: the model, the settings, the code; and settings taken in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox

from napari_siren.core.config import FitConfig
from napari_siren.errors import SirenError
from napari_siren.files import written_aside
from napari_siren.ui.background import notify, start_function
from napari_siren.ui.fit_task import explain

if TYPE_CHECKING:
    from napari_siren.ui.widget import SirenWidget

_MODELS = "SIREN models (*.safetensors)"
_SETTINGS = "Settings (*.json)"


class Keeper(QObject):
    """Saves and loads for a panel, by file dialogs and the clipboard.

    Parameters
    ----------
    panel
        The dock widget.
    """

    def __init__(self, panel: SirenWidget) -> None:
        super().__init__(panel)
        self.panel = panel

    def save_model(self) -> None:
        """Ask for a file, and write the model to it in the background."""
        result = self.panel.session.result
        path = None if result is None else self._ask_where("Save model", _MODELS, ".safetensors")
        if result is not None and path is not None:
            start_function(result.save, path, returned=self._saved)

    def copy_code(self) -> None:
        """Put the code of the fit on the clipboard."""
        try:
            code = self.panel.code()
        except SirenError as error:
            self._report(error)
            return
        QApplication.clipboard().setText(code)
        self._say("The code is on the clipboard.")

    def save_settings(self) -> None:
        """Ask for a file, and write the settings to it."""
        try:
            text = self.panel.settings_form.config().model_dump_json(indent=2)
            path = self._ask_where("Save settings", _SETTINGS, ".json")
            if path is not None:
                with written_aside(path) as aside:
                    aside.write_text(text + "\n", encoding="utf-8")
                self._say(f"Saved {path.name}.")
        except SirenError as error:
            self._report(error)

    def load_settings(self) -> None:
        """Ask for a file, and show its settings."""
        name, _ = QFileDialog.getOpenFileName(self.panel, "Load settings", "", _SETTINGS)
        if not name:
            return
        try:
            self.panel.set_config(FitConfig.from_file(name))
            self._say(f"Settings of {Path(name).name}.")
        except SirenError as error:
            self._report(error)

    def _ask_where(self, title: str, kinds: str, suffix: str) -> Path | None:
        name, _ = QFileDialog.getSaveFileName(self.panel, title, "", kinds)
        if not name or name.lower().endswith(suffix):
            return Path(name) if name else None
        path = Path(name + suffix)
        # The dialog has asked about the name that was typed only.
        return path if not path.exists() or self._may_replace(path) else None

    def _may_replace(self, path: Path) -> bool:
        answer = QMessageBox.question(self.panel, "Save", f"{path.name} is there already. Replace it?")
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _saved(self, path: Path | Exception) -> None:
        if isinstance(path, Exception):
            self._report(path)
        else:
            self._say(f"Saved {path.name}.")

    def _say(self, text: str) -> None:
        self.panel.run_panel.say(text)

    def _report(self, error: Exception) -> None:
        self._say(explain(error))
        notify(error)
