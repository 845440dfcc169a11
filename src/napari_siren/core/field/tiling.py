"""Geometry of the field: pixel-centre coordinates, tiles, blending windows, render grids.

Two units are used, and named in every signature. In *pixels*, sample k of an axis lies at k + 0.5 and the image spans
[0, n]. *Physical* units are pixels times the spacing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.settings.per_axis import per_axis
from napari_siren.errors import InputError


def pixel_centres(n: int) -> npt.NDArray[np.float64]:
    """Return the positions of the n samples of an axis, in pixels: k + 0.5."""
    return np.arange(n, dtype=np.float64) + 0.5


def smoothstep(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a smooth step from 0 to 1 on [0, 1], 6 t^5 - 15 t^4 + 10 t^3, with its first and second derivative.

    The quintic is the polynomial of lowest degree that gives the blended field a continuous Laplacian.
    """
    t = t.clamp(0, 1)
    u = t * (1 - t)
    return t * t * t * (t * (6 * t - 15) + 10), 30 * u * u, 60 * u * (1 - 2 * t)


@dataclass(frozen=True)
class WindowJet:
    """Weights of tiles along one axis, with their first and second derivative per pixel."""

    value: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor

    def pick(self, rows: torch.Tensor, shape: Sequence[int], like: torch.Tensor) -> WindowJet:
        """Return some rows in another shape, with the dtype and on the device of `like`."""
        return WindowJet(*(t[rows].reshape(shape).to(like) for t in (self.value, self.first, self.second)))


@dataclass(frozen=True)
class AxisTiling:
    """One axis cut into cells. The tile of a cell covers the cell and a halo around it.

    Parameters
    ----------
    size
        Number of pixels of the axis.
    borders
        Integer positions in pixels, from 0 to `size`: cell i spans [borders[i], borders[i + 1]].
    overlap
        Half width, in pixels, of the cross-fade zone of two tiles around an inner border.
    widest
        Width, in pixels, of the widest cell of the whole axis, if this is a part of a longer axis. 0 is a whole axis.
    goes_on
        Whether the first tile is cross-faded with a tile before this part, and the last tile with a tile after it.
    """

    size: int
    borders: tuple[int, ...]
    overlap: float
    widest: int = 0
    goes_on: tuple[bool, bool] = (False, False)

    @classmethod
    def cut(cls, size: int, tile: float, overlap: float) -> AxisTiling:
        """Cut an axis into cells as even as possible, each of at least `tile` pixels (or into a single cell)."""
        count = max(1, int(size / tile + 1e-9))
        borders = tuple(round(i * size / count) for i in range(count + 1))
        # A zone must not extend past the middle of a cell, since three tiles would then overlap.
        narrowest = min(b - a for a, b in pairwise(borders))
        return cls(size, borders, min(overlap, narrowest / 2))

    def part(self, first: int, stop: int) -> tuple[int, AxisTiling]:
        """Return the tiles from `first` to `stop` - 1, unchanged, as an axis of their own.

        Returns
        -------
        start : int
            First pixel of the part, on this axis.
        part : AxisTiling
            Tiling of the part. Its tiles cover the same pixels, with the same weights.
        """
        start = int(self.starts[first])
        size = int(self.starts[stop - 1]) + self.extent - start
        borders = tuple(b - start for b in self.borders[first : stop + 1])
        goes_on = (self.goes_on[0] or first > 0, self.goes_on[1] or stop < self.count)
        return start, AxisTiling(size, borders, self.overlap, self._widest, goes_on)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.borders) - 1

    @property
    def _widest(self) -> int:
        return self.widest or max(b - a for a, b in pairwise(self.borders))

    @cached_property
    def extent(self) -> int:
        """Number of pixels of each tile, with its halo."""
        halo = int(np.ceil(self.overlap - 0.5))
        return min(self.size, self._widest + 2 * halo)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """First pixel of each tile, int64, (count,). Tiles never extend beyond the image."""
        middle = (np.array(self.borders[:-1]) + np.array(self.borders[1:])) / 2
        starts: npt.NDArray[np.int64] = np.clip(
            np.floor(middle - self.extent / 2 + 0.5).astype(np.int64), 0, self.size - self.extent
        )
        return starts

    def window(self, tile: torch.Tensor, position: torch.Tensor) -> WindowJet:
        """Return the weights of tiles at positions, with their derivatives.

        The weights of all tiles sum to one at every position.

        Parameters
        ----------
        tile
            Indices of tiles, int64.
        position
            Positions in pixels, floating-point, of a shape that broadcasts with `tile`.
        """
        low, high = self.faded_borders(position)
        width = 2 * self.overlap
        rise, d_rise, dd_rise = smoothstep((position - low[tile]) / width + 0.5)
        fall, d_fall, dd_fall = smoothstep((high[tile] - position) / width + 0.5)
        return WindowJet(
            rise * fall,
            (d_rise * fall - rise * d_fall) / width,
            (dd_rise * fall - 2 * d_rise * d_fall + rise * dd_fall) / width**2,
        )

    def faded_borders(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the borders of each tile. The outer ones are infinite, since nothing is cross-faded at the edge."""
        borders = torch.tensor(self.borders, dtype=like.dtype, device=like.device)
        low, high = borders[:-1].clone(), borders[1:].clone()
        if not self.goes_on[0]:
            low[0] = -torch.inf
        if not self.goes_on[1]:
            high[-1] = torch.inf
        return low, high

    def cell_of(self, position: torch.Tensor) -> torch.Tensor:
        """Return the index of the cell of each position in pixels, int64. Outside, it is the nearest cell."""
        inner = torch.tensor(self.borders[1:-1], dtype=position.dtype, device=position.device)
        return torch.bucketize(position.contiguous(), inner, right=True)


@dataclass(frozen=True)
class Tiling:
    """The domain cut into tiles of one shape: the product of one `AxisTiling` for each axis.

    Parameters
    ----------
    axes
        One tiling for each spatial axis.
    """

    axes: tuple[AxisTiling, ...]

    @classmethod
    def cut(cls, shape: Sequence[int], tile: float | Sequence[float], overlap: float) -> Tiling:
        """Cut a domain into tiles of about `tile` pixels a side: a number for all axes, or one for each."""
        sides = (tile,) * len(shape) if isinstance(tile, int | float) else tuple(tile)
        return cls(tuple(AxisTiling.cut(n, side, overlap) for n, side in zip(shape, sides, strict=True)))

    @classmethod
    def from_json(cls, axes: Sequence[Mapping[str, Any]]) -> Tiling:
        """Return the tiling of axes with the fields of `dataclasses.asdict`, after they were stored as JSON."""
        return cls(tuple(AxisTiling(axis["size"], tuple(axis["borders"]), axis["overlap"]) for axis in axes))

    def part(self, ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], Tiling]:
        """Return the tiles from `first` to `stop` - 1 along each axis, unchanged, as a tiling of their own.

        Parameters
        ----------
        ranges
            (first, stop) for each axis.

        Returns
        -------
        start : tuple of int
            First pixel of the part, in this tiling.
        part : Tiling
            Tiling of the part. Its tiles cover the same pixels, with the same weights.
        """
        parts = [axis.part(*tiles) for axis, tiles in zip(self.axes, ranges, strict=True)]
        return tuple(start for start, _ in parts), Tiling(tuple(axis for _, axis in parts))

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along each axis."""
        return tuple(axis.count for axis in self.axes)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return int(np.prod(self.counts))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels of the domain along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Number of pixels of a tile along each axis, with its halo."""
        return tuple(axis.extent for axis in self.axes)

    @cached_property
    def indices(self) -> npt.NDArray[np.int64]:
        """Index of every tile along each axis, int64, (count, dimensions)."""
        return np.array(list(product(*(range(n) for n in self.counts))), dtype=np.int64)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """First pixel of every tile, int64, (count, dimensions)."""
        return np.stack([axis.starts[self.indices[:, i]] for i, axis in enumerate(self.axes)], axis=1)

    @cached_property
    def centres(self) -> npt.NDArray[np.float64]:
        """Origin of every tile's own coordinates, in pixels, (count, dimensions): the centre of the tile."""
        return self.starts + np.array(self.tile_shape) / 2

    def local_grid(self, subsamples: int = 1) -> npt.NDArray[np.float32]:
        """Return the coordinates of a tile's samples from its centre, in pixels, float32, (dimensions, samples).

        They are the same for every tile. If `subsamples` is above 1, each pixel is divided evenly along each axis.
        """
        axes = [(np.arange(n * subsamples) + 0.5) / subsamples - n / 2 for n in self.tile_shape]
        return np.stack([c.ravel() for c in np.meshgrid(*axes, indexing="ij")]).astype(np.float32)

    def extract(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Cut the pixels of every tile out of an array.

        Parameters
        ----------
        values
            Values of all pixels, float32, (channels, *shape).

        Returns
        -------
        ndarray
            Values of every tile, float32, (count, channels, samples of a tile).
        """
        windows = np.lib.stride_tricks.sliding_window_view(
            values, self.tile_shape, axis=tuple(range(1, len(self.axes) + 1))
        )
        picked = windows[(slice(None), *self.starts.T)]
        return np.ascontiguousarray(np.moveaxis(picked, 1, 0)).reshape(self.count, len(values), -1)

    def pixel_windows(self) -> npt.NDArray[np.float32]:
        """Return the weight of every tile at each of its pixels, float32, (count, samples of a tile)."""
        weights = np.ones((self.count, *(1 for _ in self.axes)), dtype=np.float32)
        for i, axis in enumerate(self.axes):
            position = torch.from_numpy(axis.starts[:, None] + pixel_centres(axis.extent))
            along = axis.window(torch.arange(axis.count)[:, None], position).value.numpy().astype(np.float32)
            shape = (self.count, *(axis.extent if j == i else 1 for j in range(len(self.axes))))
            weights = weights * along[self.indices[:, i]].reshape(shape)
        return weights.reshape(self.count, -1)


@dataclass(frozen=True)
class RenderGrid:
    """A regular grid of output pixels over a region of the image.

    Parameters
    ----------
    shape
        Number of output pixels along each axis.
    start, step
        Outer edge of the first output pixel and size of an output pixel, in pixels of the original. Sample j lies at
        start + (j + 0.5) * step.
    """

    shape: tuple[int, ...]
    start: tuple[float, ...]
    step: tuple[float, ...]

    def positions(self, axis: int, subsamples: int = 1) -> npt.NDArray[np.float64]:
        """Return the positions, in pixels, of the samples along an axis. Each output pixel is divided evenly."""
        n = self.shape[axis] * subsamples
        return self.start[axis] + (np.arange(n, dtype=np.float64) + 0.5) * (self.step[axis] / subsamples)

    def block(self, slices: Sequence[slice]) -> RenderGrid:
        """Return the part of the grid within slices, one for each axis, of output pixels."""
        return RenderGrid(
            tuple(s.stop - s.start for s in slices),
            tuple(a + s.start * d for a, s, d in zip(self.start, slices, self.step, strict=True)),
            self.step,
        )

    @classmethod
    def from_layout(cls, layout: ImageLayout, **where: Any) -> RenderGrid:
        """Return a grid over an image; the keyword arguments are those of `from_shape`.

        Parameters
        ----------
        layout
            Layout of the image.
        **where
            One of scale, shape and spacing; and region.
        """
        return cls.from_shape(layout.spatial_shape, layout.spacing, **where)

    @classmethod
    def from_shape(
        cls,
        image_shape: Sequence[int],
        image_spacing: Sequence[float],
        *,
        scale: float | Sequence[float] | None = None,
        shape: Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        region: Sequence[tuple[float, float]] | None = None,
    ) -> RenderGrid:
        """Return a grid over an image, by one of scale, shape or spacing. None of them is scale 1.

        Parameters
        ----------
        image_shape, image_spacing
            Number of pixels of the original, and their physical size, along each spatial axis.
        scale
            Output pixels per pixel: a number, or one for each axis.
        shape
            Number of output pixels along each axis.
        spacing
            Physical size of an output pixel: a number, or one for each axis.
        region
            (start, stop) for each axis, in pixels of the original; None is the whole image.

        Raises
        ------
        InputError
            More than one of the three is given, a length is wrong, or a number is not positive and finite.
        """
        dimensions = len(image_shape)
        if sum(v is not None for v in (scale, shape, spacing)) > 1:
            raise InputError("scale, shape and spacing exclude each other. Pass only one of them.")
        edges = _check_region(region, image_shape)
        extent = np.array([stop - start for start, stop in edges])
        if shape is not None:
            counts = per_axis("shape", shape, dimensions, single=False)
            if (counts != np.rint(counts)).any():
                raise InputError(f"shape={shape!r} has a fraction of a pixel. Pass whole numbers of pixels.")
            counts = counts.astype(np.int64)
            step = extent / counts
        else:
            if spacing is not None:
                step = per_axis("spacing", spacing, dimensions) / np.array(image_spacing)
            else:
                step = 1 / per_axis("scale", 1.0 if scale is None else scale, dimensions)
            step = np.minimum(step, extent)
            counts = np.maximum(1, np.rint(extent / step)).astype(np.int64)
        start = tuple(float(a) for a, _ in edges)
        return cls(tuple(int(n) for n in counts), start, tuple(float(s) for s in step))


def _check_region(region: Sequence[tuple[float, float]] | None, shape: Sequence[int]) -> list[tuple[float, float]]:
    if region is None:
        return [(0.0, float(n)) for n in shape]
    if np.ndim(region) == 0 or len(region) != len(shape):
        raise InputError(f"region={region!r} has the wrong length. Pass (start, stop) for each of {len(shape)} axes.")
    pairs = [
        (s.start or 0, n if s.stop is None else s.stop) if isinstance(s, slice) else s
        for s, n in zip(region, shape, strict=False)
    ]
    try:
        edges = [(float(a), float(b)) for a, b in pairs]
    except (TypeError, ValueError):
        raise InputError(
            f"region={region!r} is not made of numbers. Pass (start, stop) in pixels for each spatial axis."
        ) from None
    for (a, b), n in zip(edges, shape, strict=True):
        if not (0 <= a < b <= n):
            raise InputError(f"region={region!r} is empty or outside the image. Pass 0 <= start < stop <= {n} pixels.")
    return edges
