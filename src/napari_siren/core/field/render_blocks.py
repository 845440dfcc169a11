"""Blocks of a render, so that it is evaluated in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch

from napari_siren.errors import DeviceError

_LOG = logging.getLogger(__name__)
# Most values, samples times channels, that are evaluated as one block of a render: 16 MiB in float32.
_BLOCK_VALUES = 1 << 22


def cut(shape: Sequence[int], samples: Sequence[int], channels: int) -> Iterator[tuple[slice, ...]]:
    """Yield blocks of an output, of a bounded number of values, by halving the longest axis."""
    sides = list(shape)
    while np.prod([s * k for s, k in zip(sides, samples, strict=True)]) * channels > _BLOCK_VALUES:
        longest = int(np.argmax(sides))
        if sides[longest] == 1:
            break
        sides[longest] = -(-sides[longest] // 2)
    starts = [range(0, n, side) for n, side in zip(shape, sides, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(a, min(a + s, n)) for a, s, n in zip(corner, sides, shape, strict=True))


def halve(slices: tuple[slice, ...], error: BaseException) -> list[tuple[slice, ...]]:
    """Cut a block in two along its longest axis, after memory ran out.

    Raises
    ------
    DeviceError
        The block is a single pixel.
    """
    sides = [s.stop - s.start for s in slices]
    axis = int(np.argmax(sides))
    if sides[axis] == 1:
        raise DeviceError("memory ran out, even for a single pixel. Free some memory.") from error
    _LOG.warning("memory ran out; the render continues in smaller blocks")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = slices[axis].start + sides[axis] // 2
    parts = (slice(slices[axis].start, middle), slice(middle, slices[axis].stop))
    return [(*slices[:axis], part, *slices[axis + 1 :]) for part in parts]
