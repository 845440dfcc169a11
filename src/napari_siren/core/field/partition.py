"""`PartitionOfUnity`: the weighted sum of the tiles' networks, sum_i w_i(x) f_i(x), and its derivatives.

Here lengths are in pixels and values are normalised. `Field` converts both to the image's units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.engines import NativeEngine, choose_engine, forward
from napari_siren.core.engines.native import GridAxis
from napari_siren.core.field.coordinates import check_no_gradient
from napari_siren.core.field.representation import Order
from napari_siren.core.field.tiling import AxisTiling, Tiling, WindowJet
from napari_siren.core.network.siren import Siren

# Most activations that an evaluation keeps at a time, in elements: 128 MiB in float32.
_BLOCK_ELEMENTS = 1 << 25


@dataclass(frozen=True)
class PartitionOfUnity:
    """A partition of unity of SIRENs.

    Parameters
    ----------
    siren
        One network for each tile.
    tiling
        The tiles and their windows.
    offset, scale
        (tiles, channels) and (tiles, 1): normalised value = offset + scale * output of the tile's network.
    coordinate_scale
        Factor from pixels to the networks' own unit of length, for each axis.
    """

    siren: Siren
    tiling: Tiling
    offset: Tensor
    scale: Tensor
    coordinate_scale: tuple[float, ...]

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return len(self.tiling.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of fitted samples along each axis."""
        return self.tiling.shape

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.siren.theta.device

    @property
    def parameters(self) -> int:
        """Number of parameters of all networks."""
        return self.siren.theta.numel()

    @property
    def size(self) -> str:
        """Number of networks, and of the parameters of each, in a few words."""
        return f"{self.siren.tiles} x {self.siren.spec.parameters} parameters"

    @property
    def channels(self) -> int:
        """Number of outputs."""
        return self.siren.spec.outputs

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> PartitionOfUnity:
        """Return the same function on another device, or in another precision."""
        offset, scale = (t.to(device=device, dtype=dtype) for t in (self.offset, self.scale))
        return PartitionOfUnity(self.siren.to(device, dtype), self.tiling, offset, scale, self.coordinate_scale)

    def on_grid(self, positions: Sequence[npt.NDArray[np.float64]], order: Order) -> Tensor:
        """Evaluate on the product of ascending positions along each axis.

        Parameters
        ----------
        positions
            One ascending array for each axis, in pixels.
        order
            "value", or the "first" or "second" derivative along each axis.

        Returns
        -------
        Tensor
            (parts, channels, *lengths). Values have one part; derivatives have one for each axis.
        """
        like = self.siren.theta
        axes = [_AxisSamples.from_axis(axis, p) for axis, p in zip(self.tiling.axes, positions, strict=True)]
        lengths, widths = [len(p) for p in positions], [axis.width for axis in axes]
        out = torch.zeros(self._parts(order), self.channels, *lengths, dtype=like.dtype, device=like.device)
        combinations = np.array(list(product(*(range(len(axis.tiles)) for axis in axes))))
        engine = choose_engine("auto", like.device, self.siren.spec, len(combinations), dtype=like.dtype)
        if order == "value" and isinstance(engine, NativeEngine):
            self._on_grid_by(engine, axes, combinations, out[0])
            return out
        block = max(1, self._block_samples(order) // int(np.prod(widths)))
        for first in range(0, len(combinations), block):
            picks = combinations[first : first + block]
            tiles = self._numbers(axes, picks)
            local, windows = [], []
            for i, axis in enumerate(axes):
                rows = torch.from_numpy(picks[:, i])
                shape = (len(picks), 1, *(width if j == i else 1 for j, width in enumerate(widths)))
                centre = torch.from_numpy(self.tiling.centres)[tiles, i, None]
                local.append((axis.positions[rows] - centre).reshape(shape))
                windows.append(axis.window.pick(rows, shape, like))
            parts, weights = self._evaluate(tiles, local, windows, order)
            for row, pick in enumerate(picks):
                starts = [int(axis.starts[k]) for axis, k in zip(axes, pick, strict=True)]
                counts = [int(axis.counts[k]) for axis, k in zip(axes, pick, strict=True)]
                target: tuple[Any, ...] = (..., *(slice(a, a + n) for a, n in zip(starts, counts, strict=True)))
                source: tuple[Any, ...] = (..., *(slice(n) for n in counts))
                out[target].addcmul_(parts[:, row][source], weights[row][source])
        return out

    def _on_grid_by(
        self, engine: NativeEngine, axes: Sequence[_AxisSamples], combinations: npt.NDArray[np.int64], out: Tensor
    ) -> None:
        """Add the values on a grid to `out`, by the native engine."""
        like, grid = self.siren.theta, []
        for tiling, axis, unit in zip(self.tiling.axes, axes, self.coordinate_scale, strict=True):
            centres = torch.from_numpy(tiling.starts[axis.tiles] + tiling.extent / 2)
            local = (axis.positions - centres[:, None]) * unit
            grid.append(GridAxis(axis.starts, axis.counts, local.to(like), axis.window.value.to(like)))
        odd = np.stack([axis.tiles[combinations[:, i]] % 2 for i, axis in enumerate(axes)], axis=1)
        # Only neighbouring tiles share samples. Tiles of one parity along every axis are never neighbours.
        for parity in product((0, 1), repeat=self.dimensions):
            picks = combinations[(odd == parity).all(axis=1)]
            if len(picks):
                engine.blend(self._normalised(self._numbers(axes, picks)), picks.astype(np.int32), grid, out)

    def _numbers(self, axes: Sequence[_AxisSamples], picks: npt.NDArray[np.int64]) -> Tensor:
        """Return the flat indices of tiles, int64, from `picks` (tiles, dimensions), rows of `axes[i].tiles`."""
        index = tuple(axis.tiles[picks[:, i]] for i, axis in enumerate(axes))
        return torch.from_numpy(np.ravel_multi_index(index, self.tiling.counts))

    def at_points(self, points: Tensor, order: Order) -> Tensor:
        """Evaluate at single points.

        Parameters
        ----------
        points
            (points, dimensions), in pixels, on the CPU.
        order
            "value", or the "first" or "second" derivative along each axis.

        Returns
        -------
        Tensor
            (parts, points, channels). Values have one part; derivatives have one for each axis.

        Raises
        ------
        InputError
            The points or the parameters require a gradient. Engines are outside autograd.
        """
        like = self.siren.theta
        check_no_gradient(points, like)
        out = torch.zeros(self._parts(order), len(points), self.channels, dtype=like.dtype, device=like.device)
        for block in torch.split(torch.arange(len(points)), self._block_samples(order)):
            for rows, tiles in self._pairs(points[block]):
                indices = block[rows]
                out.index_add_(1, indices.to(like.device), self._at_pairs(tiles, points[indices], order))
        return out

    def _pairs(self, points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (indices of points, tiles) for pairs with a positive weight, in up to 2^d sets. The tiles ascend."""
        choices = []
        for i, axis in enumerate(self.tiling.axes):
            cell = axis.cell_of(points[:, i])
            borders = torch.tensor(axis.borders, dtype=points.dtype)
            nearer_low = points[:, i] < (borders[cell] + borders[cell + 1]) / 2
            choices.append((cell, torch.where(nearer_low, cell - 1, cell + 1)))
        counts = torch.tensor(self.tiling.counts)
        strides = torch.tensor([int(np.prod(self.tiling.counts[i + 1 :])) for i in range(self.dimensions)])
        for combination in product((0, 1), repeat=self.dimensions):
            index = torch.stack([choices[i][k] for i, k in enumerate(combination)], dim=1)
            valid = ((index >= 0) & (index < counts)).all(dim=1)
            for i, axis in enumerate(self.tiling.axes):
                valid &= axis.window(index[:, i].clamp(0, axis.count - 1), points[:, i]).value > 0
            rows = valid.nonzero()[:, 0]
            tiles = (index[rows] * strides).sum(dim=1)
            order = tiles.argsort(stable=True)
            if len(order):
                yield rows[order], tiles[order]

    def _at_pairs(self, tiles: Tensor, points: Tensor, order: Order) -> Tensor:
        """Evaluate each point by the tile with the same index: (parts, points, channels). The tiles must ascend."""
        like = self.siren.theta
        unique, counts = torch.unique_consecutive(tiles, return_counts=True)
        width = int(counts.max())
        row = torch.repeat_interleave(torch.arange(len(unique)), counts)
        column = torch.arange(len(tiles)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        centres = torch.from_numpy(self.tiling.centres)[unique][:, None]
        padded = centres.expand(-1, width, -1).clone()
        padded[row, column] = points.to(padded.dtype)
        indices = torch.from_numpy(self.tiling.indices)[unique]
        rows = torch.arange(len(unique))
        windows = [
            axis.window(indices[:, i, None], padded[..., i]).pick(rows, (len(unique), 1, width), like)
            for i, axis in enumerate(self.tiling.axes)
        ]
        local = (padded - centres)[:, None].unbind(dim=3)
        parts, weights = self._evaluate(unique, local, windows, order)
        return (parts * weights).movedim(2, 3)[:, row.to(like.device), column.to(like.device)]

    def _evaluate(
        self, tiles: Tensor, local: Sequence[Tensor], windows: Sequence[WindowJet], order: Order
    ) -> tuple[Tensor, Tensor]:
        """Evaluate w_i f_i of some tiles, or its derivatives by the product rule, as two factors.

        Parameters
        ----------
        tiles
            Indices of the tiles, int64, (n,).
        local
            Positions along each axis, in pixels from each tile's centre. They broadcast to (n, 1, *samples).
        windows
            Weights along each axis. Each broadcasts with (n, channels, *samples).

        Returns
        -------
        parts : Tensor
            (parts, n, channels, *samples).
        weights : Tensor
            Remaining factor of `parts`; it broadcasts with (n, channels, *samples).
        """
        siren, x = self._normalised(tiles), self._coordinates(local)
        samples = x.shape[2:]
        if order == "value":
            output = forward(siren, x.flatten(2))
            return output.reshape(1, *output.shape[:2], *samples), reduce(torch.mul, (w.value for w in windows))
        value, first, second = (part.reshape(*part.shape[:-1], *samples) for part in siren.jet(x.flatten(2)))
        parts = []
        for axis, window in enumerate(windows):
            slope = self.coordinate_scale[axis]
            d = first[axis] * slope
            if order == "first":
                part = window.first * value + window.value * d
            else:
                part = window.second * value + 2 * window.first * d + window.value * second[axis] * slope**2
            for other, w in enumerate(windows):
                if other != axis:
                    part = part * w.value
            parts.append(part)
        return torch.stack(parts), value.new_ones(len(tiles), *(1 for _ in value.shape[1:]))

    def _normalised(self, tiles: Tensor) -> Siren:
        """Return the networks of some tiles, with the tiles' scale and offset multiplied into the last layer."""
        tiles = tiles.to(self.siren.theta.device)
        siren = self.siren.pick(tiles)  # This is a copy, so it may be changed.
        scale, offset = self.scale[tiles, :, None], self.offset[tiles, :, None]
        siren.spec.weights(siren.theta)[-1].mul_(scale)
        siren.spec.biases(siren.theta)[-1].mul_(scale).add_(offset)
        return siren

    def _coordinates(self, local: Sequence[Tensor]) -> Tensor:
        """Return positions in the networks' own units, (n, dimensions, *samples)."""
        like = self.siren.theta
        n, _, *samples = np.broadcast_shapes(*(along.shape for along in local))
        x = torch.empty(n, len(local), *samples, dtype=like.dtype, device=like.device)
        for axis, (along, unit) in enumerate(zip(local, self.coordinate_scale, strict=True)):
            x[:, axis, None] = (along * unit).to(like)
        return x

    def _parts(self, order: Order) -> int:
        return 1 if order == "value" else self.dimensions

    def _block_samples(self, order: Order) -> int:
        per_sample = self.siren.spec.hidden_features * (2 if order == "value" else 2 + 4 * self.dimensions)
        return max(1, _BLOCK_ELEMENTS // per_sample)


@dataclass(frozen=True)
class _AxisSamples:
    """Positions along one axis, sorted by tile.

    Parameters
    ----------
    tiles
        Indices of the tiles with at least one position, int64, ascending.
    starts, counts
        Index of the first position of each such tile, and the number of its positions.
    positions, window
        (tiles, width): the positions in pixels, padded to the same number for all tiles, and the tiles' weights there.
        The padding is cut off again.
    """

    tiles: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    positions: Tensor
    window: WindowJet

    @property
    def width(self) -> int:
        """Number of positions of a tile, with the padding."""
        return self.positions.shape[1]

    @classmethod
    def from_axis(cls, axis: AxisTiling, positions: npt.NDArray[np.float64]) -> _AxisSamples:
        """Sort ascending positions, in pixels, by tile."""
        low = np.array(axis.borders[:-1], dtype=np.float64) - axis.overlap
        high = np.array(axis.borders[1:], dtype=np.float64) + axis.overlap
        # The outermost tiles extend to infinity, unless other tiles follow outside this part.
        low[0] = low[0] if axis.goes_on[0] else -np.inf
        high[-1] = high[-1] if axis.goes_on[1] else np.inf
        starts = np.searchsorted(positions, low, side="right")
        stops = np.searchsorted(positions, high, side="left")
        tiles: npt.NDArray[Any] = np.flatnonzero(stops > starts)
        counts = (stops - starts)[tiles]
        index = np.minimum(starts[tiles, None] + np.arange(counts.max()), len(positions) - 1)
        padded = torch.from_numpy(positions[index])
        return cls(tiles, starts[tiles], counts, padded, axis.window(torch.from_numpy(tiles)[:, None], padded))
