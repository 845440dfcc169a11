"""OME-Zarr: images as pyramids of chunked arrays, read lazily and written block by block.

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

from napari_siren.core.atomic import atomic_directory, json_safe
from napari_siren.core.image.axes import SPATIAL_AXES, Axes
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

# Side of a chunk in pixels, by the number of spatial axes with more than one pixel: 2**16 to 2**18 pixels a chunk.
_CHUNK_SIDES = {1: 1 << 16, 2: 512, 3: 64}
# Longest side of the coarsest level in pixels: the pyramid ends when no axis is longer.
_TOP_SIDE = 256
# Largest number of values of the finer level in one block (2**24), unless a single chunk has more.
_BLOCK_VALUES = 1 << 24


@dataclass(frozen=True)
class ZarrImage:
    """A level of an OME-Zarr image: its metadata and its pixels, which have not been read yet.

    Parameters
    ----------
    array
        Pixels as a lazy dask array of the file's dtype, without axes of one entry.
    axes
        One letter for each axis of the array: T, C, Z, Y or X.
    spacing
        Distance between pixel centres along each spatial axis. None if the file does not give it.
    unit
        Unit of the spacing, such as "µm". None if the file does not give it.
    channel_names
        One name for each channel. None if the file does not give them.
    levels
        Shape of each level with all axes of the file, the finest level first.
    """

    array: Any
    axes: Axes
    spacing: tuple[float, ...] | None
    unit: str | None
    channel_names: tuple[str, ...] | None
    levels: tuple[tuple[int, ...], ...]


def is_zarr(path: str | Path) -> bool:
    """Return whether a path is a folder with a zarr group or array in it."""
    return any((Path(path) / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def open_ome_zarr(path: str | Path, level: int = 0) -> ZarrImage:
    """Open an OME-Zarr image of version 0.4 or 0.5, without reading its pixels.

    Parameters
    ----------
    path
        Path of the folder. If it has several images, the first is opened.
    level
        Index of the level in the pyramid: 0 is the finest, -1 the coarsest.

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
    metadata = dict(group.attrs)
    metadata = metadata.get("ome", metadata)
    try:
        multiscales = metadata["multiscales"][0]
        datasets = multiscales["datasets"]
        arrays = [group[dataset["path"]] for dataset in datasets]
        letters = "".join(letter_of(axis) for axis in multiscales["axes"])
        units = {a: axis.get("unit") for a, axis in zip(letters, multiscales["axes"], strict=True)}
        scales = [total_scale(multiscales, dataset, len(letters)) for dataset in datasets]
        labels = [channel.get("label") for channel in metadata.get("omero", {}).get("channels", ())]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not an OME-Zarr image of version 0.4 or 0.5 ({error!r}). Choose another folder."
        ) from error
    if not -len(arrays) <= level < len(arrays):
        raise InputError(f"{path} has no level {level}. Choose one from 0 to {len(arrays) - 1}.")
    lazy, scale = da.from_zarr(arrays[level]), scales[level]
    if lazy.ndim != len(letters) or lazy.dtype.kind not in "buif":
        raise InputError(
            f"level {level} of {path} is {lazy.dtype} of shape {lazy.shape}. Choose an image of real numbers or "
            f"booleans with the axes {letters}."
        )
    kept_axes = [i for i, n in enumerate(arrays[0].shape) if n > 1]
    axes = Axes("".join(letters[i] for i in kept_axes))
    spacing, unit = read_spacing({letters[i]: scale[i] for i in kept_axes}, units)
    names = tuple(map(str, labels)) if labels and all(labels) and axes.channel is not None else None
    squeezed = lazy[tuple(slice(None) if i in kept_axes else 0 for i in range(lazy.ndim))]
    return ZarrImage(squeezed, axes, spacing, unit, names, tuple(tuple(array.shape) for array in arrays))


def zarr_attributes(path: str | Path) -> dict[str, Any]:
    """Return the attributes of a zarr group.

    Raises
    ------
    InputError
        There is no such group.
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
    """Write an image as an OME-Zarr pyramid.

    The folder is written under a temporary name, and then moved into place.

    Parameters
    ----------
    path
        Path of the folder to write. An OME-Zarr image of that name is replaced.
    array
        Image as a numpy, dask or zarr array. An array that is not in memory is read block by block.
    axes
        One letter for each axis of the array: T, C, Z, Y or X. The file stores the axes in this order.
    spacing
        Distance between pixel centres along each spatial axis, in the order of `axes`. None if it is not known.
    unit
        Unit of the spacing, such as "µm".
    channel_names
        One name for each channel.
    version
        "0.4" (zarr format 2), which more programs read, or "0.5" (zarr format 3).

    Returns
    -------
    Path
        Path of the folder.

    Raises
    ------
    InputError
        The arguments contradict each other, or OME-Zarr cannot hold the image.
    StorageError
        The folder cannot be written.
    """
    path = Path(path)
    with atomic_directory(path, is_zarr) as temporary_path:
        pyramid = Pyramid.create(temporary_path, array.shape, array.dtype, axes, spacing, unit, channel_names, version)
        for block in pyramid.blocks():
            pyramid.finest[block] = np.asarray(array[block])
        pyramid.finish()
    return path


class Finest:
    """The finest level as an array in the caller's order of axes. Slices read and write blocks of it."""

    def __init__(self, stored: Any, axes: str, shape: Sequence[int]) -> None:
        self.shape, self.dtype = tuple(shape), stored.dtype
        self._level = stored
        letters = file_axes(axes)
        self._order = [axes.index(a) for a in letters if a in axes]
        self._extra_axes = tuple(i for i, a in enumerate(letters) if a not in axes)

    def __setitem__(self, block: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        self._level[self._in_file(block)] = np.expand_dims(values.transpose(self._order), self._extra_axes)

    def __getitem__(self, block: tuple[slice, ...]) -> npt.NDArray[Any]:
        values = np.asarray(self._level[self._in_file(block)]).squeeze(axis=self._extra_axes)
        return values.transpose(np.argsort(self._order))

    def _in_file(self, block: tuple[slice, ...]) -> tuple[slice, ...]:
        slices = [block[i] for i in self._order]
        for i in self._extra_axes:
            slices.insert(i, slice(None))
        return tuple(slices)


class Pyramid:
    """An OME-Zarr image under construction.

    Call `create` to make a new image. Then fill `finest`, and call `finish`.

    Parameters
    ----------
    folder
        Path of an image made by `create`. It may be unfinished.
    axes, shape
        Axes and shape of the image, in the caller's order of axes.
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
        """Make the folder with empty arrays. Parameters and errors are those of `write_ome_zarr`."""
        zarr = _import("zarr")
        own_axes = check_image(axes, shape, np.dtype(dtype), spacing, channel_names, version)
        letters = file_axes(own_axes)
        sizes = dict(zip(own_axes, shape, strict=True))
        spacings = dict(zip(own_axes.spatial, spacing or (), strict=False))
        factors = _level_factors(letters, sizes, spacings)
        try:
            group = zarr.create_group(store=folder, zarr_format=2 if version == "0.4" else 3)
            for i, factor in enumerate(factors):
                level = {a: -(-sizes.get(a, 1) // factor[a]) for a in letters}
                group.create_array(name=str(i), dtype=np.dtype(dtype), **_layout(letters, level, version))
            metadata = describe(letters, factors, spacings, unit, channel_names, version)
            group.attrs.update(metadata if version == "0.4" else {"ome": metadata})
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror or error}. Choose another place.") from error
        return cls(folder, own_axes, shape)

    def blocks(self) -> Iterator[tuple[slice, ...]]:
        """Yield blocks of whole chunks and all channels, of a bounded size, in the caller's order of axes."""
        letters, finest = file_axes(self.axes), self._levels[0]
        least = [n if a == "C" else chunk for a, n, chunk in zip(letters, finest.shape, finest.chunks, strict=True)]
        sides = _block_sides(finest.shape, least)
        by_letter = dict(zip(letters, sides, strict=True))
        yield from _cut(self.finest.shape, [by_letter[a] for a in self.axes])

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Store a note of another program in the attributes."""
        self._group.attrs[name] = json_safe(content)

    def finish(self) -> None:
        """Compute the coarser levels from the finest, and store the range of values for viewers."""
        for fine, coarse in zip(self._levels, self._levels[1:], strict=False):
            _shrink(fine, coarse)
        top = self._levels[-1][...]
        attributes = dict(self._group.attrs)
        metadata = attributes.get("ome", attributes)
        names = [channel["label"] for channel in metadata.get("omero", {}).get("channels", ())]
        metadata["omero"] = describe_channels(np.asarray(top), file_axes(self.axes), names)
        self._group.attrs.update(attributes)
        # A killed process leaves files behind that it had not yet moved into place.
        for leftover in self.folder.rglob("*.partial"):
            leftover.unlink()


# ---- the arrays ------------------------------------------------------------------------------------------


def _layout(letters: str, sizes: Mapping[str, int], version: str) -> dict[str, Any]:
    """Return the shape and chunks of a level, as arguments of zarr. The chunks lie in nested folders."""
    shape = tuple(sizes[a] for a in letters)
    side = _CHUNK_SIDES[max(1, sum(sizes[a] > 1 for a in letters if a in SPATIAL_AXES))]
    chunks = tuple(min(n, side) if a in SPATIAL_AXES else 1 for a, n in zip(letters, shape, strict=True))
    if version == "0.4":
        return {"shape": shape, "chunks": chunks, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
    return {"shape": shape, "chunks": chunks, "dimension_names": [a.lower() for a in letters]}


def _level_factors(letters: str, sizes: Mapping[str, int], spacing: Mapping[str, float]) -> list[dict[str, int]]:
    """Return the side of a pixel of each level along each axis, in pixels of the finest level.

    Each level halves the axes with a pixel size below 1.5 times the smallest, so that voxels become cubes.
    """
    factors = [dict.fromkeys(letters, 1)]
    while True:
        current = factors[-1]
        shape = {a: -(-sizes.get(a, 1) // current[a]) for a in letters if a in SPATIAL_AXES}
        if max(shape.values()) <= _TOP_SIDE:
            return factors
        pixel = {a: spacing.get(a, 1.0) * current[a] for a, n in shape.items() if n > 1}
        smallest = min(pixel.values())
        halved_axes = {a for a, size in pixel.items() if size < 1.5 * smallest}
        factors.append({a: n * (2 if a in halved_axes else 1) for a, n in current.items()})


def _shrink(fine: Any, coarse: Any) -> None:
    """Fill a level with the means of the next finer one, block by block."""
    factors = [max(1, math.ceil(n / m)) for n, m in zip(fine.shape, coarse.shape, strict=True)]
    for block in _cut(coarse.shape, _block_sides(coarse.shape, coarse.chunks, math.prod(factors))):
        window = tuple(
            slice(s.start * f, min(n, s.stop * f)) for s, f, n in zip(block, factors, fine.shape, strict=True)
        )
        values = np.asarray(fine[window])
        for axis, factor in enumerate(factors):
            values = _halved(values, axis) if factor == 2 else values
        coarse[block] = cast_values(values, np.dtype(coarse.dtype))


def _halved(values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Return the means of pairs of values along an axis. A last value without a partner stays as it is."""
    moved = np.moveaxis(values, axis, 0)
    exact = values.dtype.itemsize <= (2 if values.dtype.kind in "iu" else 4)
    first, second = moved[::2], moved[1::2]
    mean = first.astype(np.float32 if exact else np.float64)
    mean[: len(second)] = (mean[: len(second)] + second) / 2
    return np.moveaxis(mean, 0, axis)


def _block_sides(shape: Sequence[int], chunks: Sequence[int], per_value: int = 1) -> list[int]:
    """Return the sides of blocks of whole chunks: as many chunks as the bound allows, along the last axes first."""
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
        raise InputError(f"there is no folder {path}. Check its name.")
    try:
        return zarr.open_group(store=path, mode=mode)
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not an OME-Zarr image: {error}. Choose another folder.") from error


def _import(name: str) -> Any:
    """Import a module of the extra "zarr"."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise InputError('OME-Zarr needs zarr and dask. Install them with: pip install "napari-siren[zarr]".') from None
