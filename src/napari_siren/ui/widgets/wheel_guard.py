"""`WheelGuard`: protection of the editors in a panel from changes by scrolling."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QScrollBar, QWidget


class WheelGuard(QObject):
    """An event filter for the wheel: an editor without the focus passes the wheel to the panel around it.

    Parameters
    ----------
    panel
        Panel with the editors to protect. Editors that are added later are not protected.
    """

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider):
            for editor in panel.findChildren(kind):
                if not isinstance(editor, QScrollBar):
                    editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                    editor.installEventFilter(self)

    def eventFilter(self, editor: QObject | None, event: QEvent | None) -> bool:
        """Stop a wheel event if its editor does not have the focus."""
        if event is None or event.type() != QEvent.Type.Wheel or not isinstance(editor, QWidget) or editor.hasFocus():
            return False
        # Qt passes an ignored event on to the parent widgets.
        event.ignore()
        return True
