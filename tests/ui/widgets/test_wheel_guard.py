"""Tests of scrolling over an editor: its value must not change."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QComboBox, QSlider, QSpinBox, QVBoxLayout, QWidget

from napari_siren.ui.widgets.wheel_guard import WheelGuard


def turn_wheel(widget: QWidget) -> None:
    """Turn the wheel one notch over a widget."""
    middle = QPointF(widget.rect().center())
    event = QWheelEvent(
        middle,
        QPointF(widget.mapToGlobal(widget.rect().center())),
        QPoint(),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def value(editor: Any) -> int:
    return editor.currentIndex() if isinstance(editor, QComboBox) else editor.value()


@pytest.mark.parametrize("kind", [QComboBox, QSpinBox, QSlider])
def test_only_an_editor_with_the_focus_takes_the_wheel(qtbot: Any, kind: Any) -> None:
    panel, editor, other = QWidget(), kind(), QSpinBox()
    column = QVBoxLayout(panel)
    column.addWidget(editor)
    column.addWidget(other)
    if kind is QComboBox:
        editor.addItems(["a", "b", "c"])
        editor.setCurrentIndex(1)
    else:
        editor.setValue(5)
    WheelGuard(panel)
    qtbot.addWidget(panel)
    with qtbot.waitExposed(panel):
        panel.show()
    before = value(editor)
    other.setFocus()
    turn_wheel(editor)
    assert value(editor) == before
    panel.activateWindow()
    editor.setFocus()
    qtbot.waitUntil(editor.hasFocus)
    turn_wheel(editor)
    assert value(editor) != before
