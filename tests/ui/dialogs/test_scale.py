"""Tests of the dialog for the scale of a model: it shows the resulting size during typing."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QLabel

from napari_siren import FitResult
from napari_siren.ui.dialogs.scale import ScaleDialog, ask_scale


@pytest.fixture
def dialog(fitted: FitResult, qtbot: Any) -> ScaleDialog:
    made = ScaleDialog(fitted, "cells")
    qtbot.addWidget(made)
    return made


def open_button(dialog: ScaleDialog) -> Any:
    return dialog.buttons.button(QDialogButtonBox.StandardButton.Open)


def test_it_tells_what_the_model_was_fitted_to(dialog: ScaleDialog, fitted: FitResult) -> None:
    texts = [label.text() for label in dialog.findChildren(QLabel)]
    assert "24 × 32 pixels (y, x), 3 channels, uint8" in texts
    assert f"PSNR {fitted.metrics.psnr:.2f} dB" in texts
    assert dialog.scale == 1


def test_the_size_follows_what_is_typed(dialog: ScaleDialog, qtbot: Any) -> None:
    assert dialog.size_label.text().startswith("24 × 32 pixels (y, x)")
    dialog.scale_box.clear()
    qtbot.keyClicks(dialog.scale_box, "16")
    assert dialog.size_label.text() == "384 × 512 pixels (y, x), 1 MB"
    assert dialog.scale == 16


@pytest.mark.parametrize(("wanted", "given"), [(0.001, 0.1), (100, 16)])
def test_the_scale_has_bounds(dialog: ScaleDialog, wanted: float, given: float) -> None:
    dialog.scale_box.setValue(wanted)
    assert dialog.scale == given
    assert open_button(dialog).isEnabled()


def test_what_does_not_fit_into_memory_cannot_be_opened(dialog: ScaleDialog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.training.plan.free_memory", lambda _: 10_000)
    dialog.scale_box.setValue(4)
    assert not open_button(dialog).isEnabled()
    assert "too much for" in dialog.size_label.text()
    dialog.scale_box.setValue(0.5)
    assert open_button(dialog).isEnabled()


@pytest.mark.parametrize(("accepted", "answer"), [(True, 2.5), (False, None)])
def test_the_answer(accepted: bool, answer: float | None, fitted: FitResult, qtbot: Any) -> None:
    def press() -> None:
        dialog = QApplication.activeModalWidget()
        dialog.scale_box.setValue(2.5)
        kind = QDialogButtonBox.StandardButton
        dialog.buttons.button(kind.Open if accepted else kind.Cancel).click()

    QTimer.singleShot(0, press)
    assert ask_scale(fitted, "cells") == answer
