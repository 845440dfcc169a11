"""A test with random actions in the panel: no action causes an exception, and no fit is left running."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import notified, open_panel, tiny, wait_all_ended
from napari._app_model import get_app_model
from napari.utils.notifications import ErrorNotification, notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QMessageBox,
    QPushButton,
    QToolButton,
    QWidget,
)

from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.ui.contributions import commands
from napari_siren.ui.panels import blur_panel, source_panel
from napari_siren.ui.session import SessionState
from napari_siren.ui.widget import SirenWidget
from napari_siren.ui.widgets.number_box import NumberBox

# Numbers of actions and of seeds. MONKEY_ACTIONS=1000 MONKEY_SEEDS=10 takes about half an hour.
ACTIONS = int(os.environ.get("MONKEY_ACTIONS", "100"))
SEEDS = int(os.environ.get("MONKEY_SEEDS", "1"))
MOST_LAYERS = 6
KINDS = ["grey", "rgb", "rgba", "stack", "film", "4d", "float", "nan", "pyramid", "flat", "labels", "points", "shapes"]
# napari warns of rotated layers in slices, and of the colours of its labels.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning"),
    pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning"),
]


def discard(box: QMessageBox) -> None:
    next(button for button in box.buttons() if button.text() == "Discard").click()


def has_menu(button: QAbstractButton) -> bool:
    """Return whether a press opens a menu and waits for a choice."""
    return isinstance(button, QPushButton | QToolButton) and button.menu() is not None


class Monkey:
    """A user with random actions in a viewer with the panel.

    Parameters
    ----------
    viewer, qtbot
        Fixtures of the test.
    seed
        Seed of the random actions.
    """

    def __init__(self, viewer: Any, qtbot: Any, seed: int) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.random = random.Random(seed)
        self.done: list[str] = []
        self.fits = 0
        viewer.layers.events.inserted.connect(self.count)
        self.panel: SirenWidget = open_panel(viewer)
        self.tricks: list[tuple[int, Callable[[], None]]] = [
            (20, self.steer),
            (8, self.press),
            (5, self.add_layer),
            (3, self.remove_layer),
            (8, self.select_layer),
            (4, self.change_layer),
            (6, self.choose),
            (6, self.scale),
            (6, self.tick),
            (4, self.number),
            (6, self.put_back),
            (6, self.move_dims),
            (4, self.toggle_section),
            (1, self.switch_theme),
            (1, self.hide_or_show),
            (1, self.reopen),
            (3, self.run_command),
            (3, self.try_out),
            (2, self.compare),
        ]

    def count(self, event: Any) -> None:
        """Count the finished fits."""
        self.fits += event.value.metadata.get(METADATA_KEY, {}).get("role") == "error"

    def act(self) -> None:
        """Do a random action, and then let the viewer handle all, some or none of its events."""
        weights, tricks = zip(*self.tricks, strict=True)
        [trick] = self.random.choices(tricks, weights)
        self.done.append(trick.__name__)
        trick()
        self.random.choice([self.go_on, self.go_on, self.look_up, self.look_up, self.watch])()

    # ---- between two actions ----

    def go_on(self) -> None:
        """Do nothing, so that the viewer handles no event."""

    def look_up(self) -> None:
        """Handle all present events of the viewer."""
        QApplication.processEvents()

    def watch(self) -> None:
        """Wait for the next update of a running fit, or for its end."""
        session = self.panel.session
        news: list[Any] = []
        session.updated.connect(news.append)
        self.qtbot.waitUntil(lambda: bool(news) or session.state in (SessionState.IDLE, SessionState.PAUSED))
        session.updated.disconnect(news.append)

    # ---- actions ----

    def steer(self) -> None:
        """Press Fit, Pause, Resume, Stop or Continue."""
        self.press(self.panel.run_panel)

    def press(self, where: QWidget | None = None) -> None:
        where = where or self.panel
        buttons = [
            button
            for button in where.findChildren(QAbstractButton)
            if button.isEnabled() and button.isVisibleTo(self.panel) and not has_menu(button)
        ]
        if buttons:
            button = self.random.choice(buttons)
            self.done[-1] += f" {button.text()}"
            self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def add_layer(self) -> None:
        if len(self.viewer.layers) >= MOST_LAYERS:
            self.remove_layer()
        rng = np.random.default_rng(self.random.randrange(1000))
        name = self.random.choice(["a", "b [c]", "it's"])
        kind = self.random.choice(KINDS)
        self.done[-1] += f" {kind}"
        image = rng.integers(0, 255, (7, 9), dtype=np.uint8)
        match kind:
            case "labels":
                self.viewer.add_labels(image // 100, name=name)
            case "points":
                self.viewer.add_points(rng.uniform(0, 7, (3, 2)), name=name)
            case "shapes":
                self.viewer.add_shapes([[[1, 1], [1, 6], [5, 6], [5, 1]]], name=name)
            case "grey":
                self.viewer.add_image(image, name=name, scale=(0.5, -2), rotate=30, units=("um", "um"))
            case "rgb" | "rgba":
                channels = len(kind)
                self.viewer.add_image(rng.integers(0, 255, (7, 9, channels), dtype=np.uint8), rgb=True, name=name)
            case "stack" | "film":
                labels = ("t" if kind == "film" else "z", "y", "x")
                self.viewer.add_image(rng.normal(size=(3, 7, 9)), name=name, axis_labels=labels, scale=(2, 1, 1))
            case "4d":
                self.viewer.add_image(rng.integers(0, 99, (2, 3, 5, 6)), name=name, axis_labels=("c", "z", "y", "x"))
            case "float" | "nan":
                values = image.astype(np.float32)
                values[2, 3] = np.nan if kind == "nan" else 1e30
                self.viewer.add_image(values, name=name, contrast_limits=(0, 255))
            case "pyramid":
                self.viewer.add_image([image, image[::2, ::2]], multiscale=True, name=name)
            case "flat":
                self.viewer.add_image(np.zeros((1, 9), bool), name=name)

    def remove_layer(self) -> None:
        if self.viewer.layers:
            self.viewer.layers.remove(self.random.choice(self.viewer.layers))
        if self.random.random() < 0.05:
            self.viewer.layers.clear()

    def select_layer(self) -> None:
        layers = list(self.viewer.layers)
        self.viewer.layers.selection = self.random.sample(layers, min(len(layers), self.random.choice([0, 1, 1, 1, 2])))

    def change_layer(self) -> None:
        if not self.viewer.layers:
            return
        layer = self.random.choice(self.viewer.layers)
        match self.random.randrange(4):
            case 0:
                layer.visible = not layer.visible
            case 1:
                layer.name = self.random.choice(["x", "y [z]"])
            case 2:
                layer.translate = layer.translate + 1
            case 3:
                self.viewer.layers.move(self.viewer.layers.index(layer), 0)

    def choose(self) -> None:
        boxes = [box for box in self.panel.findChildren(QComboBox) if box.isEnabled() and box.count()]
        box = self.random.choice(boxes)
        box.setCurrentIndex(self.random.randrange(box.count()))
        self.done[-1] += f" {box.currentText()}"

    def scale(self) -> None:
        fit_panel = self.panel.fit_panel
        if not fit_panel.isEnabled():
            return
        for _ in range(self.random.choice([1, 1, 5])):
            if self.random.random() < 0.5:
                fit_panel.scale_slider.setValue(self.random.uniform(1, 4))
            else:
                fit_panel.pixel_box.stepBy(self.random.choice([-1, 1, 20]))

    def tick(self) -> None:
        boxes = [box for box in self.panel.findChildren(QCheckBox) if box.isEnabled()]
        if boxes:
            self.random.choice(boxes).click()

    def number(self) -> None:
        boxes = [box for box in self.panel.findChildren(NumberBox) if box.isEnabled()]
        if boxes:
            self.random.choice(boxes).stepBy(self.random.choice([-3, -1, 1, 3]))

    def put_back(self) -> None:
        """Choose settings of a short fit, or sometimes of a long one."""
        if self.panel.settings_form.isEnabled():
            self.panel.set_config(tiny(max_steps=self.random.choice([1, 20, 20, 100_000])))

    def move_dims(self) -> None:
        dims = self.viewer.dims
        match self.random.randrange(4):
            case 0 | 1:
                axis = self.random.randrange(dims.ndim)
                dims.set_current_step(axis, self.random.randrange(max(1, dims.nsteps[axis])))
            case 2:
                dims.order = self.random.sample(range(dims.ndim), dims.ndim)
            case 3:
                dims.ndisplay = self.random.choice([2, 3])

    def toggle_section(self) -> None:
        self.qtbot.mouseClick(
            self.random.choice(list(self.panel.sections.values())).toggleButton(), Qt.MouseButton.LeftButton
        )

    def switch_theme(self) -> None:
        self.viewer.theme = "light" if self.viewer.theme == "dark" else "dark"

    def hide_or_show(self) -> None:
        dock = self.panel.parent()
        dock.setVisible(dock.isHidden())

    def reopen(self) -> None:
        self.qtbot.mouseClick(self.panel.parent().title.close_button, Qt.MouseButton.LeftButton)
        self.panel = open_panel(self.viewer)

    def try_out(self) -> None:
        """Begin a trial, move it, or try several settings."""
        trial, layer = self.panel.trial, self.panel.source_panel.layer
        if trial.active and self.random.random() < 0.7:
            trial.move([self.random.uniform(0, 9) for _ in range(self.viewer.dims.ndim)])
        elif layer is not None and self.panel.run_panel.try_button.isEnabled():
            trial.begin(layer, (("a", {"max_steps": 1}), ("b", {"max_steps": 3})))

    def compare(self) -> None:
        comparison = self.panel.comparison
        self.random.choice([comparison.hold, comparison.divider])(self.random.random() < 0.5)

    def run_command(self) -> None:
        name = self.random.choice(["fit", "upscale", "denoise", "deblur", "gradient_magnitude", "laplacian"])
        self.done[-1] += f" {name}"
        get_app_model().commands.execute_command(f"napari-siren.{name}").result()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_it_does(viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    def file(_: Any, title: str, *__: Any) -> tuple[str, str]:
        return str(tmp_path / ("file.json" if "settings" in title else "file.safetensors")), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", file)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", file)
    monkeypatch.setattr(commands, "request_values", lambda *_, **__: {"scale": 1.5, "preset": "fast"})
    monkeypatch.setattr(source_panel, "ask_data", lambda *_: False)
    monkeypatch.setattr(blur_panel, "request_values", lambda *_, **__: None)
    monkeypatch.setattr(QMessageBox, "exec", discard)
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    before = len(notification_manager.records)
    monkey = Monkey(viewer, qtbot, seed=seed)
    with notified() as errors:
        for _ in range(ACTIONS):
            monkey.act()
        monkey.panel.close_down()
        wait_all_ended(qtbot)
    # Errors by wrong use have messages of this plugin. An unexpected exception is an `ErrorNotification`.
    surprises = [note for note in notification_manager.records[before:] if isinstance(note, ErrorNotification)]
    assert not surprises, (surprises, monkey.done[-5:])
    assert monkey.fits > 3, "too few fits for a meaningful test"
    assert all(message.strip() and "Traceback" not in message for message in errors)
