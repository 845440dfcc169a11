"""`AxesQuestion`: the question for the first axis of a stack without labels."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

# Meaning of each possible letter of the first axis.
_MEANINGS = {"Z": "depth", "T": "time", "C": "channels"}


class AxesQuestion(QWidget):
    """The question, with buttons, whether the first axis of a stack is Z, T or C.

    For a stack of more than three axes, one button opens a dialog for all axes instead.

    Parameters
    ----------
    parent
        The panel that contains this widget.
    """

    answered = Signal(str)
    """The letter of the first axis: Z, T or C."""
    details = Signal()
    """The user wants to choose the letters of all axes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.buttons = {letter: self._button(letter, meaning) for letter, meaning in _MEANINGS.items()}
        self.axes_button = QPushButton("Axes…")
        self.axes_button.setToolTip("Choose the letter of each axis: Z, Y, X, T (time) or C (channels).")
        self.axes_button.setAccessibleName("Choose the letter of each axis")
        self.axes_button.clicked.connect(self.details)
        row = QHBoxLayout()
        for button in (*self.buttons.values(), self.axes_button):
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.sentence)
        column.addLayout(row)

    def ask(self, layer: Any) -> None:
        """Show the question for a stack.

        Parameters
        ----------
        layer
            Image layer of at least three axes without labels.
        """
        simple = layer.ndim == 3
        # The colours of an RGB image are its channels.
        letters = [letter for letter in _MEANINGS if simple and not (letter == "C" and layer.rgb)]
        choices = "Z, T (time) or C (channels)" if "C" in letters else "Z or T (time)"
        question = f"is the first axis {choices}?" if simple else "what are they?"
        self.sentence.setText(f"The axes of this stack are not labelled: {question}")
        for letter, button in self.buttons.items():
            button.setVisible(letter in letters)
        self.axes_button.setVisible(not simple)

    def _button(self, letter: str, meaning: str) -> QPushButton:
        button = QPushButton(letter)
        button.setToolTip(f"The first axis is {meaning}. The layer then has this label.")
        button.setAccessibleName(f"The first axis is {letter}, {meaning}")
        button.clicked.connect(lambda: self.answered.emit(letter))
        return button
