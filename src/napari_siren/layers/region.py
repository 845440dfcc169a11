"""Which pixels of a layer are to be fitted: a box, a mask, the shapes of a Shapes layer, the labels of a Labels layer.

Two ways to say it go together: *plane*, an index for each axis of which only that is wanted; and *region*, what is
wanted along the others. Pure: napari need not be there.
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

from napari_siren.errors import InputError
from napari_siren.layers.reading import Placement, layer_kinds, layer_title

_AREAS = {"rectangle", "polygon", "ellipse"}
_ELLIPSE_CORNERS = 128
# In pixels: what is less does not count.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Region:
    """A box of pixels of a layer, and perhaps a mask within it.

    Parameters
    ----------
    box
        (start, stop) of each of the layer's axes, the colours of an RGB image not counted.
    mask
        bool, of the box's shape: True where a pixel belongs to the region; None is everywhere.
    held
        Axes of which a single index is wanted, by `plane`.
    """

    box: tuple[tuple[int, int], ...]
    mask: npt.NDArray[np.bool_] | None
    held: tuple[int, ...]

    @classmethod
    def of(
        cls, region: Any, plane: Sequence[int | None] | None, shape: Sequence[int], placement: Placement, name: str
    ) -> Region:
        """Read what `fit_layer` takes as region and plane.

        Parameters
        ----------
        region, plane
            As `fit_layer` takes them.
        shape
            Of the layer, the colours of an RGB image not counted.
        placement
            Where the layer's pixels are in the world.
        name
            Of the layer, for messages.

        Raises
        ------
        InputError
            It makes no sense, or holds no pixel of the layer.
        """
        indices = _check_plane(plane, shape)
        held = tuple(i for i, index in enumerate(indices) if index is not None)
        box = [(0, n) if index is None else (index, index + 1) for index, n in zip(indices, shape, strict=True)]
        kinds = layer_kinds(region)
        mask = None
        if "Shapes" in kinds or "Labels" in kinds:
            # Of the plane only: a mask of a whole series may be larger than the memory.
            sizes = [stop - start for start, stop in box]
            here = placement.shifted([start for start, _ in box])
            mask = (_mask_of_shapes if "Shapes" in kinds else _mask_of_labels)(region, sizes, here)
        elif kinds:
            raise InputError(f"{layer_title(region)} marks no region; use a Shapes or a Labels layer.")
        elif isinstance(region, np.ndarray) and region.dtype == np.bool_:
            mask = _mask_of_array(region, shape)[tuple(slice(start, stop) for start, stop in box)]
        elif region is not None:
            box = [_meet(a, b) for a, b in zip(box, _check_box(region, shape), strict=True)]
        found = cls(tuple(box), None, held) if mask is None else cls(*_fit_box(mask, box), held)
        if any(start >= stop for start, stop in found.box):
            raise InputError(f"no pixel of {name} lies in the region. Move the region over the image.")
        return found

    @property
    def slices(self) -> tuple[slice | int, ...]:
        """What cuts the region's box out of the layer's data: an index for each axis that is held."""
        return tuple(start if i in self.held else slice(start, stop) for i, (start, stop) in enumerate(self.box))

    @property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each axis."""
        return tuple(start for start, _ in self.box)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels of each axis."""
        return tuple(stop - start for start, stop in self.box)


def mask_to_text(mask: npt.NDArray[np.bool_] | None) -> str | None:
    """Write a mask as a short text, to be kept with a model."""
    return None if mask is None else base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def mask_from_text(text: str | None, shape: Sequence[int]) -> npt.NDArray[np.bool_] | None:
    """Read what `mask_to_text` wrote of a mask of some shape; ValueError if it is damaged."""
    if text is None:
        return None
    try:
        bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"the mask cannot be read: {error}") from None
    return np.unpackbits(bits, count=math.prod(shape)).astype(np.bool_).reshape(tuple(shape))


def _check_plane(plane: Sequence[int | None] | None, shape: Sequence[int]) -> list[int | None]:
    if plane is None:
        return [None] * len(shape)
    if not isinstance(plane, list | tuple) or len(plane) != len(shape):
        raise InputError(f"plane={plane!r}: give {len(shape)} entries, an index or None for each axis of the layer.")
    for index, n in zip(plane, shape, strict=True):
        if index is not None and not (isinstance(index, int | np.integer) and 0 <= index < n):
            raise InputError(f"plane={plane!r}: {index!r} is no index from 0 to {n - 1}.")
    return [None if index is None else int(index) for index in plane]


def _check_box(region: Any, shape: Sequence[int]) -> list[tuple[int, int]]:
    hint = f"give {len(shape)} entries, (start, stop) in pixels or None for each axis of the layer"
    if not isinstance(region, list | tuple) or len(region) != len(shape):
        raise InputError(f"region={region!r}: {hint}; or a Shapes or Labels layer, or a boolean array.")
    box = []
    for entry, n in zip(region, shape, strict=True):
        try:
            start, stop = (0, n) if entry is None else map(whole_number, entry)
        except (TypeError, ValueError):
            raise InputError(f"region={region!r}: {hint}.") from None
        if start >= stop:
            raise InputError(f"region={region!r}: start must be less than stop, in {entry!r}.")
        box.append((start, stop))
    return box


def _meet(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return max(a[0], b[0]), min(a[1], b[1])


def _fit_box(
    mask: npt.NDArray[np.bool_], box: Sequence[tuple[int, int]]
) -> tuple[tuple[tuple[int, int], ...], npt.NDArray[np.bool_] | None]:
    """Return the smallest box around what is True in the mask of a box, and the mask in it, if it is not all of it."""
    fitted = []
    for axis, (start, _) in enumerate(box):
        along = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        fitted.append((start + int(along[0]), start + int(along[-1]) + 1) if len(along) else (start, start))
    inner = mask[tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(fitted, box, strict=True))]
    return tuple(fitted), None if inner.all() else inner


def _mask_of_array(mask: npt.NDArray[np.bool_], shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    if mask.shape != tuple(shape[len(shape) - mask.ndim :]):
        raise InputError(f"region has shape {mask.shape}; it should be the layer's {tuple(shape)} or its last axes.")
    return np.broadcast_to(mask, tuple(shape))


def between(source: Placement, target: Placement) -> npt.NDArray[np.float64]:
    """Return where pixels of a source are in a target, over the last axes that both have.

    Returns
    -------
    ndarray
        (shared axes, axes of the source + 1): a matrix, and in its last column an offset.
    """
    shared = min(len(source.scale), len(target.scale))
    world = source.matrix[-1 - shared : -1] * _unit_ratios(source.units[-shared:], target.units[-shared:])[:, None]
    inner = target.matrix[-1 - shared : -1]
    world[:, -1] -= inner[:, -1]
    return np.asarray(np.linalg.solve(inner[:, -1 - shared : -1], world), dtype=np.float64)


def _unit_ratios(source: Sequence[str], target: Sequence[str]) -> npt.NDArray[np.float64]:
    """Target's units in each of a source's; all 1, as for napari, where one of them measures something else."""
    ratios = np.ones(len(source))
    if tuple(source) == tuple(target):
        return ratios
    # One of the two is a layer of napari, which brings it along.
    import pint

    try:
        return np.array([pint.Quantity(1.0, a).to(b).magnitude for a, b in zip(source, target, strict=True)])
    except pint.PintError:
        return ratios


def _moves(matrix: npt.NDArray[np.float64], sizes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Tell of each column of a matrix whether so many pixels along it lead anywhere."""
    moves: npt.NDArray[np.bool_] = np.abs(matrix).max(axis=0) * np.asarray(sizes) > _ROUNDING
    return moves


def _mask_of_labels(layer: Any, shape: Sequence[int], placement: Placement) -> npt.NDArray[np.bool_]:
    """Labels other than 0, seen at the centres of the pixels."""
    labels = layer.data[0] if layer.multiscale else layer.data
    lacking = len(shape) - labels.ndim
    if lacking < 0:
        raise InputError(
            f"{layer_title(layer)} has {labels.ndim} axes, the image {len(shape)}. Use labels of as many, or fewer."
        )
    to_labels = between(placement, Placement.of(layer, labels.ndim))
    # The same all along an axis that the labels lack, unless the image is turned or sheared into it.
    first = 0 if _moves(to_labels[:, :lacking], shape[:lacking]).any() else lacking
    sizes, matrix, offset = tuple(shape[first:]), to_labels[:, first:-1], to_labels[:, -1]
    marked, starts = _labelled(labels, matrix, offset, sizes)
    offset = offset - starts
    still = np.eye(len(sizes), len(sizes) + 1)
    if marked.shape != sizes or not np.allclose(np.c_[matrix, offset], still, atol=_ROUNDING):
        extra = len(sizes) - marked.ndim
        # Half a pixel beyond the outer centres is still within the outer pixels: hence a border.
        padded = np.pad(marked[(np.newaxis,) * extra].astype(np.uint8), 1)
        matrix, offset = np.pad(matrix, ((extra, 0), (0, 0))), np.pad(offset, (extra, 0)) + 1
        marked = affine_transform(padded, matrix, offset, sizes, order=0, mode="constant", cval=0) != 0
    return np.broadcast_to(marked, tuple(shape))


def _labelled(
    labels: Any, matrix: npt.NDArray[np.float64], offset: npt.NDArray[np.float64], sizes: Sequence[int]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Tell where there are labels in the part of them that lies under the image; of lazy ones only that is read.

    Returns
    -------
    tuple
        bool, and the first label of the part for each axis.
    """
    ends = matrix * (np.array(sizes) - 1)
    low = np.floor(offset + np.minimum(ends, 0).sum(axis=1) + 0.5 - _ROUNDING)
    high = np.floor(offset + np.maximum(ends, 0).sum(axis=1) + 0.5 + _ROUNDING)
    starts = low.clip(0, labels.shape).astype(np.int64)
    stops = (high + 1).clip(0, labels.shape).astype(np.int64)
    marked: npt.NDArray[np.bool_] = np.asarray(labels[tuple(map(slice, starts, stops))]) != 0
    return marked, starts


def _mask_of_shapes(layer: Any, shape: Sequence[int], placement: Placement) -> npt.NDArray[np.bool_]:
    """Pixels whose centre lies in one of the areas, of the selected ones where some are selected."""
    chosen = sorted(layer.selected_data) or range(len(layer.data))
    areas = [(layer.data[i], layer.shape_type[i]) for i in chosen if layer.shape_type[i] in _AREAS]
    if not areas:
        raise InputError(f"{layer_title(layer)} has no rectangle, ellipse or polygon. Draw one around the region.")
    if len(shape) < 2:
        raise InputError("shapes mark a region of an image of two axes or more; give (start, stop) for one axis.")
    to_shapes = between(placement, Placement.of(layer, areas[0][0].shape[1]))
    mask = np.zeros(tuple(shape), dtype=np.bool_)
    for corners, kind in areas:
        outline = (_ellipse(corners) if kind == "ellipse" else corners)[:, -len(to_shapes) :]
        # The two axes along which it was drawn.
        drawn = np.sort(np.argsort(np.ptp(outline, axis=0), kind="stable")[-2:])
        _paint(mask, outline[:, drawn], to_shapes[drawn])
    return mask


def _paint(mask: npt.NDArray[np.bool_], outline: npt.NDArray[np.float64], to_plane: npt.NDArray[np.float64]) -> None:
    """Mark the pixels whose centre lies within an outline in some plane.

    Parameters
    ----------
    mask
        To be changed.
    outline
        (points, 2), in the plane.
    to_plane
        (2, axes + 1): from pixels to the plane, with an offset in the last column.
    """
    axes = range(mask.ndim)
    pair = max(combinations(axes, 2), key=lambda two: float(abs(np.linalg.det(to_plane[:, two]))))
    others = [axis for axis in axes if axis not in pair]
    back = np.linalg.inv(to_plane[:, pair])
    points = (outline - to_plane[:, -1]) @ back.T
    # How far the outline goes, in pixels of the two axes, from one pixel to the next along each of the others.
    steps = -back @ to_plane[:, others]
    turned = np.moveaxis(mask, pair, (-2, -1))
    moves = _moves(steps, turned.shape[:-2])
    for at in np.ndindex(*np.where(moves, turned.shape[:-2], 1)):
        where = tuple(i if moving else slice(None) for i, moving in zip(at, moves, strict=True))
        turned[where] |= polygon2mask(turned.shape[-2:], points + steps @ at)  # type: ignore[no-untyped-call]


def _ellipse(corners: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Outline of the ellipse in a (perhaps turned) rectangle."""
    centre, first, second = corners.mean(axis=0), (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, None]
    outline: npt.NDArray[np.float64] = centre + np.cos(angle) * first + np.sin(angle) * second
    return outline
