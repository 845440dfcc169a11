"""Helpers for tests of the panel by clicks: clicks, waiting, notifications, running work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer
from napari.utils.notifications import NotificationSeverity, notification_manager
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QApplication, QMessageBox, QScrollArea
from superqt.utils import WorkerBase

from napari_siren import FitConfig
from napari_siren.ui.session import SessionState
from napari_siren.ui.widget import SirenWidget

# Settings of a very small network.
SMALL = {"hidden_features": 4, "hidden_layers": 1, "engine": "torch"}
# Number of steps of a fit that does not end by itself during a test.
ENDLESS = 1_000_000


def shown_viewer(qtbot: Any, make_napari_viewer: Any) -> Any:
    """Return a viewer with an exposed window. napari's fixture does not wait: it lacks `with` for `wait_exposed`."""
    viewer = make_napari_viewer(show=True)
    with qtbot.waitExposed(viewer.window._qt_window):
        pass
    return viewer


def open_panel(viewer: Any, **settings: Any) -> SirenWidget:
    """Open the panel in the same way as the menu, with the settings of a tiny fit of five steps, and `settings`."""
    _, panel = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    panel.set_config(tiny(**settings))
    return panel


def tiny(**settings: Any) -> FitConfig:
    return FitConfig.preset("fast", **{**SMALL, "max_steps": 5, **settings})


def click(qtbot: Any, button: Any) -> None:
    """Scroll to a button and press it, if a person could do so."""
    assert button.isEnabled(), f"{button.text()} cannot be pressed"
    assert button.isVisibleTo(button.window()), f"{button.text()} cannot be seen"
    if button.isVisible():
        qtbot.waitUntil(lambda: _under_mouse(button))
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def press_close(panel: SirenWidget, monkeypatch: pytest.MonkeyPatch, answer: str = "") -> list[str]:
    """Press the x of the dock, and answer the question by the button with this text. Return the questions."""
    questions: list[str] = []

    def choose(box: QMessageBox) -> int:
        questions.append(box.text())
        next(button for button in box.buttons() if button.text() == answer).click()
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(QMessageBox, "exec", choose)
        dock: Any = panel.parent()
        while not hasattr(dock, "title"):
            dock = dock.parent()
        dock.title.close_button.click()
    return questions


def _under_mouse(button: Any) -> bool:
    """Scroll to a button of a visible window, and return whether it is now at its place on the screen."""
    area = button.parent()
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parent()
    if area is not None:
        area.ensureWidgetVisible(button)
    return QApplication.widgetAt(button.mapToGlobal(button.rect().center())) is button


def wait_for(qtbot: Any, panel: SirenWidget, state: SessionState) -> None:
    qtbot.waitUntil(lambda: panel.session.state is state)


def fit(qtbot: Any, panel: SirenWidget) -> list[Layer]:
    """Press Fit, wait for the end of the fit, and return the new layers."""
    layers = run(qtbot, panel)
    assert panel.session.result is not None, panel.run_panel.status.text()
    return layers


def run(qtbot: Any, panel: SirenWidget) -> list[Layer]:
    """Press Fit, wait for the end of all fits, whether they succeed or not, and return the new layers."""
    before, states = list(panel.viewer.layers), []
    # Such a fit may end before the click has been handled: napari handles events while it draws its progress bar.
    panel.session.changed.connect(lambda: states.append(panel.session.state))
    click(qtbot, panel.run_panel.fit_button)
    assert SessionState.FITTING in states, panel.run_panel.status.text()
    wait_for(qtbot, panel, SessionState.IDLE)
    return [layer for layer in panel.viewer.layers if layer not in before]


def begin_fit(qtbot: Any, panel: SirenWidget, previews: int = 1) -> None:
    """Press Fit, and wait for a number of previews. A fit without end is then still running."""
    updates: list[Any] = []
    panel.session.updated.connect(lambda update: updates.append(update) if update.preview is not None else None)
    click(qtbot, panel.run_panel.fit_button)
    qtbot.waitUntil(lambda: len(updates) >= previews)
    assert panel.session.state is SessionState.FITTING


def draw_again(panel: SirenWidget, scale: float | None = None) -> None:
    """Draw the result again, at another scale if one is given."""
    if scale is not None:
        panel.fit_panel.scale_slider.setValue(scale)
    panel.result_panel.again_button.click()


def wait_rendered(qtbot: Any, panel: SirenWidget) -> None:
    qtbot.waitUntil(lambda: not panel.session.renders.roles)


def anything_alive() -> bool:
    """Return whether a fit, or any other work of this plugin, is still running in a thread."""
    return bool(WorkerBase._worker_set) or QThreadPool.globalInstance().activeThreadCount() > 0


def wait_all_ended(qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not anything_alive())


@contextmanager
def notified() -> Iterator[list[str]]:
    """Collect the errors shown by napari within the context."""
    first, messages = len(notification_manager.records), []
    try:
        yield messages
    finally:
        records = notification_manager.records[first:]
        messages += [note.message for note in records if note.severity >= NotificationSeverity.ERROR]


def corners(layer: Layer) -> Any:
    """Return the world positions of a layer's outer corners, by napari's transform, of shape (2 ** ndim, ndim)."""
    shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
    edges = product(*((-0.5, n - 0.5) for n in shape[: layer.ndim]))
    return np.array([layer.data_to_world(corner) for corner in edges])


def assert_same_corners(original: Layer, derived: Layer) -> None:
    wanted = corners(original)
    np.testing.assert_allclose(corners(derived), wanted, rtol=0, atol=1e-12 * (1 + np.abs(wanted).max()))
