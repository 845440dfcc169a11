"""`NumberBox`: a spin box for numbers of any size, without rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QAbstractSpinBox, QStyle, QStyleOptionSpinBox

from napari_siren.errors import InputError

# Text for each kind of bound of pydantic.
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
# Smallest step of a float, as a power of ten.
_SMALLEST_STEP = -6
# First step of a float from 0, as a power of ten.
_STEP_FROM_ZERO = -2


@dataclass(frozen=True)
class Limits:
    """The bounds of a number, with the names of pydantic.

    Parameters
    ----------
    ge, gt, le, lt
        The number must be at least, above, at most, or below this value; None is no bound.

    Examples
    --------
    >>> str(Limits(gt=0, le=2.0))
    'above 0, at most 2'
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    @classmethod
    def from_metadata(cls, metadata: Iterable[Any]) -> Limits:
        """Return the bounds in the metadata of a pydantic field, or of an `Annotated` type."""
        parts = [part for item in metadata for part in getattr(item, "metadata", (item,))]
        bounds = {name: getattr(part, name, None) for part in parts for name in _BOUNDS if hasattr(part, name)}
        return cls(**bounds)

    def allow(self, number: float) -> bool:
        """Return whether a number is within the bounds. NaN never is."""
        return (
            (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
            and not math.isnan(number)
        )

    def clamp(self, number: float) -> float:
        """Return the nearest number between the bounds. The result may equal a bound that is itself excluded."""
        low, high = self._ends()
        return min(max(number, low), high)

    def number_near(self, wanted: float) -> float:
        """Return `wanted` if it is within the bounds, or else a number at a bound or between the bounds."""
        low, high = self._ends()
        candidates = (wanted, low, high, low + 1, high - 1, (low + high) / 2)
        return next(number for number in candidates if math.isfinite(number) and self.allow(number))

    def _ends(self) -> tuple[float, float]:
        lows = [bound for bound in (self.ge, self.gt) if bound is not None]
        highs = [bound for bound in (self.le, self.lt) if bound is not None]
        return max(lows, default=-math.inf), min(highs, default=math.inf)

    def __str__(self) -> str:
        bounds = ((words, getattr(self, name)) for name, words in _BOUNDS.items())
        return ", ".join(f"{words} {number_text(bound)}" for words, bound in bounds if bound is not None)


def number_text(number: float) -> str:
    """Return the shortest exact text of a number. It can be converted back to the same number.

    Examples
    --------
    >>> number_text(30.0), number_text(1e-4), number_text(1e-9), number_text(2**40)
    ('30', '0.0001', '1e-09', '1099511627776')
    """
    has_plain_text = number == 0 or 1e-6 <= abs(number) < 1e16
    if isinstance(number, int) or not has_plain_text:
        return str(number)
    return format(Decimal(repr(number)), "f").removesuffix(".0")


class NumberBox(QAbstractSpinBox):
    """A spin box for an int or a float. Its steps grow and shrink with the number.

    Qt's own spin boxes hold 32 bits, or a fixed number of decimals. The mouse wheel changes this box only while it has
    the focus, so that scrolling a panel changes no value.

    Parameters
    ----------
    kind
        `int` or `float`.
    limits
        Bounds of the number.
    start
        First number in the box. If the bounds forbid it, another number within the bounds is used.
    parent
        Parent widget.
    """

    edited = Signal()
    """The user has changed the number. A typed number counts once the typing is finished."""

    def __init__(
        self, kind: type[int] | type[float], limits: Limits | None = None, start: float = 1, parent: Any = None
    ) -> None:
        super().__init__(parent)
        self.limits = limits or Limits()
        self._kind = kind
        self._number = kind(self.limits.number_near(start))
        self._blank = False
        self.setKeyboardTracking(False)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        # The wide margins of napari's style sheet would leave no room for a number in a narrow panel.
        self.setStyleSheet("QAbstractSpinBox { padding: 0px 2px; min-width: 30px; }")
        self.editingFinished.connect(self._finish)
        self._show_number()

    def value(self) -> Any:
        """Return the number in the box, or the last valid one if the text is not a valid number."""
        number = self._parse(self.lineEdit().text())
        return self._number if number is None else number

    def set_value(self, number: float) -> None:
        """Show a number. This does not emit `edited`.

        Raises
        ------
        InputError
            The number is out of bounds.
        """
        if not self.limits.allow(number):
            raise InputError(f"{number_text(number)} is out of range: {self.limits}.")
        self._number = self._kind(number)
        self._show_number()

    def set_blank(self, text: str | None) -> None:
        """Show a grey text instead of the number, without changing the number. None shows the number again."""
        self._number = self.value()
        self._blank = text is not None
        self.lineEdit().setPlaceholderText(text or "")
        self._show_number()

    # ---- methods of Qt -------------------------------------------------------------------------------

    def stepBy(self, steps: int) -> None:
        """Increase or decrease the number by some steps."""
        new = self._stepped(steps)
        changed = new != self._number
        self._number = new
        self._show_number()
        self.lineEdit().selectAll()
        if changed:
            self.edited.emit()

    def stepEnabled(self) -> Any:
        """Return flags for the two buttons: a button is enabled if it would change the number."""
        current = self.value()
        flags = QAbstractSpinBox.StepEnabledFlag.StepNone
        if self._stepped(1) != current:
            flags |= QAbstractSpinBox.StepEnabledFlag.StepUpEnabled
        if self._stepped(-1) != current:
            flags |= QAbstractSpinBox.StepEnabledFlag.StepDownEnabled
        return flags

    def validate(self, text: str, position: int) -> tuple[Any, str, int]:
        """Return whether a text is a number within the bounds, or may become one by more typing."""
        if self._parse(text) is not None:
            return QValidator.State.Acceptable, text, position
        characters = "+-0123456789" + (".,eE" if self._kind is float else "")
        is_possible = set(text.strip()) <= set(characters)
        return (QValidator.State.Intermediate if is_possible else QValidator.State.Invalid), text, position

    def wheelEvent(self, event: Any) -> None:
        """Handle the wheel only if this box has the focus. Otherwise the panel around it scrolls."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def sizeHint(self) -> QSize:
        """Return a size with room for the number."""
        return self._size_for(max(len(self.lineEdit().text()), 7))

    def minimumSizeHint(self) -> QSize:
        """Return a size with room for a short number."""
        return self._size_for(4)

    # ---- private methods -----------------------------------------------------------------------------

    def _size_for(self, characters: int) -> QSize:
        self.ensurePolished()
        width = self.fontMetrics().horizontalAdvance("0" * characters) + 4
        option = QStyleOptionSpinBox()
        self.initStyleOption(option)
        contents = QSize(width, self.lineEdit().sizeHint().height())
        return self.style().sizeFromContents(QStyle.ContentsType.CT_SpinBox, option, contents, self)

    def _show_number(self) -> None:
        self.lineEdit().setText("" if self._blank else number_text(self._number))
        self.lineEdit().setCursorPosition(0)
        self.update()

    def _parse(self, text: str) -> float | None:
        try:
            number = self._kind(text.replace(",", "."))
        except ValueError:
            return None
        return number if self.limits.allow(number) else None

    def _finish(self) -> None:
        number = self.value()
        changed = number != self._number
        self._number = number
        self._show_number()
        if changed:
            self.edited.emit()

    def _stepped(self, steps: int) -> Any:
        old = self.value()
        exact = Decimal(repr(old))
        exponent = exact.adjusted() - 1 if exact else _STEP_FROM_ZERO
        if exact * steps < 0 and exact.normalize().as_tuple().digits == (1,):
            # Below 0.01 the steps are 0.0001. A step down from 0.01 therefore has this size, too.
            exponent -= 1
        step = Decimal(1).scaleb(max(exponent, 0 if self._kind is int else _SMALLEST_STEP))
        new = self.limits.clamp(self._kind(exact + steps * step))
        return self._kind(new) if self.limits.allow(new) else old
