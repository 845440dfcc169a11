"""Regions of a layer to fit: boxes, masks, the shapes of a Shapes layer, and the labels of a Labels layer.

A *plane* and a *region* can be combined. The plane is a fixed index for some of the axes. The region selects pixels
along the other axes. Pure: napari need not be installed.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import index as whole_number
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform
from skimage.draw import polygon2mask

from napari_siren.core.image.axes import Axes
from napari_siren.errors import InputError
from napari_siren.layers.reading import Placement, layer_kinds, layer_title

# Types of shapes with an area.
_AREAS = {"rectangle", "polygon", "ellipse"}
# Corners of the polygon for an ellipse: its distance is at most 0.03 % of the radius (1 - cos(π/128)).
_ELLIPSE_CORNERS = 128
# Largest rounding error of positions in pixels. Smaller differences are ignored.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Region:
    """A box of pixels of a layer, with an optional mask.

    Parameters
    ----------
    box
        (start, stop) in pixels for each of the layer's axes, without the colours of an RGB image.
    mask
        bool array of the box's shape, True for pixels of the region. None is the whole box.
    held
        Positions of the axes with a fixed index in `plane`.
    """

    box: tuple[tuple[int, int], ...]
    mask: npt.NDArray[np.bool_] | None
    held: tuple[int, ...]

    @classmethod
    def from_layer(
        cls, region: Any, plane: Sequence[int | None] | None, shape: Sequence[int], placement: Placement, name: str
    ) -> Region:
        """Return the region for the arguments `region` and `plane` of `fit_layer`.

        Parameters
        ----------
        region, plane
            Region and plane, as in `fit_layer`.
        shape
            Shape of the layer, without the colours of an RGB image.
        placement
            Position of the layer's pixels in the world.
        name
            Name of the layer, for messages.

        Raises
        ------
        InputError
            The region or the plane is invalid, or there is no pixel of the layer in them.
        """
        indices = _check_plane(plane, shape)
        held = tuple(i for i, index in enumerate(indices) if index is not None)
        box = [(0, n) if index is None else (index, index + 1) for index, n in zip(indices, shape, strict=True)]
        kinds = layer_kinds(region)
        mask = None
        if "Shapes" in kinds or "Labels" in kinds:
            # Compute the mask of the plane only: a mask of a whole series may not fit into memory.
            sizes = [stop - start for start, stop in box]
            plane_placement = placement.shifted([start for start, _ in box])
            mask = (_mask_of_shapes if "Shapes" in kinds else _mask_of_labels)(region, sizes, plane_placement)
        elif kinds:
            raise InputError(f"{layer_title(region)} marks no region. Use a Shapes or a Labels layer.")
        elif isinstance(region, np.ndarray) and region.dtype == np.bool_:
            mask = _mask_of_array(region, shape)[tuple(slice(start, stop) for start, stop in box)]
        elif region is not None:
            box = [_meet(a, b) for a, b in zip(box, _check_box(region, shape), strict=True)]
        result = cls(tuple(box), None, held) if mask is None else cls(*_fit_box(mask, box), held)
        if any(start >= stop for start, stop in result.box):
            raise InputError(f"no pixel of {name} lies in the region. Move the region over the image.")
        return result

    @property
    def is_empty(self) -> bool:
        """Whether the mask has no pixel, as it may have at one entry of an axis."""
        return self.mask is not None and not self.mask.any()

    def entry(self, axes: Sequence[int], index: Sequence[int]) -> Region:
        """Return the region at an index of the box along some axes. These then have a fixed index."""
        at = dict(zip(axes, index, strict=True))
        box = [(a + at[i], a + at[i] + 1) if i in at else (a, b) for i, (a, b) in enumerate(self.box)]
        inside = tuple(slice(at[i], at[i] + 1) if i in at else slice(None) for i in range(len(box)))
        held = tuple(sorted((*self.held, *axes)))
        return Region(tuple(box), None if self.mask is None else self.mask[inside], held)

    @property
    def slices(self) -> tuple[slice | int, ...]:
        """Index of the region's box in the layer's data: an integer for each held axis, a slice for each other axis."""
        return tuple(start if i in self.held else slice(start, stop) for i, (start, stop) in enumerate(self.box))

    @property
    def starts(self) -> tuple[int, ...]:
        """Index of the first pixel along each axis."""
        return tuple(start for start, _ in self.box)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along each axis."""
        return tuple(stop - start for start, stop in self.box)

    def channels(self, axes: Axes) -> int:
        """Return the number of channels of the pixels; 1 without an axis of channels.

        Parameters
        ----------
        axes
            Letters of the axes that are not held.
        """
        return 1 if axes.channel is None else [n for i, n in enumerate(self.shape) if i not in self.held][axes.channel]

    def missing(self, channel: int | None) -> npt.NDArray[np.bool_] | None:
        """Return the mask of the pixels of the box outside the region, over the coordinates; None without any.

        Parameters
        ----------
        channel
            Position of the channels among the axes that are not held, or None.
        """
        if self.mask is None:
            return None
        inside: npt.NDArray[np.bool_] = np.squeeze(self.mask, self.held)
        if channel is not None:
            # A field has all channels at every point: a point is inside if it is inside for any channel.
            inside = np.any(inside, axis=channel, keepdims=False)
        return None if inside.all() else np.logical_not(inside)


def either_mask(
    mask: npt.NDArray[np.bool_] | None, other: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.bool_] | None:
    """Return the union of two masks. None is a mask without pixels."""
    if mask is None or other is None:
        return other if mask is None else mask
    return np.logical_or(mask, other)


def mask_to_text(mask: npt.NDArray[np.bool_] | None) -> str | None:
    """Return a mask as a short text, to be stored with a model."""
    return None if mask is None else base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def mask_from_text(text: str | None, shape: Sequence[int]) -> npt.NDArray[np.bool_] | None:
    """Return the mask of a given shape from the text of `mask_to_text`.

    Raises
    ------
    ValueError
        The text is damaged.
    """
    if text is None:
        return None
    size, reader = -(-math.prod(shape) // 8), zlib.decompressobj()
    try:
        # A short text may expand to any length.
        data = reader.decompress(base64.b64decode(text), size + 1)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"the mask cannot be read: {error}") from None
    if len(data) != size or not reader.eof:
        raise ValueError(f"the mask cannot be read: it does not have {size} bytes")
    bits = np.frombuffer(data, dtype=np.uint8)
    return np.unpackbits(bits, count=math.prod(shape)).astype(np.bool_).reshape(tuple(shape))


def _check_plane(plane: Sequence[int | None] | None, shape: Sequence[int]) -> list[int | None]:
    if plane is None:
        return [None] * len(shape)
    if not isinstance(plane, list | tuple) or len(plane) != len(shape):
        raise InputError(
            f"plane={plane!r} is invalid. Give {len(shape)} entries, an index or None for each axis of the layer."
        )
    for index, n in zip(plane, shape, strict=True):
        if index is not None and not (isinstance(index, int | np.integer) and 0 <= index < n):
            raise InputError(f"plane={plane!r}: {index!r} is no index from 0 to {n - 1}. Choose one of these, or None.")
    return [None if index is None else int(index) for index in plane]


def _check_box(region: Any, shape: Sequence[int]) -> list[tuple[int, int]]:
    hint = f"Give {len(shape)} entries, (start, stop) in pixels or None for each axis of the layer"
    if not isinstance(region, list | tuple) or len(region) != len(shape):
        raise InputError(f"region={region!r} is invalid. {hint}; or a Shapes or Labels layer, or a boolean array.")
    box = []
    for entry, n in zip(region, shape, strict=True):
        try:
            start, stop = (0, n) if entry is None else map(whole_number, entry)
        except (TypeError, ValueError):
            raise InputError(f"region={region!r} has the invalid entry {entry!r}. {hint}.") from None
        if start >= stop:
            raise InputError(f"region={region!r} has an empty entry. The start must be less than stop, in {entry!r}.")
        box.append((start, stop))
    return box


def _meet(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return max(a[0], b[0]), min(a[1], b[1])


def _fit_box(
    mask: npt.NDArray[np.bool_], box: Sequence[tuple[int, int]]
) -> tuple[tuple[tuple[int, int], ...], npt.NDArray[np.bool_] | None]:
    """Return the smallest box around the True pixels of a mask, and the mask within it; None if all are True."""
    fitted = []
    for axis, (start, _) in enumerate(box):
        along = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        fitted.append((start + int(along[0]), start + int(along[-1]) + 1) if len(along) else (start, start))
    inner = mask[tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(fitted, box, strict=True))]
    return tuple(fitted), None if inner.all() else inner


def _mask_of_array(mask: npt.NDArray[np.bool_], shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    if mask.shape != tuple(shape[len(shape) - mask.ndim :]):
        raise InputError(
            f"region has shape {mask.shape}. Give the layer's shape {tuple(shape)}, or that of its last axes."
        )
    return np.broadcast_to(mask, tuple(shape))


def between(source: Placement, target: Placement) -> npt.NDArray[np.float64]:
    """Return the map from pixels of a source to pixels of a target, over the last axes, shared by both.

    Returns
    -------
    ndarray
        Array of shape (shared axes, axes of the source + 1): a matrix, with an offset in its last column.
    """
    shared = min(len(source.scale), len(target.scale))
    world = source.matrix[-1 - shared : -1] * _unit_ratios(source.units[-shared:], target.units[-shared:])[:, None]
    inner = target.matrix[-1 - shared : -1]
    world[:, -1] -= inner[:, -1]
    return np.asarray(np.linalg.solve(inner[:, -1 - shared : -1], world), dtype=np.float64)


def _unit_ratios(source: Sequence[str], target: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the size of each unit of a source in units of a target.

    As in napari, all sizes are 1 if any two units measure different quantities.
    """
    ratios = np.ones(len(source))
    if tuple(source) == tuple(target):
        return ratios
    # At least one of the two is a layer of napari, and napari requires pint.
    import pint

    try:
        return np.array([pint.Quantity(1.0, a).to(b).magnitude for a, b in zip(source, target, strict=True)])
    except pint.PintError:
        return ratios


def _moves(matrix: npt.NDArray[np.float64], sizes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return for each axis whether a move by its size in pixels changes the mapped position."""
    moves: npt.NDArray[np.bool_] = np.abs(matrix).max(axis=0) * np.asarray(sizes) > _ROUNDING
    return moves


def _mask_of_labels(layer: Any, shape: Sequence[int], placement: Placement) -> npt.NDArray[np.bool_]:
    """Return the mask of the pixels with a label other than 0 at their centre."""
    labels = layer.data[0] if layer.multiscale else layer.data
    missing_axes = len(shape) - labels.ndim
    if missing_axes < 0:
        raise InputError(
            f"{layer_title(layer)} has {labels.ndim} axes, but the image has {len(shape)}. Use labels with at most as "
            "many axes as the image."
        )
    to_labels = between(placement, Placement.from_layer(layer, labels.ndim))
    # The mask is constant along an axis without labels, unless the image is rotated or sheared into it.
    first = 0 if _moves(to_labels[:, :missing_axes], shape[:missing_axes]).any() else missing_axes
    sizes, matrix, offset = tuple(shape[first:]), to_labels[:, first:-1], to_labels[:, -1]
    mask, starts = _labels_under_image(labels, matrix, offset, sizes)
    offset = offset - starts
    identity = np.eye(len(sizes), len(sizes) + 1)
    if mask.shape != sizes or not np.allclose(np.c_[matrix, offset], identity, atol=_ROUNDING):
        extra = len(sizes) - mask.ndim
        # The border makes the outer pixels reach half a pixel beyond their centres.
        padded = np.pad(mask[(np.newaxis,) * extra].astype(np.uint8), 1)
        matrix, offset = np.pad(matrix, ((extra, 0), (0, 0))), np.pad(offset, (extra, 0)) + 1
        mask = affine_transform(padded, matrix, offset, sizes, order=0, mode="constant", cval=0) != 0
    return np.broadcast_to(mask, tuple(shape))


def _labels_under_image(
    labels: Any, matrix: npt.NDArray[np.float64], offset: npt.NDArray[np.float64], sizes: Sequence[int]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return the mask of the labels under the image. Of lazy labels only this part is read.

    Returns
    -------
    tuple
        Mask of the part, bool, and index of its first label along each axis.
    """
    ends = matrix * (np.array(sizes) - 1)
    low = np.floor(offset + np.minimum(ends, 0).sum(axis=1) + 0.5 - _ROUNDING)
    high = np.floor(offset + np.maximum(ends, 0).sum(axis=1) + 0.5 + _ROUNDING)
    starts = low.clip(0, labels.shape).astype(np.int64)
    stops = (high + 1).clip(0, labels.shape).astype(np.int64)
    mask: npt.NDArray[np.bool_] = np.asarray(labels[tuple(map(slice, starts, stops))]) != 0
    return mask, starts


def _mask_of_shapes(layer: Any, shape: Sequence[int], placement: Placement) -> npt.NDArray[np.bool_]:
    """Return the mask of the pixels with their centre in an area. If shapes are selected, only these count."""
    indices = sorted(layer.selected_data) or range(len(layer.data))
    areas = [(layer.data[i], layer.shape_type[i]) for i in indices if layer.shape_type[i] in _AREAS]
    if not areas:
        raise InputError(f"{layer_title(layer)} has no rectangle, ellipse or polygon. Draw one around the region.")
    if len(shape) < 2:
        raise InputError("shapes mark regions only in images of two axes or more. Give (start, stop) for one axis.")
    to_shapes = between(placement, Placement.from_layer(layer, areas[0][0].shape[1]))
    mask = np.zeros(tuple(shape), dtype=np.bool_)
    for corners, kind in areas:
        outline = (_ellipse(corners) if kind == "ellipse" else corners)[:, -len(to_shapes) :]
        # The outline was drawn along its two longest axes.
        plane_axes = np.sort(np.argsort(np.ptp(outline, axis=0), kind="stable")[-2:])
        _paint(mask, outline[:, plane_axes], to_shapes[plane_axes])
    return mask


def _paint(mask: npt.NDArray[np.bool_], outline: npt.NDArray[np.float64], to_plane: npt.NDArray[np.float64]) -> None:
    """Mark the pixels with their centre within an outline in a plane.

    Parameters
    ----------
    mask
        Mask to change in place, bool.
    outline
        Corners of the outline in the plane, (points, 2).
    to_plane
        Matrix from pixels to the plane, (2, axes + 1), with an offset in the last column.
    """
    axes = range(mask.ndim)
    pair = max(combinations(axes, 2), key=lambda two: float(abs(np.linalg.det(to_plane[:, two]))))
    others = [axis for axis in axes if axis not in pair]
    inverse = np.linalg.inv(to_plane[:, pair])
    points = (outline - to_plane[:, -1]) @ inverse.T
    # Shift of the outline, in pixels of the two axes, from one pixel to the next along each of the other axes.
    steps = -inverse @ to_plane[:, others]
    view = np.moveaxis(mask, pair, (-2, -1))
    moves = _moves(steps, view.shape[:-2])
    for position in np.ndindex(*np.where(moves, view.shape[:-2], 1)):
        planes = tuple(i if moving else slice(None) for i, moving in zip(position, moves, strict=True))
        view[planes] |= polygon2mask(view.shape[-2:], points + steps @ position)  # type: ignore[no-untyped-call]


def _ellipse(corners: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the outline of the ellipse in a rectangle, which may be rotated."""
    centre, first, second = corners.mean(axis=0), (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, None]
    outline: npt.NDArray[np.float64] = centre + np.cos(angle) * first + np.sin(angle) * second
    return outline
