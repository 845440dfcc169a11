"""Tests of the spin box for numbers: exact values, bounds, and no changes by scrolling."""

from __future__ import annotations

import math
from typing import Annotated, Any

import pytest
from annotated_types import Gt
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QApplication

from napari_siren.errors import InputError
from napari_siren.ui.widgets.number_box import Limits, NumberBox, number_text

BUTTONS = QAbstractSpinBox.StepEnabledFlag


@pytest.fixture
def box(qtbot: Any) -> NumberBox:
    """A box for a share: above 0, and at most 1."""
    widget = NumberBox(float, Limits(gt=0, le=1), start=0.25)
    qtbot.addWidget(widget)
    return widget


def type_into(qtbot: Any, box: NumberBox, text: str) -> None:
    box.selectAll()
    qtbot.keyClicks(box, text)


def turn_wheel(widget: Any) -> bool:
    """Turn the wheel up over a widget, and return whether the widget accepted the event."""
    event = QWheelEvent(
        QPointF(widget.rect().center()),
        QPointF(widget.mapToGlobal(widget.rect().center())),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    event.setAccepted(True)
    QApplication.sendEvent(widget, event)
    return bool(event.isAccepted())


# ---- numbers as text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0001, "0.0001"),
        (0.00001, "0.00001"),
        (1e-9, "1e-09"),
        (30.0, "30"),
        (0.0, "0"),
        (0.5, "0.5"),
        (100.0, "100"),
        (math.inf, "inf"),
        (10, "10"),
        (8 * 2**30, "8589934592"),
    ],
)
def test_numbers_are_written_without_zeros_that_say_nothing(number: float, text: str) -> None:
    assert number_text(number) == text


@given(st.floats(allow_nan=False))
def test_what_is_written_is_the_number_exactly(number: float) -> None:
    assert float(number_text(number)) == number


# ---- limits ------------------------------------------------------------------------------------------


class Model(BaseModel):
    share: float = Field(0.5, gt=0, le=1)
    free: int = 0


def test_limits_are_read_from_pydantic() -> None:
    assert Limits.from_metadata(Model.model_fields["share"].metadata) == Limits(gt=0, le=1)
    assert Limits.from_metadata(Model.model_fields["free"].metadata) == Limits()
    assert Limits.from_metadata([Field(ge=4), Gt(1)]) == Limits(ge=4, gt=1)
    assert Limits.from_metadata(Annotated[int, Field(ge=4, lt=9)].__metadata__) == Limits(ge=4, lt=9)


def test_limits_in_words() -> None:
    assert str(Limits(ge=0, lt=0.5)) == "at least 0, below 0.5"
    assert str(Limits()) == ""


def test_what_is_no_number_is_within_no_limits() -> None:
    assert not Limits().allow(math.nan)
    assert Limits().allow(math.inf)


@pytest.mark.parametrize(
    ("limits", "number"),
    [
        (Limits(), 3),
        (Limits(ge=5), 5),
        (Limits(gt=5), 6),
        (Limits(le=1), 1),
        (Limits(lt=1), 0),
        (Limits(gt=0, le=0.5), 0.5),
        (Limits(gt=0, lt=0.5), 0.25),
    ],
)
def test_there_is_a_number_to_begin_with_within_all_limits(limits: Limits, number: float) -> None:
    assert limits.number_near(3) == number


# ---- the box -----------------------------------------------------------------------------------------


def test_no_number_is_rounded(qtbot: Any) -> None:
    box = NumberBox(float)
    qtbot.addWidget(box)

    @given(st.floats(allow_nan=False))
    def check(number: float) -> None:
        box.set_value(number)
        assert box.value() == number

    check()


def test_ints_may_be_of_any_size(qtbot: Any) -> None:
    box = NumberBox(int, Limits(ge=1))
    qtbot.addWidget(box)

    @given(st.integers(1))
    def check(number: int) -> None:
        box.set_value(number)
        assert box.value() == number
        assert type(box.value()) is int

    check()


def test_a_number_out_of_bounds_is_refused_in_words(box: NumberBox) -> None:
    with pytest.raises(InputError, match="0 is out of range: above 0, at most 1"):
        box.set_value(0)
    with pytest.raises(InputError, match="nan"):
        box.set_value(math.nan)
    assert box.value() == 0.25


def test_what_is_typed_is_told_once_when_it_is_finished(qtbot: Any, box: NumberBox) -> None:
    assert not box.keyboardTracking()
    told: list[float] = []
    box.edited.connect(lambda: told.append(box.value()))
    type_into(qtbot, box, "0.0625")
    assert told == []
    qtbot.keyClick(box, Qt.Key.Key_Return)
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert told == [0.0625]


def test_what_is_being_typed_counts_already(qtbot: Any, box: NumberBox) -> None:
    type_into(qtbot, box, "0.5")
    assert box.value() == 0.5


@pytest.mark.parametrize(("typed", "number"), [("1e-5", 1e-5), ("0,5", 0.5), (".5", 0.5), ("abc", 0.25)])
def test_ways_to_type(qtbot: Any, box: NumberBox, typed: str, number: float) -> None:
    type_into(qtbot, box, typed)
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert box.value() == number
    assert box.text() == number_text(number)


@pytest.mark.parametrize("typed", ["0", "1.5", "-1", "1e", "--"])
def test_what_is_typed_out_of_bounds_gives_way_to_the_last_number(qtbot: Any, box: NumberBox, typed: str) -> None:
    told: list[float] = []
    box.edited.connect(lambda: told.append(box.value()))
    type_into(qtbot, box, typed)
    assert box.text() == typed
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert (box.value(), box.text(), told) == (0.25, "0.25", [])


def test_ints_take_no_fractions(qtbot: Any) -> None:
    box = NumberBox(int, start=7)
    qtbot.addWidget(box)
    type_into(qtbot, box, "1.5e")
    assert box.text() == "15"


@pytest.mark.parametrize(
    ("kind", "limits", "number", "steps", "wanted"),
    [
        (float, Limits(), 0.0001, 1, 0.00011),
        (float, Limits(), 0.0001, -1, 0.000099),
        (float, Limits(), 30.0, 1, 31.0),
        (float, Limits(), 0.1, 2, 0.12),
        (float, Limits(), 0.123456, 1, 0.133456),
        (float, Limits(), 0.0, 1, 0.01),
        (float, Limits(), 0.0, -1, -0.01),
        (float, Limits(ge=0), 0.000001, -1, 0.0),
        (float, Limits(gt=0), 0.000001, -1, 0.000001),
        (float, Limits(lt=1), 0.99, 1, 0.99),
        (float, Limits(le=1), 0.95, 10, 1.0),
        (float, Limits(), math.inf, 1, math.inf),
        (int, Limits(), 7, 1, 8),
        (int, Limits(), 0, 1, 1),
        (int, Limits(), 400, 1, 410),
        (int, Limits(), 100, -1, 99),
        (int, Limits(ge=1), 3, -10, 1),
        (int, Limits(), 8589934592, 1, 8689934592),
    ],
)
def test_steps_are_of_the_size_of_the_number(
    qtbot: Any, kind: Any, limits: Limits, number: float, steps: int, wanted: float
) -> None:
    box = NumberBox(kind, limits)
    qtbot.addWidget(box)
    box.set_value(number)
    told: list[float] = []
    box.edited.connect(lambda: told.append(box.value()))
    box.stepBy(steps)
    assert box.value() == wanted
    assert told == ([] if wanted == number else [wanted])


def test_buttons_that_would_do_nothing_are_off(box: NumberBox) -> None:
    assert box.stepEnabled() == BUTTONS.StepUpEnabled | BUTTONS.StepDownEnabled
    box.set_value(1)
    assert box.stepEnabled() == BUTTONS.StepDownEnabled


def test_a_step_goes_on_from_what_is_typed(qtbot: Any, box: NumberBox) -> None:
    type_into(qtbot, box, "0.5")
    qtbot.keyClick(box, Qt.Key.Key_Up)
    assert box.value() == 0.51


def test_blank_hides_the_number_and_keeps_it(box: NumberBox) -> None:
    box.set_blank("none")
    assert (box.text(), box.lineEdit().placeholderText(), box.value()) == ("", "none", 0.25)
    box.set_value(0.5)
    assert box.text() == ""
    box.set_blank(None)
    assert (box.text(), box.value()) == ("0.5", 0.5)


def test_the_wheel_counts_only_with_the_focus(qtbot: Any, box: NumberBox, monkeypatch: pytest.MonkeyPatch) -> None:
    box.show()
    monkeypatch.setattr(box, "hasFocus", lambda: False)
    assert not turn_wheel(box)
    assert box.value() == 0.25
    monkeypatch.setattr(box, "hasFocus", lambda: True)
    assert turn_wheel(box)
    assert box.value() == 0.26
    assert box.focusPolicy() == Qt.FocusPolicy.StrongFocus
