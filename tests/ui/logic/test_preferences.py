"""Tests of the preferences from napari, with the manifest's defaults, and of the settings of the last session."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from napari import settings
from npe2 import PluginManifest
from waiting import LIMIT

from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.ui.logic.preferences import Preferences, apply_cache, remember, remembered

CHOSEN = {
    "device": ("fitting", "cuda:1"),
    "preset": ("fitting", "fast"),
    "preview_rate": ("display", 0.5),
    "open_scale": ("models", "4"),
    "cache": ("storage", "/scratch/cache"),
}


def settings_file(tmp_path: Path) -> Path:
    """Return the path of napari's file with the preferences of this plugin in the tests."""
    return tmp_path / "napari-siren.yaml"


def test_the_defaults_are_those_of_the_manifest() -> None:
    configurations = PluginManifest.from_distribution("napari-siren").contributions.configurations
    properties = {name: prop.default for c in configurations.values() for name, prop in c.properties.items()}
    assert properties == vars(Preferences())
    assert Preferences.load() == Preferences()


@pytest.mark.parametrize("name", CHOSEN)
def test_a_choice_is_read_now_and_in_the_next_session(name: str) -> None:
    section, value = CHOSEN[name]
    setattr(getattr(settings.get_plugin_settings("napari-siren"), section), name, value)
    assert Preferences.load() == Preferences(**{name: value})
    settings._clear_plugin_settings_cache()
    assert Preferences.load() == Preferences(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("device", "abacus"), ("device", 3), ("preset", "slow"), ("preview_rate", 1000), ("open_scale", None)],
)
def test_values_that_mean_nothing_fall_back(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A version of napari that does not check the values may return such values.
    section = type("Section", (), {name: value})
    plugin = type("Settings", (), {CHOSEN[name][0]: section})
    monkeypatch.setattr(settings, "get_plugin_settings", lambda _: plugin)
    with caplog.at_level(logging.WARNING, "napari_siren"):
        assert Preferences.load() == Preferences()
    assert (value is None) != (f"{value!r} is not valid" in caplog.text)


@pytest.mark.parametrize("content", ["fitting: [", "- a\n- list\n", "fitting:\n  preset: slow\n"])
def test_a_damaged_file_gives_the_defaults(content: str, tmp_path: Path) -> None:
    settings_file(tmp_path).write_text(content)
    assert Preferences.load() == Preferences()


def test_a_disabled_plugin_has_the_defaults(plugins: Any) -> None:
    settings.get_plugin_settings("napari-siren").fitting.preset = "fast"
    plugins.disable("napari-siren")
    assert Preferences.load() == Preferences()
    plugins.enable("napari-siren")
    assert Preferences.load().preset == "fast"


def test_a_napari_without_plugin_settings_has_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(settings, "get_plugin_settings")
    assert Preferences.load() == Preferences()


def test_the_preferences_have_a_page_in_napari(viewer: Any, qtbot: Any) -> None:
    from napari._qt.dialogs.preferences_dialog import PreferencesDialog
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QLineEdit

    dialog = PreferencesDialog(viewer.window._qt_window)
    qtbot.addWidget(dialog)
    [item] = dialog._list.findItems("napari-siren", Qt.MatchFlag.MatchExactly)
    page = dialog._stack.widget(dialog._list.row(item))
    choices = [[box.itemText(i) for i in range(box.count())] for box in page.findChildren(QComboBox)]
    assert choices == [list(PRESET_NAMES), ["ask", "1", "2", "4", "8"]]
    assert page.findChild(QDoubleSpinBox).value() == 3
    # A spin box contains a line edit, which is not counted.
    texts = [edit.text() for edit in page.findChildren(QLineEdit) if not isinstance(edit.parent(), QDoubleSpinBox)]
    assert texts == ["auto", ""]
    page.findChildren(QComboBox)[0].setCurrentText("fast")
    assert Preferences.load().preset == "fast"


def test_the_folder_for_the_kernel_is_passed_on(tmp_path: Path) -> None:
    apply_cache(Preferences())
    assert os.environ["NAPARI_SIREN_CACHE"] == ""
    apply_cache(Preferences(cache=str(tmp_path)))
    assert os.environ["NAPARI_SIREN_CACHE"] == str(tmp_path)


def test_what_is_remembered_comes_back() -> None:
    assert remembered() == {}
    remember({"preset": "fast", "scale": 2.5, "open": [True, None]})
    assert remembered() == {"preset": "fast", "scale": 2.5, "open": [True, None]}
    remember({"scale": 4})
    assert remembered() == {"scale": 4}


@pytest.mark.parametrize("content", [b"", b'{"preset": "fa', b"[1, 2]", b"\xff\xfe"])
def test_a_damaged_memory_is_empty(content: bytes) -> None:
    remember({"scale": 4})
    [file] = platformdirs.user_config_path("napari-siren").iterdir()
    file.write_bytes(content)
    assert remembered() == {}


def test_a_folder_that_cannot_be_written_is_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_: file)
    remember({"scale": 4})
    assert remembered() == {}


def test_no_qt_is_needed() -> None:
    assert importlib.util.find_spec("PyQt6"), "the test would prove nothing"
    code = "import sys, napari_siren.ui.logic.preferences as p; p.Preferences(); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    assert not {"qtpy", "PyQt6", "torch"} & set(done.stdout.split())
