"""Figures of a fit: the error map, and an overview.

They use the objects of matplotlib instead of pyplot, so no window system is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from napari_siren.core.result import FitResult
from napari_siren.core.storage.atomic import atomic_write
from napari_siren.reporting.views import (
    Aspect,
    Limits,
    View,
    as_shown,
    busiest_window,
    describe_metrics,
    error_limit,
    limits_of,
    observed_image,
    samples_of,
    value_unit,
)

# Scale of the rendered detail.
DETAIL_SCALE = 8
# Resolution of a saved figure, in dots per inch.
_DPI = 150
# Colour of the rectangle around the detail.
_MARK = "#ffd400"


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
    figure.suptitle(describe_metrics(result), fontsize=9)
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
    figure.suptitle(describe_metrics(result), fontsize=12)
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
    axes.set_title(f"course of the fit, {len(history.step)} steps", fontsize=10)
    if not updates.any():
        axes.set_axis_off()
        axes.text(0.5, 0.5, "The PSNR was not estimated while fitting.", ha="center", fontsize=9)
        return
    axes.plot(
        np.array(history.seconds)[updates], psnr[updates], ".-", color="tab:blue", label="while fitting (estimated)"
    )
    if math.isfinite(result.metrics.psnr):
        axes.axhline(result.metrics.psnr, color="black", linewidth=0.8, linestyle="--", label="result (measured)")
    axes.set(xlabel="seconds", ylabel="PSNR [dB]")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
