"""Samples of an image: its layout, its value range, and the conversion between arrays and normalised samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import Axes, check_axes, check_coordinates, coordinate_spacing, guess_axes
from napari_siren.core.image.dtypes import cast_values
from napari_siren.errors import InputError

NAN_REMEDY = (
    "Mark these pixels with missing=~np.isfinite(image), or on the command line with --fill-nan, and the field "
    "fills them in."
)
"""Last sentence of the error for an image with NaN or infinite values. A window replaces it by its own words."""
# Percentiles that become -1 and 1 in the value range "robust".
ROBUST_RANGE = (0.1, 99.9)


@dataclass(frozen=True)
class ImageLayout:
    """The layout of an image, for the conversion of field values to an array like the original.

    Parameters
    ----------
    axes
        One letter for each axis of the array, in its order: Z, Y, X in space, and C for channels. T is among them if
        time is a coordinate like those of space.
    shape
        Shape of the array.
    dtype
        Name of the array's dtype.
    spacing
        Distance between pixel centres along each spatial axis, in the order of `axes`.
    offset, scale
        Normalisation of each channel: value = offset + scale * normalised value.
    """

    axes: Axes
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ImageLayout:
        """Return the layout with the fields of `dataclasses.asdict`, after they were stored as JSON."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**{**values, "axes": Axes(values["axes"])})

    @property
    def channel_axis(self) -> int | None:
        """Position of the channels among the axes, or None if there is no channel axis."""
        return self.axes.channel

    @property
    def channels(self) -> int:
        """Number of channels; 1 without a channel axis."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Number of pixels along each spatial axis."""
        return self.axes.pick(self.shape)

    def full_shape(self, spatial_shape: Sequence[int], channels: int | None = None) -> tuple[int, ...]:
        """Return the shape of an array of these axes.

        Parameters
        ----------
        spatial_shape
            Number of pixels along each spatial axis.
        channels
            Number of channels. None is that of the image.
        """
        return self.axes.with_channel(spatial_shape, self.channels if channels is None else channels)

    def to_channels_first(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of an array of the original's axes as (channels, *spatial)."""
        return self.axes.to_channels_first(array)

    def from_channels_first(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of values of shape (channels, *spatial) in the original's order of axes."""
        return self.axes.from_channels_first(values)

    def cast(self, values: npt.NDArray[Any], dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Round and clip values in the image's units to the range of a dtype, without wrap-around.

        Parameters
        ----------
        values
            Floating array of any shape.
        dtype
            Dtype of the result. None is the image's own.
        """
        return cast_values(values, np.dtype(self.dtype if dtype is None else dtype))


@dataclass(frozen=True)
class Samples:
    """The checked and normalised samples of an image: the input of a fit.

    Parameters
    ----------
    image
        The original array, unchanged.
    values
        Normalised values, float32, (channels, *spatial). They are 0 where `observed` is False.
    observed
        Mask, bool, (*spatial): False for missing pixels.
    heldout
        Mask, bool, (*spatial): True for observed pixels that are held out of the fit.
    layout
        Layout for the conversion back to an array like the original.
    """

    image: npt.NDArray[Any]
    values: npt.NDArray[np.float32]
    observed: npt.NDArray[np.bool_]
    heldout: npt.NDArray[np.bool_]
    layout: ImageLayout

    @classmethod
    def from_array(
        cls,
        image: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
        value_range: str = "robust",
        heldout: float = 0.0,
        seed: int = 0,
        axes_as_coordinates: str | None = None,
    ) -> Samples:
        """Check an image and normalise it.

        Parameters
        ----------
        image
            Array of real numbers or booleans, with 1 to 3 spatial axes and optional channels. The masked pixels of a
            `numpy.ma.MaskedArray` are missing.
        axes
            One letter for each axis: Z, Y, X, C or T. None guesses them (see `guess_axes`).
        spacing
            Distance between pixel centres: one number, or one for each spatial axis. None is 1. Frames are 1 apart,
            unless there is a number for T too.
        missing
            Mask, bool, of the image's shape or its spatial shape: True for missing pixels.
        value_range
            ``"robust"`` or ``"full"``, see `FitConfig.value_range`.
        heldout
            Share of the pixels to hold out of the fit.
        seed
            Seed of the random choice of these pixels.
        axes_as_coordinates
            Letters of all axes except C. They make time a coordinate like those of space, and are required if T is one
            of the axes.

        Raises
        ------
        InputError
            The image or an argument cannot be used. The message has the reason and a remedy.
        """
        if isinstance(image, np.ma.MaskedArray) and missing is None:
            missing, image = np.ma.getmaskarray(image), image.data
        array = check_array(image)
        axes = guess_axes(array.shape) if axes is None else check_axes(axes, array.shape)
        check_coordinates(axes, axes_as_coordinates)
        layout = ImageLayout(axes, array.shape, array.dtype.name, (), (), ())
        spatial = layout.spatial_shape
        if int(np.prod(spatial)) < 2:
            raise InputError(
                f"the image has a single pixel (axes {axes}, shape {array.shape}); "
                "a field needs at least two. Check the axes."
            )
        observed = ~check_missing(missing, layout)
        values = layout.to_channels_first(array)
        _check_finite(values, observed)
        holdout = observed & (np.random.default_rng(seed).random(spatial) < heldout)
        if (holdout == observed).all():
            raise InputError("all pixels are held out, and none remains for the fit. Lower heldout.")
        selection = observed & ~holdout
        pixels = values.reshape(len(values), -1) if selection.all() else values[:, selection]
        offset, scale = _normalisation(pixels, value_range, joint=is_photo(array.dtype, layout.channels))
        return cls(
            array,
            _normalised(values, observed, offset, scale),
            observed,
            holdout,
            ImageLayout(
                axes,
                array.shape,
                array.dtype.name,
                coordinate_spacing(spacing, axes),
                tuple(map(float, offset)),
                tuple(map(float, scale)),
            ),
        )

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Mask of the pixels to fit, bool, (*spatial): neither missing nor held out."""
        return self.observed & ~self.heldout

    @classmethod
    def from_part(cls, image: npt.NDArray[Any], whole: ImageLayout) -> Samples:
        """Normalise a part of an image in the same way as the whole, without missing or held-out pixels.

        Parameters
        ----------
        image
            Array of the part, with the axes of the whole.
        whole
            Layout of the whole image.

        Raises
        ------
        InputError
            A value is not finite.
        """
        layout = replace(whole, shape=image.shape)
        values, observed = layout.to_channels_first(image), np.ones(layout.spatial_shape, dtype=np.bool_)
        _check_finite(values, observed)
        normalised = _normalised(values, observed, np.array(whole.offset), np.array(whole.scale))
        return cls(image, normalised, observed, ~observed, layout)

    @classmethod
    def from_values(cls, values: npt.NDArray[np.float32], layout: ImageLayout) -> Samples:
        """Return the samples of a floating image with that layout and those normalised values, (channels, *spatial)."""
        column = (slice(None), *(None,) * (values.ndim - 1))
        scale, offset = (np.array(numbers, dtype=np.float32)[column] for numbers in (layout.scale, layout.offset))
        observed = np.ones(values.shape[1:], dtype=np.bool_)
        image = layout.from_channels_first(values * scale + offset)
        return cls(image, values, observed, ~observed, layout)

    @classmethod
    def on_grid(cls, values: npt.NDArray[np.float32], layout: ImageLayout) -> Samples:
        """Return normalised values on another grid, (channels, *spatial), as an image of the same extent and units."""
        lengths = zip(layout.spacing, layout.spatial_shape, values.shape[1:], strict=True)
        spacing = tuple(length * n / size for length, n, size in lengths)
        shape = layout.from_channels_first(values).shape
        fine = ImageLayout(layout.axes, shape, "float32", spacing, layout.offset, layout.scale)
        return cls.from_values(np.ascontiguousarray(values), fine)


def check_missing(missing: npt.ArrayLike | None, layout: ImageLayout) -> npt.NDArray[np.bool_]:
    """Return the missing pixels as a boolean array of the spatial shape.

    A pixel is missing if any of its channels is missing. None stands for no missing pixels.

    Raises
    ------
    InputError
        The mask is not boolean, it has another shape, or all pixels are missing.
    """
    spatial = layout.spatial_shape
    if missing is None:
        return np.zeros(spatial, dtype=np.bool_)
    mask: npt.NDArray[Any] = np.asarray(missing)
    if mask.dtype != np.bool_:
        raise InputError(f"missing should be boolean, not {mask.dtype}. Use True for the missing pixels.")
    if mask.shape == layout.shape and layout.channel_axis is not None:
        mask = np.any(mask, axis=layout.channel_axis, keepdims=False)
    if mask.shape != spatial:
        raise InputError(f"missing has shape {mask.shape}. It should be {spatial} or the image's {layout.shape}.")
    if mask.all():
        raise InputError("every pixel is missing. At least one pixel is needed for a fit.")
    return mask


def has_only_dlpack(image: Any) -> bool:
    """Return whether an object is an array of another library that NumPy reads only by `from_dlpack`."""
    return hasattr(image, "__dlpack__") and not hasattr(image, "__array__")


def check_array(image: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return the image as a non-empty array of real numbers or booleans.

    Raises
    ------
    InputError
        The image is not such an array.
    """
    try:
        array = np.from_dlpack(cast(Any, image)) if has_only_dlpack(image) else np.asarray(image)
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise InputError(f"the image is not an array of numbers ({error}). Give a regular array.") from None
    if array.dtype.kind not in "buif":
        kind = {"c": "complex", "O": "object", "U": "string", "S": "string"}.get(array.dtype.kind, str(array.dtype))
        hint = " Fit its magnitude, or its real and imaginary parts as channels." if kind == "complex" else ""
        raise InputError(f"the image has a {kind} dtype. Real numbers or booleans are needed.{hint}")
    if array.size == 0:
        raise InputError(f"the image is empty (shape {array.shape}). It should have at least two pixels.")
    return array


def _check_finite(values: npt.NDArray[Any], observed: npt.NDArray[np.bool_]) -> None:
    if values.dtype.kind != "f":
        return
    nan = int(np.isnan(values[:, observed]).sum())
    infinite = int(np.isinf(values[:, observed]).sum())
    if nan or infinite:
        counts = " and ".join(f"{n} {name}" for n, name in ((nan, "NaN"), (infinite, "infinite")) if n)
        raise InputError(f"the image has {counts} value{'s' if nan + infinite > 1 else ''}. {NAN_REMEDY}")


def is_photo(dtype: np.dtype[Any], channels: int) -> bool:
    """Return whether the channels are the colours of a photo, with a common normalisation."""
    return dtype == np.uint8 and channels in (3, 4)


def _normalisation(
    pixels: npt.NDArray[Any], value_range: str, *, joint: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the offset and scale of each channel (see `FitConfig.value_range`), common to all if `joint`."""
    # Unsigned integers stay: differences of sorted ones cannot overflow, and small dtypes are sorted faster.
    exact = pixels if pixels.dtype.kind == "u" else pixels.astype(np.float64)
    least, most = exact.min(axis=1).astype(np.float64), exact.max(axis=1).astype(np.float64)
    groups = exact.reshape(1, -1) if joint else exact
    percentiles = np.percentile(groups, ROBUST_RANGE, axis=1) if value_range == "robust" else None
    return offset_and_scale(least, most, percentiles, pixels.dtype)


def offset_and_scale(
    least: npt.NDArray[np.float64],
    most: npt.NDArray[np.float64],
    percentiles: npt.NDArray[np.float64] | None,
    dtype: np.dtype[Any],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the offset and scale of each channel from the statistics of its values.

    Parameters
    ----------
    least, most
        Smallest and largest value of each channel, (channels,), float64.
    percentiles
        Percentiles `ROBUST_RANGE`, (2, channels), or (2, 1) for all channels jointly. They are for the value range
        "robust"; None is "full".
    dtype
        Dtype of the image.

    Returns
    -------
    offset, scale : ndarray
        Arrays of shape (channels,), float64. The scale of a constant channel is 0.
    """
    if percentiles is not None:
        low, high = percentiles
        joint = len(low) < len(least)
        lowest, highest = (least.min(keepdims=True), most.max(keepdims=True)) if joint else (least, most)
        # If nearly all pixels are equal (a mask, or a few spots on nothing), the percentiles do not show the contrast.
        narrow = high - low <= 1e-6 * (highest - lowest)
        low, high = np.where(narrow, lowest, low), np.where(narrow, highest, high)
        offset, scale = (high + low) / 2, (high - low) / 2
    elif np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        offset, scale = np.full(1, float(limits.min)), np.full(1, float(limits.max) - float(limits.min))
    else:
        offset, scale = least, most - least
    offset, scale = np.broadcast_to(offset, len(least)), np.broadcast_to(scale, len(least))
    # A scale of 0 reproduces a constant channel (an opaque image's alpha) exactly, whatever the networks return.
    constant = least == most
    scale = np.where(constant, 0.0, np.where(scale > np.finfo(np.float64).tiny, scale, 1.0))
    return np.where(constant, least, offset), scale


def _normalised(
    values: npt.NDArray[Any],
    observed: npt.NDArray[np.bool_],
    offset: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    whole = bool(observed.all())
    normalised = np.empty(values.shape, dtype=np.float32)
    # The channels of a photo are interleaved in memory. Normalising all of them at once takes four times as long.
    for channel, centre, divisor, out in zip(values, offset, np.where(scale > 0, scale, 1.0), normalised, strict=True):
        # A missing pixel may have any value.
        filled = channel if whole else np.where(observed, channel, 0)
        # Without a dtype, a float16 image would stay float16 before NumPy 2.
        np.divide(np.subtract(filled, centre, dtype=np.float64), divisor, out=out, casting="same_kind")
        if not whole:
            out[~observed] = 0
    return normalised
