"""`View`: an image with any number of axes as a picture, for figures and thumbnails. It does not need matplotlib."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from napari_siren.core.image.axes import SPATIAL_AXES
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.result import FitResult
from napari_siren.errors import InputError
from napari_siren.reporting.lengths import describe_length

# Side of the detail as a share of the image's longer side, and its minimum and maximum in pixels.
_DETAIL_SHARE, _DETAIL_LEAST, _DETAIL_MOST = 0.08, 16, 64
# Colours of errors, from the most negative to the most positive one: red, green and blue, 0 to 255.
_BLUE_TO_RED = np.array(
    [
        (5, 48, 97),
        (33, 102, 172),
        (67, 147, 195),
        (146, 197, 222),
        (209, 229, 240),
        (247, 247, 247),
        (253, 219, 199),
        (244, 165, 130),
        (214, 96, 77),
        (178, 24, 43),
        (103, 0, 31),
    ]
)

# Height of a pixel divided by its width.
Aspect = float | Literal["auto"]
# Values of black and white, one for each channel.
Limits = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class View:
    """A view of an image with any number of axes as a picture: for a stack, the middle slice.

    Parameters
    ----------
    layout
        Axes and shape of the image.
    """

    layout: ImageLayout

    @property
    def axes(self) -> str:
        """Spatial axes, outermost first."""
        return "".join(a for a in SPATIAL_AXES if a in self.layout.axes)

    @property
    def slice(self) -> int | None:
        """Index of the slice shown, or None if there is only one."""
        return self._size(self.axes[0]) // 2 if len(self.axes) == 3 else None

    @property
    def aspect(self) -> Aspect:
        """Height of a pixel divided by its width; "auto" for a line of pixels, to fill the height of the figure."""
        if len(self.axes) == 1:
            return "auto"
        height, width = (self._spacing(a) for a in self.axes[-2:])
        return height / width

    @property
    def is_photo(self) -> bool:
        """Whether the channels are 8-bit colours, drawn from 0 to 255 whatever the range of the image."""
        return self.layout.axes.endswith("C") and self.layout.channels in (3, 4) and self.layout.dtype == "uint8"

    def plane(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the slice shown, from an array with the image's axes, (channels, rows, columns)."""
        letters = self.layout.axes.coordinates
        channels = self.layout.to_channels_first(array)
        channels = channels.transpose(0, *(1 + letters.index(a) for a in self.axes))
        if channels.ndim == 4:
            # A render of that slice alone has only one.
            channels = channels[:, channels.shape[1] // 2]
        return channels if channels.ndim == 3 else channels[:, np.newaxis]

    def picture(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the channels of `plane` to draw: three as red, green and blue, otherwise the first."""
        coloured = self.is_photo or self.layout.channels == 3
        return self.plane(array)[: 3 if coloured else 1]

    def window(self, rows: tuple[int, int], columns: tuple[int, int]) -> list[tuple[float, float]]:
        """Return a part of the picture as a region of the image, for `FitResult.render`."""
        ranges: dict[str, tuple[int, int]] = dict(zip(self.axes[-2:], (rows, columns)[-len(self.axes) :], strict=True))
        if self.slice is not None:
            ranges[self.axes[0]] = (self.slice, self.slice + 1)
        return [ranges[a] for a in self.layout.axes.coordinates]

    def magnification(self, scale: float) -> list[float]:
        """Return the scale of each spatial axis to magnify the picture by `scale`; across slices it is 1."""
        slice_axis = self.axes[0] if len(self.axes) == 3 else ""
        return [1.0 if a == slice_axis else scale for a in self.layout.axes.coordinates]

    @property
    def slice_note(self) -> str:
        """Description of the slice shown, or an empty string."""
        return "" if self.slice is None else f"slice {self.slice + 1} of {self._size(self.axes[0])}"

    @property
    def picture_note(self) -> str:
        """Description of the slice and channel of `picture`, in brackets, or an empty string."""
        first_only = self.layout.channels not in (1, 3) and not self.is_photo
        return _in_brackets(self.slice_note, f"channel 1 of {self.layout.channels}" if first_only else "")

    @property
    def mean_note(self) -> str:
        """Description of the mean over the channels of `plane`, in brackets, or an empty string."""
        several = self.layout.channels > 1
        return _in_brackets(self.slice_note, f"mean of {self.layout.channels} channels" if several else "")

    def _size(self, axis: str) -> int:
        return self.layout.shape[self.layout.axes.index(axis)]

    def _spacing(self, axis: str) -> float:
        return self.layout.spacing[self.layout.axes.coordinates.index(axis)]


def samples_of(result: FitResult) -> Samples:
    """Return the image of a result.

    Raises
    ------
    InputError
        The result was loaded from a file, which does not hold the image.
    """
    if result.samples is None:
        raise InputError("a loaded result has no image to compare with. Fit the image to get a report of it.")
    return result.samples


def busiest_window(plane: npt.NDArray[Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the small window with the highest contrast: (start, stop) of its rows, and of its columns.

    Parameters
    ----------
    plane
        Image, (channels, rows, columns).
    """
    grey = np.nan_to_num(plane.astype(np.float64)).mean(axis=0)
    side = int(np.clip(_DETAIL_SHARE * max(grey.shape), _DETAIL_LEAST, _DETAIL_MOST))
    size = tuple(min(side, n) for n in grey.shape)
    grey -= grey.mean()
    variance = uniform_filter(grey**2, size) - uniform_filter(grey, size) ** 2
    inside = tuple(slice(k // 2, k // 2 + n - k + 1) for k, n in zip(size, grey.shape, strict=True))
    best = np.unravel_index(int(variance[inside].argmax()), variance[inside].shape)
    first, second = ((int(start), int(start) + k) for start, k in zip(best, size, strict=True))
    return first, second


def observed_image(samples: Samples) -> npt.NDArray[Any]:
    """Return the image with NaN at missing pixels, which may have any value."""
    if samples.observed.all():
        return samples.image
    layout = samples.layout
    values = np.where(samples.observed, layout.to_channels_first(samples.image), np.nan)
    return layout.from_channels_first(values)


def limits_of(view: View, picture: npt.NDArray[Any]) -> Limits:
    """Return black and white of each channel: 0 and 255 for a photograph, otherwise the percentiles 0.1 and 99.9."""
    if view.is_photo:
        return np.zeros(len(picture)), np.full(len(picture), 255.0)
    low, high = np.nanpercentile(picture.astype(np.float64), (0.1, 99.9), axis=(1, 2))
    return low, np.where(high > low, high, low + 1)


def as_shown(picture: npt.NDArray[Any], limits: Limits) -> npt.NDArray[np.float64]:
    """Return a picture from 0 (black) to 1 (white): (rows, columns), or (rows, columns, 3) for three channels."""
    low, high = (v[:, np.newaxis, np.newaxis] for v in limits)
    levels = np.nan_to_num(np.clip((picture.astype(np.float64) - low) / (high - low), 0, 1))
    return np.moveaxis(levels, 0, -1) if len(levels) == 3 else levels[0]


def error_limit(mean: npt.NDArray[Any]) -> float:
    """Return the absolute error of the last colour: all but the strongest 0.1 % are below it."""
    strength = np.abs(mean)
    return float(np.percentile(strength, 99.9)) or float(strength.max()) or 1.0


def shows_scaled_error(result: FitResult) -> bool:
    """Return whether RSE and RSP describe the restoration. After the removal of noise they describe that noise."""
    task = result.config.restoration
    return task is None or task.removes != "noise"


def describe_metrics(result: FitResult) -> str:
    """Return the agreement of the reconstruction with the image in one line, and measures of a restoration in another.

    After the removal of noise, the correlation with the image is that with its noise, and is left out.
    """
    metrics = result.metrics
    parts = ["every value right" if math.isinf(metrics.psnr) else f"PSNR {metrics.psnr:.2f} dB"]
    parts += [] if metrics.ssim is None else [f"SSIM {metrics.ssim:.4f}"]
    unit = value_unit(result.field.layout.dtype)
    parts += [f"RMSE {metrics.rmse:.4g}", f"largest error {metrics.max_abs:.4g} {unit}"]
    measures = []
    if metrics.rse is not None and metrics.rsp is not None and shows_scaled_error(result):
        measures += [f"seen again by the pixels: RSE {metrics.rse:.4g} {unit}", f"RSP {metrics.rsp:.4f}"]
    if metrics.image_resolution is not None:
        measures.append(f"resolution before denoising {describe_length(metrics.image_resolution, result)}")
    return "\n".join("  ·  ".join(line) for line in (parts, measures) if line)


def value_unit(dtype: npt.DTypeLike) -> str:
    """Return the unit of the image's values."""
    return {"b": "(false 0, true 1)", "f": "image units"}.get(np.dtype(dtype).kind, "grey levels")


def error_colours(error: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the colours of errors from -1 (blue) to 1 (red), as red, green and blue between 0 and 1.

    They are those of the colour map "RdBu_r" of matplotlib, from ColorBrewer.
    """
    places = np.linspace(-1, 1, len(_BLUE_TO_RED))
    return np.stack([np.interp(error, places, channel) for channel in _BLUE_TO_RED.T / 255], axis=-1)


def _in_brackets(*parts: str) -> str:
    notes = ", ".join(part for part in parts if part)
    return f" ({notes})" if notes else ""
