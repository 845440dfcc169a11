"""Tests of the × of the dock: it asks if a fit is running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from driving import ENDLESS, begin_fit, open_panel, press_close, wait_all_ended, wait_for

from napari_siren.ui.session import SessionState
from napari_siren.ui.widget import SirenWidget


@pytest.fixture
def panel(viewer: Any, qtbot: Any) -> Any:
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (12, 16), dtype=np.uint8), name="cells")
    yield open_panel(viewer, max_steps=ENDLESS)
    wait_all_ended(qtbot)


def closed(viewer: Any) -> bool:
    return not viewer.window.dock_widgets


def test_without_a_fit_it_closes_at_once(viewer: Any, panel: SirenWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    assert press_close(panel, monkeypatch) == []
    assert closed(viewer)


def test_the_fit_goes_on(viewer: Any, panel: SirenWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_fit(qtbot, panel)
    assert press_close(panel, monkeypatch, "Continue") == ["The panel is still at work."]
    assert panel.session.state is SessionState.FITTING
    assert not closed(viewer)
    panel.session.stop()
    wait_for(qtbot, panel, SessionState.IDLE)
    assert not closed(viewer)


def test_the_result_is_discarded(viewer: Any, panel: SirenWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_fit(qtbot, panel)
    press_close(panel, monkeypatch, "Discard")
    assert closed(viewer)
    assert len(viewer.layers) == 1


def test_the_result_is_kept(viewer: Any, panel: SirenWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_fit(qtbot, panel)
    press_close(panel, monkeypatch, "Stop and keep")
    qtbot.waitUntil(lambda: closed(viewer))
    assert len(viewer.layers) == 4
