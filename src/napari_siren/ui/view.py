"""What of a layer is in view: the slice that a viewer shows, and the part of it on the canvas. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_siren.layer_spec import LayerSpec

Box = tuple[tuple[int, int], ...]


def shown_axes(viewer: Any, layer: Any) -> tuple[int, ...]:
    """Axes of a layer that a viewer shows as the picture's own, the others being at a slider's position."""
    first = viewer.dims.ndim - layer.ndim
    return tuple(sorted(axis - first for axis in viewer.dims.displayed if axis >= first))


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


def field_of_view(viewer: Any, layer: Any, level: int = 0) -> tuple[tuple[int, int] | None, ...]:
    """Pixels of the layer that the canvas shows, (start, stop) along the picture's axes and None along the others.

    A layer that is turned shows the box around what is seen. In 3D, and while the layer is hidden, that is all of it.
    """
    shape, factors = _level(layer, level)
    if viewer.dims.ndisplay != 2 or not layer.visible:
        return (None,) * len(shape)
    corners = np.asarray(layer.corner_pixels, dtype=np.float64)
    if layer.multiscale:
        corners = corners * layer.downsample_factors[layer.data_level]
    box: list[tuple[int, int] | None] = [None] * len(shape)
    for axis in shown_axes(viewer, layer):
        start = int(np.floor(corners[0, axis] / factors[axis]))
        stop = int(np.ceil((corners[1, axis] + 1) / factors[axis]))
        if stop - start > 1:
            box[axis] = (max(0, start), min(shape[axis], stop))
    return tuple(box)


def box_in_view(viewer: Any, layer: Any, spec: LayerSpec) -> Box | None:
    """Give what is in view of a layer whose pixels are those of a spec: a box of its coordinates, None if of no use.

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
    return tuple(box)


def _level(layer: Any, level: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape of a level of a layer, and pixels of level 0 for each of its pixels."""
    levels = layer.data if layer.multiscale else [layer.data]
    shape = tuple(levels[level].shape[: layer.ndim])
    return shape, tuple(a / b for a, b in zip(levels[0].shape, shape, strict=False))
