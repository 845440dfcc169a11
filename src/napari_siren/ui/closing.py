"""The question before the × of the dock closes a panel whose fit is running."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QMessageBox, QWidget

from napari_siren.ui.session import Session, SessionState


def ask_before_closing(panel: QWidget, session: Session) -> None:
    """Ask before the × of a panel's dock closes it, if a fit is running.

    Parameters
    ----------
    panel
        The panel in napari's dock. Without a dock, nothing happens.
    session
        Session of the panel.
    """
    dock: Any = panel.parent()
    while dock is not None and not hasattr(dock, "destroyOnClose"):
        dock = dock.parent()
    if dock is None:
        return
    close = type(dock).destroyOnClose

    def ask() -> None:
        if session.state is SessionState.IDLE:
            close(dock)
            return
        box = QMessageBox(panel)
        box.setWindowTitle("SIREN")
        box.setText("The panel is still at work.")
        box.setInformativeText("Keep the result that it has so far, or discard it?")
        keep = box.addButton("Stop and keep", QMessageBox.ButtonRole.AcceptRole)
        discard = box.addButton("Discard", QMessageBox.ButtonRole.DestructiveRole)
        box.addButton("Continue", QMessageBox.ButtonRole.RejectRole)
        box.exec()
        if box.clickedButton() is discard:
            close(dock)
        elif box.clickedButton() is keep:
            session.when_idle(lambda: close(dock))
            session.stop()

    # napari's button looks this method up when it is clicked.
    dock.destroyOnClose = ask
