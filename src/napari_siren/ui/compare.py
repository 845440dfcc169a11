"""`Comparison`: the original beside the result on napari's canvas, by a key to hold and by a divider to drag."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QApplication

from napari_siren.layers.outputs import RESULT_KEY
from napari_siren.ui.widgets.divider import RADIUS, DividerLine, LeftOf, RightOf

KEY = "H"
"""Key to hold for the original. napari uses it for nothing, in no kind of layer."""

# Distance from the divider in pixels of the screen, within which the mouse takes hold of it.
_REACH = 8

Pair = tuple[Any, Any]
"""The layers of the original and of its result."""


class Comparison(QObject):
    """A comparison of a result with its original.

    No pixels are copied. The divider is a limit in the shaders of the layers, and the result is hidden in the scene
    and not in the layer list. The only property that changes, and is restored, is the visibility of hidden layers.

    Parameters
    ----------
    viewer
        napari's viewer, with its window.
    pair
        Function that returns the layers of the original and of the current result, or None. Call `refresh` when
        another result becomes the current one.
    parent
        The QObject that owns this one.
    """

    changed = Signal()
    """What can be compared, or what is shown, has changed."""

    def __init__(self, viewer: Any, pair: Callable[[], Pair | None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer, self._function = viewer, pair
        # The pair that is compared now, and the layers that were made visible for it.
        self._pair: Pair | None = None
        self._shown_by_hold: list[Any] | None = None
        self._shown_by_divider: list[Any] | None = None
        # Visual nodes that are hidden, with their layer and whether they were visible.
        self._hidden: dict[Any, tuple[Any, bool]] = {}
        # Limits of the divider, by the visual nodes.
        self._limits: dict[Any, Any] = {}
        self._line: DividerLine | None = None
        self._position = 0.5
        self._grabbed = self._hovering = False
        self._events = (
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
            viewer.layers.selection.events.active,
            viewer.dims.events.ndisplay,
            viewer.canvas.grid.events.enabled,
        )
        for event in self._events:
            event.connect(self.refresh)
        self.key: str | None = KEY
        try:
            viewer.bind_key(KEY, self._while_pressed)
        except ValueError:  # the user, or another panel of this viewer, has bound it
            self.key = None

    # ---- what is compared --------------------------------------------------------------------------------------

    @property
    def available(self) -> bool:
        """Whether there is a pair."""
        return self._current() is not None

    @property
    def divisible(self) -> bool:
        """Whether the divider can be shown: there is a pair, in two dimensions, and not in napari's grid."""
        return self.available and self.viewer.dims.ndisplay == 2 and not self.viewer.canvas.grid.enabled

    @property
    def held(self) -> bool:
        """Whether the original is shown alone."""
        return self._shown_by_hold is not None

    @property
    def divided(self) -> bool:
        """Whether the divider is shown."""
        return self._shown_by_divider is not None

    @property
    def position(self) -> float:
        """Position of the divider as a fraction of the width of the canvas, 0 to 1."""
        return self._position

    @position.setter
    def position(self, fraction: float) -> None:
        self._position = min(max(float(fraction), 0.0), 1.0)
        if self.divided:
            self._scene_canvas.update()

    def refresh(self, event: Any = None) -> None:
        """End a comparison of another pair. Call this when another result becomes the current one."""
        if self._pair is not None and not _is_same(self._pair, self._current()):
            self.divider(False)
            self.hold(False)
        elif self.divided and not self.divisible:
            self.divider(False)
        self.changed.emit()

    def hold(self, on: bool) -> None:
        """Show the original alone, or show everything as before.

        Parameters
        ----------
        on
            Whether the original is shown alone. The result and the other layers of its fit are hidden.
        """
        pair = self._current()
        if on and not self.held and pair is not None:
            self._pair = pair
            self._shown_by_hold = _show(pair[0])
            self._follow()
        elif not on and self.held:
            shown, self._shown_by_hold = self._shown_by_hold or [], None
            for node, (layer, was_visible) in self._hidden.items():
                node.visible = was_visible and layer.visible
            self._hidden.clear()
            self._end(shown)

    def divider(self, on: bool) -> None:
        """Show or remove the divider: the original on its left, the result on its right.

        Beside the result, such as around the result of a part of the image, the original is shown on both sides.

        Parameters
        ----------
        on
            Whether the divider is shown. Without a pair, in three dimensions, or in napari's grid it is not.
        """
        self.hold(False)
        pair = self._current()
        if on and not self.divided and pair is not None and self.divisible:
            self._pair = pair
            self._shown_by_divider = _show(*pair)
            self._line = DividerLine(self._canvas.view)
            self._canvas.native.installEventFilter(self)
            self._follow()
        elif not on and self.divided:
            shown, self._shown_by_divider = self._shown_by_divider or [], None
            for node, limit in self._limits.items():
                node.detach(limit)
            self._limits.clear()
            if self._line is not None:
                self._line.remove()
            self._line = None
            self._canvas.native.removeEventFilter(self)
            self._grabbed = False
            self._show_cursor(False)
            self._end(shown)

    def close(self) -> None:
        """End the comparison, and release the key and the viewer."""
        self.divider(False)
        self.hold(False)
        for event in self._events:
            event.disconnect(self.refresh)
        if self.key is not None:
            self.viewer.bind_key(self.key, None)
            self.key = None

    def _current(self) -> Pair | None:
        pair = self._function()
        if pair is None or pair[0] is pair[1] or any(layer not in self.viewer.layers for layer in pair):
            return None
        return pair

    def _while_pressed(self, viewer: Any) -> Iterator[None]:
        """Show the original while the key is pressed."""
        application = QApplication.instance()
        # The window that is active when the key is released gets the event. It may be that of another program.
        application.applicationStateChanged.connect(self._on_application_state)
        self.hold(True)
        yield
        application.applicationStateChanged.disconnect(self._on_application_state)
        self.hold(False)

    def _on_application_state(self, state: Any) -> None:
        if state != Qt.ApplicationState.ApplicationActive:
            self.hold(False)

    # ---- the scene ---------------------------------------------------------------------------------------------

    @property
    def _canvas(self) -> Any:
        return self.viewer.window._qt_viewer.canvas

    @property
    def _scene_canvas(self) -> Any:
        return self._canvas._scene_canvas

    def _follow(self) -> None:
        """Arrange the scene before each drawing from now on: napari may have replaced the nodes of the layers."""
        self._scene_canvas.events.draw.disconnect(self._arrange)
        self._scene_canvas.events.draw.connect(self._arrange, position="first")
        self._scene_canvas.update()
        self.changed.emit()

    def _end(self, shown: list[Any]) -> None:
        if not (self.held or self.divided):
            self._scene_canvas.events.draw.disconnect(self._arrange)
            self._pair = None
        for layer in shown:
            layer.visible = False
        # napari's own blending of the lowest layer.
        self._canvas._reorder_layers()
        self.changed.emit()

    def _arrange(self, event: Any = None) -> None:
        if self._pair is None:
            return
        visuals, (original, result) = self._canvas.layer_to_visual, self._pair
        fit = result.metadata.get(RESULT_KEY)
        above = [
            layer
            for layer in self.viewer.layers
            if layer is result or (fit is not None and layer.metadata.get(RESULT_KEY) is fit and layer is not original)
        ]
        # A viewer that closes removes its layers one by one.
        if any(layer not in visuals for layer in (original, result, *above)):
            return
        if self.held:
            for layer in above:
                self._hide(layer, visuals[layer].node)
        if self.divided and self.viewer.dims.ndisplay == 2:
            self._divide(visuals[original].node, [visuals[layer].node for layer in above], visuals[result].node)
        if not self.viewer.canvas.grid.enabled:
            self._blend(original, above)

    def _hide(self, layer: Any, node: Any) -> None:
        if node.visible or node not in self._hidden:
            self._hidden[node] = (layer, node.visible)
            node.visible = False

    def _divide(self, original: Any, above: list[Any], result: Any) -> None:
        """Set the limits of the layers and the position of the line."""
        width, height = self._scene_canvas.physical_size
        edge = round(self._position * width)
        for node in (leaf for parent in above for leaf in _leaves(parent)):
            self._limit(node, RightOf)["edge"] = (float(edge), 0.0)
        rows, size = self._pixels_of(result)
        for node in _leaves(original):
            shader = self._limit(node, LeftOf)
            shader["edge"] = (float(width + 1 if self.held else edge), 0.0)
            shader["row_x"], shader["row_y"] = map(tuple, rows.tolist())
            shader["size"] = size
        if self._line is not None:
            scale = self._scene_canvas.pixel_scale
            self._line.move(edge / scale, height / scale)

    def _limit(self, node: Any, kind: type[LeftOf] | type[RightOf]) -> Any:
        if node not in self._limits:
            self._limits[node] = kind()
            node.attach(self._limits[node])
        return self._limits[node].fshader

    def _pixels_of(self, node: Any) -> tuple[npt.NDArray[Any], tuple[float, float]]:
        """Return the map from the framebuffer to the pixels of an image, and the numbers of its pixels along x and y.

        Returns
        -------
        rows
            float64 array of shape (2, 3), for the homogeneous position in the framebuffer, whose y axis points upwards.
        size
            Numbers of pixels. They are 0 if the image is not drawn.
        """
        view, scale = self._canvas.view, self._scene_canvas.pixel_scale
        corners = view.transform.map(view.scene.transform.map(node.transform.map([(0, 0), (1, 0), (0, 1)])))
        positions = np.asarray(corners, dtype=np.float64)[:, :2] / np.asarray(corners)[:, 3:]
        positions = positions * (scale, -scale) + (0, self._scene_canvas.physical_size[1])
        matrix = np.eye(3)
        matrix[:2, 2] = positions[0]
        matrix[:2, :2] = (positions[1:] - positions[0]).T
        if not node.visible or abs(np.linalg.det(matrix)) < 1e-12:
            return np.zeros((2, 3)), (0.0, 0.0)
        tiles = hasattr(node, "adopted_children")
        height, width = (node.data if tiles else node._data).shape[:2]
        return np.linalg.inv(matrix)[:2], (float(width), float(height))

    def _blend(self, original: Any, above: list[Any]) -> None:
        """Blend the lowest visible layer on either side of the divider with nothing, as napari does.

        An additive result would otherwise be added to the white canvas of the light theme.
        """
        visible = [layer for layer in self.viewer.layers if layer.visible]
        left = next((layer for layer in visible if layer not in above), None)
        right = next((layer for layer in visible if layer is not original), None)
        right = right if self.divided and not self.held else left
        for layer in visible:
            # A layer on both sides, but the lowest one on one side only, is blended with the layer below it.
            own = layer is original or layer in above
            is_first = layer in (left, right) if own else left is layer and right is layer
            visual = self._canvas.layer_to_visual[layer]
            if visual.first_visible != is_first:
                visual.first_visible = is_first
                visual._on_blending_change()

    # ---- the mouse ---------------------------------------------------------------------------------------------

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Drag the divider. Events at a distance from it are left to napari.

        An event filter, unlike napari's mouse callbacks, keeps these events from the tools of the selected layer, and
        has the cursor for it.
        """
        kind = None if event is None or not self.divided else event.type()
        if kind == QEvent.Type.MouseMove:
            return self._on_move(event)
        if kind in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick):
            self._grabbed = self._is_left(event) and self._is_near(event)
            if self._grabbed and kind == QEvent.Type.MouseButtonDblClick:
                self.position = 0.5
            return self._grabbed
        if kind == QEvent.Type.MouseButtonRelease and self._grabbed and self._is_left(event):
            self._grabbed = False
            return True
        if kind == QEvent.Type.Leave and not self._grabbed:
            self._show_cursor(False)
        return False

    def _on_move(self, event: Any) -> bool:
        if self._grabbed:
            self.position = event.position().x() / max(1, self._canvas.native.width())
        elif event.buttons() == Qt.MouseButton.NoButton:
            self._show_cursor(self._is_near(event))
        return self._grabbed

    def _is_left(self, event: Any) -> bool:
        return bool(event.button() == Qt.MouseButton.LeftButton)

    def _is_near(self, event: Any) -> bool:
        """Return whether the mouse is near the line or on its handle."""
        native, place = self._canvas.native, event.position()
        x, y = place.x() - self._position * native.width(), place.y() - native.height() / 2
        return bool(abs(x) <= _REACH or math.hypot(x, y) <= RADIUS)

    def _show_cursor(self, near: bool) -> None:
        if near:
            self._canvas.native.setCursor(Qt.CursorShape.SplitHCursor)
        elif self._hovering:
            self._canvas._on_cursor()
        self._hovering = near


def _is_same(pair: Pair, other: Pair | None) -> bool:
    return other is not None and pair[0] is other[0] and pair[1] is other[1]


def _show(*layers: Any) -> list[Any]:
    """Make layers visible, and return those that were hidden."""
    hidden = [layer for layer in layers if not layer.visible]
    for layer in hidden:
        layer.visible = True
    return hidden


def _leaves(node: Any) -> list[Any]:
    """Return the visuals of an image: its tiles, if it is larger than a texture, else itself."""
    return list(getattr(node, "adopted_children", ())) or [node]
