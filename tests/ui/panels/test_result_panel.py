"""Tests of the panel for the outputs of a fit."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from napari_siren.ui.panels.result_panel import ResultPanel


@pytest.fixture
def panel(qtbot: Any) -> ResultPanel:
    widget = ResultPanel("signed")
    qtbot.addWidget(widget)
    widget.show()
    return widget


def enabled(panel: ResultPanel) -> set[str]:
    return {button.text() for button in panel.findChildren(QPushButton) if button.isEnabled()}


ALWAYS = {"Copy as Python", "Save settings…", "Load settings…"}
OF_A_FIT = {"Save image…", "Draw again", "Gradient magnitude", "Laplacian", "Save model…"}
OF_AN_IMAGE = {"Uncertainty"}


def test_what_needs_a_fit_can_be_pressed_when_there_is_one(panel: ResultPanel) -> None:
    assert enabled(panel) == ALWAYS
    panel.show_result(True)
    assert enabled(panel) == ALWAYS | OF_A_FIT
    panel.show_result(True, with_image=True)
    assert enabled(panel) == ALWAYS | OF_A_FIT | OF_AN_IMAGE
    panel.show_result(False)
    assert enabled(panel) == ALWAYS


def test_what_the_buttons_ask_for(qtbot: Any, panel: ResultPanel) -> None:
    told: list[str] = []
    for name in ("save_model", "copy_code", "save_settings", "load_settings", "uncertainty"):
        getattr(panel, name).connect(lambda name=name: told.append(name))
    panel.derivative.connect(told.append)
    panel.show_result(True, with_image=True)
    buttons = {button.text(): button for button in panel.findChildren(QPushButton)}
    for text in (*sorted(OF_A_FIT), *sorted(ALWAYS), *OF_AN_IMAGE):
        qtbot.mouseClick(buttons[text], Qt.MouseButton.LeftButton)
    assert told == [
        "gradient_magnitude",
        "laplacian",
        "save_model",
        "copy_code",
        "load_settings",
        "save_settings",
        "uncertainty",
    ]


def test_the_kind_of_error_map(panel: ResultPanel) -> None:
    told: list[str] = []
    panel.error_chosen.connect(told.append)
    assert panel.error_kind == "signed"
    panel.error_box.setCurrentText("absolute")
    assert panel.error_kind == "absolute"
    panel.error_box.setCurrentText("signed")
    assert told == ["absolute", "signed"]
