"""`Field`: the continuous function that a fit gives, in the image's units and in physical space."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.device import is_out_of_memory
from napari_siren.core.field.partition import Blend, Order
from napari_siren.core.field.tiling import RenderGrid, Tiling
from napari_siren.core.forward.operator import Observation
from napari_siren.core.image.dtypes import check_dtype
from napari_siren.core.image.samples import ImageFormat
from napari_siren.core.network.siren import Siren
from napari_siren.errors import DeviceError, InputError

Derivative = Literal["gradient", "gradient_magnitude", "laplacian"]
DERIVATIVES = ("gradient", "gradient_magnitude", "laplacian")

_LOG = logging.getLogger(__name__)
_ORDERS: dict[str | None, Order] = {None: "value", "laplacian": "second"}
_BLOCK_VALUES = 1 << 22
_STRIP_VALUES = 1 << 17


@dataclass(frozen=True)
class Field:
    """A function of position, fitted to an image; infinitely sharp to ask, exact to differentiate.

    Positions are physical: sample k of an axis lies at (k + 0.5) * spacing. Values are in the image's units.

    Parameters
    ----------
    blend
        The networks and their windows, F(x) = sum_i w_i(x) f_i(x).
    format
        Axes, spacing and value range of the image.
    samples_per_pixel
        1 when a pixel sees the field at its centre, else how many samples along each axis it averages.
    observation
        How the image's pixels see the field, where it was fitted to finer samples than these; None where it was fitted
        to the pixels.
    floor
        For each channel, the value below which none is rendered (the field itself may overshoot it a little).

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

    blend: Blend
    format: ImageFormat
    samples_per_pixel: int = 1
    observation: Observation | None = None
    floor: tuple[float, ...] | None = None

    @property
    def siren(self) -> Siren:
        """The networks, one for each tile."""
        return self.blend.siren

    @property
    def tiling(self) -> Tiling:
        """The tiles."""
        return self.blend.tiling

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return self.blend.dimensions

    @property
    def refinement(self) -> tuple[float, ...]:
        """Samples per pixel along each axis that the tiles were fitted to."""
        return tuple(n / m for n, m in zip(self.tiling.shape, self.format.spatial_shape, strict=True))

    def __call__(self, coords: npt.ArrayLike) -> npt.NDArray[Any]:
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
        values: npt.NDArray[Any] = self._at_points(coords, "value")[0]
        return values

    def gradient(self, coords: npt.ArrayLike) -> npt.NDArray[Any]:
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
        return np.moveaxis(self._at_points(coords, "first"), 0, -1)

    def laplacian(self, coords: npt.ArrayLike) -> npt.NDArray[Any]:
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
        laplacian: npt.NDArray[Any] = self._at_points(coords, "second").sum(axis=0)
        return laplacian

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Field:
        """Return the same field on another device, or in another precision."""
        return replace(self, blend=self.blend.to(device, dtype))

    def reconstruct(self, of_rounded: bool = False) -> npt.NDArray[Any]:
        """Return what the image's pixels see of the field: the image's shape and dtype, rounded and clipped.

        Parameters
        ----------
        of_rounded
            Whether they see, where the field was fitted to finer samples, these rounded and clipped to the image's
            dtype: what anyone can check who has but the render.
        """
        layout = self.format
        if self.observation is None:
            rendered: npt.NDArray[Any] = self.render(RenderGrid.of(layout.spatial_shape, layout.spacing))
            return rendered
        fine = RenderGrid.of(layout.spatial_shape, layout.spacing, shape=self.tiling.shape)
        rendered = self.render(fine, dtype=layout.dtype if of_rounded else np.float64)
        values = layout.to_channels_first(rendered.astype(np.float64, copy=False))
        seen = self.observation(torch.from_numpy(np.ascontiguousarray(values)), layout.spatial_shape).numpy()
        return layout.cast(layout.from_channels_first(seen))

    def render(
        self,
        grid: RenderGrid,
        derivative: Derivative | None = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
        antialias: bool = True,
    ) -> Any:
        """Evaluate the field on a grid, block by block.

        Output pixels larger than what a pixel of the original sees are averaged over their area, so that a
        smaller picture is free of aliasing (see `antialias`).

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
        antialias
            Whether to average over the area of output pixels that are larger than what a pixel of the original sees;
            False takes the value at their centres.

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
        dtype = check_dtype(dtype)
        if out is None:
            out = np.empty(shape, dtype=dtype)
        elif tuple(out.shape) != shape:
            raise InputError(f"out has shape {tuple(out.shape)}, the render needs {shape}.")
        samples = self._samples(grid) if antialias else (1,) * self.dimensions
        left = list(_blocks(grid.shape, samples, self.format.channels))
        while left:
            slices = left.pop(0)
            try:
                block = self._block(grid.block(slices), samples, derivative, dtype)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                # Smaller blocks need less.
                left = [*_halves(slices, error), *left]
                continue
            out[self._output_slices(slices, derivative)] = block
        return out

    def _block(
        self, grid: RenderGrid, samples: Sequence[int], derivative: Derivative | None, dtype: np.dtype[Any]
    ) -> npt.NDArray[Any]:
        order = _ORDERS.get(derivative, "first")
        # An output pixel that is cut by the image's edge sees the edge go on.
        sizes = self.format.spatial_shape
        positions = [np.clip(grid.positions(i, k), 0, sizes[i]) * self.refinement[i] for i, k in enumerate(samples)]
        raw = self.blend.on_grid(positions, order)
        if max(samples) > 1:  # the mean over each output pixel
            pairs = (m for n, k in zip(grid.shape, samples, strict=True) for m in (n, k))
            split = raw.reshape(*raw.shape[:2], *pairs)
            raw = split.mean(dim=tuple(range(3, split.ndim, 2)))
        values = raw.movedim(1, -1).cpu().numpy()  # (parts, *shape, channels)
        block = np.empty(self._output_shape(grid, derivative), dtype=dtype)
        whole = [slice(n) for n in grid.shape]

        def finish(rows: slice) -> None:
            found = self.format.cast(self._finish(values[:, rows], order, derivative), dtype)
            strip = block[self._output_slices([rows, *whole[1:]], derivative)]
            for to, of in zip(self._channels(strip), self._channels(found), strict=True):
                to[...] = of

        # A few rows at a time, so that they stay in the cache; threads take them in turn.
        step = max(1, _STRIP_VALUES * grid.shape[0] // values.size)
        strips = [slice(a, min(a + step, grid.shape[0])) for a in range(0, grid.shape[0], step)]
        with ThreadPoolExecutor(min(torch.get_num_threads(), len(strips))) as pool:
            for _ in pool.map(finish, strips):
                pass
        return block

    def _finish(self, values: npt.NDArray[Any], order: Order, derivative: Derivative | None) -> npt.NDArray[Any]:
        """Return the image's units and order of axes to normalised values, (parts, *shape, channels)."""
        parts = self._to_units(values, order)
        if self.floor is not None and derivative is None:
            parts = np.maximum(parts, np.array(self.floor))
        if derivative == "gradient_magnitude":
            parts = np.sqrt(np.square(parts).sum(axis=0, keepdims=True))
        elif derivative == "laplacian":
            parts = parts.sum(axis=0, keepdims=True)
        arrays = [self.format.from_channels_first(np.moveaxis(part, -1, 0)) for part in parts]
        return np.stack(arrays) if derivative == "gradient" else arrays[0]

    @property
    def _sample_spacing(self) -> npt.NDArray[np.float64]:
        """Physical distance of the samples that the tiles were fitted to."""
        spacing: npt.NDArray[np.float64] = np.array(self.format.spacing) / np.array(self.refinement)
        return spacing

    def _samples(self, grid: RenderGrid) -> tuple[int, ...]:
        """How many samples along each axis an output pixel is averaged over."""
        # Along an axis whose samples are the pixels, a pixel sees no more than its centre.
        points = [self.observation is not None and r == 1 for r in self.refinement]
        seen = [1 if point else self.samples_per_pixel for point in points]
        return tuple(max(1, int(np.ceil(step * k - 1e-9))) for step, k in zip(grid.step, seen, strict=True))

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

    def _channels(self, output: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """View the channels of an output one by one: of all at once a copy would go in runs as short as they are."""
        axis = self.format.channel_axis
        return iter([output] if axis is None else np.moveaxis(output, axis - self.dimensions - 1, 0))

    def _at_points(self, coords: npt.ArrayLike, order: Order) -> npt.NDArray[Any]:
        """Evaluate, in units: (parts, …) or, with a channel axis, (parts, …, channels)."""
        physical = _check_coords(coords, self.dimensions)
        blend = self.blend.to(dtype=torch.float64 if physical.dtype == np.float64 else torch.float32)
        points = torch.from_numpy(physical.reshape(-1, self.dimensions) / self._sample_spacing)
        values = self._to_units(blend.at_points(points, order).cpu().numpy(), order)
        ends = () if self.format.channel_axis is None else values.shape[2:]
        return values.reshape(len(values), *physical.shape[:-1], *ends)

    def _to_units(self, values: npt.NDArray[Any], order: Order) -> npt.NDArray[Any]:
        """Return normalised (parts, …, channels) in the image's units, and per physical length."""
        # Values of so many digits do not go into float32.
        wide = self.format.dtype in ("float64", "int32", "uint32", "int64", "uint64")
        values = values.astype(np.float64, copy=False) if wide else values
        values = values * np.array(self.format.scale, dtype=values.dtype)
        if order == "value":
            values += np.array(self.format.offset, dtype=values.dtype)
            return values
        lengths = self._sample_spacing.astype(values.dtype) ** (1 if order == "first" else 2)
        per_length: npt.NDArray[Any] = values / lengths.reshape(-1, *(1,) * (values.ndim - 1))
        return per_length


def _blocks(shape: Sequence[int], samples: Sequence[int], channels: int) -> Iterator[tuple[slice, ...]]:
    """Cut an output into blocks of a bounded number of samples, halving the longest axis."""
    sides = list(shape)
    while np.prod([s * k for s, k in zip(sides, samples, strict=True)]) * channels > _BLOCK_VALUES:
        longest = int(np.argmax(sides))
        if sides[longest] == 1:
            break
        sides[longest] = -(-sides[longest] // 2)
    starts = [range(0, n, side) for n, side in zip(shape, sides, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(a, min(a + s, n)) for a, s, n in zip(corner, sides, shape, strict=True))


def _halves(slices: tuple[slice, ...], error: BaseException) -> list[tuple[slice, ...]]:
    """Cut a block in two along its longest axis, after memory ran out.

    Raises
    ------
    DeviceError
        It has a single pixel.
    """
    sides = [s.stop - s.start for s in slices]
    axis = int(np.argmax(sides))
    if sides[axis] == 1:
        raise DeviceError("memory ran out, even for a single pixel. Free some.") from error
    _LOG.warning("memory ran out; the render goes on in smaller blocks")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = slices[axis].start + sides[axis] // 2
    parts = (slice(slices[axis].start, middle), slice(middle, slices[axis].stop))
    return [(*slices[:axis], part, *slices[axis + 1 :]) for part in parts]


def _check_coords(coords: npt.ArrayLike, dimensions: int) -> npt.NDArray[Any]:
    try:
        array = np.asarray(coords)
    except ValueError as error:
        raise InputError(f"coords is not an array of numbers: {error}.") from None
    if array.dtype.kind not in "uif" or array.ndim == 0 or array.shape[-1] != dimensions:
        raise InputError(f"coords should be numbers of shape (..., {dimensions}), not {array.dtype} {array.shape}.")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError("coords has values that are not finite.")
    return array
