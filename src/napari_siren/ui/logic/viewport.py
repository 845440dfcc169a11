"""The part of a layer in view: the slice shown by a viewer, and the part of it on the canvas. No Qt."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.layers.reading import axis_kind
from napari_siren.layers.spec import LayerSpec

# (start, stop) in pixels for each coordinate.
Box = tuple[tuple[int, int], ...]


def shown_axes(viewer: Any, layer: Any) -> tuple[int, ...]:
    """Return the axes of a layer displayed on the canvas; the other axes have sliders."""
    return tuple(sorted(_displayed(viewer, layer)))


def shown_plane(viewer: Any, layer: Any, level: int = 0) -> tuple[int | None, ...]:
    """Return the layer's index along each axis with a slider, and None along the displayed axes.

    Parameters
    ----------
    viewer
        napari's viewer.
    layer
        A layer of the viewer.
    level
        Level of a multiscale layer in whose pixels the index is given.
    """
    displayed = shown_axes(viewer, layer)
    position = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    shape, factors = _level(layer, level)
    return tuple(
        None if axis in displayed else int(np.clip(round((position[axis] + 0.5) / factors[axis] - 0.5), 0, n - 1))
        for axis, n in enumerate(shape)
    )


def shown_slice(viewer: Any, layer: Any, level: int = 0) -> tuple[int | None, ...]:
    """Return the same as `shown_plane`, with every channel: None along an axis of channels, too."""
    kinds = [axis_kind(label) for label in layer.axis_labels]
    return tuple(None if kind == "C" else i for kind, i in zip(kinds, shown_plane(viewer, layer, level), strict=True))


def field_of_view(viewer: Any, layer: Any, level: int = 0) -> tuple[tuple[int, int] | None, ...]:
    """Return the layer's pixels on the canvas: (start, stop) along the displayed axes, and None along the others.

    If no pixel is in view, start equals stop along at least one axis. For a rotated layer, the result is the bounding
    box of the visible part. In 3D, and while the layer is hidden, the result is the whole layer: None along every axis.
    """
    shape, factors = _level(layer, level)
    box: list[tuple[int, int] | None] = [None] * len(shape)
    if viewer.dims.ndisplay != 2 or not layer.visible:
        return tuple(box)
    corners = _canvas_corners(viewer, layer)
    for axis in _displayed(viewer, layer):
        # A pixel reaches half a pixel beyond its centre.
        edges = (corners[:, axis] + 0.5) / factors[axis]
        start, stop = np.clip([np.floor(edges.min()), np.ceil(edges.max())], 0, shape[axis])
        box[axis] = (int(start), int(stop))
    return tuple(box)


def square_around(
    viewer: Any, layer: Any, position: Any, side: int, level: int = 0
) -> tuple[tuple[int, int] | None, ...] | None:
    """Return a square of a layer around a position in the world, moved into the layer if it is near the border.

    Parameters
    ----------
    viewer
        napari's viewer.
    layer
        A layer of the viewer.
    position
        Position in the world, one number for each axis of the viewer or of the layer.
    side
        Pixels of the square along each displayed axis. A smaller layer is taken whole.
    level
        Level of a multiscale layer in whose pixels the square is given.

    Returns
    -------
    tuple or None
        (start, stop) along the displayed axes, and None along the others. None if the position is outside of the layer.
    """
    shape, factors = _level(layer, level)
    centre = layer.world_to_data(np.asarray(position, dtype=np.float64)[-layer.ndim :])
    box: list[tuple[int, int] | None] = [None] * len(shape)
    for axis in _displayed(viewer, layer):
        n, middle = shape[axis], (centre[axis] + 0.5) / factors[axis]
        if not 0 <= middle < n:
            return None
        start = int(np.clip(round(middle - side / 2), 0, max(0, n - side)))
        box[axis] = (start, min(n, start + side))
    return tuple(box)


def box_in_view(viewer: Any, layer: Any, spec: LayerSpec) -> Box | None:
    """Return the box of coordinates in view of a layer with the pixels of a spec, or None if no pixel is in view.

    Parameters
    ----------
    viewer
        napari's viewer.
    layer
        A layer with one pixel for each pixel of the spec.
    spec
        Description of the fitted pixels.
    """
    plane, view = shown_plane(viewer, layer), field_of_view(viewer, layer)
    letters = iter(spec.axes)
    box = []
    for axis, n in enumerate(spec.shape):
        if axis in spec.held or next(letters) == "C":
            continue
        index, edges = plane[axis], view[axis]
        box.append((index, index + 1) if index is not None else edges or (0, n))
    return tuple(box) if all(start < stop for start, stop in box) else None


def _displayed(viewer: Any, layer: Any) -> list[int]:
    """Return the displayed axes of a layer in the order of the canvas. In napari these are the last ones."""
    first = viewer.dims.ndim - layer.ndim
    return [axis - first for axis in viewer.dims.order if axis >= first][-viewer.dims.ndisplay :]


def _canvas_corners(viewer: Any, layer: Any) -> npt.NDArray[np.float64]:
    """Return the positions of the canvas's corners in pixels of level 0 of a layer, of shape (4, layer.ndim).

    They are computed from the camera. The layer's own `corner_pixels` are those of the loaded part, and a multiscale
    layer may have loaded far more.
    """
    camera = viewer.scene.camera
    centre, half = np.array(camera.center[-2:]), np.array(viewer.canvas.viewbox_size(viewer.layers)) / camera.zoom / 2
    corners = np.tile(np.array(viewer.dims.point[-layer.ndim :], dtype=np.float64), (4, 1))
    corners[:, _displayed(viewer, layer)] = [centre + half * signs for signs in product((-1, 1), repeat=2)]
    return np.array([layer.world_to_data(corner) for corner in corners])


def _level(layer: Any, level: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the shape of a level of a layer, and the number of level-0 pixels per pixel of it along each axis."""
    levels = layer.data if layer.multiscale else [layer.data]
    shape = tuple(levels[level].shape[: layer.ndim])
    return shape, tuple(a / b for a, b in zip(levels[0].shape, shape, strict=False))
