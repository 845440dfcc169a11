"""Figures of a fit: the error map, and an overview.

They use the objects of matplotlib instead of pyplot, so no window system is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.ndimage import uniform_filter

from napari_siren.core.atomic import atomic_write
from napari_siren.core.image.axes import SPATIAL_AXES
from napari_siren.core.image.metrics import Metrics
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.result import FitResult
from napari_siren.errors import InputError

# Scale of the rendered detail.
DETAIL_SCALE = 8
# Side of the detail as a share of the image's longer side, and its minimum and maximum in pixels.
_DETAIL_SHARE, _DETAIL_LEAST, _DETAIL_MOST = 0.08, 16, 64
# Resolution of a saved figure, in dots per inch.
_DPI = 150
# Colour of the rectangle around the detail.
_MARK = "#ffd400"

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


def error_figure(result: FitResult) -> Figure:
    """Draw the signed error: blue below the image, red above it.

    Parameters
    ----------
    result
        Result of a fit. Of several channels the mean is drawn, and of a stack the middle slice.

    Raises
    ------
    InputError
        The result was loaded from a file, which does not hold the image.
    """
    samples = samples_of(result)
    view = View(samples.layout)
    plane = view.plane(result.error)
    figure = _figure(plane.shape[1:], view.aspect)
    _draw_error(figure, figure.add_subplot(), view, plane)
    figure.suptitle(describe_metrics(result.metrics, samples.image.dtype), fontsize=9)
    return figure


def overview_figure(result: FitResult) -> Figure:
    """Draw the image, its reconstruction, the error, the course of the fit, and magnified details.

    Parameters
    ----------
    result
        Result of a fit; see `error_figure`.

    Raises
    ------
    InputError
        The result was loaded from a file, which does not hold the image.
    """
    samples = samples_of(result)
    view = View(samples.layout)
    image = view.picture(observed_image(samples))
    limits = limits_of(view, image)
    figure = _padded(13, 8.4)
    panels: list[Axes] = figure.subplots(2, 3).ravel().tolist()
    _draw(panels[0], image, limits, view.aspect, f"image{view.picture_note}")
    reconstruction = view.picture(result.reconstruction)
    _draw(panels[1], reconstruction, limits, view.aspect, f"reconstruction{view.picture_note}")
    _draw_error(figure, panels[2], view, view.plane(result.error))
    _draw_detail(panels[0], panels[3:5], result, view, image, limits)
    _draw_course(panels[5], result)
    figure.suptitle(describe_metrics(result.metrics, samples.image.dtype), fontsize=12)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG: under a temporary name, and then moved into place.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png", dpi=_DPI)
    return path


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


def describe_metrics(metrics: Metrics, dtype: npt.DTypeLike) -> str:
    """Return the agreement of the reconstruction with the image, in one line."""
    parts = ["every value right" if math.isinf(metrics.psnr) else f"PSNR {metrics.psnr:.2f} dB"]
    parts += [] if metrics.ssim is None else [f"SSIM {metrics.ssim:.4f}"]
    unit = value_unit(dtype)
    return "  ·  ".join([*parts, f"RMSE {metrics.rmse:.4g}", f"largest error {metrics.max_abs:.4g} {unit}"])


def value_unit(dtype: npt.DTypeLike) -> str:
    """Return the unit of the image's values."""
    return {"b": "(false 0, true 1)", "f": "image units"}.get(np.dtype(dtype).kind, "grey levels")


# ---- one panel ---------------------------------------------------------------------------------------------


def _figure(shape: Sequence[int], aspect: Aspect) -> Figure:
    """Return a figure of a size for a picture of shape (rows, columns)."""
    proportion = 0.25 if aspect == "auto" else shape[0] / shape[1] * aspect
    width = float(np.clip(6.5 / proportion, 4.5, 9.0))
    return _padded(width + 1.5, float(np.clip(width * proportion, 2.4, 10.0)) + 0.9)


def _padded(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    return figure


def _draw(axes: Axes, picture: npt.NDArray[Any], limits: Limits, aspect: Aspect, title: str) -> None:
    """Draw a picture: three channels as colours, one in grey."""
    axes.imshow(as_shown(picture, limits), cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def _draw_error(figure: Figure, axes: Axes, view: View, plane: npt.NDArray[Any]) -> None:
    """Draw the mean error of the channels, symmetric about 0; the strongest 0.1 % share the last colour."""
    mean = plane.mean(axis=0)
    most, limit = float(np.abs(mean).max()), error_limit(mean)
    error_map = axes.imshow(mean, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect=view.aspect, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"error{view.mean_note}", fontsize=10)
    bar_axes = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
    bar = figure.colorbar(error_map, cax=bar_axes, extend="both" if most > limit else "neither")
    bar.set_label(f"reconstruction − image [{value_unit(view.layout.dtype)}]", fontsize=9)


def _draw_detail(
    whole: Axes, panels: Sequence[Axes], result: FitResult, view: View, image: npt.NDArray[Any], limits: Limits
) -> None:
    """Draw a detail of the image and the same detail of the field, and mark its position in the whole image."""
    rows, columns = busiest_window(image)
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    whole.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=_MARK, linewidth=1.5))
    detail = image[:, slice(*rows), slice(*columns)]
    _draw(panels[0], detail, limits, view.aspect, f"detail of the image, {width} × {height} pixels")
    rendered = result.render(scale=view.magnification(DETAIL_SCALE), region=view.window(rows, columns))
    _draw(panels[1], view.picture(rendered), limits, view.aspect, f"the same detail of the field at ×{DETAIL_SCALE}")


def _draw_course(axes: Axes, result: FitResult) -> None:
    """Draw the PSNR against time, and the exact final value."""
    history = result.history
    psnr = np.array(history.psnr, dtype=np.float64)
    # The estimate is constant between the steps of its updates.
    updates = np.isfinite(psnr)
    updates[1:] &= psnr[1:] != psnr[:-1]
    axes.plot(
        np.array(history.seconds)[updates], psnr[updates], ".-", color="tab:blue", label="while fitting (estimated)"
    )
    if math.isfinite(result.metrics.psnr):
        axes.axhline(result.metrics.psnr, color="black", linewidth=0.8, linestyle="--", label="result (measured)")
    axes.set(xlabel="seconds", ylabel="PSNR [dB]")
    axes.set_title(f"course of the fit, {len(history.step)} steps", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)


def _in_brackets(*parts: str) -> str:
    notes = ", ".join(part for part in parts if part)
    return f" ({notes})" if notes else ""
