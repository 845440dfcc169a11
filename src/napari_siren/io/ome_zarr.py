"""OME-Zarr: an image as a pyramid of chunked arrays, read lazily and written block by block.

The specification, versions 0.4 (zarr format 2) and 0.5 (zarr format 3): https://ngff.openmicroscopy.org.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_siren.core.atomic import folder_written_aside, strict_values
from napari_siren.core.image.axes import NOT_SPACE, SPATIAL_AXES
from napari_siren.core.image.dtypes import cast_values
from napari_siren.errors import InputError, StorageError
from napari_siren.io.ngff import (
    Version,
    check_image,
    describe,
    describe_channels,
    file_axes,
    letter_of,
    read_spacing,
    total_scale,
)

# Pixels along each side of a chunk, by the number of axes in space that have more than one.
_CHUNK_SIDES = {1: 1 << 16, 2: 512, 3: 64}
# Where no axis is longer than this, the pyramid ends.
_TOP_SIDE = 256
# Values of a block that the next level is made of.
_BLOCK_VALUES = 1 << 24


@dataclass(frozen=True)
class ZarrImage:
    """A level of an OME-Zarr image, of which nothing has been read yet but its description.

    Parameters
    ----------
    array
        A dask array: lazy, of the file's dtype, without axes of one entry.
    axes
        One letter for each axis: T, C, Z, Y, X.
    spacing
        Distance between pixel centres along each spatial axis; None where the file does not tell.
    unit
        Of the spacing, such as "µm"; None where the file does not tell.
    channel_names
        One for each channel; None where the file does not tell.
    levels
        Shape of each level, the finest first, with all axes.
    """

    array: Any
    axes: str
    spacing: tuple[float, ...] | None
    unit: str | None
    channel_names: tuple[str, ...] | None
    levels: tuple[tuple[int, ...], ...]


def is_zarr(path: str | Path) -> bool:
    """Whether a path is a folder with a zarr group or array in it."""
    return any((Path(path) / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def open_ome_zarr(path: str | Path, level: int = 0) -> ZarrImage:
    """Open an OME-Zarr image, 0.4 or 0.5, without reading its pixels; of several images, the first.

    Parameters
    ----------
    path
        The folder.
    level
        Of the pyramid: 0 is the finest, -1 the coarsest.

    Raises
    ------
    InputError
        There is no such folder, it is not an OME-Zarr image, or there is no such level.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from napari_siren.io.ome_zarr import open_ome_zarr, write_ome_zarr
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cells.ome.zarr"
    >>> _ = write_ome_zarr(path, np.zeros((600, 400), dtype=np.uint8), "YX", spacing=(0.5, 0.5), unit="µm")
    >>> image = open_ome_zarr(path)
    >>> image.axes, image.array.shape, image.spacing, image.unit
    ('YX', (600, 400), (0.5, 0.5), 'µm')
    >>> open_ome_zarr(path, level=1).array.shape
    (300, 200)
    """
    da = _import("dask.array")
    group = _open_group(Path(path))
    described = dict(group.attrs)
    described = described.get("ome", described)
    try:
        multiscales = described["multiscales"][0]
        datasets = multiscales["datasets"]
        arrays = [group[dataset["path"]] for dataset in datasets]
        letters = "".join(letter_of(axis) for axis in multiscales["axes"])
        units = {a: axis.get("unit") for a, axis in zip(letters, multiscales["axes"], strict=True)}
        scales = [total_scale(multiscales, dataset, len(letters)) for dataset in datasets]
        labels = [channel.get("label") for channel in described.get("omero", {}).get("channels", ())]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not an OME-Zarr image of version 0.4 or 0.5 ({error!r}).") from error
    if not -len(arrays) <= level < len(arrays):
        raise InputError(f"{path} has the levels 0 to {len(arrays) - 1}; there is no level {level}.")
    lazy, scale = da.from_zarr(arrays[level]), scales[level]
    if lazy.ndim != len(letters) or lazy.dtype.kind not in "buif":
        raise InputError(f"{path}: level {level} is {lazy.dtype} of shape {lazy.shape}, which {letters} does not fit.")
    kept = [i for i, n in enumerate(arrays[0].shape) if n > 1]
    axes = "".join(letters[i] for i in kept)
    spacing, unit = read_spacing({letters[i]: scale[i] for i in kept}, units)
    names = tuple(map(str, labels)) if labels and all(labels) and "C" in axes else None
    squeezed = lazy[tuple(slice(None) if i in kept else 0 for i in range(lazy.ndim))]
    return ZarrImage(squeezed, axes, spacing, unit, names, tuple(tuple(array.shape) for array in arrays))


def zarr_attributes(path: str | Path) -> dict[str, Any]:
    """Read the attributes of a group.

    Raises
    ------
    InputError
        There is none.
    """
    return dict(_open_group(Path(path)).attrs)


def write_ome_zarr(
    path: str | Path,
    array: Any,
    axes: str,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    channel_names: Sequence[str] | None = None,
    version: Version = "0.4",
) -> Path:
    """Write an image as an OME-Zarr pyramid, aside first and then moved into place.

    Parameters
    ----------
    path
        The folder to make; an OME-Zarr image of that name is replaced.
    array
        numpy, dask or zarr: what is not in memory is read block by block.
    axes
        One letter for each axis of the array, of T, C, Z, Y and X; the file has them in this order.
    spacing
        Distance between pixel centres along each spatial axis, in the order of `axes`; None is not known.
    unit
        Of the spacing, such as "µm".
    channel_names
        One for each channel.
    version
        "0.4" (zarr format 2), which more programs read, or "0.5" (zarr format 3).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        What was given does not go together, or OME-Zarr cannot hold it.
    StorageError
        The folder cannot be written.
    """
    path = Path(path)
    with folder_written_aside(path, is_zarr) as aside:
        pyramid = Pyramid.create(aside, array.shape, array.dtype, axes, spacing, unit, channel_names, version)
        for block in pyramid.blocks():
            pyramid.finest[block] = np.asarray(array[block])
        pyramid.finish()
    return path


class Finest:
    """The finest level as an array in the caller's order of axes: it takes and gives blocks by slices."""

    def __init__(self, stored: Any, axes: str, shape: Sequence[int]) -> None:
        self.shape, self.dtype = tuple(shape), stored.dtype
        self._stored = stored
        letters = file_axes(axes)
        self._order = [axes.index(a) for a in letters if a in axes]
        self._added = tuple(i for i, a in enumerate(letters) if a not in axes)

    def __setitem__(self, block: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        self._stored[self._in_file(block)] = np.expand_dims(values.transpose(self._order), self._added)

    def __getitem__(self, block: tuple[slice, ...]) -> npt.NDArray[Any]:
        stored = np.asarray(self._stored[self._in_file(block)]).squeeze(axis=self._added)
        return stored.transpose(np.argsort(self._order))

    def _in_file(self, block: tuple[slice, ...]) -> tuple[slice, ...]:
        slices = [block[i] for i in self._order]
        for i in self._added:
            slices.insert(i, slice(None))
        return tuple(slices)


class Pyramid:
    """An OME-Zarr image in the making: fill `finest`, then `finish`. `create` makes a new one.

    Parameters
    ----------
    folder
        Of an image that was created; it need not be finished.
    axes, shape
        Of the image, in the caller's order of axes.
    """

    def __init__(self, folder: Path, axes: str, shape: Sequence[int]) -> None:
        self.folder, self.axes = folder, axes
        self._group = _open_group(folder, "r+")
        self._levels: list[Any] = [self._group[str(i)] for i in range(len(list(self._group.array_keys())))]
        self.finest = Finest(self._levels[0], axes, shape)

    @classmethod
    def create(
        cls,
        folder: Path,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        axes: str,
        spacing: Sequence[float] | None = None,
        unit: str | None = None,
        channel_names: Sequence[str] | None = None,
        version: Version = "0.4",
    ) -> Pyramid:
        """Make the folder, with empty arrays; parameters and errors are those of `write_ome_zarr`."""
        zarr = _import("zarr")
        axes = check_image(axes, shape, np.dtype(dtype), spacing, channel_names, version)
        letters = file_axes(axes)
        sizes = dict(zip(axes, shape, strict=True))
        spaced = dict(zip(axes.translate(NOT_SPACE), spacing or (), strict=False))
        factors = _level_factors(letters, sizes, spaced)
        try:
            group = zarr.create_group(store=folder, zarr_format=2 if version == "0.4" else 3)
            for i, factor in enumerate(factors):
                level = {a: -(-sizes.get(a, 1) // factor[a]) for a in letters}
                group.create_array(name=str(i), dtype=np.dtype(dtype), **_layout(letters, level, version))
            described = describe(letters, factors, spaced, unit, channel_names, version)
            group.attrs.update(described if version == "0.4" else {"ome": described})
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror or error}. Choose another place.") from error
        return cls(folder, axes, shape)

    def blocks(self) -> Iterator[tuple[slice, ...]]:
        """Cut the image into blocks of whole chunks and all channels, of a bounded size, in the caller's axes."""
        letters, finest = file_axes(self.axes), self._levels[0]
        least = [n if a == "C" else chunk for a, n, chunk in zip(letters, finest.shape, finest.chunks, strict=True)]
        sides = _block_sides(finest.shape, least)
        by_letter = dict(zip(letters, sides, strict=True))
        yield from _cut(self.finest.shape, [by_letter[a] for a in self.axes])

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep a note of another program among the attributes."""
        self._group.attrs[name] = strict_values(content)

    def finish(self) -> None:
        """Make the coarser levels of the finest, and tell viewers the range of values."""
        for fine, coarse in zip(self._levels, self._levels[1:], strict=False):
            _shrink(fine, coarse)
        top = self._levels[-1][...]
        attributes = dict(self._group.attrs)
        described = attributes.get("ome", attributes)
        names = [channel["label"] for channel in described.get("omero", {}).get("channels", ())]
        described["omero"] = describe_channels(np.asarray(top), file_axes(self.axes), names)
        self._group.attrs.update(attributes)
        # What a process that was killed had not yet moved into place.
        for leftover in self.folder.rglob("*.partial"):
            leftover.unlink()


# ---- the arrays ------------------------------------------------------------------------------------------


def _layout(letters: str, sizes: Mapping[str, int], version: str) -> dict[str, Any]:
    """Shape and chunks of a level, with its chunks in nested folders."""
    shape = tuple(sizes[a] for a in letters)
    side = _CHUNK_SIDES[max(1, sum(sizes[a] > 1 for a in letters if a in SPATIAL_AXES))]
    chunks = tuple(min(n, side) if a in SPATIAL_AXES else 1 for a, n in zip(letters, shape, strict=True))
    if version == "0.4":
        return {"shape": shape, "chunks": chunks, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
    return {"shape": shape, "chunks": chunks, "dimension_names": [a.lower() for a in letters]}


def _level_factors(letters: str, sizes: Mapping[str, int], spacing: Mapping[str, float]) -> list[dict[str, int]]:
    """How many pixels of the finest level are one of each level, along each axis.

    From level to level the axes are halved along which pixels are about the smallest, so that voxels become cubes.
    """
    factors = [dict.fromkeys(letters, 1)]
    while True:
        now = factors[-1]
        left = {a: -(-sizes.get(a, 1) // now[a]) for a in letters if a in SPATIAL_AXES}
        if max(left.values()) <= _TOP_SIDE:
            return factors
        pixel = {a: spacing.get(a, 1.0) * now[a] for a, n in left.items() if n > 1}
        least = min(pixel.values())
        halved = {a for a, size in pixel.items() if size < 1.5 * least}
        factors.append({a: n * (2 if a in halved else 1) for a, n in now.items()})


def _shrink(fine: Any, coarse: Any) -> None:
    """Fill a level with the means of the next finer one, block by block."""
    factors = [max(1, math.ceil(n / m)) for n, m in zip(fine.shape, coarse.shape, strict=True)]
    for block in _cut(coarse.shape, _block_sides(coarse.shape, coarse.chunks, math.prod(factors))):
        taken = tuple(
            slice(s.start * f, min(n, s.stop * f)) for s, f, n in zip(block, factors, fine.shape, strict=True)
        )
        values = np.asarray(fine[taken])
        for axis, factor in enumerate(factors):
            values = _halved(values, axis) if factor == 2 else values
        coarse[block] = cast_values(values, np.dtype(coarse.dtype))


def _halved(values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Mean of each two along an axis; of an odd number the last one stays alone."""
    moved = np.moveaxis(values, axis, 0)
    exact = values.dtype.itemsize <= (2 if values.dtype.kind in "iu" else 4)
    first, second = moved[::2], moved[1::2]
    mean = first.astype(np.float32 if exact else np.float64)
    mean[: len(second)] = (mean[: len(second)] + second) / 2
    return np.moveaxis(mean, 0, axis)


def _block_sides(shape: Sequence[int], chunks: Sequence[int], per_value: int = 1) -> list[int]:
    """Sides of blocks of whole chunks: the last axes first, as many as the bound allows."""
    sides = [min(n, c) for n, c in zip(shape, chunks, strict=True)]
    for axis in reversed(range(len(sides))):
        room = _BLOCK_VALUES // max(1, per_value * math.prod(sides))
        sides[axis] = min(shape[axis], sides[axis] * max(1, room))
    return sides


def _cut(shape: Sequence[int], sides: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    for corner in product(*(range(0, n, side) for n, side in zip(shape, sides, strict=True))):
        yield tuple(slice(a, min(a + side, n)) for a, side, n in zip(corner, sides, shape, strict=True))


def _open_group(path: Path, mode: Literal["r", "r+"] = "r") -> Any:
    zarr = _import("zarr")
    if not path.is_dir():
        raise InputError(f"there is no folder {path}. Is its name right?")
    try:
        return zarr.open_group(store=path, mode=mode)
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not an OME-Zarr image: {error}.") from error


def _import(name: str) -> Any:
    """Import a part of what the extra "zarr" brings."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise InputError('OME-Zarr needs zarr and dask. Install them with: pip install "napari-siren[zarr]".') from None
