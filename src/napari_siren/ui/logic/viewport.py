"""What of a layer is in view: the slice that a viewer shows, and the part of it on the canvas. No Qt."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.layers.reading import axis_kind
from napari_siren.layers.spec import LayerSpec

Box = tuple[tuple[int, int], ...]


def shown_axes(viewer: Any, layer: Any) -> tuple[int, ...]:
    """Axes of a layer that a viewer shows as the picture's own, the others being at a slider's position."""
    return tuple(sorted(_displayed(viewer, layer)))


def shown_plane(viewer: Any, layer: Any, level: int = 0) -> tuple[int | None, ...]:
    """Index of the layer along each axis that a slider moves through, None along those of the picture.

    Parameters
    ----------
    viewer, layer
        Of napari.
    level
        Of a multiscale layer, whose pixels are counted.
    """
    shown = shown_axes(viewer, layer)
    position = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    shape, factors = _level(layer, level)
    return tuple(
        None if axis in shown else int(np.clip(round((position[axis] + 0.5) / factors[axis] - 0.5), 0, n - 1))
        for axis, n in enumerate(shape)
    )


def shown_slice(viewer: Any, layer: Any) -> tuple[int | None, ...]:
    """Return the same with every channel: None along an axis of channels, too."""
    kinds = [axis_kind(label) for label in layer.axis_labels]
    return tuple(None if kind == "C" else i for kind, i in zip(kinds, shown_plane(viewer, layer), strict=True))


def field_of_view(viewer: Any, layer: Any, level: int = 0) -> tuple[tuple[int, int] | None, ...]:
    """Pixels of the layer that the canvas shows, (start, stop) along the picture's axes and None along the others.

    Where none is in view, start is stop along some axis. A layer that is turned shows the box around what is seen. In
    3D, and while the layer is hidden, that is all of it: None along every axis.
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


def box_in_view(viewer: Any, layer: Any, spec: LayerSpec) -> Box | None:
    """Return what is in view of a layer whose pixels are those of a spec: a box of its coordinates, None if of no use.

    Parameters
    ----------
    viewer
        Of napari.
    layer
        One that lies over the spec's pixels, one to one.
    spec
        Of what is fitted.
    """
    plane, seen = shown_plane(viewer, layer), field_of_view(viewer, layer)
    letters = iter(spec.axes)
    box = []
    for axis, n in enumerate(spec.shape):
        if axis in spec.held or next(letters) == "C":
            continue
        index, edges = plane[axis], seen[axis]
        box.append((index, index + 1) if index is not None else edges or (0, n))
    return tuple(box) if all(start < stop for start, stop in box) else None


def _displayed(viewer: Any, layer: Any) -> list[int]:
    """Axes of a layer that are the picture's own, in the order of the canvas, as napari has it: the last ones."""
    first = viewer.dims.ndim - layer.ndim
    return [axis - first for axis in viewer.dims.order if axis >= first][-viewer.dims.ndisplay :]


def _canvas_corners(viewer: Any, layer: Any) -> npt.NDArray[np.float64]:
    """Positions of the canvas's corners in pixels of a layer (of level 0), (4, layer.ndim).

    By the camera: the layer's own `corner_pixels` are those that were loaded, of a multiscale layer perhaps far more.
    """
    camera = viewer.scene.camera
    centre, half = np.array(camera.center[-2:]), np.array(viewer.canvas.viewbox_size(viewer.layers)) / camera.zoom / 2
    corners = np.tile(np.array(viewer.dims.point[-layer.ndim :], dtype=np.float64), (4, 1))
    corners[:, _displayed(viewer, layer)] = [centre + half * signs for signs in product((-1, 1), repeat=2)]
    return np.array([layer.world_to_data(corner) for corner in corners])


def _level(layer: Any, level: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape of a level of a layer, and pixels of level 0 for each of its pixels."""
    levels = layer.data if layer.multiscale else [layer.data]
    shape = tuple(levels[level].shape[: layer.ndim])
    return shape, tuple(a / b for a, b in zip(levels[0].shape, shape, strict=False))
