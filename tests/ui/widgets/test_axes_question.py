"""Tests of the question for the first axis of a stack without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from napari_siren.ui.widgets.axes_question import AxesQuestion


@pytest.fixture
def question(qtbot: Any) -> AxesQuestion:
    widget = AxesQuestion()
    qtbot.addWidget(widget)
    widget.show()
    return widget


@pytest.mark.parametrize(
    ("shape", "rgb", "letters", "sentence"),
    [
        ((4, 6, 8), False, "ZTC", "is the first axis Z, T (time) or C (channels)?"),
        ((4, 6, 8, 3), True, "ZT", "is the first axis Z or T (time)?"),
        ((2, 4, 6, 8), False, "", "what are they?"),
    ],
)
def test_the_question_fits_the_stack(
    question: AxesQuestion, shape: tuple[int, ...], rgb: bool, letters: str, sentence: str
) -> None:
    question.ask(Image(np.zeros(shape, dtype=np.uint8), rgb=rgb))
    assert question.sentence.text() == f"The axes of this stack are not labelled: {sentence}"
    assert "".join(letter for letter, button in question.buttons.items() if button.isVisible()) == letters
    assert question.axes_button.isVisible() == (not letters)


def test_the_buttons_answer(question: AxesQuestion) -> None:
    answers: list[str] = []
    question.answered.connect(answers.append)
    question.details.connect(lambda: answers.append("details"))
    for button in (*question.buttons.values(), question.axes_button):
        button.click()
    assert answers == ["Z", "T", "C", "details"]
