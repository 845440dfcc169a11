"""`CompareBar`: the buttons that compare a result with its original."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

if TYPE_CHECKING:
    from napari_siren.ui.compare import Comparison


class CompareBar(QWidget):
    """A button to hold for the original, and a button for the divider.

    Parameters
    ----------
    comparison
        The comparison that the buttons control.
    parent
        Parent widget.
    """

    def __init__(self, comparison: Comparison, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._comparison = comparison
        key = "" if comparison.key is None else f" You can also hold the key {comparison.key}."
        self.original_button = QPushButton("Original")
        self.original_button.setToolTip(f"Hold this button to see the original instead of the result.{key}")
        self.original_button.setAccessibleName("Show the original while held")
        self.divider_button = QPushButton("Divider")
        self.divider_button.setCheckable(True)
        self.divider_button.setAccessibleName("Divider between original and result")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.original_button, self.divider_button):
            # Two buttons side by side must fit into a narrow dock.
            button.setMinimumWidth(10)
            row.addWidget(button)
        self.original_button.pressed.connect(lambda: comparison.hold(True))
        self.original_button.released.connect(lambda: comparison.hold(False))
        self.divider_button.toggled.connect(comparison.divider)
        comparison.changed.connect(self._show_state)
        self._show_state()

    def _show_state(self) -> None:
        comparison = self._comparison
        self.original_button.setEnabled(comparison.available)
        self.divider_button.setEnabled(comparison.divisible)
        with QSignalBlocker(self.divider_button):
            self.divider_button.setChecked(comparison.divided)
        reason = "" if comparison.divisible or not comparison.available else " It needs the 2-D view without the grid."
        self.divider_button.setToolTip(
            "Show a line on the image: the original on its left, the result on its right. Drag it with the mouse."
            f"{reason}"
        )
