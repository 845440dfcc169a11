"""Where things are: pixel-centre coordinates, tiles, blending windows, render grids.

Two units are used, and named in every signature: *pixels*, in which sample k of an axis lies at k + 0.5 and the
image spans [0, n], and *physical* units, which are pixels times the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.errors import InputError


def pixel_centres(n: int) -> npt.NDArray[np.float64]:
    """Positions of the n samples of an axis, in pixels: k + 0.5."""
    return np.arange(n, dtype=np.float64) + 0.5


def smoothstep(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rise from 0 to 1 on [0, 1], 6 t^5 - 15 t^4 + 10 t^3, with its first and second derivative.

    The quintic is the lowest polynomial that leaves the blended field with a continuous Laplacian.
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
    """One axis cut into cells; the tile of a cell sees the cell and a halo around it.

    Parameters
    ----------
    size
        Number of pixels of the axis.
    borders
        Integer positions in pixels, from 0 to `size`: cell i spans [borders[i], borders[i + 1]].
    overlap
        Half width in pixels of the zone around an inner border in which two tiles are cross-faded.
    widest
        Of a part of a longer axis: pixels of that one's widest cell. 0 is an axis of its own.
    goes_on
        Whether there are tiles before the first and after the last one that these are cross-faded with, though they are
        not of this part.
    """

    size: int
    borders: tuple[int, ...]
    overlap: float
    widest: int = 0
    goes_on: tuple[bool, bool] = (False, False)

    @classmethod
    def cut(cls, size: int, tile: float, overlap: float) -> AxisTiling:
        """Cut an axis into cells as even as can be, each of at least `tile` pixels (or one for all)."""
        count = max(1, int(size / tile + 1e-9))
        borders = tuple(round(i * size / count) for i in range(count + 1))
        # A zone may not reach past the middle of a cell: then three tiles would meet.
        narrowest = min(b - a for a, b in pairwise(borders))
        return cls(size, borders, min(overlap, narrowest / 2))

    def part(self, first: int, stop: int) -> tuple[int, AxisTiling]:
        """Return the tiles from `first` to before `stop` as they are, in the pixels that they see.

        Returns
        -------
        start : int
            The pixel of this axis that is the first one of the part.
        part : AxisTiling
            Its tiles see the same pixels, and have the same weights there.
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
        """Number of pixels that every tile sees."""
        halo = int(np.ceil(self.overlap - 0.5))
        return min(self.size, self._widest + 2 * halo)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """First pixel that each tile sees; tiles never leave the image."""
        middle = (np.array(self.borders[:-1]) + np.array(self.borders[1:])) / 2
        starts: npt.NDArray[np.int64] = np.clip(
            np.floor(middle - self.extent / 2 + 0.5).astype(np.int64), 0, self.size - self.extent
        )
        return starts

    def window(self, tile: torch.Tensor, position: torch.Tensor) -> WindowJet:
        """Weight of a tile at a position in pixels; over the tiles the weights sum to one everywhere.

        Parameters
        ----------
        tile
            int64, indices of tiles.
        position
            floating, in pixels, of a shape that broadcasts with `tile`.
        """
        low, high = self._faded_borders(position)
        width = 2 * self.overlap
        rise, d_rise, dd_rise = smoothstep((position - low[tile]) / width + 0.5)
        fall, d_fall, dd_fall = smoothstep((high[tile] - position) / width + 0.5)
        return WindowJet(
            rise * fall,
            (d_rise * fall - rise * d_fall) / width,
            (dd_rise * fall - 2 * d_rise * d_fall + rise * dd_fall) / width**2,
        )

    def _faded_borders(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Borders of each tile; the outer ones are out of reach, since the image's edge fades into nothing."""
        borders = torch.tensor(self.borders, dtype=like.dtype, device=like.device)
        low, high = borders[:-1].clone(), borders[1:].clone()
        if not self.goes_on[0]:
            low[0] = -torch.inf
        if not self.goes_on[1]:
            high[-1] = torch.inf
        return low, high

    def cell_of(self, position: torch.Tensor) -> torch.Tensor:
        """Index of the cell that each position in pixels lies in, int64; positions outside go to the nearest."""
        inner = torch.tensor(self.borders[1:-1], dtype=position.dtype, device=position.device)
        return torch.bucketize(position.contiguous(), inner, right=True)


@dataclass(frozen=True)
class Tiling:
    """The domain cut into tiles, of the same shape all: the product of one `AxisTiling` an axis.

    Parameters
    ----------
    axes
        One for each spatial axis.
    """

    axes: tuple[AxisTiling, ...]

    @classmethod
    def cut(cls, shape: Sequence[int], tile: float | Sequence[float], overlap: float) -> Tiling:
        """Cut a domain into tiles of about `tile` pixels a side: a number for all axes, or one for each."""
        sides = (tile,) * len(shape) if isinstance(tile, int | float) else tuple(tile)
        return cls(tuple(AxisTiling.cut(n, side, overlap) for n, side in zip(shape, sides, strict=True)))

    def part(self, ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], Tiling]:
        """Return the tiles of a (first, stop) for each axis as they are, in the pixels that they see.

        Returns
        -------
        start : tuple of int
            The pixel of this tiling that is the first one of the part.
        part : Tiling
            Its tiles see the same pixels, and have the same weights there.
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
        """Number of pixels that a tile sees along each axis."""
        return tuple(axis.extent for axis in self.axes)

    @cached_property
    def indices(self) -> npt.NDArray[np.int64]:
        """Index along each axis of every tile, (count, dimensions)."""
        return np.array(list(product(*(range(n) for n in self.counts))), dtype=np.int64)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """First pixel of every tile, (count, dimensions)."""
        return np.stack([axis.starts[self.indices[:, i]] for i, axis in enumerate(self.axes)], axis=1)

    @cached_property
    def centres(self) -> npt.NDArray[np.float64]:
        """Origin of every tile's own coordinates in pixels, (count, dimensions): the middle of what it sees."""
        return self.starts + np.array(self.tile_shape) / 2

    def local_grid(self, subsamples: int = 1) -> npt.NDArray[np.float32]:
        """Coordinates of a tile's samples from its centre, in pixels, (dimensions, samples).

        The same for every tile. With `subsamples` above 1 each pixel is divided evenly along each axis.
        """
        axes = [(np.arange(n * subsamples) + 0.5) / subsamples - n / 2 for n in self.tile_shape]
        return np.stack([c.ravel() for c in np.meshgrid(*axes, indexing="ij")]).astype(np.float32)

    def extract(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Cut what every tile sees out of an array.

        Parameters
        ----------
        values
            (channels, *shape).

        Returns
        -------
        ndarray
            (count, channels, samples of a tile).
        """
        windows = np.lib.stride_tricks.sliding_window_view(
            values, self.tile_shape, axis=tuple(range(1, len(self.axes) + 1))
        )
        picked = windows[(slice(None), *self.starts.T)]
        return np.ascontiguousarray(np.moveaxis(picked, 1, 0)).reshape(self.count, len(values), -1)

    def pixel_windows(self) -> npt.NDArray[np.float32]:
        """Weight of every tile at the pixels that it sees, (count, samples of a tile)."""
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
        In pixels of the original: the outer edge of the first output pixel, and the size of an output pixel;
        sample j lies at start + (j + 0.5) * step.
    """

    shape: tuple[int, ...]
    start: tuple[float, ...]
    step: tuple[float, ...]

    def positions(self, axis: int, subsamples: int = 1) -> npt.NDArray[np.float64]:
        """Positions in pixels of the samples along an axis, each output pixel divided evenly."""
        n = self.shape[axis] * subsamples
        return self.start[axis] + (np.arange(n, dtype=np.float64) + 0.5) * (self.step[axis] / subsamples)

    def block(self, slices: Sequence[slice]) -> RenderGrid:
        """Return the part of the grid that the slices (of output pixels) pick."""
        return RenderGrid(
            tuple(s.stop - s.start for s in slices),
            tuple(a + s.start * d for a, s, d in zip(self.start, slices, self.step, strict=True)),
            self.step,
        )

    @classmethod
    def of(
        cls,
        image_shape: Sequence[int],
        image_spacing: Sequence[float],
        *,
        scale: float | Sequence[float] | None = None,
        shape: Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        region: Sequence[tuple[float, float]] | None = None,
    ) -> RenderGrid:
        """Lay a grid over an image by one of scale, shape or spacing; none of them is scale 1.

        Parameters
        ----------
        image_shape, image_spacing
            Of the original, for each spatial axis.
        scale
            Output pixels per pixel: a number, or one an axis.
        shape
            Number of output pixels along each axis.
        spacing
            Physical size of an output pixel: a number, or one an axis.
        region
            (start, stop) of each axis in pixels of the original; None is the whole image.

        Raises
        ------
        InputError
            More than one of the three, a wrong length, or a number that is not positive and finite.
        """
        dimensions = len(image_shape)
        if sum(v is not None for v in (scale, shape, spacing)) > 1:
            raise InputError("give one of scale, shape and spacing, not several.")
        edges = _check_region(region, image_shape)
        extent = np.array([stop - start for start, stop in edges])
        if shape is not None:
            counts = _per_axis("shape", shape, dimensions)
            if (counts != np.rint(counts)).any():
                raise InputError(f"shape={shape!r}: whole numbers of pixels are needed.")
            counts = counts.astype(np.int64)
            step = extent / counts
        else:
            if spacing is not None:
                step = _per_axis("spacing", spacing, dimensions) / np.array(image_spacing)
            else:
                step = 1 / _per_axis("scale", 1.0 if scale is None else scale, dimensions)
            step = np.minimum(step, extent)
            counts = np.maximum(1, np.rint(extent / step)).astype(np.int64)
        start = tuple(float(a) for a, _ in edges)
        return cls(tuple(int(n) for n in counts), start, tuple(float(s) for s in step))


def _per_axis(name: str, value: float | Sequence[float], dimensions: int) -> npt.NDArray[np.float64]:
    try:
        values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise InputError(f"{name} should be a number or one for each spatial axis, not {value!r}.") from None
    if values.shape != (dimensions,) and (values.shape != (1,) or name == "shape"):
        raise InputError(f"{name}={value!r}: {dimensions} numbers are needed, one for each spatial axis.")
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"{name}={value!r}: it must be positive and finite.")
    return np.broadcast_to(values, (dimensions,)).copy()


def _check_region(region: Sequence[tuple[float, float]] | None, shape: Sequence[int]) -> list[tuple[float, float]]:
    if region is None:
        return [(0.0, float(n)) for n in shape]
    if np.ndim(region) == 0 or len(region) != len(shape):
        raise InputError(f"region={region!r}: give {len(shape)} pairs of (start, stop), one for each spatial axis.")
    pairs = [
        (s.start or 0, n if s.stop is None else s.stop) if isinstance(s, slice) else s
        for s, n in zip(region, shape, strict=False)
    ]
    try:
        edges = [(float(a), float(b)) for a, b in pairs]
    except (TypeError, ValueError):
        raise InputError(f"region={region!r}: give (start, stop) in pixels for each spatial axis.") from None
    for (a, b), n in zip(edges, shape, strict=True):
        if not (0 <= a < b <= n):
            raise InputError(f"region={region!r}: (start, stop) must lie in order within 0 and {n} pixels.")
    return edges
