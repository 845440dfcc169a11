"""Tests of the progress reports of a fit, without Qt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from requesting import EVERY_STEP, STEPS, drive, request

from napari_siren.core.steps import FitSteps
from napari_siren.ui.tasks import updates as updates_module
from napari_siren.ui.tasks.control import Control
from napari_siren.ui.tasks.fit import run_fit


def test_every_step_is_told_of_once() -> None:
    updates, outcome = drive(request(preview_rate=EVERY_STEP))
    assert outcome.result is not None
    history = outcome.result.history
    assert [step for update in updates for step in update.steps] == history.step == list(range(1, STEPS + 1))
    assert [loss for update in updates for loss in update.losses] == history.loss
    np.testing.assert_array_equal([psnr for update in updates for psnr in update.psnrs], history.psnr)
    assert [update.progress.step for update in updates] == history.step


def test_the_first_step_is_told_of_at_once_and_the_next_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    # Each step of the fit takes a second of the clock that determines the updates.
    monkeypatch.setattr(updates_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    original = FitSteps.send

    def send(self: FitSteps, value: str | None) -> Any:
        now[0] += 1.0
        return original(self, value)

    monkeypatch.setattr(FitSteps, "send", send)
    updates, _ = drive(request(preview_rate=0.25))
    assert [update.progress.step for update in updates] == [1, 5, 9]
    assert [update.steps for update in updates] == [[1], [2, 3, 4, 5], [6, 7, 8, 9]]


def test_no_preview_comes_before_the_last_one_was_shown() -> None:
    control = Control()
    steps = run_fit(request(preview_rate=EVERY_STEP), control)
    assert next(steps).preview is not None
    waiting = [next(steps) for _ in range(3)]
    assert all(update.preview is None for update in waiting)
    # The updates continue without previews.
    assert [update.steps for update in waiting] == [[2], [3], [4]]
    control.preview_shown()
    assert next(steps).preview is not None
    assert next(steps).preview is None


def test_the_previews_are_of_what_is_in_view_after_the_first() -> None:
    control = Control(view=((2, 6), (3, 9)))
    updates, _ = drive(request(preview_rate=EVERY_STEP), control)
    boxes = [update.preview.box for update in updates if update.preview is not None]
    assert boxes == [((0, 12), (0, 16))] + [((2, 6), (3, 9))] * (STEPS - 1)
