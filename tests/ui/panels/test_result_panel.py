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


OF_A_FIT = {"Save image…", "Draw again", "Gradient", "Laplacian", "Save model…"}
OF_AN_IMAGE = {"Uncertainty"}
WITH_CODE = {"Copy code"}


def test_what_needs_a_fit_can_be_pressed_when_there_is_one(panel: ResultPanel) -> None:
    assert enabled(panel) == set()
    panel.show_result(True)
    assert enabled(panel) == OF_A_FIT
    panel.show_result(True, with_image=True)
    assert enabled(panel) == OF_A_FIT | OF_AN_IMAGE
    panel.show_result(True, with_image=True, with_code=True)
    assert enabled(panel) == OF_A_FIT | OF_AN_IMAGE | WITH_CODE
    panel.show_running({"uncertainty"})
    assert enabled(panel) == OF_A_FIT | WITH_CODE
    panel.show_result(False)
    assert enabled(panel) == set()


def test_what_the_buttons_ask_for(qtbot: Any, panel: ResultPanel) -> None:
    told: list[str] = []
    for name in ("save_model", "copy_code", "uncertainty"):
        getattr(panel, name).connect(lambda name=name: told.append(name))
    panel.derivative.connect(told.append)
    panel.show_result(True, with_image=True, with_code=True)
    buttons = {button.text(): button for button in panel.findChildren(QPushButton)}
    for text in (*sorted(OF_A_FIT), *WITH_CODE, *OF_AN_IMAGE):
        qtbot.mouseClick(buttons[text], Qt.MouseButton.LeftButton)
    assert told == ["gradient_magnitude", "laplacian", "save_model", "copy_code", "uncertainty"]


def test_the_name_of_the_result(panel: ResultPanel) -> None:
    panel.show_name("cells [x2], made just now")
    assert (panel.name.isVisible(), panel.name.text()) == (True, "cells [x2], made just now")
    panel.show_name("")
    assert not panel.name.isVisible()


def test_the_kind_of_error_map(panel: ResultPanel) -> None:
    told: list[str] = []
    panel.error_chosen.connect(told.append)
    assert panel.error_kind == "signed"
    panel.error_box.setCurrentText("absolute")
    assert panel.error_kind == "absolute"
    panel.error_box.setCurrentText("signed")
    assert told == ["absolute", "signed"]
