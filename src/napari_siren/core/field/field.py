"""`Field`: the continuous function from a fit, in the image's units and in physical space."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.device import is_out_of_memory
from napari_siren.core.field import render_blocks
from napari_siren.core.field.coordinates import check_coords
from napari_siren.core.field.module import FieldModule
from napari_siren.core.field.outliers import Outliers
from napari_siren.core.field.partition import PartitionOfUnity
from napari_siren.core.field.representation import Order, Representation
from napari_siren.core.field.tiling import RenderGrid, Tiling
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.image.dtypes import check_dtype
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.network.siren import Siren
from napari_siren.errors import InputError

Derivative = Literal["gradient", "gradient_magnitude", "laplacian"]
DERIVATIVES = ("gradient", "gradient_magnitude", "laplacian")

# What each kind of render evaluates; the other kinds evaluate first derivatives.
_ORDERS: dict[str | None, Order] = {None: "value", "laplacian": "second"}
# Most values that one thread converts to units at a time: 0.5 MiB in float32, so that they stay in the cache.
_STRIP_VALUES = 1 << 17


@dataclass(frozen=True, eq=False)
class Field:
    """A continuous function of position, fitted to an image.

    It has a value at every position, at any resolution, and its derivatives are exact. Positions are physical: sample k
    of an axis lies at (k + 0.5) * spacing. Values are in the image's units.

    Parameters
    ----------
    representation
        The function in normalised values: a `PartitionOfUnity` of the tiles' networks, F(x) = sum_i w_i(x) f_i(x), or a
        `SampleSpline` through the samples of a restored image.
    layout
        Axes, spacing and value range of the image.
    samples_per_pixel
        1 if a pixel observes the field at its centre. Otherwise the number of samples, along each axis, that it
        averages.
    observation
        Forward operator from the field to the image's pixels, if the field was fitted to samples finer than the pixels.
        None if it was fitted to the pixels.
    floor
        Lowest rendered value of each channel, in the image's units; None is no bound. The field may be a bit lower.
    outliers
        Single samples far outside the range of the others, which are added to `representation`; None if there are none.

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

    representation: Representation
    layout: ImageLayout
    samples_per_pixel: int = 1
    observation: ForwardOperator | None = None
    floor: tuple[float, ...] | None = None
    outliers: Outliers | None = None

    def __repr__(self) -> str:
        """Return a summary in one line."""
        return f"Field({self.layout.dtype} {self.layout.axes} {self.layout.shape}, {self.representation.size})"

    @property
    def has_tiles(self) -> bool:
        """Whether it consists of tiles with a network each."""
        return isinstance(self.representation, PartitionOfUnity)

    @property
    def blend(self) -> PartitionOfUnity:
        """The networks and their windows.

        Raises
        ------
        InputError
            The field has no tiles.
        """
        if not isinstance(self.representation, PartitionOfUnity):
            raise InputError(
                "the field of this result is a spline through restored samples, and has no tiles with networks. Fit "
                'with representation="tiles".'
            )
        return self.representation

    @property
    def siren(self) -> Siren:
        """The networks, one for each tile. Raises `InputError` if there are no tiles."""
        return self.blend.siren

    @property
    def tiling(self) -> Tiling:
        """The tiles. Raises `InputError` if there are no tiles."""
        return self.blend.tiling

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return len(self.representation.shape)

    @property
    def refinement(self) -> tuple[float, ...]:
        """Number of fitted samples per pixel along each axis."""
        return tuple(n / m for n, m in zip(self.representation.shape, self.layout.spatial_shape, strict=True))

    def __call__(self, coords: npt.ArrayLike) -> npt.NDArray[Any]:
        """Evaluate the field.

        Parameters
        ----------
        coords
            (..., dimensions), physical positions in the order of the image's spatial axes. Outside the image, the
            nearest tile's network is extrapolated. Tensors on the CPU, and other objects with `__dlpack__`, are arrays
            too. `module` takes tensors on a GPU, and tensors that require a gradient.

        Returns
        -------
        ndarray
            (...) or, for an image with a channel axis, (..., channels). The values are in the image's units and not
            rounded. They are float32 if the coordinates are float32, else float64. They are always float64 for images
            of float64 and of 32- or 64-bit integers.

        Raises
        ------
        InputError
            The length of the last axis of `coords` is not the number of dimensions, or a coordinate is not finite, or a
            tensor requires a gradient or is not on the CPU.
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

    def module(self, dtype: torch.dtype | None = None) -> FieldModule:
        """Return the field as a PyTorch module, on the same device.

        Autograd differentiates it twice, in the coordinates and in the parameters. The module has copies of the
        parameters, so that its training does not change the field.

        Parameters
        ----------
        dtype
            Dtype of the module, float32 or float64. None is float64 for images of float64 and of 32- or 64-bit
            integers, because float32 has too few digits for their values; else it is float32.

        Raises
        ------
        InputError
            The dtype is another one.
        """
        dtype = dtype or (torch.float64 if self._is_wide else torch.float32)
        return FieldModule(self.representation, self.layout, self._sample_spacing.tolist(), dtype, self.outliers)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Field:
        """Return the same field on another device, or in another precision."""
        return replace(self, representation=self.representation.to(device, dtype))

    def reconstruct(self, of_rounded: bool = False) -> npt.NDArray[Any]:
        """Return the image's pixels as observed from the field, in its shape and dtype, rounded and clipped.

        Parameters
        ----------
        of_rounded
            Whether the pixels observe samples already rounded and clipped to the image's dtype. Anyone who has only the
            render can reproduce this result. It has an effect only if the field was fitted to samples finer than the
            pixels.
        """
        layout = self.layout
        if self.observation is None:
            rendered: npt.NDArray[Any] = self.render(RenderGrid.from_layout(layout))
            return rendered
        fine = RenderGrid.from_layout(layout, shape=self.representation.shape)
        unrounded = np.float64 if self._is_wide else np.float32
        rendered = layout.to_channels_first(self.render(fine, dtype=layout.dtype if of_rounded else unrounded))
        pixels = np.empty((layout.channels, *layout.spatial_shape))
        # One channel at a time, since the samples of all channels in float64 would need much memory.
        for target, values in zip(pixels, rendered, strict=True):
            samples = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
            target[...] = self.observation(samples, layout.spatial_shape).numpy()
        return layout.cast(layout.from_channels_first(pixels))

    def render(
        self,
        grid: RenderGrid,
        derivative: Derivative | None = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
        antialias: bool = True,
        on_progress: Callable[[float], object] | None = None,
    ) -> Any:
        """Evaluate the field on a grid, block by block.

        An output pixel larger than the area that an original pixel observes is averaged over its own area. A smaller
        picture is therefore free of aliasing (see `antialias`).

        Parameters
        ----------
        grid
            Grid of output pixels, in pixels of the image.
        derivative
            None for values, or one of "gradient", "gradient_magnitude", "laplacian".
        dtype
            Dtype of the result. The values are rounded and clipped to its range. None is the dtype of `out`; without
            `out`, it is the image's dtype for values and float32 for derivatives.
        out
            Array to fill, or any object with assignment by slices, such as a zarr array.
        antialias
            Whether to average over the area of output pixels larger than the area that an original pixel observes.
            False evaluates the field at their centres.
        on_progress
            Function to call after each block with the finished share, 0 to 1. An exception in it ends the render.

        Returns
        -------
        ndarray or `out`
            The axes are in the image's order. "gradient" has one more axis in front, with an entry for each spatial
            axis.

        Raises
        ------
        InputError
            The derivative is unknown, or `out` has the wrong shape.
        """
        if derivative is not None and derivative not in DERIVATIVES:
            raise InputError(f"derivative={derivative!r} is unknown. Use one of: {', '.join(DERIVATIVES)}.")
        shape = self._output_shape(grid, derivative)
        if dtype is None:
            dtype = getattr(out, "dtype", None) or (np.float32 if derivative else self.layout.dtype)
        dtype = check_dtype(dtype)
        if out is None:
            out = np.empty(shape, dtype=dtype)
        elif tuple(out.shape) != shape:
            raise InputError(f"out has shape {tuple(out.shape)}. Pass an array of shape {shape}.")
        samples = self._samples(grid) if antialias else (1,) * self.dimensions
        done = 0
        remaining = list(render_blocks.cut(grid.shape, samples, self.layout.channels))
        while remaining:
            slices = remaining.pop(0)
            try:
                block = self._block(grid.block(slices), samples, derivative, dtype)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                # Smaller blocks need less memory.
                remaining = [*render_blocks.halve(slices, error), *remaining]
                continue
            out[self._output_slices(slices, derivative)] = block
            if on_progress is not None:
                done += block.size
                on_progress(done / max(1, math.prod(shape)))
        return out

    def _block(
        self, grid: RenderGrid, samples: Sequence[int], derivative: Derivative | None, dtype: np.dtype[Any]
    ) -> npt.NDArray[Any]:
        order = _ORDERS.get(derivative, "first")
        # Positions beyond the image's edge take the value at the edge.
        sizes = self.layout.spatial_shape
        positions = [np.clip(grid.positions(i, k), 0, sizes[i]) * self.refinement[i] for i, k in enumerate(samples)]
        raw = self.representation.on_grid(positions, order)
        if self.outliers is not None:
            raw = self.outliers.added_on_grid(raw.double() if self._is_wide else raw, positions, order)
        if max(samples) > 1:  # Take the mean over each output pixel.
            pairs = (m for n, k in zip(grid.shape, samples, strict=True) for m in (n, k))
            split = raw.reshape(*raw.shape[:2], *pairs)
            raw = split.mean(dim=tuple(range(3, split.ndim, 2)))
        values = raw.movedim(1, -1).cpu().numpy()  # (parts, *shape, channels)
        block = np.empty(self._output_shape(grid, derivative), dtype=dtype)
        whole = [slice(n) for n in grid.shape]

        def finish(rows: slice) -> None:
            converted = self.layout.cast(self._finish(values[:, rows], order, derivative), dtype)
            strip = block[self._output_slices([rows, *whole[1:]], derivative)]
            for target, source in zip(self._channels(strip), self._channels(converted), strict=True):
                target[...] = source

        # Only a few rows at a time, so that they stay in the cache. Threads take them in turn.
        step = max(1, _STRIP_VALUES * grid.shape[0] // values.size)
        strips = [slice(a, min(a + step, grid.shape[0])) for a in range(0, grid.shape[0], step)]
        with ThreadPoolExecutor(min(torch.get_num_threads(), len(strips))) as pool:
            for _ in pool.map(finish, strips):
                pass
        return block

    def _finish(self, values: npt.NDArray[Any], order: Order, derivative: Derivative | None) -> npt.NDArray[Any]:
        """Convert normalised values, (parts, *shape, channels), to the image's units and order of axes."""
        parts = self._to_units(values, order)
        if self.floor is not None and derivative is None:
            parts = np.maximum(parts, np.array(self.floor))
        if derivative == "gradient_magnitude":
            parts = np.sqrt(np.square(parts).sum(axis=0, keepdims=True))
        elif derivative == "laplacian":
            parts = parts.sum(axis=0, keepdims=True)
        arrays = [self.layout.from_channels_first(np.moveaxis(part, -1, 0)) for part in parts]
        return np.stack(arrays) if derivative == "gradient" else arrays[0]

    @property
    def _is_wide(self) -> bool:
        """Whether float32 has too few digits for the values of the image's dtype."""
        return self.layout.dtype in ("float64", "int32", "uint32", "int64", "uint64")

    @property
    def _sample_spacing(self) -> npt.NDArray[np.float64]:
        """Physical distance between the fitted samples along each axis."""
        spacing: npt.NDArray[np.float64] = np.array(self.layout.spacing) / np.array(self.refinement)
        return spacing

    def _samples(self, grid: RenderGrid) -> tuple[int, ...]:
        """Return the number of samples of an output pixel along each axis, for its average."""
        # Along an axis whose samples are the pixels, a pixel observes only its centre.
        points = [self.observation is not None and r == 1 for r in self.refinement]
        per_pixel = [1 if point else self.samples_per_pixel for point in points]
        return tuple(max(1, int(np.ceil(step * k - 1e-9))) for step, k in zip(grid.step, per_pixel, strict=True))

    def _output_shape(self, grid: RenderGrid, derivative: Derivative | None) -> tuple[int, ...]:
        shape = self.layout.full_shape(grid.shape)
        return (self.dimensions, *shape) if derivative == "gradient" else shape

    def _output_slices(self, slices: Sequence[slice], derivative: Derivative | None) -> tuple[slice, ...]:
        whole = slice(None)
        picked = self.layout.axes.with_channel(slices, whole)
        return (whole, *picked) if derivative == "gradient" else picked

    def _channels(self, output: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """Return views of the channels of an output, because a copy of all at once would move very short runs."""
        axis = self.layout.channel_axis
        return iter([output] if axis is None else np.moveaxis(output, axis - self.dimensions - 1, 0))

    def _at_points(self, coords: npt.ArrayLike, order: Order) -> npt.NDArray[Any]:
        """Evaluate in the image's units: (parts, …) or, with a channel axis, (parts, …, channels)."""
        physical = check_coords(coords, self.dimensions)
        function = self.representation.to(dtype=torch.float64 if physical.dtype == np.float64 else torch.float32)
        points = torch.from_numpy(physical.reshape(-1, self.dimensions) / self._sample_spacing)
        raw = function.at_points(points, order).cpu()
        if self.outliers is not None:
            raw = raw + self.outliers.at_points(points, order).to(raw.dtype)
        values = self._to_units(raw.numpy(), order)
        ends = () if self.layout.channel_axis is None else values.shape[2:]
        return values.reshape(len(values), *physical.shape[:-1], *ends)

    def _to_units(self, values: npt.NDArray[Any], order: Order) -> npt.NDArray[Any]:
        """Convert normalised values, (parts, …, channels), to units; derivatives are per physical length."""
        values = values.astype(np.float64, copy=False) if self._is_wide else values
        values = values * np.array(self.layout.scale, dtype=values.dtype)
        if order == "value":
            values += np.array(self.layout.offset, dtype=values.dtype)
            return values
        lengths = self._sample_spacing.astype(values.dtype) ** (1 if order == "first" else 2)
        per_length: npt.NDArray[Any] = values / lengths.reshape(-1, *(1,) * (values.ndim - 1))
        return per_length
