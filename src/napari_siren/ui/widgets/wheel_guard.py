"""`WheelGuard`: scrolling the panel changes no value that the mouse happens to pass."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QScrollBar, QWidget


class WheelGuard(QObject):
    """Leaves the wheel to the panel around an editor that has not got the focus.

    Parameters
    ----------
    panel
        Whose editors are guarded: those that it has now.
    """

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider):
            for editor in panel.findChildren(kind):
                if not isinstance(editor, QScrollBar):
                    editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                    editor.installEventFilter(self)

    def eventFilter(self, editor: QObject | None, event: QEvent | None) -> bool:
        """Stop a wheel event, unless its editor has the focus."""
        if event is None or event.type() != QEvent.Type.Wheel or not isinstance(editor, QWidget) or editor.hasFocus():
            return False
        # So that the parents get it.
        event.ignore()
        return True
