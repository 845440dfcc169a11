"""Tests of the control of a fit from another thread: pause, stop and cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from requesting import EVERY_STEP, STEPS, drive, request
from waiting import LIMIT

from napari_siren.core import clock
from napari_siren.core.steps import FitSteps
from napari_siren.ui.tasks.control import Control
from napari_siren.ui.tasks.fit import FitRequest, Outcome
from napari_siren.ui.tasks.updates import Update


class Driven:
    """A fit in another thread, the same as in napari."""

    def __init__(self, wanted: FitRequest, control: Control) -> None:
        self.control = control
        self.updates: list[Update] = []
        self.outcome: Outcome | None = None
        self._told = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(wanted,), daemon=True)
        self._thread.start()

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self._told:
            assert self._told.wait_for(what, LIMIT)

    def end(self) -> Outcome:
        self._thread.join(LIMIT)
        assert self.outcome is not None
        return self.outcome

    def _run(self, wanted: FitRequest) -> None:
        def told(update: Update) -> None:
            with self._told:
                self.updates.append(update)
                self._told.notify_all()

        _, self.outcome = drive(wanted, self.control, told)


@pytest.fixture
def control() -> Iterator[Control]:
    """A control for a fit in a test. The fit is cancelled at the end of the test, even if the test fails."""
    control = Control()
    yield control
    control.cancel()


def test_a_paused_fit_stands_still_and_its_clock_too(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    control.pause()
    driven = Driven(request(), control)
    driven.wait_for(lambda: len(driven.updates) == 1)
    [paused] = driven.updates
    assert paused.paused
    assert paused.progress.step == 1
    # It takes no step while another fit runs to its end.
    drive(request())
    assert driven.updates == [paused]
    now[0] = 1000.0
    control.go_on()
    outcome = driven.end()
    assert outcome.result is not None
    assert outcome.result.history.step[-1] == STEPS
    assert outcome.result.history.seconds == [0.0] * STEPS
    assert not any(update.paused for update in driven.updates[1:])


def test_a_pause_in_the_middle_shows_where_the_fit_is(control: Control) -> None:
    driven = Driven(request(max_steps=10**6, preview_rate=1000.0), control)
    driven.wait_for(lambda: len(driven.updates) > 2)
    control.pause()
    driven.wait_for(lambda: driven.updates[-1].paused)
    last = driven.updates[-1]
    assert last.preview is not None
    assert last.steps[-1] == last.progress.step
    control.stop()
    outcome = driven.end()
    assert outcome.result is not None
    assert outcome.result.history.step[-1] in (last.progress.step, last.progress.step + 1)


def test_a_fit_that_is_stopped_keeps_what_it_has(control: Control) -> None:
    _, outcome = drive(
        request(preview_rate=EVERY_STEP), control, lambda u: control.stop() if u.progress.step == 4 else None
    )
    assert outcome.result is not None
    assert outcome.result.history.stopped == "asked"
    assert outcome.result.history.step[-1] == 5
    assert outcome.layers is not None
    assert set(outcome.layers) == {"reconstruction", "upscaled", "error"}


def test_a_fit_that_is_called_off_gives_nothing_and_ends_soon(control: Control) -> None:
    updates, outcome = drive(
        request(max_steps=10**6, preview_rate=EVERY_STEP),
        control,
        lambda u: control.cancel() if u.progress.step == 4 else None,
    )
    assert updates[-1].progress.step == 4
    assert (outcome.result, outcome.layers, outcome.error) == (None, None, None)


def test_a_fit_may_be_called_off_before_it_begins(control: Control) -> None:
    control.cancel()
    updates, outcome = drive(request(), control)
    assert updates == []
    assert (outcome.result, outcome.error) == (None, None)


def test_a_paused_fit_can_be_called_off(control: Control) -> None:
    control.pause()
    driven = Driven(request(max_steps=10**6), control)
    driven.wait_for(lambda: len(driven.updates) == 1)
    control.cancel()
    assert driven.end().result is None


def test_a_fit_that_is_called_off_while_it_stops_is_no_error(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FitSteps.stop

    def stop(self: FitSteps) -> Any:
        control.cancel()
        return original(self)

    monkeypatch.setattr(FitSteps, "stop", stop)
    control.stop()
    _, outcome = drive(request(), control)
    assert (outcome.result, outcome.layers, outcome.error) == (None, None, None)
