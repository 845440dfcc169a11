"""`Field`: the continuous function, a partition-of-unity blend of SIRENs, F(x) = sum_i w_i(x) f_i(x)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.accel import forward
from napari_siren.core.geometry import RenderGrid, Tiling, WindowJet
from napari_siren.core.image import ImageFormat
from napari_siren.core.model import Siren
from napari_siren.errors import InputError

Derivative = Literal["gradient", "gradient_magnitude", "laplacian"]
Order = Literal["value", "gradient", "laplacian"]
DERIVATIVES = ("gradient", "gradient_magnitude", "laplacian")

_BLOCK_SAMPLES = 1 << 20


@dataclass(frozen=True)
class Field:
    """A function of position, fitted to an image; infinitely sharp to ask, exact to differentiate.

    Positions are physical: sample k of an axis lies at (k + 0.5) * spacing. Values are in the image's units.

    Parameters
    ----------
    siren
        One network for each tile.
    tiling
        The tiles and their windows.
    format
        Axes, spacing and value range of the image.
    offset, scale
        (tiles, channels) and (tiles, 1): what each tile's outputs are multiplied by and moved to, in normalised values.
    coordinate_scale
        For each axis, the networks' own unit of length per pixel.
    samples_per_pixel
        1 when a pixel sees the field at its centre, else how many samples along each axis it averages.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> image = np.hypot(*np.mgrid[-8:8, -8:8]).astype(np.float32)
    >>> field = ns.fit(image, max_steps=20).field
    >>> field([[8.0, 8.0], [2.5, 3.25]]).shape
    (2,)
    >>> field.gradient([[2.5, 3.25]]).shape
    (1, 2)
    """

    siren: Siren
    tiling: Tiling
    format: ImageFormat
    offset: Tensor
    scale: Tensor
    coordinate_scale: tuple[float, ...]
    samples_per_pixel: int = 1

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return len(self.tiling.axes)

    def __call__(self, coords: npt.ArrayLike) -> npt.NDArray[np.floating]:
        """Evaluate the field.

        Parameters
        ----------
        coords
            (..., dimensions), physical positions in the order of the image's spatial axes. Outside the image the
            nearest tile's network goes on.

        Returns
        -------
        ndarray
            (...) or, for an image with a channel axis, (..., channels); floating, in the image's units, not rounded.
            float64 where the coordinates are, else float32.

        Raises
        ------
        InputError
            The last axis of `coords` is not of the field's dimensions, or a coordinate is not finite.
        """
        return self._at_points(coords, "value")

    def gradient(self, coords: npt.ArrayLike) -> npt.NDArray[np.floating]:
        """Evaluate the exact gradient, in the image's units per physical length.

        Parameters
        ----------
        coords
            (..., dimensions), physical positions.

        Returns
        -------
        ndarray
            (..., dimensions) or (..., channels, dimensions).
        """
        return self._at_points(coords, "gradient")

    def laplacian(self, coords: npt.ArrayLike) -> npt.NDArray[np.floating]:
        """Evaluate the exact Laplacian, in the image's units per squared physical length.

        Parameters
        ----------
        coords
            (..., dimensions), physical positions.

        Returns
        -------
        ndarray
            (...) or (..., channels).
        """
        return self._at_points(coords, "laplacian")

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Field:
        """Give the same field on another device, or in another precision."""
        return Field(
            self.siren.to(device, dtype),
            self.tiling,
            self.format,
            self.offset.to(device=device, dtype=dtype),
            self.scale.to(device=device, dtype=dtype),
            self.coordinate_scale,
            self.samples_per_pixel,
        )

    def render(
        self, grid: RenderGrid, derivative: Derivative | None = None, dtype: npt.DTypeLike | None = None, out: Any = None
    ) -> Any:
        """Evaluate the field on a grid, block by block.

        Output pixels larger than what a pixel of the original sees are averaged over their area, so that a
        smaller picture is free of aliasing.

        Parameters
        ----------
        grid
            Where.
        derivative
            None for values, or one of "gradient", "gradient_magnitude", "laplacian".
        dtype
            Of the result, rounded and clipped to its range; None is the image's dtype for values and float32 for
            derivatives.
        out
            An array, or anything that takes blocks by slices (a zarr array), to be filled; its dtype counts if
            `dtype` is None.

        Returns
        -------
        ndarray or `out`
            The image's order of axes; "gradient" has an axis more, in front, one entry for each spatial axis.

        Raises
        ------
        InputError
            An unknown derivative, or `out` of the wrong shape.
        """
        if derivative is not None and derivative not in DERIVATIVES:
            raise InputError(f"there is no derivative {derivative!r}; there are: {', '.join(DERIVATIVES)}.")
        shape = self._output_shape(grid, derivative)
        if dtype is None:
            dtype = getattr(out, "dtype", None) or (np.float32 if derivative else self.format.dtype)
        if out is None:
            out = np.empty(shape, dtype=dtype)
        elif tuple(out.shape) != shape:
            raise InputError(f"out has shape {tuple(out.shape)}, the render needs {shape}.")
        for slices in _blocks(grid.shape, self._samples(grid), self.format.channels):
            values = self._block(grid.block(slices), derivative)
            out[self._output_slices(slices, derivative)] = self.format.cast(values, dtype)
        return out

    def _block(self, grid: RenderGrid, derivative: Derivative | None) -> npt.NDArray[np.floating]:
        order: Order = "value" if derivative is None else "laplacian" if derivative == "laplacian" else "gradient"
        samples = self._samples(grid)
        raw = self._on_grid([grid.positions(i, k) for i, k in enumerate(samples)], order)
        # (parts, channels, n0 * k0, n1 * k1, …) -> the mean over each output pixel
        split = raw.reshape(*raw.shape[:2], *(m for n, k in zip(grid.shape, samples, strict=True) for m in (n, k)))
        mean = split.mean(dim=tuple(range(3, split.ndim, 2))) if max(samples) > 1 else raw
        values = self._to_units(mean.movedim(1, -1), order)  # (parts, *shape, channels)
        if derivative == "gradient_magnitude":
            values = np.sqrt(np.square(values).sum(axis=0, keepdims=True))
        parts = [self.format.from_channels_first(np.moveaxis(part, -1, 0)) for part in values]
        return np.stack(parts) if derivative == "gradient" else parts[0]

    def _samples(self, grid: RenderGrid) -> tuple[int, ...]:
        """How many samples along each axis an output pixel is averaged over."""
        return tuple(max(1, int(np.ceil(step * self.samples_per_pixel - 1e-9))) for step in grid.step)

    def _output_shape(self, grid: RenderGrid, derivative: Derivative | None) -> tuple[int, ...]:
        shape = list(grid.shape)
        if self.format.channel_axis is not None:
            shape.insert(self.format.channel_axis, self.format.channels)
        return (self.dimensions, *shape) if derivative == "gradient" else tuple(shape)

    def _output_slices(self, slices: Sequence[slice], derivative: Derivative | None) -> tuple[slice, ...]:
        whole = slice(None)
        picked = list(slices)
        if self.format.channel_axis is not None:
            picked.insert(self.format.channel_axis, whole)
        return (whole, *picked) if derivative == "gradient" else tuple(picked)

    # ---- evaluation --------------------------------------------------------------------------------

    def _on_grid(self, positions: Sequence[npt.NDArray[np.float64]], order: Order) -> Tensor:
        """Evaluate on the product of positions in pixels: (parts, channels, *shape), normalised, per pixel."""
        like = self.siren.theta
        spans = [_spans(axis, p) for axis, p in zip(self.tiling.axes, positions, strict=True)]
        parts = self.dimensions if order == "gradient" else 1
        out = torch.zeros(parts, self.format.channels, *(len(p) for p in positions), dtype=like.dtype, device=like.device)
        touched = [np.flatnonzero(stop > start) for start, stop in spans]
        widths = [int((stop - start).max()) for start, stop in spans]
        # All tiles get as many samples as the widest along each axis; the surplus has no weight, or is cut off.
        along = []
        for axis, p, (start, _), tiles, width in zip(self.tiling.axes, positions, spans, touched, widths, strict=True):
            index = np.minimum(start[tiles, None] + np.arange(width), len(p) - 1)
            along.append((torch.from_numpy(tiles), torch.from_numpy(p[index]), axis))
        jets = [axis.window(tiles[:, None], p) for tiles, p, axis in along]
        order_of_tiles = np.array(list(product(*(range(len(t)) for t in touched))))
        block = max(1, _BLOCK_SAMPLES // int(np.prod(widths)))
        for first in range(0, len(order_of_tiles), block):
            picks = order_of_tiles[first : first + block]
            index = np.stack([touched[i][picks[:, i]] for i in range(self.dimensions)])
            tiles = torch.from_numpy(np.ravel_multi_index(tuple(index), self.tiling.counts))
            local, windows = [], []
            for i, ((_, p, _), jet) in enumerate(zip(along, jets, strict=True)):
                rows = torch.from_numpy(picks[:, i])
                shape = (len(picks), 1, *(widths[i] if j == i else 1 for j in range(self.dimensions)))
                centre = torch.from_numpy(self.tiling.centres)[tiles, i, None]
                local.append((p[rows] - centre).reshape(shape).expand(-1, -1, *widths))
                windows.append(jet.pick(rows, shape, like))
            blended = self._weighted(tiles, torch.cat(local, dim=1), windows, order)
            for row, pick in enumerate(picks):
                target, source = [slice(None)] * 2, [slice(None)] * 2
                for i, k in enumerate(pick):
                    start, stop = (int(v[touched[i][k]]) for v in spans[i])
                    target.append(slice(start, stop))
                    source.append(slice(0, stop - start))
                out[tuple(target)] += blended[(slice(None), row, *source[1:])]
        return out

    def _at_points(self, coords: npt.ArrayLike, order: Order) -> npt.NDArray[np.floating]:
        physical = _check_coords(coords, self.dimensions)
        dtype = torch.float64 if physical.dtype == np.float64 else torch.float32
        field = self.to(dtype=dtype)
        points = torch.from_numpy(physical.reshape(-1, self.dimensions) / np.array(self.format.spacing))
        parts = self.dimensions if order == "gradient" else 1
        out = torch.zeros(parts, len(points), self.format.channels, dtype=dtype, device=field.siren.theta.device)
        for first in range(0, len(points), _BLOCK_SAMPLES):
            block = slice(first, first + _BLOCK_SAMPLES)
            for where, tiles, inside in field._pairs(points[block]):
                out[:, block].index_add_(1, where.to(out.device), field._weighted_points(tiles, inside, order))
        values = self._to_units(out, order)
        if self.format.channel_axis is None:
            values = values[..., 0]
        ends = values.shape[2:]
        if order == "gradient":
            return np.moveaxis(values, 0, -1).reshape(*physical.shape[:-1], *ends, self.dimensions)
        return values[0].reshape(*physical.shape[:-1], *ends)

    def _pairs(self, points: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Pair points with the tiles that see them: (point indices, tile indices, positions), 2^d times."""
        choices = []
        for i, axis in enumerate(self.tiling.axes):
            cell = axis.cell_of(points[:, i])
            borders = torch.tensor(axis.borders, dtype=points.dtype)
            nearer_low = points[:, i] < (borders[cell] + borders[cell + 1]) / 2
            choices.append((cell, torch.where(nearer_low, cell - 1, cell + 1)))
        strides = torch.tensor([int(np.prod(self.tiling.counts[i + 1 :])) for i in range(self.dimensions)])
        for combination in product((0, 1), repeat=self.dimensions):
            index = torch.stack([choices[i][k] for i, k in enumerate(combination)], dim=1)
            valid = ((index >= 0) & (index < torch.tensor(self.tiling.counts))).all(dim=1)
            for i, axis in enumerate(self.tiling.axes):
                clamped = index[:, i].clamp(0, axis.count - 1)
                valid &= axis.window(clamped, points[:, i]).value > 0
            where = valid.nonzero()[:, 0]
            tiles = (index[where] * strides).sum(dim=1)
            ordered = tiles.argsort(stable=True)
            if len(ordered):
                yield where[ordered], tiles[ordered], points[where[ordered]]

    def _weighted_points(self, tiles: Tensor, points: Tensor, order: Order) -> Tensor:
        """Evaluate each point by the tile beside it (tiles ascending): (parts, points, channels)."""
        like = self.siren.theta
        unique, counts = tiles.unique_consecutive(return_counts=True)
        width = int(counts.max())
        row = torch.repeat_interleave(torch.arange(len(unique)), counts)
        column = torch.arange(len(tiles)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        centres = torch.from_numpy(self.tiling.centres)
        padded = centres[unique][:, None].expand(-1, width, -1).clone()
        padded[row, column] = points.to(padded.dtype)
        indices = torch.from_numpy(self.tiling.indices)[unique]
        windows = []
        for i, axis in enumerate(self.tiling.axes):
            jet = axis.window(indices[:, i, None], padded[..., i])
            windows.append(jet.pick(torch.arange(len(unique)), (len(unique), 1, width), like))
        local = (padded - centres[unique][:, None]).transpose(1, 2)
        blended = self._weighted(unique, local, windows, order)  # (parts, tiles, channels, width)
        return blended.movedim(2, 3)[:, row.to(like.device), column.to(like.device)]

    def _weighted(self, tiles: Tensor, local: Tensor, windows: Sequence[WindowJet], order: Order) -> Tensor:
        """Evaluate w_i f_i, or its derivatives per pixel, for some tiles.

        Parameters
        ----------
        tiles
            int64, (n,).
        local
            (n, dimensions, *samples), pixels from each tile's centre.
        windows
            One an axis; each broadcasts with (n, channels, *samples).

        Returns
        -------
        Tensor
            (parts, n, channels, *samples).
        """
        like = self.siren.theta
        per_pixel = torch.tensor(self.coordinate_scale, dtype=torch.float64)
        samples = local.shape[2:]
        x = (local.flatten(2) * per_pixel[:, None]).to(like)
        tiles = tiles.to(like.device)
        siren = self.siren.pick(tiles)
        ones = (1,) * len(samples)
        scale = self.scale[tiles].reshape(len(tiles), 1, *ones)
        offset = self.offset[tiles].reshape(len(tiles), -1, *ones)
        if order == "value":
            value = forward(siren, x).unflatten(2, samples).mul_(scale).add_(offset)
            for window in windows:
                value *= window.value
            return value[None]
        value, first, second = (part.unflatten(-1, samples) for part in siren.jet(x))
        value = value * scale + offset
        products = []
        for axis, window in enumerate(windows):
            others = torch.ones_like(window.value)
            for other, w in enumerate(windows):
                if other != axis:
                    others = others * w.value
            slope = float(per_pixel[axis])
            d = first[axis] * scale * slope
            if order == "gradient":
                products.append(others * (window.first * value + window.value * d))
            else:
                dd = second[axis] * scale * slope**2
                term = others * (window.second * value + 2 * window.first * d + window.value * dd)
                products.append(term / self.format.spacing[axis] ** 2)
        return torch.stack(products) if order == "gradient" else torch.stack(products).sum(dim=0, keepdim=True)

    def _to_units(self, values: Tensor, order: Order) -> npt.NDArray[np.floating]:
        """Give (parts, …, channels) in the image's units, and per physical length."""
        wide = self.format.dtype in ("float64", "int32", "uint32", "int64", "uint64")
        array = values.cpu().numpy().astype(np.float64 if wide else values.cpu().numpy().dtype, copy=False)
        array = array * np.array(self.format.scale, dtype=array.dtype)
        if order == "value":
            return array + np.array(self.format.offset, dtype=array.dtype)
        if order == "gradient":
            spacing = np.array(self.format.spacing, dtype=array.dtype)
            return array / spacing.reshape(-1, *(1,) * (array.ndim - 1))
        return array


def _spans(axis: Any, positions: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and past-the-last position inside each tile's window; the outermost tiles reach without end."""
    low = np.array(axis.borders[:-1], dtype=np.float64) - axis.overlap
    high = np.array(axis.borders[1:], dtype=np.float64) + axis.overlap
    low[0], high[-1] = -np.inf, np.inf
    return np.searchsorted(positions, low, side="right"), np.searchsorted(positions, high, side="left")


def _blocks(shape: Sequence[int], samples: Sequence[int], channels: int) -> Iterator[tuple[slice, ...]]:
    """Cut an output into blocks of a bounded number of samples, halving the longest axis."""
    sides = list(shape)
    while np.prod([s * k for s, k in zip(sides, samples, strict=True)]) * channels > 4 * _BLOCK_SAMPLES:
        longest = int(np.argmax(sides))
        if sides[longest] == 1:
            break
        sides[longest] = -(-sides[longest] // 2)
    starts = [range(0, n, side) for n, side in zip(shape, sides, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(a, min(a + s, n)) for a, s, n in zip(corner, sides, shape, strict=True))


def _check_coords(coords: npt.ArrayLike, dimensions: int) -> npt.NDArray[np.floating]:
    array = np.asarray(coords)
    if array.dtype.kind not in "uif" or array.ndim == 0 or array.shape[-1] != dimensions:
        raise InputError(f"coords should be numbers of shape (..., {dimensions}), not {array.dtype} {array.shape}.")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError("coords has values that are not finite.")
    return array
