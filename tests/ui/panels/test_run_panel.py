"""Tests of the buttons and the progress of a fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from qtpy.QtCore import Qt

from napari_siren.core.progress import Phase, Progress
from napari_siren.ui.panels.run_panel import RunPanel
from napari_siren.ui.session import SessionState
from napari_siren.ui.tasks.updates import Update


@pytest.fixture
def panel(qtbot: Any) -> RunPanel:
    widget = RunPanel()
    qtbot.addWidget(widget)
    widget.show()
    return widget


@pytest.fixture
def told(panel: RunPanel) -> list[Any]:
    """The signals emitted by the buttons."""
    told: list[Any] = []
    for name in ("fit", "pause", "resume", "stop"):
        getattr(panel, name).connect(lambda name=name: told.append(name))
    panel.go_on.connect(lambda steps: told.append(("go_on", steps)))
    return told


def buttons(panel: RunPanel) -> dict[str, Any]:
    found = (panel.fit_button, panel.pause_button, panel.stop_button, panel.continue_button)
    return {button.text(): button for button in found}


def enabled(panel: RunPanel) -> set[str]:
    assert panel.more_box.isEnabled() == panel.continue_button.isEnabled()
    return {text for text, button in buttons(panel).items() if button.isEnabled()}


def update(step: int) -> Update:
    progress = Progress(step, 60, 1.0, 0.1, 30.0, None, lambda: pytest.fail("not needed"))
    return Update(progress, [step], [0.1], [30.0], None)


@pytest.mark.parametrize(
    ("state", "fittable", "can_go_on", "wanted"),
    [
        (SessionState.IDLE, False, False, set()),
        (SessionState.IDLE, True, False, {"Fit"}),
        (SessionState.IDLE, True, True, {"Fit", "Continue"}),
        (SessionState.IDLE, False, True, {"Continue"}),
        (SessionState.FITTING, True, True, {"Pause", "Stop and keep"}),
        (SessionState.PAUSED, True, True, {"Resume", "Stop and keep"}),
        (SessionState.ENDING, True, True, set()),
    ],
)
def test_what_can_be_pressed(
    panel: RunPanel, state: SessionState, fittable: bool, can_go_on: bool, wanted: set[str]
) -> None:
    panel.show_state(state, fittable=fittable, can_go_on=can_go_on)
    assert enabled(panel) == wanted
    assert ("Resume" in buttons(panel)) == (state is SessionState.PAUSED)


def test_at_first_nothing_can_be_pressed(panel: RunPanel) -> None:
    assert enabled(panel) == set()


def press(qtbot: Any, panel: RunPanel, state: SessionState, text: str) -> None:
    panel.show_state(state, fittable=True, can_go_on=True)
    qtbot.mouseClick(buttons(panel)[text], Qt.MouseButton.LeftButton)


def test_what_the_buttons_ask_for(qtbot: Any, panel: RunPanel, told: list[Any]) -> None:
    press(qtbot, panel, SessionState.IDLE, "Fit")
    press(qtbot, panel, SessionState.FITTING, "Pause")
    press(qtbot, panel, SessionState.PAUSED, "Resume")
    press(qtbot, panel, SessionState.FITTING, "Pause")
    press(qtbot, panel, SessionState.PAUSED, "Stop and keep")
    panel.more_box.setValue(250)
    press(qtbot, panel, SessionState.IDLE, "Continue")
    assert told == ["fit", "pause", "resume", "pause", "stop", ("go_on", 250)]


def test_the_bar_moves_with_the_steps_and_runs_at_the_end(panel: RunPanel) -> None:
    panel.show_state(SessionState.FITTING, fittable=True, can_go_on=False)
    panel.show_update(update(15))
    assert (panel.bar.minimum(), panel.bar.maximum(), panel.bar.value()) == (0, 60, 15)
    panel.show_update(update(60))
    assert is_running(panel.bar)
    panel.show_state(SessionState.IDLE, fittable=True, can_go_on=True)
    assert not is_running(panel.bar)
    assert panel.bar.value() < panel.bar.maximum()


def test_a_part_of_a_fit_has_its_own_bar(panel: RunPanel) -> None:
    panel.show_state(SessionState.FITTING, fittable=True, can_go_on=False)
    panel.show_update(update(15))
    assert not panel.phase_bar.isVisibleTo(panel)
    part = update(16)
    panel.show_update(replace(part, progress=replace(part.progress, phase=Phase("learning", 6, 30))))
    assert panel.phase_bar.isVisibleTo(panel)
    assert (panel.phase_bar.maximum(), panel.phase_bar.value()) == (30, 6)
    panel.show_state(SessionState.IDLE, fittable=True, can_go_on=True)
    assert not panel.phase_bar.isVisibleTo(panel)


def test_the_bar_runs_while_a_fit_is_stopped(panel: RunPanel) -> None:
    panel.show_update(update(15))
    panel.show_state(SessionState.ENDING, fittable=True, can_go_on=False)
    assert is_running(panel.bar)


def is_running(bar: Any) -> bool:
    """Return whether a bar shows activity without a share."""
    return bar.minimum() == bar.maximum()
