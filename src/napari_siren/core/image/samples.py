"""An image as the fit sees it: its format, its value range; array <-> normalised samples, channels first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import check_axes, check_coordinates, coordinate_spacing, guess_axes
from napari_siren.core.image.dtypes import cast_values
from napari_siren.errors import InputError

# Percentiles that the value range "robust" takes to -1 and 1.
ROBUST_RANGE = (0.1, 99.9)


@dataclass(frozen=True)
class ImageFormat:
    """What is needed to turn field values back into an array like the original.

    Parameters
    ----------
    axes
        One letter for each axis of the array, in its order: Z, Y, X in space, C for channels, and T where time is a
        coordinate like those of space.
    shape
        Shape of the array.
    dtype
        Name of the array's dtype.
    spacing
        Distance between pixel centres along each spatial axis, in the order of `axes`.
    offset, scale
        One of each a channel: value = offset + scale * normalised value.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def channel_axis(self) -> int | None:
        """Position of the channels among the axes, or None."""
        position = self.axes.find("C")
        return None if position < 0 else position

    @property
    def channels(self) -> int:
        """Number of channels, 1 without a channel axis."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Number of pixels along each spatial axis."""
        return tuple(n for axis, n in zip(self.axes, self.shape, strict=True) if axis != "C")

    def to_channels_first(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View an array of the original's axes as (channels, *spatial)."""
        if self.channel_axis is None:
            return array[np.newaxis]
        return np.moveaxis(array, self.channel_axis, 0)

    def from_channels_first(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View values of shape (channels, *spatial) in the original's order of axes."""
        return values[0] if self.channel_axis is None else np.moveaxis(values, 0, self.channel_axis)

    def cast(self, values: npt.NDArray[Any], dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Round and clip values in the image's units to a dtype's range; never wraps around.

        Parameters
        ----------
        values
            Any shape, floating.
        dtype
            The wanted dtype; None takes the image's own.
        """
        return cast_values(values, np.dtype(self.dtype if dtype is None else dtype))


@dataclass(frozen=True)
class Samples:
    """An image checked and normalised: what a fit works on.

    Parameters
    ----------
    image
        The original array, as given.
    values
        float32, (channels, *spatial), normalised; 0 where `observed` is False.
    observed
        bool, (*spatial): False where the pixel is missing.
    heldout
        bool, (*spatial): True where a pixel that is there is kept out of the fit.
    format
        The way back to an array like the original.
    """

    image: npt.NDArray[Any]
    values: npt.NDArray[np.float32]
    observed: npt.NDArray[np.bool_]
    heldout: npt.NDArray[np.bool_]
    format: ImageFormat

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
            Real numbers or booleans; 1 to 3 spatial axes and perhaps channels. The masked pixels of a
            `numpy.ma.MaskedArray` are missing.
        axes
            One letter an axis, of Z, Y, X, C, T; None guesses (see `guess_axes`).
        spacing
            Distance between pixel centres, one number or one a spatial axis; None is 1. Frames are 1 apart, unless
            there is a number for T too.
        missing
            bool, the image's shape or its spatial shape: True where a pixel is missing.
        value_range
            ``"robust"`` or ``"full"``, see `FitConfig.value_range`.
        heldout, seed
            Share of the pixels to keep out of the fit, and of which draw.
        axes_as_coordinates
            All axes but C, where T is one of them, to say that time is a coordinate like those of space.

        Raises
        ------
        InputError
            The image, or an argument, cannot be used; the message says why and what to do.
        """
        if isinstance(image, np.ma.MaskedArray) and missing is None:
            missing, image = np.ma.getmaskarray(image), image.data
        array = check_array(image)
        axes = guess_axes(array.shape) if axes is None else check_axes(axes, array.shape)
        check_coordinates(axes, axes_as_coordinates)
        layout = ImageFormat(axes, array.shape, array.dtype.name, (), (), ())
        spatial = layout.spatial_shape
        if int(np.prod(spatial)) < 2:
            raise InputError(
                f"the image has a single pixel (axes {axes}, shape {array.shape}); "
                "a field needs at least two. Are the axes right?"
            )
        observed = ~check_missing(missing, layout)
        values = layout.to_channels_first(array)
        _check_finite(values, observed)
        kept_out = observed & (np.random.default_rng(seed).random(spatial) < heldout)
        if (kept_out == observed).all():
            raise InputError("no pixel is left to fit once those held out are taken away; lower heldout.")
        used = observed & ~kept_out
        seen = values.reshape(len(values), -1) if used.all() else values[:, used]
        offset, scale = _normalisation(seen, value_range, joint=is_photo(array.dtype, layout.channels))
        return cls(
            array,
            _normalised(values, observed, offset, scale),
            observed,
            kept_out,
            ImageFormat(
                axes,
                array.shape,
                array.dtype.name,
                coordinate_spacing(spacing, axes),
                tuple(map(float, offset)),
                tuple(map(float, scale)),
            ),
        )

    @classmethod
    def of_part(cls, image: npt.NDArray[Any], whole: ImageFormat) -> Samples:
        """Take a part of an image, normalised as the whole is; no pixel of it is missing or held out.

        Parameters
        ----------
        image
            With the axes of the whole.
        whole
            Of the image that it is a part of.

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
    def of_values(cls, values: npt.NDArray[np.float32], layout: ImageFormat) -> Samples:
        """Take values that are normalised already, (channels, *spatial), for a floating image of that format."""
        column = (slice(None), *(None,) * (values.ndim - 1))
        scale, offset = (np.array(numbers, dtype=np.float32)[column] for numbers in (layout.scale, layout.offset))
        observed = np.ones(values.shape[1:], dtype=np.bool_)
        image = layout.from_channels_first(values * scale + offset)
        return cls(image, values, observed, ~observed, layout)


def check_missing(missing: npt.ArrayLike | None, layout: ImageFormat) -> npt.NDArray[np.bool_]:
    """Return the missing pixels as a boolean array of the spatial shape.

    A pixel of which any channel is missing is missing.

    Raises
    ------
    InputError
        Not boolean, of another shape, or everything is missing.
    """
    spatial = layout.spatial_shape
    if missing is None:
        return np.zeros(spatial, dtype=np.bool_)
    mask: npt.NDArray[Any] = np.asarray(missing)
    if mask.dtype != np.bool_:
        raise InputError(f"missing should be boolean (True where a pixel is missing), not {mask.dtype}.")
    if mask.shape == layout.shape and layout.channel_axis is not None:
        mask = np.any(mask, axis=layout.channel_axis, keepdims=False)
    if mask.shape != spatial:
        raise InputError(f"missing has shape {mask.shape}; it should be {spatial} or the image's {layout.shape}.")
    if mask.all():
        raise InputError("every pixel is marked as missing; nothing is left to fit.")
    return mask


def check_array(image: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return an array of real numbers or booleans, with something in it; InputError where it is not one."""
    try:
        array = np.asarray(image)
    except ValueError as error:
        raise InputError(f"the image is not an array of numbers: {error}.") from None
    if array.dtype.kind not in "buif":
        kind = {"c": "complex", "O": "object", "U": "string", "S": "string"}.get(array.dtype.kind, str(array.dtype))
        hint = " Fit its magnitude, or its real and imaginary parts as channels." if kind == "complex" else ""
        raise InputError(f"the image has a {kind} dtype; real numbers or booleans are needed.{hint}")
    if array.size == 0:
        raise InputError(f"the image is empty (shape {array.shape}).")
    return array


def _check_finite(values: npt.NDArray[Any], observed: npt.NDArray[np.bool_]) -> None:
    if values.dtype.kind != "f":
        return
    nan = int(np.isnan(values[:, observed]).sum())
    infinite = int(np.isinf(values[:, observed]).sum())
    if nan or infinite:
        found = " and ".join(f"{n} {what}" for n, what in ((nan, "NaN"), (infinite, "infinite")) if n)
        raise InputError(
            f"the image has {found} value{'s' if nan + infinite > 1 else ''}. "
            "Mark such pixels as missing, missing=~np.isfinite(image), and the field fills them in."
        )


def is_photo(dtype: np.dtype[Any], channels: int) -> bool:
    """Whether the channels are the colours of a photo, which are normalised alike."""
    return dtype == np.uint8 and channels in (3, 4)


def _normalisation(
    seen: npt.NDArray[Any], value_range: str, *, joint: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Offset and scale of each channel (see `FitConfig.value_range`); the colours of a photo share theirs."""
    # Differences of unsigned integers in order cannot overflow, and small numbers are sorted faster.
    exact = seen if seen.dtype.kind == "u" else seen.astype(np.float64)
    least, most = exact.min(axis=1).astype(np.float64), exact.max(axis=1).astype(np.float64)
    groups = exact.reshape(1, -1) if joint else exact
    percentiles = np.percentile(groups, ROBUST_RANGE, axis=1) if value_range == "robust" else None
    return offset_and_scale(least, most, percentiles, seen.dtype)


def offset_and_scale(
    least: npt.NDArray[np.float64],
    most: npt.NDArray[np.float64],
    percentiles: npt.NDArray[np.float64] | None,
    dtype: np.dtype[Any],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Offset and scale of each channel, from what its values are.

    Parameters
    ----------
    least, most
        (channels,).
    percentiles
        (2, channels), or (2, 1) of all channels jointly, for the value range "robust"; None is "full".
    dtype
        Of the image.
    """
    if percentiles is not None:
        low, high = percentiles
        joint = len(low) < len(least)
        lowest, highest = (least.min(keepdims=True), most.max(keepdims=True)) if joint else (least, most)
        # Nearly all pixels alike (a mask, a few spots on nothing): the percentiles say nothing of the contrast.
        narrow = high - low <= 1e-6 * (highest - lowest)
        low, high = np.where(narrow, lowest, low), np.where(narrow, highest, high)
        offset, scale = (high + low) / 2, (high - low) / 2
    elif np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        offset, scale = np.full(1, float(limits.min)), np.full(1, float(limits.max) - float(limits.min))
    else:
        offset, scale = least, most - least
    offset, scale = np.broadcast_to(offset, len(least)), np.broadcast_to(scale, len(least))
    # A channel that is the same everywhere (an opaque image's alpha) comes back exactly, whatever the networks say.
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
    # By channels: in a photo's memory their pixels are interleaved, and all at once takes four times as long.
    for channel, centre, divisor, out in zip(values, offset, np.where(scale > 0, scale, 1.0), normalised, strict=True):
        # What a missing pixel holds may be anything.
        filled = channel if whole else np.where(observed, channel, 0)
        # Before NumPy 2 a float16 image would stay float16.
        np.divide(np.subtract(filled, centre, dtype=np.float64), divisor, out=out, casting="same_kind")
        if not whole:
            out[~observed] = 0
    return normalised
