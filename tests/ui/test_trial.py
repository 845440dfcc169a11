"""Tests of a trial: a square of the image, done in place, moved by clicks, with settings side by side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from driving import ENDLESS, click, open_panel, tiny, wait_all_ended
from napari.layers import Image

from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.ui.panels import source_panel
from napari_siren.ui.session import SessionState
from napari_siren.ui.widget import SirenWidget

SIDE = 8


@pytest.fixture
def panel(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(source_panel, "SIDE", SIDE)
    image = np.random.default_rng(0).integers(0, 255, (24, 32), dtype=np.uint8)
    viewer.add_image(image, name="cells", scale=(2, 2), translate=(5, 7), units=("um", "um"))
    viewer.reset_view()
    yield open_panel(viewer)
    wait_all_ended(qtbot)


def tried(qtbot: Any, panel: SirenWidget) -> list[Image]:
    qtbot.waitUntil(lambda: "Tried in" in panel.run_panel.status.text())
    return [layer for layer in panel.viewer.layers if layer.metadata.get(METADATA_KEY, {}).get("role") == "trial"]


def click_at(panel: SirenWidget, *position: float) -> None:
    """Click on the canvas at a position in the world."""
    event = SimpleNamespace(type="mouse_press", position=position)
    steps = panel.trial._on_press(panel.viewer, event)
    next(steps)
    event.type = "mouse_release"
    assert list(steps) == []


def test_a_square_in_the_middle_of_the_view(viewer: Any, panel: SirenWidget, qtbot: Any) -> None:
    source = viewer.layers[0]
    click(qtbot, panel.run_panel.try_button)
    [layer] = tried(qtbot, panel)
    assert layer.data.shape == (2 * SIDE, 2 * SIDE)
    assert layer.name == "try"
    assert layer.bounding_box.visible
    # Rows 8 to 16 and columns 12 to 20 of the image, whose pixels are 2 µm wide.
    np.testing.assert_allclose(layer.extent.world, [[5 + 15.5, 7 + 23.5], [5 + 30.5, 7 + 38.5]])
    assert (viewer.layers.selection, panel.source_panel.layer) == ({source}, source)
    assert panel.session.result is None
    click(qtbot, panel.run_panel.try_button)
    assert list(viewer.layers) == [source]
    assert panel.trial._on_press not in viewer.mouse_drag_callbacks


def test_a_click_moves_the_square(viewer: Any, panel: SirenWidget, qtbot: Any) -> None:
    click(qtbot, panel.run_panel.try_button)
    tried(qtbot, panel)
    panel.run_panel.say("")
    # Near the corner the square stays within the image.
    click_at(panel, 6, 8)
    [layer] = tried(qtbot, panel)
    np.testing.assert_allclose(layer.extent.world[0], [4.5, 6.5])
    click_at(panel, 500, 8)
    assert panel.run_panel.status.text().startswith("“cells” is not there.")
    assert layer in viewer.layers


def test_settings_side_by_side(viewer: Any, panel: SirenWidget, qtbot: Any) -> None:
    panel.trial.begin(viewer.layers[0], (("few", {"max_steps": 1}), ("more", {"max_steps": 3})))
    left, right = tried(qtbot, panel)
    assert (left.name, right.name) == ("try: few", "try: more")
    assert panel.run_panel.status.text().startswith("From left to right: few, more. Tried in")
    (top, begin), (_, end) = left.extent.world
    assert right.extent.world[0, 0] == top
    assert end < right.extent.world[0, 1] < end + 0.2 * (end - begin)


def test_the_menu_offers_the_settings_of_the_purpose(panel: SirenWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(panel.trial, "begin", lambda layer, variants: begun.append([name for name, _ in variants]))
    for purpose, names in ((0, ["for clean images", "for noisy images"]), (4, None)):
        panel.fit_panel.purpose_box.setCurrentIndex(purpose)
        action = panel.run_panel.try_button.menu().actions()[0]
        assert action.isEnabled() == (names is not None)
        if names:
            action.trigger()
            assert begun == [names]


def test_the_trial_ends_when_the_image_is_done_or_removed(viewer: Any, panel: SirenWidget, qtbot: Any) -> None:
    click(qtbot, panel.run_panel.try_button)
    tried(qtbot, panel)
    click(qtbot, panel.run_panel.fit_button)
    assert not panel.run_panel.try_button.isChecked()
    qtbot.waitUntil(lambda: panel.session.state is SessionState.IDLE)
    assert len(viewer.layers) == 4
    panel.run_panel.say("")
    click(qtbot, panel.run_panel.try_button)
    tried(qtbot, panel)
    viewer.layers.remove(viewer.layers[0])
    assert not panel.trial.active
    assert len(viewer.layers) == 3


def test_a_running_trial_is_called_off(viewer: Any, panel: SirenWidget, qtbot: Any) -> None:
    panel.set_config(tiny(max_steps=ENDLESS))
    click(qtbot, panel.run_panel.try_button)
    assert panel.run_panel.status.text().startswith("Trying a square")
    click_at(panel, 6, 8)
    click(qtbot, panel.run_panel.try_button)
    wait_all_ended(qtbot)
    assert len(viewer.layers) == 1


def test_a_slice_of_a_stack(viewer: Any, qtbot: Any, panel: SirenWidget) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (5, 12, 16), dtype=np.uint8)
    layer = viewer.add_image(stack, name="stack", axis_labels=("z", "y", "x"))
    viewer.layers.remove("cells")
    viewer.dims.set_current_step(0, 3)
    viewer.reset_view()
    panel.trial.begin(layer)
    [square] = tried(qtbot, panel)
    assert square.data.shape == (1, 2 * SIDE, 2 * SIDE)
    assert square.extent.world[0, 0] == 3


def test_the_level_of_a_pyramid(viewer: Any, qtbot: Any, panel: SirenWidget) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)
    layer = viewer.add_image([image, image[::2, ::2]], name="pyramid", multiscale=True)
    viewer.layers.remove("cells")
    panel.source_panel.level_box.setCurrentIndex(1)
    panel.trial.begin(layer)
    panel.trial.move((40, 40))
    [square] = tried(qtbot, panel)
    # 8 pixels of the second level, each as large as two of the first.
    assert square.data.shape == (2 * SIDE, 2 * SIDE)
    np.testing.assert_allclose(square.extent.world, [[32, 32], [47, 47]])


def test_the_choice_of_another_image_ends_the_trial(viewer: Any, qtbot: Any, panel: SirenWidget) -> None:
    click(qtbot, panel.run_panel.try_button)
    tried(qtbot, panel)
    other = viewer.add_image(np.zeros((9, 9), dtype=np.uint8), name="other")
    assert panel.source_panel.layer is other
    assert not panel.trial.active
    assert len(viewer.layers) == 2
