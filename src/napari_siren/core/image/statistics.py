"""Statistics of an image larger than memory, from one pass over its pixels."""

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
from napari_siren.core.image.samples import ROBUST_RANGE, ImageLayout, is_photo, offset_and_scale
from napari_siren.errors import InputError

# Number of values that are read at once.
_SLAB_VALUES = 1 << 23
# Approximate number of evenly spread values for the percentiles, if a dtype is too wide to count its values.
_SAMPLE = 1 << 24


class LazyArray(Protocol):
    """An array with access to its pixels by slices: numpy, dask or zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Data type, as numpy has it."""
        ...

    def __getitem__(self, block: tuple[slice, ...], /) -> Any:
        """Return a block as an array or an array-like."""
        ...


@dataclass(frozen=True)
class ImageStatistics:
    """The statistics of an image after one pass over its pixels.

    Parameters
    ----------
    layout
        Layout with the offset and scale of every channel. They equal those of `Samples.from_array` to the bit for
        images of 8 and 16 bits, and for others of fewer than 16 million values. Otherwise they are from evenly spread
        pixels.
    peak
        Peak of the PSNR, in the image's units.
    sha256
        Hash of the image, computed slab by slab.
    """

    layout: ImageLayout
    peak: float
    sha256: str

    @classmethod
    def from_image(
        cls,
        image: LazyArray,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        value_range: str = "robust",
        on_slab: Callable[[int, int], object] | None = None,
    ) -> ImageStatistics:
        """Compute the statistics of an image, slab by slab.

        Parameters
        ----------
        image
            Image of any size.
        axes, spacing, value_range
            Axes, spacing and value range, see `Samples.from_array`.
        on_slab
            Function that is called after each slab, with the number of values read and the number of all values.

        Raises
        ------
        InputError
            The image or an argument cannot be used.
        """
        layout, dtype = outline(image, axes, spacing), np.dtype(image.dtype)
        shape = layout.shape
        joint = is_photo(dtype, layout.channels)
        values = _counted(dtype, layout.channels) or _Sampled(layout.channels, math.prod(layout.spatial_shape), joint)
        digest = hashlib.sha256(f"{dtype.str} {shape} ".encode())
        count = 0
        for slab in slabs(image):
            pixels = np.ascontiguousarray(image[slab])
            digest.update(pixels.data)
            selection = slice(None) if layout.channel_axis is None else slab[layout.channel_axis]
            channels = range(layout.channels)[selection]
            for channel, part in zip(channels, layout.to_channels_first(pixels), strict=True):
                values.add(channel, part.ravel())
            count += pixels.size
            if on_slab is not None:
                on_slab(count, math.prod(shape))
        least, most = values.extremes()
        percentiles = values.percentiles(joint) if value_range == "robust" else None
        offset, scale = offset_and_scale(least, most, percentiles, dtype)
        layout = replace(layout, offset=tuple(map(float, offset)), scale=tuple(map(float, scale)))
        peak = 255.0 if dtype == np.uint8 else float(most.max() - least.min()) or 1.0
        return cls(layout, peak, digest.hexdigest())


def outline(image: LazyArray, axes: str | None = None, spacing: float | Sequence[float] | None = None) -> ImageLayout:
    """Check an image without reading its pixels, and return its layout, still without offset and scale."""
    shape, dtype = tuple(image.shape), np.dtype(image.dtype)
    axes = guess_axes(shape) if axes is None else check_axes(axes, shape)
    check_coordinates(axes, None)
    if dtype.kind not in "buif" or 0 in shape:
        raise InputError(
            f"the image is {dtype} of shape {shape}. It should have real numbers or booleans, and at least one pixel."
        )
    layout = ImageLayout(axes, shape, dtype.name, (), (), ())
    return replace(layout, spacing=check_spacing(spacing, len(layout.spatial_shape)))


def slabs(image: LazyArray) -> Iterator[tuple[slice, ...]]:
    """Cut an image into blocks of whole chunks and of a bounded size, extended along the last axes first."""
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
    """Return the sides of the image's own chunks. They are 1 if it has none."""
    chunks = getattr(image, "chunks", None)
    if chunks is None:
        return (1,) * len(image.shape)
    return [max(sizes) if isinstance(sizes, tuple) else int(sizes) for sizes in chunks]


class _Counted:
    """A histogram of every channel, for boolean and integer dtypes of up to 16 bits."""

    def __init__(self, dtype: np.dtype[Any], channels: int) -> None:
        self._least = 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)
        count = 2 if dtype.kind == "b" else 1 << (8 * dtype.itemsize)
        self._counts = np.zeros((channels, count), dtype=np.int64)

    def add(self, channel: int, values: npt.NDArray[Any]) -> None:
        counts = np.bincount(values.astype(np.int32) - self._least, minlength=self._counts.shape[1])
        self._counts[channel] += counts

    def extremes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        present = self._counts > 0
        first = present.argmax(axis=1)
        last = present.shape[1] - 1 - present[:, ::-1].argmax(axis=1)
        return (first + self._least).astype(np.float64), (last + self._least).astype(np.float64)

    def percentiles(self, joint: bool) -> npt.NDArray[np.float64]:
        """Return the percentiles as numpy does, by linear interpolation between the two nearest values in order."""
        groups = self._counts.sum(axis=0, keepdims=True) if joint else self._counts
        percentiles = np.empty((len(ROBUST_RANGE), len(groups)))
        for column, counts in enumerate(groups):
            cumulative = np.cumsum(counts)
            for row, percent in enumerate(ROBUST_RANGE):
                rank = (cumulative[-1] - 1) * (percent / 100)
                below = math.floor(rank)
                pair = (
                    np.searchsorted(cumulative, [below, min(below + 1, cumulative[-1] - 1)], side="right") + self._least
                )
                percentiles[row, column] = np.percentile(pair.astype(np.float64), 100 * (rank - below))
        return percentiles


class _Sampled:
    """The extremes and evenly spread values of every channel."""

    def __init__(self, channels: int, pixels: int, joint: bool) -> None:
        self._step = max(1, math.ceil(pixels * (channels if joint else 1) / _SAMPLE))
        self._values: list[list[npt.NDArray[np.float64]]] = [[] for _ in range(channels)]
        self._least, self._most = np.full(channels, np.inf), np.full(channels, -np.inf)

    def add(self, channel: int, values: npt.NDArray[Any]) -> None:
        least, most = float(values.min()), float(values.max())
        if not (math.isfinite(least) and math.isfinite(most)):
            raise InputError(
                "the image has values that are NaN or infinite. Fill them in first, because an image that is fitted "
                "block by block cannot have missing pixels."
            )
        self._least[channel] = min(self._least[channel], least)
        self._most[channel] = max(self._most[channel], most)
        self._values[channel].append(values[:: self._step].astype(np.float64))

    def extremes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return self._least, self._most

    def percentiles(self, joint: bool) -> npt.NDArray[np.float64]:
        channels = [np.concatenate(parts) for parts in self._values]
        groups = [np.concatenate(channels)] if joint else channels
        return np.stack([np.percentile(group, ROBUST_RANGE) for group in groups], axis=1)


def _counted(dtype: np.dtype[Any], channels: int) -> _Counted | None:
    return _Counted(dtype, channels) if dtype.kind in "bui" and dtype.itemsize <= 2 else None
