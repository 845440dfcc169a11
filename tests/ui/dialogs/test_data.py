"""Tests of the dialog for the axes, the pixel sizes and the unit of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QComboBox, QDialogButtonBox, QLineEdit

from napari_siren.errors import InputError
from napari_siren.ui.dialogs.data import DataDialog, ask_data

# Numbers that a dialog with few decimals would round.
EXACT = (0.38759689922480617, -0.351351, 1 / 3)


def layer_of(*shape: int, **options: Any) -> Image:
    return Image(np.zeros(shape, dtype=np.uint8), name="golgi", **options)


def stack(**options: Any) -> Image:
    return layer_of(4, 6, 8, **{"axis_labels": ("z", "y", "x"), "units": ("um",) * 3, "scale": EXACT, **options})


@pytest.fixture
def open_dialog(qtbot: Any) -> Any:
    def open_for(layer: Image) -> DataDialog:
        dialog = DataDialog(layer)
        qtbot.addWidget(dialog)
        dialog.show()
        return dialog

    return open_for


def ok_enabled(dialog: DataDialog) -> bool:
    return bool(dialog.buttons.button(QDialogButtonBox.StandardButton.Ok).isEnabled())


def choose(dialog: DataDialog, letters: str) -> None:
    """Choose the letter of each axis. A space is an axis of another kind."""
    for box, letter in zip(dialog.letter_boxes, letters, strict=True):
        box.setCurrentIndex(box.findData(letter.strip()))


def refused(dialog: DataDialog) -> str:
    """Return the message of a dialog that cannot be accepted."""
    assert not ok_enabled(dialog)
    with pytest.raises(InputError) as raised:
        dialog.apply()
    assert dialog.message.text() == str(raised.value)
    return str(raised.value)


# ---- what it shows and leaves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        stack(),
        stack(axis_labels=("plane", "row", "column"), units=("mm", "um", "nm")),
        layer_of(4, 6, 8),
        layer_of(2, 3, 4, 6, 8, scale=(7, 1, 1e-9, 0.1 + 0.2, 123456789.123)),
        layer_of(6, 8, 3, rgb=True, axis_labels=("z", "x"), units=("furlong",) * 2),
    ],
)
def test_without_a_change_it_changes_nothing(open_dialog: Any, layer: Image) -> None:
    before = layer.axis_labels, layer.units, layer.scale.tolist()
    events: list[Any] = []
    for name in ("axis_labels", "units", "scale"):
        getattr(layer.events, name).connect(events.append)
    dialog = open_dialog(layer)
    assert ok_enabled(dialog)
    assert not dialog.apply()
    assert (layer.axis_labels, layer.units, layer.scale.tolist()) == before
    assert events == []


def test_it_shows_letters_sizes_and_unit(open_dialog: Any) -> None:
    dialog = open_dialog(stack())
    assert dialog.letters == ["Z", "Y", "X"]
    assert [edit.text() for edit in dialog.size_edits] == ["0.387596899", "0.351351", "0.333333333"]
    assert dialog.unit_box.currentText() == "µm"
    assert [box.itemText(0) for box in dialog.letter_boxes] == ["", "", ""]


def test_labels_that_are_no_letters_are_shown(open_dialog: Any) -> None:
    dialog = open_dialog(stack(axis_labels=("plane", "Y", "channel"), units=("mm", "um", "um")))
    assert [box.currentText() for box in dialog.letter_boxes] == ["plane", "Y", "C"]
    assert dialog.unit_box.currentText() == "mm, µm"


def test_time_and_channels_have_no_pixel_size(open_dialog: Any) -> None:
    layer = layer_of(3, 2, 6, 8, axis_labels=("time", "channel", "y", "x"), scale=(5, 1, 2, 2))
    dialog = open_dialog(layer)
    assert [edit.isVisible() for edit in dialog.size_edits] == [False, False, True, True]
    assert [note.text() for note in dialog.notes if note.isVisible()] == ["time", "channels"]
    dialog.size_edits[3].setText("3")
    assert dialog.apply()
    assert layer.scale.tolist() == [5, 1, 2, 3]
    assert layer.axis_labels == ("time", "channel", "y", "x")


def test_every_control_has_an_accessible_name(open_dialog: Any) -> None:
    dialog = open_dialog(stack())
    assert [edit.accessibleName() for edit in dialog.size_edits] == [f"Pixel size along {c}" for c in "ZYX"]
    assert all(box.accessibleName() for box in dialog.findChildren(QComboBox))


# ---- numbers ---------------------------------------------------------------------------------------------


def test_only_the_edited_number_changes(open_dialog: Any, qtbot: Any) -> None:
    layer = stack()
    dialog = open_dialog(layer)
    dialog.size_edits[1].clear()
    qtbot.keyClicks(dialog.size_edits[1], "0.0339123456789")
    assert dialog.apply()
    # A flipped axis stays flipped.
    assert layer.scale.tolist() == [EXACT[0], -0.0339123456789, EXACT[2]]


@pytest.mark.parametrize(("text", "size"), [("4e-3", 0.004), ("0,15", 0.15), (" 7 ", 7.0), ("1.5E-10", 1.5e-10)])
def test_numbers_can_be_typed_in_several_ways(open_dialog: Any, text: str, size: float) -> None:
    layer = stack()
    dialog = open_dialog(layer)
    dialog.size_edits[0].setText(text)
    dialog.apply()
    assert layer.scale[0] == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "Pixel size along Z: 0 is not possible. Type a number above 0, such as 0.1075."),
        ("-0.5", "-0.5 is not possible"),
        ("nan", "nan is not possible"),
        ("inf", "inf is not possible"),
        ("", "The number is missing"),
        ("0.1 um", "“0.1 um” is not a number"),
        ("1e-30", "1e-30 is too small. Choose another unit."),
        ("1e30", "1e30 is too large"),
    ],
)
def test_impossible_numbers_are_refused(open_dialog: Any, text: str, message: str) -> None:
    layer = stack()
    dialog = open_dialog(layer)
    dialog.size_edits[0].setText(text)
    assert message in refused(dialog)
    assert layer.scale.tolist() == list(EXACT)
    dialog.size_edits[0].setText("0.2")
    assert ok_enabled(dialog)
    assert "Z, Y and X are axes in space" in dialog.message.text()


def test_the_rows_keep_their_places_under_a_message(open_dialog: Any) -> None:
    dialog = open_dialog(stack())
    heights = [edit.height() for edit in dialog.size_edits]
    dialog.size_edits[0].setText("a word of 24 characters")
    QApplication.processEvents()
    assert [edit.height() for edit in dialog.size_edits] == heights


# ---- letters ---------------------------------------------------------------------------------------------


def test_letters_become_labels(open_dialog: Any) -> None:
    layer = layer_of(3, 2, 4, 6, 8)
    dialog = open_dialog(layer)
    assert dialog.letters == ["", "", "", "Y", "X"]
    choose(dialog, "TCZYX")
    assert dialog.apply()
    assert layer.axis_labels == ("t", "c", "z", "y", "x")


def test_an_axis_may_have_no_letter(open_dialog: Any) -> None:
    layer = stack(axis_labels=("Z", "row", "X"))
    dialog = open_dialog(layer)
    choose(dialog, " YX")
    assert dialog.apply()
    # Labels that were not changed stay as they are.
    assert layer.axis_labels == ("-3", "y", "X")


@pytest.mark.parametrize(
    ("letters", "message"),
    [
        ("YYX", "Two axes have the letter Y"),
        ("ZCX", "No axis has the letter Y. An image needs the axes Y and X."),
        ("ZTC", "No axis has the letter Y or X"),
    ],
)
def test_impossible_letters_are_refused(open_dialog: Any, letters: str, message: str) -> None:
    layer = stack()
    dialog = open_dialog(layer)
    choose(dialog, letters)
    assert message in refused(dialog)
    assert layer.axis_labels == ("z", "y", "x")
    choose(dialog, "TYX")
    assert ok_enabled(dialog)


def test_a_colour_image_has_no_other_channels(open_dialog: Any) -> None:
    dialog = open_dialog(layer_of(5, 6, 8, 3, rgb=True))
    choose(dialog, "CYX")
    assert "colours are already the channels" in refused(dialog)


# ---- units -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit"),
    [("nm", "nanometer"), ("um", "micrometer"), ("m", "meter"), ("px", "pixel"), ("furlong", "furlong")],
)
def test_the_unit_of_all_axes_in_space(open_dialog: Any, qtbot: Any, text: str, unit: str) -> None:
    layer = stack(axis_labels=("t", "y", "x"), units=("s", "mm", "mm"))
    dialog = open_dialog(layer)
    edit = dialog.unit_box.lineEdit()
    edit.selectAll()
    qtbot.keyClicks(edit, text)
    assert dialog.apply()
    assert list(map(str, layer.units)) == ["second", unit, unit]
    assert layer.scale.tolist() == list(EXACT)


@pytest.mark.parametrize("text", ["", "seconds", "abc", "2 um", "m/s", "(", "um^2"])
def test_other_units_are_refused(open_dialog: Any, text: str) -> None:
    dialog = open_dialog(stack())
    dialog.unit_box.setCurrentText(text)
    assert f"“{text}” is not a unit of length" in refused(dialog)
    dialog.unit_box.setCurrentText("mm")
    assert ok_enabled(dialog)


def test_an_axis_that_was_time_gets_the_unit_of_the_others(open_dialog: Any) -> None:
    layer = stack(axis_labels=("t", "y", "x"), units=("s", "nm", "nm"))
    dialog = open_dialog(layer)
    choose(dialog, "ZYX")
    assert dialog.apply()
    assert list(map(str, layer.units)) == ["nanometer"] * 3


# ---- the question ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", [True, False])
def test_the_answer_changes_the_layer(qtbot: Any, accepted: bool) -> None:
    layer = stack()

    def press() -> None:
        dialog: Any = QApplication.activeModalWidget()
        dialog.size_edits[0].setText("0.5")
        kind = QDialogButtonBox.StandardButton
        dialog.buttons.button(kind.Ok if accepted else kind.Cancel).click()

    QTimer.singleShot(0, press)
    assert ask_data(layer) == accepted
    assert layer.scale[0] == (0.5 if accepted else EXACT[0])


def test_enter_does_not_accept_an_invalid_number(open_dialog: Any, qtbot: Any) -> None:
    dialog = open_dialog(stack())
    edit: QLineEdit = dialog.size_edits[0]
    edit.setText("0")
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert dialog.isVisible()
