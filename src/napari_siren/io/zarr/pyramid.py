"""`Pyramid`: an OME-Zarr image that is written block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import SPATIAL_AXES, Axes
from napari_siren.core.image.dtypes import cast_values
from napari_siren.core.storage.atomic import json_safe
from napari_siren.errors import StorageError
from napari_siren.io.details import Details
from napari_siren.io.lazy import import_zarr
from napari_siren.io.zarr.group import open_group
from napari_siren.io.zarr.ngff import Version, check_image, describe, describe_channels, file_axes, letter_of

# Side of a chunk in pixels, by the number of spatial axes with more than one pixel: 2**16 to 2**18 pixels a chunk.
_CHUNK_SIDES = {1: 1 << 16, 2: 512, 3: 64}
# Longest side of the coarsest level in pixels: the pyramid ends when no axis is longer.
_TOP_SIDE = 256
# Largest number of values of the finer level in one block (2**24), unless a single chunk has more.
_BLOCK_VALUES = 1 << 24
# Number of chunks from which a level of version 0.5 is sharded: many small files are slow to list and to copy.
_SHARDED_CHUNKS = 1024
# Chunks of a shard along each spatial axis. A shard is at most one block.
_SHARD_SIDE = 4


class Finest:
    """The finest level as an array in the caller's order of axes. Slices read and write blocks of it."""

    def __init__(self, stored: Any, axes: str, shape: Sequence[int], letters: str) -> None:
        self.shape, self.dtype = tuple(shape), stored.dtype
        self._level = stored
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
        self._group = open_group(folder, "r+")
        self._levels: list[Any] = [self._group[str(i)] for i in range(len(list(self._group.array_keys())))]
        attributes = dict(self._group.attrs)
        stored = attributes.get("ome", attributes)["multiscales"][0]["axes"]
        self._letters = Axes("".join(letter_of(axis) for axis in stored))
        self.finest = Finest(self._levels[0], axes, shape, self._letters)

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
        details: Details | None = None,
    ) -> Pyramid:
        """Make the folder with empty arrays. Parameters and errors are those of `write_ome_zarr`."""
        zarr = import_zarr("zarr")
        own_axes = check_image(axes, shape, np.dtype(dtype), spacing, channel_names, version)
        letters = file_axes(own_axes, "" if details is None else details.file_axes)
        sizes = dict(zip(own_axes, shape, strict=True))
        spacings = dict(zip(own_axes.spatial, spacing or (), strict=False))
        factors = _level_factors(letters, sizes, spacings)
        try:
            group = zarr.create_group(store=folder, zarr_format=2 if version == "0.4" else 3)
            for i, factor in enumerate(factors):
                level = {a: -(-sizes.get(a, 1) // factor[a]) for a in letters}
                group.create_array(name=str(i), dtype=np.dtype(dtype), **_layout(letters, level, version))
            metadata = describe(letters, factors, spacings, unit, channel_names, version, details)
            group.attrs.update(metadata if version == "0.4" else {"ome": metadata})
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror or error}. Choose another place.") from error
        return cls(folder, own_axes, shape)

    def blocks(self) -> Iterator[tuple[slice, ...]]:
        """Yield blocks of whole chunks or shards and all channels, of a bounded size, in the caller's order of axes."""
        letters, finest = self._letters, self._levels[0]
        parts = finest.shards or finest.chunks
        least = [n if a == "C" else part for a, n, part in zip(letters, finest.shape, parts, strict=True)]
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
        known = metadata.get("omero", {}).get("channels", ())
        metadata["omero"] = describe_channels(np.asarray(top), self._letters, known)
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
    layout = {"shape": shape, "chunks": chunks, "dimension_names": [a.lower() for a in letters]}
    if math.prod(-(-n // chunk) for n, chunk in zip(shape, chunks, strict=True)) >= _SHARDED_CHUNKS:
        sides = [_SHARD_SIDE if a in SPATIAL_AXES else 1 for a in letters]
        layout["shards"] = tuple(
            chunk * min(side, -(-n // chunk)) for n, chunk, side in zip(shape, chunks, sides, strict=True)
        )
    return layout


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
    parts = coarse.shards or coarse.chunks
    for block in _cut(coarse.shape, _block_sides(coarse.shape, parts, math.prod(factors))):
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
