"""`DataDialog`: the dialog for the axes, the pixel size and the unit of a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pint
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_siren.errors import InputError
from napari_siren.ui.logic.layer_axes import (
    LETTERS,
    axis_letters,
    axis_names,
    has_names,
    layer_state,
    parse_unit,
    units_text,
)
from napari_siren.ui.widgets.wheel_guard import WheelGuard

# Units to choose from. Other units of length can be typed.
_UNITS = ("pixel", "nm", "µm", "mm", "cm", "m")
# Digits of the pixel sizes in the dialog: more than microscopes state, but without the rounding errors of float64.
_DIGITS = 9
# Bounds of a pixel size in any unit. napari draws layers within them.
_SMALLEST, _LARGEST = 1e-12, 1e12
# Largest number of characters of a typed number or unit.
_CHARACTERS = 24
# Width of the dialog in pixels, and lines of a message with this width.
_WIDTH, _LINES = 360, 3
_HELP = "Z, Y and X are axes in space, T is time, and C is channels."
# Axes without a pixel size.
_NOT_IN_SPACE = {"T": "time", "C": "channels"}


class DataDialog(QDialog):
    """A dialog for the letters of the axes of an image layer, the pixel sizes, and their unit.

    The layer changes only in `apply`, and only in what the user has changed.

    Parameters
    ----------
    layer
        Image layer of napari.
    parent
        Window below the dialog.
    """

    def __init__(self, layer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("What the data is")
        self.layer = layer
        self._letters = axis_letters(layer)
        self._sizes = [size_text(abs(float(size))) for size in layer.scale]
        self._unit = units_text([layer.units[axis] for axis in _in_space(self._letters)] or list(layer.units))
        units = {layer.units[axis] for axis in _in_space(self._letters)}
        self._common_unit = units.pop() if len(units) == 1 else None
        names = axis_names(layer) if has_names(layer) else ("",) * layer.ndim
        shape = (layer.data[0] if layer.multiscale else layer.data).shape

        title = QLabel(f"“{layer.name}”" + (", a colour image" if layer.rgb else ""))
        title.setWordWrap(True)
        self.letter_boxes = [self._letter_box(axis, names[axis]) for axis in range(layer.ndim)]
        self.size_edits = [self._size_edit(axis) for axis in range(layer.ndim)]
        # Instead of a pixel size, an axis of time or channels has a note.
        self.notes = [QLabel() for _ in range(layer.ndim)]
        self.unit_box = self._make_unit_box()
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setAlignment(Qt.AlignmentFlag.AlignTop)
        # The rows above keep their places when a message has more lines than another.
        self.message.setMinimumHeight(_LINES * self.message.fontMetrics().lineSpacing())
        self.setMinimumWidth(_WIDTH)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)

        grid = QGridLayout()
        grid.setColumnStretch(2, 1)
        for column, text in enumerate(("Axis", "Pixels", "Pixel size")):
            grid.addWidget(QLabel(text), 0, column)
        for axis in range(layer.ndim):
            grid.addWidget(self.letter_boxes[axis], axis + 1, 0)
            grid.addWidget(QLabel(str(shape[axis])), axis + 1, 1)
            grid.addWidget(self.size_edits[axis], axis + 1, 2)
            grid.addWidget(self.notes[axis], axis + 1, 2)
        grid.addWidget(QLabel("Unit"), layer.ndim + 1, 1)
        grid.addWidget(self.unit_box, layer.ndim + 1, 2)
        column_layout = QVBoxLayout(self)
        column_layout.addWidget(title)
        column_layout.addLayout(grid)
        column_layout.addWidget(self.message)
        column_layout.addWidget(self.buttons)
        WheelGuard(self)
        self._check()

    @property
    def letters(self) -> list[str]:
        """The chosen letter of each axis. It is empty for an axis of another kind."""
        return [box.currentData() for box in self.letter_boxes]

    def problem(self) -> str | None:
        """Return a message for the first invalid entry, or None if all entries are valid."""
        try:
            self._check_letters()
            for axis in _in_space(self.letters):
                self._size(axis)
            if self.unit_box.currentText() != self._unit:
                parse_unit(self.unit_box.currentText())
        except InputError as error:
            return str(error)
        return None

    def apply(self) -> bool:
        """Change the layer as chosen, and return whether there was a change.

        Raises
        ------
        InputError
            A letter, a number or the unit is invalid.
        """
        message = self.problem()
        if message is not None:
            raise InputError(message)
        layer, before = self.layer, layer_state(self.layer)
        labels, units, scale = self._new_labels(), self._new_units(), self._new_scale()
        if labels != tuple(layer.axis_labels):
            layer.axis_labels = labels
        if list(map(str, units)) != list(map(str, layer.units)):
            layer.units = units
        if not np.array_equal(scale, layer.scale):
            layer.scale = scale
        return layer_state(layer) != before

    # ---- construction ----------------------------------------------------------------------------------------

    def _letter_box(self, axis: int, name: str) -> QComboBox:
        box = QComboBox()
        # A label that is no letter stays, and is shown instead of the empty letter.
        box.addItem("" if self._letters[axis] else name, "")
        for letter in LETTERS:
            box.addItem(letter, letter)
        box.setCurrentIndex(box.findData(self._letters[axis]))
        box.setToolTip(f"{_HELP} Leave it empty for anything else.")
        box.setAccessibleName(f"Letter of axis {axis + 1}")
        box.currentIndexChanged.connect(self._check)
        return box

    def _size_edit(self, axis: int) -> QLineEdit:
        edit = QLineEdit(self._sizes[axis])
        edit.setMaxLength(_CHARACTERS)
        edit.setToolTip("Distance between the centres of neighbouring pixels, for example 0.1075 or 1.5e-3.")
        edit.textChanged.connect(self._check)
        return edit

    def _make_unit_box(self) -> QComboBox:
        box = QComboBox()
        line = QLineEdit()
        line.setMaxLength(max(_CHARACTERS, len(self._unit)))
        # This makes the box editable.
        box.setLineEdit(line)
        box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        # A completer would turn a typed "m" into "mm".
        box.setCompleter(None)
        box.addItems([*([] if self._unit in _UNITS else [self._unit]), *_UNITS])
        box.setCurrentText(self._unit)
        box.setToolTip("Unit of all pixel sizes. The numbers stay when the unit changes.")
        box.setAccessibleName("Unit of the pixel sizes")
        box.currentTextChanged.connect(self._check)
        return box

    # ---- checks ----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Show the pixel sizes of the axes in space, and a message for an invalid entry."""
        letters = self.letters
        in_space = _in_space(letters)
        for axis, letter in enumerate(letters):
            edit, note = self.size_edits[axis], self.notes[axis]
            edit.setAccessibleName(f"Pixel size along {_axis_title(axis, letter)}")
            edit.setVisible(axis in in_space)
            note.setText(_NOT_IN_SPACE.get(letter, ""))
            note.setVisible(axis not in in_space)
        message = self.problem()
        self.message.setText(message or _HELP)
        self.buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(message is None)

    def _check_letters(self) -> None:
        letters = self.letters
        # Letters that the layer has already are not checked: a section along z and x has no y.
        if letters == self._letters:
            return
        for letter in LETTERS:
            if letters.count(letter) > 1:
                raise InputError(f"Two axes have the letter {letter}. Give each axis its own letter.")
        if self.layer.rgb and "C" in letters:
            raise InputError("The colours are already the channels of this image. Choose another letter instead of C.")
        missing = [letter for letter in "YX" if letter not in letters]
        if missing:
            raise InputError(f"No axis has the letter {' or '.join(missing)}. An image needs the axes Y and X.")

    def _size(self, axis: int) -> float:
        """Return the pixel size along an axis. A number that was not edited stays exactly as it was."""
        text = self.size_edits[axis].text().strip()
        if text == self._sizes[axis] and self.layer.scale[axis]:
            return abs(float(self.layer.scale[axis]))
        title = f"Pixel size along {_axis_title(axis, self.letters[axis])}"
        try:
            # Some keyboards have a comma for decimals.
            size = float(text.replace(",", "."))
        except ValueError:
            problem = f"“{text}” is not a number" if text else "The number is missing"
            raise InputError(f"{title}: {problem}. Type a number above 0, such as 0.1075.") from None
        if not (math.isfinite(size) and size > 0):
            raise InputError(f"{title}: {text} is not possible. Type a number above 0, such as 0.1075.")
        if not _SMALLEST <= size <= _LARGEST:
            raise InputError(f"{title}: {text} is too {'small' if size < 1 else 'large'}. Choose another unit.")
        return size

    # ---- the new properties of the layer -------------------------------------------------------------------------

    def _new_labels(self) -> tuple[str, ...]:
        labels, letters = tuple(self.layer.axis_labels), self.letters
        if letters == self._letters:
            return labels
        unnamed, names = not has_names(self.layer), axis_names(self.layer)
        for axis, (letter, old) in enumerate(zip(letters, self._letters, strict=True)):
            if letter and (unnamed or letter != old):
                names = (*names[:axis], letter.lower(), *names[axis + 1 :])
            elif letter != old:
                # napari's own label of an axis without a name.
                names = (*names[:axis], str(axis - len(letters)), *names[axis + 1 :])
        return names

    def _new_units(self) -> list[Any]:
        units, text = list(self.layer.units), self.unit_box.currentText()
        for axis in _in_space(self.letters):
            if text != self._unit:
                units[axis] = pint.Unit(parse_unit(text))
            elif self._letters[axis] in _NOT_IN_SPACE:
                # The axis had no unit of length before.
                units[axis] = self._common_unit or units[axis]
        return units

    def _new_scale(self) -> Any:
        scale = np.array(self.layer.scale, dtype=float)
        for axis in _in_space(self.letters):
            scale[axis] = np.copysign(self._size(axis), scale[axis])
        return scale


def _in_space(letters: Sequence[str]) -> list[int]:
    return [axis for axis, letter in enumerate(letters) if letter not in _NOT_IN_SPACE]


def _axis_title(axis: int, letter: str) -> str:
    return letter or f"axis {axis + 1}"


def size_text(size: float) -> str:
    """Return the text of a pixel size.

    Examples
    --------
    >>> size_text(0.38760000000000006), size_text(4e-9), size_text(1.0)
    ('0.3876', '4e-09', '1')
    """
    return f"{size:.{_DIGITS}g}"


def ask_data(layer: Any, parent: QWidget | None = None) -> bool:
    """Ask for the axes, the pixel sizes and the unit of a layer, and change the layer accordingly.

    Parameters
    ----------
    layer, parent
        The same as for `DataDialog`.

    Returns
    -------
    bool
        Whether the layer has changed.
    """
    dialog = DataDialog(layer, parent)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    changed = accepted and dialog.apply()
    # Otherwise the parent would keep the dialog until napari is closed.
    dialog.deleteLater()
    return changed
