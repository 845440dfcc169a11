"""Editors for the values of settings, made from the type annotations of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from napari_siren.ui.widgets.number_box import Limits, NumberBox, number_text

NUMBER_CHOICE = "value"
"""Text of the entry of a combo box for a number instead of a word."""


def value_text(value: Any) -> str:
    """Return the value of a setting as text, the same as the editors show it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, tuple):
        return ", ".join(map(value_text, value))
    return "none" if value is None else str(value)


class Editor(QWidget):
    """A widget to show and change a value; the base of the editors below.

    Parameters
    ----------
    inner
        The widgets of the editor. The first one gets the keyboard focus.
    vertical
        Whether the widgets are arranged vertically.
    limits
        Bounds of the number, if the editor has one.
    """

    edited = Signal()
    """The user has changed the value. Code that sets the value blocks the signals of the editor."""

    def __init__(self, *inner: QWidget, vertical: bool = False, limits: Limits | None = None) -> None:
        super().__init__()
        self.limits = limits or Limits()
        layout = QVBoxLayout(self) if vertical else QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for widget in inner:
            # The last widget takes the available width, and a long text in it does not widen the editor.
            policy = QSizePolicy.Policy.Ignored if vertical or widget is inner[-1] else QSizePolicy.Policy.Fixed
            widget.setSizePolicy(policy, QSizePolicy.Policy.Fixed)
            layout.addWidget(widget)
        self.setFocusProxy(inner[0])

    def value(self) -> Any:
        """Return the value in the editor."""
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        """Show a value."""
        raise NotImplementedError


class SwitchEditor(Editor):
    """A check box for a bool."""

    def __init__(self) -> None:
        self.box = QCheckBox()
        super().__init__(self.box)
        self.box.toggled.connect(self.edited)

    def value(self) -> bool:
        """Return whether the box is checked."""
        return bool(self.box.isChecked())

    def set_value(self, value: bool) -> None:
        """Check or uncheck the box."""
        self.box.setChecked(value)


class NumberEditor(Editor):
    """A spin box for a number.

    Parameters
    ----------
    number
        The spin box.
    """

    def __init__(self, number: NumberBox) -> None:
        self.number = number
        super().__init__(number, limits=number.limits)
        number.edited.connect(self.edited)

    def value(self) -> Any:
        """Return the number."""
        return self.number.value()

    def set_value(self, value: float) -> None:
        """Show a number."""
        self.number.set_value(value)


class OptionalEditor(Editor):
    """A check box and a spin box for a number or None. The check box enables the spin box.

    Parameters
    ----------
    number
        The spin box.
    """

    def __init__(self, number: NumberBox) -> None:
        self.number = number
        self.box = QCheckBox()
        self.box.setAccessibleName("set")
        # Beside the check box there is no room for both the digits and the buttons. The arrow keys work without them.
        number.setButtonSymbols(NumberBox.ButtonSymbols.NoButtons)
        super().__init__(self.box, number, limits=number.limits)
        self.box.toggled.connect(self._switch)
        number.edited.connect(self.edited)
        self._switch()

    def value(self) -> Any:
        """Return the number, or None."""
        return self.number.value() if self.box.isChecked() else None

    def set_value(self, value: float | None) -> None:
        """Show a number, or None."""
        if value is not None:
            self.number.set_value(value)
        self.box.setChecked(value is not None)

    def _switch(self) -> None:
        is_set = self.box.isChecked()
        self.number.setEnabled(is_set)
        self.number.set_blank(None if is_set else value_text(None))
        self.edited.emit()


class ChoiceEditor(Editor):
    """A combo box of words, with an optional spin box for a number below it.

    Parameters
    ----------
    words
        The values to choose from: those of a `Literal`, and None.
    number
        The spin box, visible only while the number is chosen. None if the setting cannot be a number.
    """

    def __init__(self, words: Sequence[Any], number: NumberBox | None = None) -> None:
        self.words = tuple(words)
        self.number = number
        self.combo = _ComboBox()
        self.combo.addItems([value_text(word) for word in self.words])
        if number is None:
            super().__init__(self.combo)
        else:
            self.combo.addItem(NUMBER_CHOICE)
            super().__init__(self.combo, number, vertical=True, limits=number.limits)
            number.edited.connect(self.edited)
        self.combo.currentIndexChanged.connect(self._choose)
        self._choose()

    def value(self) -> Any:
        """Return the chosen word, or the number."""
        index = self.combo.currentIndex()
        if self.number is not None and index == len(self.words):
            return self.number.value()
        return self.words[index]

    def set_value(self, value: Any) -> None:
        """Choose a word, or show a number."""
        if value in self.words:
            self.combo.setCurrentIndex(self.words.index(value))
        elif self.number is not None:
            self.number.set_value(value)
            self.combo.setCurrentIndex(len(self.words))

    def _choose(self) -> None:
        if self.number is not None:
            self.number.setVisible(self.combo.currentIndex() == len(self.words))
        self.edited.emit()


class LengthsEditor(Editor):
    """A line of text for a word, a number, or one number per axis, separated by commas. Empty is None.

    Parameters
    ----------
    words
        Valid words besides numbers.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.line = QLineEdit()
        self.line.setPlaceholderText(value_text(None))
        super().__init__(self.line)
        self.line.editingFinished.connect(self.edited)

    def value(self) -> Any:
        """Return the word, the number, the tuple of numbers, or None.

        Any other text is returned as it is. The settings then refuse it.
        """
        text = self.line.text().strip()
        if not text or text in self.words:
            return text or None
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            return text
        return numbers if len(numbers) > 1 else numbers[0]

    def set_value(self, value: Any) -> None:
        """Show a value of the types of `value()`."""
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        # Numbers are shown with all digits, so that the text is exactly the value in use.
        self.line.setText(", ".join(v if isinstance(v, str) else repr(v) for v in values))


class TextEditor(Editor):
    """An editable combo box for a text: a suggested word, or any other text such as a path. Empty and "none" are None.

    Parameters
    ----------
    words
        The words to choose from: texts, and None.
    """

    def __init__(self, words: Sequence[str | None]) -> None:
        self.combo = _ComboBox()
        self.combo.setEditable(True)
        self.combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        # A path must not be completed to a word.
        self.combo.setCompleter(None)
        self.combo.addItems([value_text(word) for word in words])
        super().__init__(self.combo)
        self._reported = self.value()
        self.combo.activated.connect(self._report)
        self._line().editingFinished.connect(self._report)

    def value(self) -> str | None:
        """Return the text, or None."""
        text = self.combo.currentText().strip()
        return None if text in ("", value_text(None)) else text

    def set_value(self, value: str | None) -> None:
        """Show a text, or None."""
        text = value_text(value)
        self.combo.setCurrentIndex(self.combo.findText(text))
        self.combo.setEditText(text)
        # The beginning of a long path is more useful than its end.
        self._line().setCursorPosition(0)
        self._reported = self.value()

    def _line(self) -> QLineEdit:
        line = self.combo.lineEdit()
        assert line is not None
        return line

    def _report(self) -> None:
        # The key Return, and the loss of the focus, need not be a change.
        if self.value() != self._reported:
            self._reported = self.value()
            self.edited.emit()


class _ComboBox(QComboBox):
    """A combo box for a scrolling panel. Without the focus it passes the wheel to the panel."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: Any) -> None:
        """Handle the wheel only if this box has the focus."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


def make_editor(
    annotation: Any, metadata: Sequence[Any] = (), start: float = 1, suggestions: Sequence[str] = ()
) -> Editor:
    """Return an editor for a setting.

    Parameters
    ----------
    annotation
        bool, int, float, str, a `Literal`, or a union of an int or a float, `Literal`s and None, or of str and None;
        each may be `Annotated`. If the union has a tuple of numbers, the editor is a line of text.
    metadata
        Bounds of the number, as metadata of a pydantic field.
    start
        First number if the user chooses a number instead of a word or None.
    suggestions
        Words to choose from if the value is any text.

    Raises
    ------
    TypeError
        There is no editor for this type.
    """
    if annotation is bool:
        return SwitchEditor()
    words: list[Any] = []
    number: NumberBox | None = None
    members = list(_members(annotation, tuple(metadata)))
    if any(get_origin(member) is tuple for member, _ in members):
        return LengthsEditor([word for member, _ in members for word in get_args(member) if isinstance(word, str)])
    if {member for member, _ in members} in ({str}, {str, NoneType}):
        return TextEditor([*suggestions, *(None for member, _ in members if member is NoneType)])
    for member, bounds in members:
        if get_origin(member) is Literal:
            words.extend(get_args(member))
        elif member is NoneType:
            words.append(None)
        elif member in (int, float) and number is None:
            number = NumberBox(member, Limits.from_metadata(bounds), start)
        else:
            raise TypeError(f"there is no editor for {annotation}")
    if number is None:
        return ChoiceEditor(words)
    if not words:
        return NumberEditor(number)
    return OptionalEditor(number) if words == [None] else ChoiceEditor(words, number)


def _members(annotation: Any, metadata: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield each type of a union with its metadata."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member, metadata)
    elif origin is Annotated:
        member, *own = get_args(annotation)
        yield from _members(member, (*metadata, *own))
    else:
        yield annotation, metadata
