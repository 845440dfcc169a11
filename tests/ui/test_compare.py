"""Tests of the comparison of a result with its original, by pixels of screenshots and by clicks and keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from driving import shown_viewer
from napari.utils.transforms import Affine
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_siren.layers.outputs import RESULT_KEY
from napari_siren.ui.compare import KEY, Comparison
from napari_siren.ui.widgets.compare_bar import CompareBar

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


class Scene:
    """A viewer with a red original, and a green result of twice as many pixels over it."""

    def __init__(self, viewer: Any, rgb: bool = True, hidden: bool = True, box: Any = None, **display: Any) -> None:
        self.viewer = viewer
        # A black canvas, as in napari's dark theme.
        viewer.theme = "dark"
        scale, (top, left, bottom, right) = 2.0, box or (0, 0, 40, 60)
        start = [scale * (edge - 0.25) for edge in (top, left)]
        shape = (2 * (bottom - top), 2 * (right - left))
        self.original = self.add("original", RED, (40, 60), rgb, scale=(scale, scale), visible=not hidden, **display)
        self.result = self.add("result", GREEN, shape, rgb, scale=(1, 1), translate=start, **display)
        self.pair: Any = (self.original, self.result)
        self.comparison = Comparison(viewer, lambda: self.pair)

    def add(self, name: str, colour: Any, shape: Any, rgb: bool = True, **options: Any) -> Any:
        if rgb:
            data = np.full((*shape, 3), colour, dtype=np.uint8)
            return self.viewer.add_image(data, name=name, rgb=True, **options)
        colormap = {RED: "red", GREEN: "green", BLUE: "blue"}[colour]
        data = np.full(shape, 5, dtype=np.uint16)
        return self.viewer.add_image(data, name=name, colormap=colormap, contrast_limits=(0, 5), **options)

    def colours(self, *fractions: float, height: float = 0.3) -> list[tuple[int, ...]]:
        """Return the colours of the canvas at fractions of its width, at a height away from the handle."""
        shot = self.viewer.screenshot(canvas_only=True, flash=False)
        row = shot[int(height * shot.shape[0])]
        return [tuple(map(int, row[int(fraction * shot.shape[1])][:3])) for fraction in fractions]

    @property
    def canvas(self) -> Any:
        return self.viewer.window._qt_viewer.canvas


def state(layer: Any) -> tuple[Any, ...]:
    return layer.visible, layer.opacity, layer.blending, layer.mode, layer.gamma, layer.scale.tolist()


@pytest.fixture
def viewer(qtbot: Any, plugins: Any, make_napari_viewer: Any) -> Any:
    """A viewer with a window, since a hidden canvas has not its size yet."""
    return shown_viewer(qtbot, make_napari_viewer)


@pytest.fixture
def scene(viewer: Any) -> Any:
    """A function for a scene. Its comparison is closed after the test."""
    made: list[Scene] = []

    def make(**options: Any) -> Scene:
        made.append(Scene(viewer, **options))
        return made[-1]

    yield make
    for one in made:
        one.comparison.close()


Make = Callable[..., Scene]

# ---- hold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("rgb", [True, False])
def test_the_original_alone_is_shown_while_held(scene: Make, rgb: bool, hidden: bool) -> None:
    one = scene(rgb=rgb, hidden=hidden, opacity=0.9)
    before = [state(layer) for layer in one.viewer.layers]
    colours = one.colours(0.3, 0.7)
    one.comparison.hold(True)
    assert one.comparison.held
    (left, right) = one.colours(0.3, 0.7)
    assert left == right
    assert left[0] > 220
    assert left[1:] == (0, 0)
    one.comparison.hold(False)
    assert not one.comparison.held
    assert [state(layer) for layer in one.viewer.layers] == before
    assert one.colours(0.3, 0.7) == colours


def test_other_layers_of_the_fit_are_hidden_too_and_those_of_other_fits_are_not(scene: Make) -> None:
    one = scene(hidden=False)
    fit = object()
    one.result.metadata[RESULT_KEY] = fit
    reconstruction = one.add("reconstruction", BLUE, (40, 60), scale=(2, 2))
    reconstruction.metadata[RESULT_KEY] = fit
    one.comparison.hold(True)
    assert one.colours(0.3, 0.7) == [RED, RED]
    one.comparison.hold(False)
    assert one.colours(0.3, 0.7) == [BLUE, BLUE]
    reconstruction.metadata[RESULT_KEY] = object()
    one.comparison.hold(True)
    assert one.colours(0.3, 0.7) == [BLUE, BLUE]


def test_holding_works_in_three_dimensions(viewer: Any, scene: Make) -> None:
    one = scene(rgb=False)
    viewer.layers.clear()
    stacks = [
        viewer.add_image(
            np.full((4, 8, 8), 5, dtype=np.uint8), colormap=colour, contrast_limits=(0, 5), rendering="mip"
        )
        for colour in ("red", "green")
    ]
    stacks[0].visible = False
    one.pair = tuple(stacks)
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    assert one.colours(0.5, height=0.5) == [GREEN]
    one.comparison.hold(True)
    assert one.colours(0.5, height=0.5) == [RED]
    one.comparison.hold(False)
    assert one.colours(0.5, height=0.5) == [GREEN]
    assert [layer.visible for layer in stacks] == [False, True]


@pytest.mark.parametrize("which", ["original", "result"])
def test_a_layer_that_is_deleted_while_held_ends_it(scene: Make, which: str) -> None:
    one = scene()
    one.comparison.hold(True)
    one.colours(0.5)
    other = one.result if which == "original" else one.original
    one.viewer.layers.remove(getattr(one, which))
    assert not one.comparison.held
    assert not one.comparison.available
    assert other.visible == (other is one.result)
    assert one.colours(0.3) == [GREEN if which == "original" else BLACK]
    one.comparison.hold(True)
    assert not one.comparison.held


def test_pixels_that_change_while_held_stay_hidden(scene: Make) -> None:
    one = scene()
    one.comparison.hold(True)
    one.result.data = np.full((80, 120, 3), BLUE, dtype=np.uint8)
    assert one.colours(0.3) == [RED]
    one.comparison.hold(False)
    assert one.colours(0.3) == [BLUE]


# ---- the divider -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rgb", "hidden"), [(True, True), (False, False)])
@pytest.mark.parametrize("blending", ["translucent", "additive", "opaque", "minimum"])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_original_is_on_the_left_and_the_result_on_the_right(
    scene: Make, theme: str, blending: str, rgb: bool, hidden: bool
) -> None:
    one = scene(rgb=rgb, hidden=hidden, blending=blending)
    one.viewer.theme = theme
    before, colours = [state(layer) for layer in one.viewer.layers], one.colours(0.3, 0.7)
    one.comparison.divider(True)
    assert one.colours(0.3, 0.48, 0.52, 0.7) == [RED, RED, GREEN, GREEN]
    one.comparison.position = 0.6
    assert one.colours(0.3, 0.58, 0.62, 0.7) == [RED, RED, GREEN, GREEN]
    one.comparison.divider(False)
    assert [state(layer) for layer in one.viewer.layers] == before
    assert one.colours(0.3, 0.7) == colours


def test_the_divider_stays_where_it_is_while_the_view_moves(scene: Make) -> None:
    one = scene()
    one.comparison.divider(True)
    for zoom, centre in ((8, (40, 60)), (3, (30, 70)), (0.5, (40, 60))):
        one.viewer.scene.camera.zoom = zoom
        one.viewer.scene.camera.center = centre
        assert one.colours(0.48, 0.52, height=0.49) == [RED, GREEN]


def test_the_whole_range_is_one_picture_or_the_other(scene: Make) -> None:
    one = scene()
    one.comparison.divider(True)
    one.comparison.position = 2
    assert one.comparison.position == 1
    assert one.colours(0.3, 0.7) == [RED, RED]
    one.comparison.position = -1
    assert one.colours(0.3, 0.7) == [GREEN, GREEN]


@pytest.mark.parametrize("hidden", [True, False])
def test_around_a_result_of_a_part_the_original_is_shown(scene: Make, hidden: bool) -> None:
    # The result covers the middle of the image, to the world's last millimetre.
    one = scene(hidden=hidden, box=(0, 20, 40, 40), blending="additive")
    one.comparison.divider(True)
    width, centre = one.canvas.size[1], 0.5
    half = 20 * one.viewer.scene.camera.zoom / width
    inside, outside = half - 2 / width, half + 2 / width
    places = (centre - outside, centre - inside, centre - 0.02, centre + 0.02, centre + inside, centre + outside)
    assert one.colours(*places) == [RED, RED, RED, GREEN, GREEN, RED]


def test_turned_layers_and_several_planes_are_compared(viewer: Any, scene: Make) -> None:
    one = scene()
    turn = Affine(rotate=30)
    one.original.affine = one.result.affine = turn
    viewer.reset_view()
    one.comparison.divider(True)
    assert one.colours(0.48, 0.52, height=0.49 - 0.05) == [RED, GREEN]
    viewer.layers.clear()
    stacks = [
        viewer.add_image(np.full((n, 8, 8), 5, dtype=np.uint8), colormap=colour, contrast_limits=(0, 5))
        for n, colour in ((6, "red"), (3, "green"))
    ]
    one.pair = tuple(stacks)
    viewer.reset_view()
    viewer.dims.set_point(0, 1)
    one.comparison.divider(True)
    assert one.colours(0.45, 0.55) == [RED, GREEN]
    # In a plane without a result, the original is on both sides.
    viewer.dims.set_point(0, 5)
    assert one.colours(0.45, 0.55) == [RED, RED]
    viewer.dims.set_point(0, 2)
    assert one.colours(0.45, 0.55) == [RED, GREEN]


def test_images_larger_than_a_texture_are_compared(scene: Make) -> None:
    one = scene()
    for layer in (one.original, one.result):
        nodes = one.canvas.layer_to_visual[layer]._layer_node
        nodes.MAX_TEXTURE_SIZE_2D = nodes._tiledimage_node.tile_size = 32
        layer.data = layer.data.copy()
        layer.visible = True
    one.original.visible = False
    one.comparison.divider(True)
    assert len(one.canvas.layer_to_visual[one.result].node.adopted_children) > 1
    assert one.colours(0.3, 0.48, 0.52, 0.7) == [RED, RED, GREEN, GREEN]
    one.comparison.divider(False)
    assert one.colours(0.3, 0.7) == [GREEN, GREEN]


def test_the_original_is_held_over_the_divider(scene: Make) -> None:
    one = scene()
    one.comparison.divider(True)
    one.comparison.hold(True)
    assert one.colours(0.3, 0.7) == [RED, RED]
    one.comparison.hold(False)
    assert one.comparison.divided
    assert one.colours(0.3, 0.7) == [RED, GREEN]
    one.comparison.hold(True)
    one.comparison.divider(False)
    assert not one.comparison.held
    assert one.colours(0.3, 0.7) == [GREEN, GREEN]
    assert not one.original.visible


def test_what_the_user_hides_stays_hidden(scene: Make) -> None:
    one = scene(hidden=False)
    one.comparison.divider(True)
    one.original.visible = False
    one.comparison.divider(False)
    assert not one.original.visible


@pytest.mark.parametrize("end", ["3-D", "grid", "original", "result", "another", "none", "clear", "close"])
def test_the_divider_ends_cleanly(scene: Make, end: str) -> None:
    one = scene()
    drawn = len(one.canvas._scene_canvas.events.draw.callbacks)
    children = len(one.canvas.view.children)
    one.comparison.divider(True)
    one.colours(0.5)
    if end == "3-D":
        one.viewer.dims.ndisplay = 3
    elif end == "grid":
        one.viewer.canvas.grid.enabled = True
    elif end in ("original", "result"):
        one.viewer.layers.remove(getattr(one, end))
    elif end == "another":
        one.pair = (one.original, one.add("other", BLUE, (40, 60), scale=(2, 2)))
        one.comparison.refresh()
    elif end == "none":
        one.pair = None
        one.comparison.refresh()
    elif end == "clear":
        one.viewer.layers.clear()
    else:
        one.comparison.close()
    assert not one.comparison.divided
    assert not one.original.visible
    assert one.result.visible
    assert len(one.canvas._scene_canvas.events.draw.callbacks) == drawn
    assert len(one.canvas.view.children) == children
    one.viewer.dims.ndisplay = 2
    one.viewer.canvas.grid.enabled = False
    wanted = {"another": BLUE, "result": BLACK, "clear": BLACK}.get(end, GREEN)
    assert one.colours(0.3, 0.7) == [wanted, wanted]


def test_the_divider_needs_a_plane(scene: Make) -> None:
    one = scene()
    one.viewer.dims.ndisplay = 3
    one.comparison.divider(True)
    assert not one.comparison.divided
    assert not one.original.visible


def test_moving_the_divider_takes_no_time(scene: Make) -> None:
    one = scene()
    one.comparison.divider(True)
    one.colours(0.5)
    times = []
    for i in range(20):
        start = time.thread_time()
        one.comparison.position = i / 20
        one.comparison._arrange()
        times.append(time.thread_time() - start)
    assert np.median(times) < 0.01


def test_a_still_divider_draws_nothing(scene: Make, qtbot: Any) -> None:
    one = scene()
    one.comparison.divider(True)
    one.colours(0.5)
    asked: list[Any] = []
    one.comparison._scene_canvas.update = lambda *_: asked.append(1)
    one.comparison._arrange()
    del one.comparison._scene_canvas.update
    assert asked == []


# ---- mouse and key ---------------------------------------------------------------------------------------


def mouse(one: Scene, kind: Any, x: float, button: Any = Qt.MouseButton.LeftButton, pressed: bool = True) -> None:
    """Send a mouse event to the canvas at a fraction of its width, at a height away from the handle."""
    native = one.canvas.native
    place = QPointF(x * native.width(), 0.3 * native.height())
    moving = kind == QEvent.Type.MouseMove
    buttons = button if pressed else Qt.MouseButton.NoButton
    button = Qt.MouseButton.NoButton if moving else button
    modifiers = Qt.KeyboardModifier.NoModifier
    event = QMouseEvent(kind, place, QPointF(native.mapToGlobal(place.toPoint())), button, buttons, modifiers)
    QApplication.sendEvent(native, event)


def drag(one: Scene, *places: float) -> None:
    mouse(one, QEvent.Type.MouseButtonPress, places[0])
    for place in places[1:]:
        mouse(one, QEvent.Type.MouseMove, place)
    mouse(one, QEvent.Type.MouseButtonRelease, places[-1], pressed=False)


def test_the_mouse_drags_the_divider_and_not_the_image(qtbot: Any, scene: Make) -> None:
    one = scene()
    one.comparison.divider(True)
    one.colours(0.5)
    centre = one.viewer.scene.camera.center
    drag(one, 0.5, 0.55, 0.6)
    assert one.comparison.position == pytest.approx(0.6, abs=0.005)
    assert one.viewer.scene.camera.center == centre
    assert one.colours(0.58, 0.62) == [RED, GREEN]
    # Events away from the line go to the camera of the view, and those near it do not.
    for place, taker in ((0.3, one.canvas.view), (0.6, None)):
        mouse(one, QEvent.Type.MouseButtonPress, place)
        assert one.canvas._scene_canvas._mouse_handler is taker
        mouse(one, QEvent.Type.MouseButtonRelease, place, pressed=False)
    assert one.comparison.position == pytest.approx(0.6, abs=0.005)
    # Another button leaves it where it is.
    mouse(one, QEvent.Type.MouseButtonPress, 0.6, Qt.MouseButton.RightButton)
    mouse(one, QEvent.Type.MouseMove, 0.7, Qt.MouseButton.RightButton)
    mouse(one, QEvent.Type.MouseButtonRelease, 0.7, Qt.MouseButton.RightButton)
    assert one.comparison.position == pytest.approx(0.6, abs=0.005)
    mouse(one, QEvent.Type.MouseButtonDblClick, 0.6)
    mouse(one, QEvent.Type.MouseButtonRelease, 0.6, pressed=False)
    assert one.comparison.position == 0.5


def test_a_tool_of_the_selected_layer_does_not_draw_while_the_divider_is_dragged(scene: Make) -> None:
    one = scene()
    shapes = one.viewer.add_shapes(name="region")
    shapes.mode = "add_rectangle"
    one.comparison.divider(True)
    drag(one, 0.5, 0.55, 0.6)
    assert len(shapes.data) == 0
    assert one.comparison.position == pytest.approx(0.6, abs=0.005)


def test_the_cursor_shows_where_the_divider_can_be_taken(scene: Make) -> None:
    one = scene()
    native, shape = one.canvas.native, one.canvas.native.cursor().shape()
    mouse(one, QEvent.Type.MouseMove, 0.5, pressed=False)
    assert native.cursor().shape() == shape
    one.comparison.divider(True)
    mouse(one, QEvent.Type.MouseMove, 0.5, pressed=False)
    assert native.cursor().shape() == Qt.CursorShape.SplitHCursor
    mouse(one, QEvent.Type.MouseMove, 0.3, pressed=False)
    assert native.cursor().shape() == shape
    mouse(one, QEvent.Type.MouseMove, 0.5, pressed=False)
    one.comparison.divider(False)
    assert native.cursor().shape() == shape


def test_the_key_shows_the_original_until_it_is_released(qtbot: Any, scene: Make) -> None:
    one = scene()
    native = one.canvas.native
    qtbot.keyPress(native, KEY)
    assert one.comparison.held
    assert one.colours(0.3) == [RED]
    qtbot.keyRelease(native, KEY)
    assert not one.comparison.held
    assert one.colours(0.3) == [GREEN]
    # Another program got the release of the key.
    qtbot.keyPress(native, KEY)
    QApplication.instance().applicationStateChanged.emit(Qt.ApplicationState.ApplicationInactive)
    assert not one.comparison.held
    qtbot.keyRelease(native, KEY)
    one.comparison.close()
    qtbot.keyPress(native, KEY)
    assert not one.comparison.held


def test_napari_has_no_other_use_of_the_key(viewer: Any) -> None:
    from napari.layers import Image, Labels, Layer, Points, Shapes, Surface, Tracks, Vectors
    from napari.utils.shortcuts import default_shortcuts

    assert all(str(binding) != KEY for bindings in default_shortcuts.values() for binding in bindings)
    keymaps = [kind.class_keymap for kind in (Layer, Image, Labels, Points, Shapes, Surface, Tracks, Vectors)]
    keymaps += [viewer.keymap, type(viewer).class_keymap]
    assert all(str(binding) != KEY for keymap in keymaps for binding in keymap)


def test_a_key_of_the_user_is_left_alone(viewer: Any) -> None:
    pressed: list[Any] = []
    viewer.bind_key(KEY, pressed.append)
    comparison = Comparison(viewer, lambda: None)
    assert comparison.key is None
    bar = CompareBar(comparison)
    assert f"key {KEY}" not in bar.original_button.toolTip()
    bar.close()
    comparison.close()
    viewer.window._qt_viewer.canvas._key_map_handler.press_key(KEY)
    assert pressed == [viewer]


def test_a_viewer_may_close_first(viewer: Any) -> None:
    one = Scene(viewer)
    one.comparison.divider(True)
    one.colours(0.5)
    one.comparison.hold(True)
    viewer.close()
    one.comparison.close()


# ---- the buttons -----------------------------------------------------------------------------------------


@pytest.fixture
def bar(qtbot: Any, scene: Make) -> SimpleNamespace:
    one = scene()
    widget = CompareBar(one.comparison)
    qtbot.addWidget(widget)
    widget.show()
    return SimpleNamespace(scene=one, widget=widget, original=widget.original_button, divider=widget.divider_button)


def test_the_buttons_compare(qtbot: Any, bar: SimpleNamespace) -> None:
    comparison = bar.scene.comparison
    qtbot.mousePress(bar.original, Qt.MouseButton.LeftButton)
    assert comparison.held
    qtbot.mouseRelease(bar.original, Qt.MouseButton.LeftButton)
    assert not comparison.held
    qtbot.mouseClick(bar.divider, Qt.MouseButton.LeftButton)
    assert comparison.divided
    qtbot.mouseClick(bar.divider, Qt.MouseButton.LeftButton)
    assert not comparison.divided
    assert f"key {KEY}" in bar.original.toolTip()
    assert bar.original.accessibleName()
    assert bar.divider.accessibleName()


def test_the_buttons_follow_the_comparison(qtbot: Any, bar: SimpleNamespace) -> None:
    one = bar.scene
    one.comparison.divider(True)
    assert bar.divider.isChecked()
    one.viewer.dims.ndisplay = 3
    assert not bar.divider.isChecked()
    assert not bar.divider.isEnabled()
    assert "2-D" in bar.divider.toolTip()
    assert bar.original.isEnabled()
    one.viewer.dims.ndisplay = 2
    assert bar.divider.isEnabled()
    qtbot.mousePress(bar.original, Qt.MouseButton.LeftButton)
    one.viewer.layers.remove(one.result)
    assert not bar.original.isEnabled()
    assert not bar.divider.isEnabled()
    assert not one.comparison.held
