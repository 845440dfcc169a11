"""The divider of a comparison on napari's canvas: its line, and the limits of the images on its sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from vispy.scene import Node
from vispy.scene.visuals import Mesh
from vispy.visuals.filters import Filter
from vispy.visuals.transforms import STTransform

RADIUS = 11
"""Radius of the divider's handle in pixels of the screen."""

# Order of the divider among the visuals: above napari's overlays, which have 1,000,000.
_ORDER = 2_000_000
_WHITE, _DARK = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.6)


class RightOf(Filter):
    """A limit of the pixels of a visual: those on the right of an edge.

    `edge` is the position in the framebuffer, followed by 0.
    """

    _CODE = "void right_of() { if (gl_FragCoord.x < $edge.x) discard; }"

    def __init__(self) -> None:
        super().__init__(fcode=self._CODE, fhook="pre", fpos=1)


class LeftOf(Filter):
    """A limit of the pixels of a visual: those on the left of an edge, and those outside of an image.

    `edge` is the position in the framebuffer, followed by 0. `row_x` and `row_y` map the homogeneous position in the
    framebuffer to the pixels of the image. `size` has the numbers of its pixels along x and y.
    """

    _CODE = """
        void left_of() {
            vec3 position = vec3(gl_FragCoord.xy, 1.0);
            float x = dot($row_x, position), y = dot($row_y, position);
            bool inside = x > 0.0 && y > 0.0 && x < $size.x && y < $size.y;
            if (position.x > $edge.x && inside) discard;
        }
    """

    def __init__(self) -> None:
        super().__init__(fcode=self._CODE, fhook="pre", fpos=1)


class DividerLine:
    """The line of the divider with its handle, over a view."""

    def __init__(self, view: Any) -> None:
        self._node = Node(parent=view)
        self._node.order = _ORDER
        rim, core = _box(2.5), _box(1.0)
        disc, face = _disc(RADIUS), _disc(RADIUS - 1.5)
        arrows = [np.array([(s * 7, 0), (s * 3, -4), (s * 3, 4)]) for s in (-1, 1)]
        self._parts = (
            _mesh(self._node, [(rim, _DARK), (core, _WHITE)]),
            _mesh(self._node, [(disc, _DARK), (face, _WHITE), *((arrow, _DARK) for arrow in arrows)]),
        )
        for part in self._parts:
            part.transform = STTransform()
        self._place: tuple[float, float] | None = None

    def move(self, x: float, height: float) -> None:
        """Move the line to a position on a canvas of a height, both in pixels of the screen."""
        if (x, height) != self._place:
            self._place = (x, height)
            line, handle = self._parts
            # New transforms would have the shaders compiled again.
            line.transform.scale = (1, height)
            line.transform.translate = (x, 0)
            handle.transform.translate = (x, height / 2)

    def remove(self) -> None:
        """Remove the line from the scene."""
        self._node.parent = None


def _box(half_width: float) -> npt.NDArray[np.float64]:
    return np.array([(-half_width, 0), (half_width, 0), (half_width, 1), (-half_width, 1)], dtype=np.float64)


def _disc(radius: float) -> npt.NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _mesh(parent: Any, polygons: list[tuple[npt.NDArray[Any], tuple[float, ...]]]) -> Any:
    """Return convex polygons as one visual, the later ones above the earlier ones."""
    first, vertices, faces, colours = 0, [], [], []
    for corners, colour in polygons:
        n = len(corners)
        vertices.append(np.pad(corners.astype(np.float32), ((0, 0), (0, 1))))
        faces += [(first, first + i, first + i + 1) for i in range(1, n - 1)]
        colours += [colour] * n
        first += n
    mesh = Mesh(np.concatenate(vertices), np.array(faces, dtype=np.uint32), np.array(colours), parent=parent)
    mesh.set_gl_state("translucent", depth_test=False, cull_face=False)
    return mesh
