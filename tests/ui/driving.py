"""Driving the panel as a person does: clicks, waits, what was notified, and whether anything still runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import NotificationSeverity, notification_manager
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QApplication, QScrollArea
from superqt.utils import WorkerBase

from napari_siren import FitConfig
from napari_siren.ui.session import State
from napari_siren.ui.widget import SirenWidget

# Networks as small as can be; and so many steps that a fit does not end by itself while a test lasts.
SMALL = {"hidden_features": 4, "hidden_layers": 1, "engine": "torch"}
ENDLESS = 1_000_000


def shown_viewer(qtbot: Any, make_napari_viewer: Any) -> Any:
    """A viewer whose window is there; the fixture waits for none, as it calls `wait_exposed` without `with`."""
    viewer = make_napari_viewer(show=True)
    with qtbot.waitExposed(viewer.window._qt_window):
        pass
    return viewer


def open_panel(viewer: Any, **settings: Any) -> SirenWidget:
    """Open the panel as the menu does, with settings in place of those of a tiny fit of five steps."""
    _, panel = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    panel.set_config(tiny(**settings))
    return panel


def tiny(**settings: Any) -> FitConfig:
    return FitConfig.preset("fast", **{**SMALL, "max_steps": 5, **settings})


def click(qtbot: Any, button: Any) -> None:
    """Press a button, which a person could, having scrolled to it."""
    assert button.isEnabled(), f"{button.text()} cannot be pressed"
    assert button.isVisibleTo(button.window()), f"{button.text()} cannot be seen"
    if button.isVisible():
        qtbot.waitUntil(lambda: _under_mouse(button))
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def _under_mouse(button: Any) -> bool:
    """Scroll to a button of a window that is shown, and tell whether it is there."""
    area = button.parent()
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parent()
    if area is not None:
        area.ensureWidgetVisible(button)
    return QApplication.widgetAt(button.mapToGlobal(button.rect().center())) is button


def wait_for(qtbot: Any, panel: SirenWidget, state: State) -> None:
    qtbot.waitUntil(lambda: panel.session.state is state)


def fit(qtbot: Any, panel: SirenWidget) -> list[Layer]:
    """Press Fit, wait for its end, and give the layers that came."""
    before, states = list(panel.viewer.layers), []
    # Such a fit may end before the click is dealt with: napari handles events while it draws its progress bar.
    panel.session.changed.connect(lambda: states.append(panel.session.state))
    click(qtbot, panel.run_panel.fit_button)
    assert State.FITTING in states, panel.run_panel.status.text()
    wait_for(qtbot, panel, State.IDLE)
    assert panel.session.result is not None, panel.run_panel.status.text()
    return [layer for layer in panel.viewer.layers if layer not in before]


def begin_fit(qtbot: Any, panel: SirenWidget, previews: int = 1) -> None:
    """Press Fit, and wait for so many previews; of a fit without end the test is then in the middle."""
    seen: list[Any] = []
    panel.session.told.connect(lambda update: seen.append(update) if update.preview is not None else None)
    click(qtbot, panel.run_panel.fit_button)
    qtbot.waitUntil(lambda: len(seen) >= previews)
    assert panel.session.state is State.FITTING


def wait_rendered(qtbot: Any, panel: SirenWidget) -> None:
    qtbot.waitUntil(lambda: not panel.session._rendering and not panel.session._wishes)


def anything_alive() -> bool:
    """Tell whether a fit, or any other work of ours, still runs in a thread."""
    return bool(WorkerBase._worker_set) or QThreadPool.globalInstance().activeThreadCount() > 0


def wait_all_ended(qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not anything_alive())


@contextmanager
def notified() -> Iterator[list[str]]:
    """Gather the errors that are notified meanwhile."""
    first, messages = len(notification_manager.records), []
    try:
        yield messages
    finally:
        records = notification_manager.records[first:]
        messages += [note.message for note in records if note.severity >= NotificationSeverity.ERROR]


def corners(layer: Layer) -> Any:
    """World positions of the outer corners of a layer, by napari's own transform, (2 ** ndim, ndim)."""
    shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
    edges = product(*((-0.5, n - 0.5) for n in shape[: layer.ndim]))
    return np.array([layer.data_to_world(corner) for corner in edges])


def assert_same_corners(original: Layer, derived: Layer) -> None:
    wanted = corners(original)
    np.testing.assert_allclose(corners(derived), wanted, rtol=0, atol=1e-12 * (1 + np.abs(wanted).max()))
