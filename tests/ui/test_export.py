"""Tests of saving and loading by file dialogs and the clipboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget

import napari_siren as ns
from napari_siren.errors import InputError
from napari_siren.ui.export import ExportActions
from napari_siren.ui.panels.run_panel import RunPanel
from napari_siren.ui.panels.settings_form import SettingsForm

CONFIG = ns.FitConfig.preset("upscale", max_steps=77, target_psnr=41.5)


class Panel(QWidget):
    """A stand-in for the dock widget, with the parts needed by the exports."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.session = SimpleNamespace(result=result)
        self.settings_form, self.run_panel = SettingsForm(self), RunPanel(self)
        self.settings_form.set_config(CONFIG)
        self.set_config = self.settings_form.set_config
        self.error: ns.SirenError | None = None

    def code(self) -> str:
        if self.error is not None:
            raise self.error
        return "import napari\n# µ"

    @property
    def said(self) -> str:
        return str(self.run_panel.status.text())


@pytest.fixture
def panel(fitted: ns.FitResult, qtbot: Any) -> Panel:
    widget = Panel(fitted)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def export(panel: Panel) -> ExportActions:
    actions = ExportActions(panel, lambda: panel.session.result, panel.code, panel.settings_form.config)
    actions.message.connect(panel.run_panel.say)
    actions.settings_loaded.connect(panel.set_config)
    return actions


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Set the user's choice in the next file dialogs. An empty name is "Cancel"."""

    def choose(name: Any) -> None:
        for dialog in ("getSaveFileName", "getOpenFileName"):
            monkeypatch.setattr(QFileDialog, dialog, lambda *arguments: (str(name), ""))

    choose("")
    return choose


@pytest.fixture
def notes() -> Callable[[], list[str]]:
    """A function for the notifications of this test so far."""
    before = len(notification_manager.records)
    return lambda: [note.message for note in notification_manager.records[before:]]


def unwritable(tmp_path: Path) -> list[Path]:
    """Return paths in a missing folder and below a file. Not even an administrator can write there."""
    (tmp_path / "file").touch()
    return [tmp_path / "missing" / "name", tmp_path / "file" / "name"]


# ---- the model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"),
    [("cells", "cells.safetensors"), ("a.b", "a.b.safetensors"), ("C.SafeTensors", "C.SafeTensors")],
)
def test_the_model_is_written(
    qtbot: Any, panel: Panel, export: ExportActions, answer: Any, tmp_path: Path, name: str, written: str
) -> None:
    answer(tmp_path / name)
    export.save_model()
    qtbot.waitUntil(lambda: panel.said == f"Saved {written}.")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [written]
    loaded = ns.load(tmp_path / written)
    np.testing.assert_array_equal(loaded.reconstruction, panel.session.result.reconstruction)


def test_where_the_model_cannot_be_written_it_is_said(
    qtbot: Any, panel: Panel, export: ExportActions, answer: Any, notes: Any, tmp_path: Path
) -> None:
    for i, path in enumerate(unwritable(tmp_path)):
        answer(path)
        export.save_model()
        qtbot.waitUntil(lambda i=i: len(notes()) == i + 1)
        assert notes()[-1] == panel.said
        assert panel.said.startswith(f"cannot write {path}.safetensors")


def test_without_a_fit_nobody_is_asked_for_a_file(
    panel: Panel, export: ExportActions, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.session.result = None
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: pytest.fail("asked"))
    export.save_model()
    assert panel.said == ""


# ---- the settings ----------------------------------------------------------------------------------------


def test_settings_come_back_as_they_were_saved(
    panel: Panel, export: ExportActions, answer: Any, notes: Any, tmp_path: Path
) -> None:
    answer(tmp_path / "mine")
    export.save_settings()
    assert panel.said == "Saved mine.json."
    assert ns.FitConfig.from_file(tmp_path / "mine.json") == CONFIG
    panel.set_config(ns.FitConfig())
    answer(tmp_path / "mine.json")
    export.load_settings()
    assert panel.settings_form.config() == CONFIG
    assert panel.said == "Loaded the settings of mine.json."
    assert notes() == []


@pytest.mark.parametrize("agreed", [False, True])
def test_a_file_that_only_the_suffix_names_is_not_replaced_unasked(
    panel: Panel, export: ExportActions, answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agreed: bool
) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    button = QMessageBox.StandardButton.Yes if agreed else QMessageBox.StandardButton.No
    monkeypatch.setattr(QMessageBox, "question", lambda *_: button)
    answer(tmp_path / "mine")
    export.save_settings()
    assert (path.read_text() != "{}") == agreed
    assert (panel.said == "Saved mine.json.") == agreed
    # The file dialog has already asked whether to replace this name.
    monkeypatch.setattr(QMessageBox, "question", lambda *_: pytest.fail("asked twice"))
    answer(path)
    export.save_settings()
    assert ns.FitConfig.from_file(path) == CONFIG


def test_where_settings_cannot_be_written_it_is_said(
    panel: Panel, export: ExportActions, answer: Any, notes: Any, tmp_path: Path
) -> None:
    for i, path in enumerate(unwritable(tmp_path)):
        answer(path)
        export.save_settings()
        assert len(notes()) == i + 1
        assert notes()[-1] == panel.said
        assert panel.said.startswith(f"cannot write {path}.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read settings"),
        ("no JSON", "is not a JSON file of settings"),
        (json.dumps([1]), "not an object"),
        (json.dumps({"max_stepz": 5}), "did you mean 'max_steps'"),
        (json.dumps({"max_steps": -5}), "max_steps: "),
        (json.dumps({"name": "best"}), "there is no preset 'best'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(
    panel: Panel, export: ExportActions, answer: Any, notes: Any, tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "odd.json"
    if content is not None:
        path.write_text(content)
    answer(path)
    export.load_settings()
    assert notes() == [panel.said]
    assert message in panel.said
    assert panel.settings_form.config() == CONFIG


# ---- dialogs that are cancelled, and the clipboard -------------------------------------------------------


@pytest.mark.parametrize("action", ["save_model", "save_settings", "load_settings"])
def test_a_dialog_that_is_cancelled_does_nothing(
    panel: Panel,
    export: ExportActions,
    answer: Any,
    notes: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    getattr(export, action)()
    assert sorted(tmp_path.rglob("*")) == before
    assert (panel.said, notes()) == ("", [])
    assert panel.settings_form.config() == CONFIG


def test_the_code_is_put_on_the_clipboard(panel: Panel, export: ExportActions, notes: Any) -> None:
    QApplication.clipboard().setText("something else")
    export.copy_code()
    assert QApplication.clipboard().text() == panel.code()
    assert panel.said == "The code is on the clipboard."
    panel.error = InputError("there is no image layer to fit.")
    QApplication.clipboard().setText("something else")
    export.copy_code()
    assert QApplication.clipboard().text() == "something else"
    assert notes() == [panel.said] == ["there is no image layer to fit."]
