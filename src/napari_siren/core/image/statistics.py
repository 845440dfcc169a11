"""What a fit has to know of a whole image that is never in memory as a whole, from one pass over it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import check_axes, check_coordinates, check_spacing, guess_axes
from napari_siren.core.image.samples import ROBUST_RANGE, ImageFormat, is_photo, offset_and_scale
from napari_siren.errors import InputError

# Values that are read at once.
_SLAB_VALUES = 1 << 23
# Of dtypes too wide to count their values, the percentiles are those of about so many, evenly spread.
_SAMPLE = 1 << 24


class LazyArray(Protocol):
    """What gives its pixels by slices: numpy, dask, zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """That of numpy."""
        ...

    def __getitem__(self, block: tuple[slice, ...], /) -> Any:
        """Return a block, or what numpy makes one of."""
        ...


@dataclass(frozen=True)
class Scan:
    """What is known of an image after one look at each pixel.

    Parameters
    ----------
    format
        With the offset and scale of every channel, as `Samples.from_array` would find them: to the bit for images of 8
        and 16 bits, and for others of fewer than 16 million values; else from evenly spread pixels.
    peak
        Of the PSNR.
    sha256
        Hash of the image, taken slab by slab.
    """

    format: ImageFormat
    peak: float
    sha256: str

    @classmethod
    def of(
        cls,
        image: LazyArray,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        value_range: str = "robust",
        on_slab: Callable[[int, int], object] | None = None,
    ) -> Scan:
        """Look at every pixel of an image, slab by slab.

        Parameters
        ----------
        image
            Of any size.
        axes, spacing, value_range
            As in `Samples.from_array`, whose errors are raised too.
        on_slab
            Called after each slab, with how many values were seen and how many there are.
        """
        layout, dtype = outline(image, axes, spacing), np.dtype(image.dtype)
        shape = layout.shape
        joint = is_photo(dtype, layout.channels)
        values = _counted(dtype, layout.channels) or _Sampled(layout.channels, math.prod(layout.spatial_shape), joint)
        digest = hashlib.sha256(f"{dtype.str} {shape} ".encode())
        done = 0
        for slab in slabs(image):
            pixels = np.ascontiguousarray(image[slab])
            digest.update(pixels.data)
            place = slice(None) if layout.channel_axis is None else slab[layout.channel_axis]
            channels = range(layout.channels)[place]
            for channel, seen in zip(channels, layout.to_channels_first(pixels), strict=True):
                values.add(channel, seen.ravel())
            done += pixels.size
            if on_slab is not None:
                on_slab(done, math.prod(shape))
        least, most = values.extremes()
        percentiles = values.percentiles(joint) if value_range == "robust" else None
        offset, scale = offset_and_scale(least, most, percentiles, dtype)
        layout = replace(layout, offset=tuple(map(float, offset)), scale=tuple(map(float, scale)))
        peak = 255.0 if dtype == np.uint8 else float(most.max() - least.min()) or 1.0
        return cls(layout, peak, digest.hexdigest())


def outline(image: LazyArray, axes: str | None = None, spacing: float | Sequence[float] | None = None) -> ImageFormat:
    """Check what can be checked without a look at the pixels; the format still lacks offset and scale."""
    shape, dtype = tuple(image.shape), np.dtype(image.dtype)
    axes = guess_axes(shape) if axes is None else check_axes(axes, shape)
    check_coordinates(axes, None)
    if dtype.kind not in "buif" or 0 in shape:
        raise InputError(f"the image is {dtype} of shape {shape}; it should hold real numbers or booleans.")
    layout = ImageFormat(axes, shape, dtype.name, (), (), ())
    return replace(layout, spacing=check_spacing(spacing, len(layout.spatial_shape)))


def slabs(image: LazyArray) -> Iterator[tuple[slice, ...]]:
    """Cut an image into blocks of whole chunks, of a bounded size, the last axes first."""
    sides = [min(n, side) for n, side in zip(image.shape, _chunk_sides(image), strict=True)]
    while math.prod(sides) > _SLAB_VALUES:
        longest = int(np.argmax(sides))
        sides[longest] = -(-sides[longest] // 2)
    for axis in reversed(range(len(sides))):
        room = _SLAB_VALUES // math.prod(sides)
        sides[axis] = min(image.shape[axis], sides[axis] * max(1, room))
    for corner in product(*(range(0, n, side) for n, side in zip(image.shape, sides, strict=True))):
        yield tuple(slice(a, min(a + side, n)) for a, side, n in zip(corner, sides, image.shape, strict=True))


def _chunk_sides(image: Any) -> Sequence[int]:
    """Sides of the image's own chunks; 1 where it has none."""
    chunks = getattr(image, "chunks", None)
    if chunks is None:
        return (1,) * len(image.shape)
    return [max(sizes) if isinstance(sizes, tuple) else int(sizes) for sizes in chunks]


class _Counted:
    """How often each value of an integer dtype of up to 16 bits is there, for every channel."""

    def __init__(self, dtype: np.dtype[Any], channels: int) -> None:
        self._least = 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)
        count = 2 if dtype.kind == "b" else 1 << (8 * dtype.itemsize)
        self._counts = np.zeros((channels, count), dtype=np.int64)

    def add(self, channel: int, seen: npt.NDArray[Any]) -> None:
        found = np.bincount(seen.astype(np.int32) - self._least, minlength=self._counts.shape[1])
        self._counts[channel] += found

    def extremes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        there = self._counts > 0
        first = there.argmax(axis=1)
        last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
        return (first + self._least).astype(np.float64), (last + self._least).astype(np.float64)

    def percentiles(self, joint: bool) -> npt.NDArray[np.float64]:
        """As numpy finds them, by linear interpolation between the two nearest in order."""
        groups = self._counts.sum(axis=0, keepdims=True) if joint else self._counts
        found = np.empty((len(ROBUST_RANGE), len(groups)))
        for column, counts in enumerate(groups):
            up_to = np.cumsum(counts)
            for row, percent in enumerate(ROBUST_RANGE):
                place = (up_to[-1] - 1) * (percent / 100)
                below = math.floor(place)
                pair = np.searchsorted(up_to, [below, min(below + 1, up_to[-1] - 1)], side="right") + self._least
                found[row, column] = np.percentile(pair.astype(np.float64), 100 * (place - below))
        return found


class _Sampled:
    """The extremes of every channel, and values that are evenly spread."""

    def __init__(self, channels: int, pixels: int, joint: bool) -> None:
        self._step = max(1, math.ceil(pixels * (channels if joint else 1) / _SAMPLE))
        self._seen: list[list[npt.NDArray[np.float64]]] = [[] for _ in range(channels)]
        self._least, self._most = np.full(channels, np.inf), np.full(channels, -np.inf)

    def add(self, channel: int, seen: npt.NDArray[Any]) -> None:
        least, most = float(seen.min()), float(seen.max())
        if not (math.isfinite(least) and math.isfinite(most)):
            raise InputError(
                "the image has values that are NaN or infinite. Fill them in first: an image that is fitted block by "
                "block cannot have missing pixels."
            )
        self._least[channel] = min(self._least[channel], least)
        self._most[channel] = max(self._most[channel], most)
        self._seen[channel].append(seen[:: self._step].astype(np.float64))

    def extremes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return self._least, self._most

    def percentiles(self, joint: bool) -> npt.NDArray[np.float64]:
        channels = [np.concatenate(seen) for seen in self._seen]
        groups = [np.concatenate(channels)] if joint else channels
        return np.stack([np.percentile(group, ROBUST_RANGE) for group in groups], axis=1)


def _counted(dtype: np.dtype[Any], channels: int) -> _Counted | None:
    return _Counted(dtype, channels) if dtype.kind in "bui" and dtype.itemsize <= 2 else None
