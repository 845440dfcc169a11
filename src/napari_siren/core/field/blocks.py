"""`Blocks`: the tiles of an image too large for memory, cut into blocks for successive fits.

Each tile is fitted independently, so its result is the same in a block as among all tiles. Where two blocks meet, their
tiles are cross-faded like any others. A block therefore has no border of its own and leaves no seam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt

from napari_siren.core.field.tiling import Tiling

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Blocks:
    """A tiling cut into blocks of whole tiles.

    Parameters
    ----------
    tiling
        Tiling of the whole image.
    counts
        Number of blocks along each axis.
    """

    tiling: Tiling
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return math.prod(self.counts)

    def ranges(self, block: int) -> Ranges:
        """Return (first, stop) of a block's tiles along each axis."""
        indices = np.unravel_index(block, self.counts)
        borders = (self._borders(axis) for axis in range(len(self.counts)))
        return tuple((along[i], along[i + 1]) for along, i in zip(borders, map(int, indices), strict=True))

    def numbers(self, ranges: Ranges) -> npt.NDArray[np.int64]:
        """Return the flat indices (int64) of a box of tiles in the whole tiling, in ascending order."""
        return numbers_within(ranges, ((0, 0),) * len(ranges), self.tiling.counts)

    def touched(self, ranges: Ranges) -> Iterator[tuple[int, Ranges]]:
        """Yield (block, ranges) for each block with tiles in `ranges`: its number, and the tiles in common."""
        candidates = []
        for axis, (first, stop) in enumerate(ranges):
            inner = self._borders(axis)[1:-1]
            low, high = np.searchsorted(inner, first, side="right"), np.searchsorted(inner, stop - 1, side="right")
            candidates.append(range(int(low), int(high) + 1))
        for indices in product(*candidates):
            block = int(np.ravel_multi_index(indices, self.counts))
            both = zip(self.ranges(block), ranges, strict=True)
            yield block, tuple((max(a, first), min(b, stop)) for (a, b), (first, stop) in both)

    def seen_from(self, low: Sequence[float], high: Sequence[float]) -> Ranges:
        """Return the tiles with a weight anywhere between two positions, in pixels of the tiling."""
        ranges = []
        for axis, a, b in zip(self.tiling.axes, low, high, strict=True):
            inner = np.array(axis.borders[1:-1], dtype=np.float64)
            first = int(np.searchsorted(inner + axis.overlap, a, side="left"))
            ranges.append((first, max(first, int(np.searchsorted(inner - axis.overlap, b, side="right"))) + 1))
        return tuple(ranges)

    def _borders(self, axis: int) -> list[int]:
        tiles, count = self.tiling.counts[axis], self.counts[axis]
        return [tiles * i // count for i in range(count + 1)]

    @property
    def largest(self) -> Tiling:
        """Tiling of a part as large as the largest block along each axis."""
        axes = []
        for i, axis in enumerate(self.tiling.axes):
            parts = (axis.part(first, stop)[1] for first, stop in pairwise(self._borders(i)))
            axes.append(max(parts, key=lambda part: (part.count, part.size)))
        return Tiling(tuple(axes))


def numbers_within(ranges: Ranges, start: Ranges, counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the flat indices (int64) of a box of tiles within another box, by its `start` and its size `counts`."""
    index = np.ix_(*(np.arange(a, b) - s for (a, b), (s, _) in zip(ranges, start, strict=True)))
    flat: npt.NDArray[np.int64] = np.ravel_multi_index(np.broadcast_arrays(*index), counts).ravel().astype(np.int64)
    return flat
