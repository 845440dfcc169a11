"""Tests of the panel with all settings."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox

from napari_siren.ui.panels.settings_panel import SettingsPanel


def test_its_buttons(qtbot: Any) -> None:
    panel = SettingsPanel(QComboBox())
    qtbot.addWidget(panel)
    panel.show()
    pressed: list[str] = []
    for name, button in (
        ("copy_code", panel.code_button),
        ("save_settings", panel.save_button),
        ("load_settings", panel.load_button),
    ):
        getattr(panel, name).connect(lambda name=name: pressed.append(name))
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert pressed == ["copy_code", "save_settings", "load_settings"]


def test_the_seed(qtbot: Any) -> None:
    panel = SettingsPanel(QComboBox())
    qtbot.addWidget(panel)
    assert panel.seed == 0
    panel.seed_box.setValue(7)
    assert panel.seed == 7
