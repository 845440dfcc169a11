"""Tests of the editors: their choice by the annotation, and one signal for each change by the user."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

import pytest
from annotated_types import Ge, Le
from pydantic import Field
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import ConfigError
from napari_siren.ui.widgets.number_box import Limits
from napari_siren.ui.widgets.setting_editors import (
    ChoiceEditor,
    Editor,
    NumberEditor,
    OptionalEditor,
    SwitchEditor,
    TextEditor,
    make_editor,
    value_text,
)

BOUNDS = (Ge(0), Le(9))
WORDS = Literal["auto", "whole"]


def editor_of(qtbot: Any, annotation: Any, metadata: Any = (), start: float = 1) -> tuple[Editor, list[Any]]:
    """Return an editor, and the list of its values after each signal."""
    editor = make_editor(annotation, metadata, start)
    qtbot.addWidget(editor)
    told: list[Any] = []
    editor.edited.connect(lambda: told.append(editor.value()))
    return editor, told


@pytest.mark.parametrize(
    ("annotation", "kind", "values"),
    [
        (bool, SwitchEditor, [True, False]),
        (int, NumberEditor, [3, 0]),
        (float, NumberEditor, [0.123456, 1e-5]),
        (WORDS, ChoiceEditor, ["whole", "auto"]),
        (WORDS | None, ChoiceEditor, ["whole", None]),
        (Literal[2, 4], ChoiceEditor, [4, 2]),
        (int | None, OptionalEditor, [3, None, 4]),
        (Optional[float], OptionalEditor, [None, 0.5]),  # noqa: UP045
        (int | WORDS, ChoiceEditor, ["whole", 5, "auto"]),
        (float | WORDS | None, ChoiceEditor, [None, 0.25, "auto"]),
        (str, TextEditor, ["auto", "a/path"]),
        (str | None, TextEditor, ["auto", None, "a/path"]),
    ],
)
def test_each_type_of_value_has_its_editor(qtbot: Any, annotation: Any, kind: type[Editor], values: list[Any]) -> None:
    editor, _ = editor_of(qtbot, annotation, BOUNDS)
    assert type(editor) is kind
    for value in values:
        editor.set_value(value)
        assert editor.value() == value
        assert type(editor.value()) is type(value)


@pytest.mark.parametrize("annotation", [list[int], int | float, bool | None, int | str])
def test_other_types_have_none(annotation: Any) -> None:
    with pytest.raises(TypeError, match="no editor"):
        make_editor(annotation)


def test_bounds_are_those_of_the_number_wherever_they_stand(qtbot: Any) -> None:
    for annotation, metadata in [
        (float, BOUNDS),
        (float | None, BOUNDS),
        (Annotated[int, Field(ge=0, le=9)] | WORDS, ()),
        (Annotated[int | WORDS, Ge(0)], (Le(9),)),
    ]:
        editor, _ = editor_of(qtbot, annotation, metadata)
        assert editor.limits == Limits(ge=0, le=9)


def test_a_click_switches(qtbot: Any) -> None:
    editor, told = editor_of(qtbot, bool)
    editor.box.click()
    assert told == [True]


def test_a_number_is_told_once_it_is_typed(qtbot: Any) -> None:
    editor, told = editor_of(qtbot, float)
    editor.number.selectAll()
    qtbot.keyClicks(editor.number, "0.5")
    qtbot.keyClick(editor.number, Qt.Key.Key_Return)
    assert told == [0.5]


def test_a_word_is_chosen_by_keyboard(qtbot: Any) -> None:
    editor, told = editor_of(qtbot, WORDS)
    qtbot.keyClick(editor.combo, Qt.Key.Key_Down)
    assert told == ["whole"]


def test_none_is_switched_off_and_on(qtbot: Any) -> None:
    editor, told = editor_of(qtbot, float | None, BOUNDS, start=6)
    editor.set_value(None)
    assert not editor.number.isEnabled()
    assert (editor.number.text(), editor.number.lineEdit().placeholderText()) == ("", "none")
    editor.box.click()
    assert editor.number.isEnabled()
    assert editor.number.text() == "6"
    editor.box.click()
    assert told == [6, None]


def test_the_number_is_shown_only_in_place_of_a_word(qtbot: Any) -> None:
    editor, told = editor_of(qtbot, int | WORDS, start=64)
    editor.show()
    assert not editor.number.isVisible()
    qtbot.keyClick(editor.combo, Qt.Key.Key_End)
    assert editor.number.isVisible()
    assert told == [64]
    qtbot.keyClick(editor.number, Qt.Key.Key_Up)
    assert told == [64, 65]
    editor.set_value("auto")
    assert not editor.number.isVisible()


def test_the_wheel_changes_no_word_without_the_focus(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    editor, told = editor_of(qtbot, WORDS)
    editor.show()
    combo = editor.combo
    assert combo.focusPolicy() == Qt.FocusPolicy.StrongFocus
    for focus, wanted in ((False, []), (True, ["whole"])):
        monkeypatch.setattr(combo, "hasFocus", lambda focus=focus: focus)
        event = QWheelEvent(
            QPointF(5, 5),
            QPointF(combo.mapToGlobal(QPoint(5, 5))),
            QPoint(),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        event.setAccepted(True)
        QApplication.sendEvent(combo, event)
        assert event.isAccepted() == focus
        assert told == wanted


def test_long_words_do_not_widen_the_panel(qtbot: Any) -> None:
    short, _ = editor_of(qtbot, Literal["a"])
    long, _ = editor_of(qtbot, Literal["a", "a word that is far too long for any panel beside an image"])
    assert long.minimumSizeHint() == short.minimumSizeHint()


def test_values_in_words() -> None:
    assert [value_text(v) for v in (True, False, None, "auto", 3, 0.0001)] == [
        "on",
        "off",
        "none",
        "auto",
        "3",
        "0.0001",
    ]


@pytest.mark.parametrize("value", [None, "auto", 0.25, (0.9, 0.25, 0.25)])
def test_lengths_come_back(qtbot: Any, value: Any) -> None:
    editor = make_editor(FitConfig.model_fields["psf_width"].annotation)
    qtbot.addWidget(editor)
    editor.set_value(value)
    assert editor.value() == value


def test_lengths_are_typed(qtbot: Any) -> None:
    editor = make_editor(FitConfig.model_fields["psf_width"].annotation)
    qtbot.addWidget(editor)
    with qtbot.waitSignal(editor.edited):
        qtbot.keyClicks(editor.line, " 0.9,.25 , 0.25")
        qtbot.keyClick(editor.line, Qt.Key.Key_Return)
    assert editor.value() == (0.9, 0.25, 0.25)
    editor.line.setText("wide")
    with pytest.raises(ConfigError, match="psf_width"):
        FitConfig(observation="gaussian", psf_width=editor.value())


def text_editor(qtbot: Any) -> tuple[Any, list[Any]]:
    editor = make_editor(FitConfig.model_fields["pretrained"].annotation, suggestions=["auto", "general"])
    qtbot.addWidget(editor)
    values: list[Any] = []
    editor.edited.connect(lambda: values.append(editor.value()))
    return editor, values


def test_words_are_suggested_for_a_text(qtbot: Any) -> None:
    editor, values = text_editor(qtbot)
    assert [editor.combo.itemText(i) for i in range(editor.combo.count())] == ["auto", "general", "none"]
    for _ in range(2):
        qtbot.keyClick(editor.combo, Qt.Key.Key_Down)
    assert values == ["general", None]


def test_a_path_is_typed_or_pasted(qtbot: Any) -> None:
    editor, values = text_editor(qtbot)
    editor.set_value("general")
    line = editor.combo.lineEdit()
    line.selectAll()
    qtbot.keyClicks(line, "a b/general.safetensors ")
    assert editor.value() == "a b/general.safetensors"
    qtbot.keyClick(line, Qt.Key.Key_Return)
    line.selectAll()
    QApplication.clipboard().setText("/g")
    line.paste()
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert values == ["a b/general.safetensors", "/g"]
    assert editor.combo.count() == 3


@pytest.mark.parametrize("text", ["", " none "])
def test_no_text_is_none(qtbot: Any, text: str) -> None:
    editor, values = text_editor(qtbot)
    for typed in (text, "auto"):
        line = editor.combo.lineEdit()
        line.selectAll()
        qtbot.keyClick(line, Qt.Key.Key_Delete)
        qtbot.keyClicks(line, typed)
        qtbot.keyClick(line, Qt.Key.Key_Return)
    assert values == [None, "auto"]


def test_the_first_word_is_chosen_again_after_a_path(qtbot: Any) -> None:
    editor, values = text_editor(qtbot)
    editor.set_value("a/path")
    qtbot.keyClick(editor.combo, Qt.Key.Key_Down)
    assert values == ["auto"]
