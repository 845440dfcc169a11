"""Tests of the panel without a mouse: the order of the Tab key, shortcuts, and names for screen readers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from driving import open_panel, shown_viewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QWidget,
)

from napari_siren.ui.widget import SirenWidget

# Largest number of Tabs from the image to the main button.
MOST_TABS = 12
CONTROLS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit)


def image(viewer: Any) -> None:
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (12, 16), dtype=np.uint8), name="cells")


def name_of(control: QWidget) -> str:
    """Return the name that a screen reader uses."""
    texts = (control.accessibleName(), control.text() if isinstance(control, QAbstractButton) else "")
    return next((text for text in texts if text), "")


def is_part(control: QWidget, panel: SirenWidget) -> bool:
    """Return whether a control is a part of another one, such as the line of a spin box."""
    parent = control.parentWidget()
    while parent is not None and parent is not panel:
        if isinstance(parent, (QAbstractSpinBox, QComboBox)) or name_of(parent):
            return True
        parent = parent.parentWidget()
    return False


def next_by_tab(control: QWidget) -> QWidget:
    """Return the control that the Tab key visits next. A window has the focus only with a window manager."""
    following = control.nextInFocusChain()
    while not (
        following.focusPolicy() & Qt.FocusPolicy.TabFocus
        and following.isVisible()
        and following.isEnabled()
        and following.focusProxy() is None
    ):
        following = following.nextInFocusChain()
    return following


@pytest.mark.parametrize("purpose", range(6))
def test_few_tabs_from_the_image_to_the_button(qtbot: Any, make_napari_viewer: Any, purpose: int) -> None:
    viewer = shown_viewer(qtbot, make_napari_viewer)
    image(viewer)
    panel = open_panel(viewer)
    panel.fit_panel.purpose_box.setCurrentIndex(purpose)
    box, button = panel.source_panel.layer_box, panel.run_panel.fit_button
    qtbot.waitUntil(button.isVisible)
    visited = [box]
    while visited[-1] is not button and len(visited) <= MOST_TABS + 10:
        visited.append(next_by_tab(visited[-1]))
    names = [f"{type(control).__name__} {name_of(control)}" for control in visited]
    assert len(visited) - 1 <= MOST_TABS, names


def test_every_control_has_a_name(viewer: Any) -> None:
    image(viewer)
    panel = open_panel(viewer)
    nameless = [
        f"{type(control).__name__} in {type(control.parentWidget()).__name__}: {control.toolTip()[:40]}"
        for control in panel.findChildren(QWidget)
        if isinstance(control, CONTROLS)
        and control.focusPolicy() != Qt.FocusPolicy.NoFocus
        and not name_of(control)
        and not is_part(control, panel)
    ]
    assert nameless == []


def test_the_shortcuts(viewer: Any) -> None:
    run = open_panel(viewer).run_panel
    run.show_purpose("Enlarge")
    assert run.fit_button.shortcut().toString() == "Ctrl+Return"
    assert run.try_button.shortcut().toString() == "Ctrl+T"
