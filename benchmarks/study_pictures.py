"""The study's pictures: images side by side, and plots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MultipleLocator
from PIL import Image, ImageDraw, ImageFont

from benchmarks.study_tools import frequencies

# A curve has the colour of the first of these words that is in its name: the truth black, ours in blues and greens,
# naive ones in warm colours, interpolation grey. Others take the next of the list below.
COLORS = {
    "photograph": "#111111",
    "bicubic": "#888888",
    "upscale": "#0050a0",
    "fitted": "#0050a0",
    "faithful": "#2b8cd8",
    "band 0.6": "#2b8cd8",
    "total variation": "#008a75",
    "area": "#7fb800",
    "omega_0 60": "#b03000",
    "2.4": "#b03000",
    "point": "#b03000",
    "wrapped": "#b5267e",
    "U(-1, 1)": "#e0841f",
}
OTHERS = ("#c79100", "#7a3b8f", "#b5267e", "#1a7f9c")
WIDTH, HEIGHT, DPI = 8.0, 3.6, 100  # inches of a picture, and dots in one


@dataclass(frozen=True)
class Plot:
    """A plot of curves.

    Parameters
    ----------
    title, x_label, y_label
        Texts.
    curves
        (x, y) by name.
    dots
        (x, y) of pixels, or None.
    log_x, log_y
        Whether an axis is logarithmic.
    frequency
        Whether x is in radians per pixel: ticks are multiples of pi, and the limit of the pixels is marked.
    legend
        Whether to name the curves.
    """

    title: str
    x_label: str
    y_label: str
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    dots: tuple[np.ndarray, np.ndarray] | None = None
    log_x: bool = False
    log_y: bool = False
    frequency: bool = False
    legend: bool = True


def spectra(title: str, powers: dict[str, np.ndarray], y_label: str = "power") -> Plot:
    """Plot spectra, as `spectrum` gives them."""
    curves = {name: (frequencies(len(power)), power) for name, power in powers.items()}
    return Plot(title, "frequency, radians per pixel", y_label, curves, log_y=True, frequency=True)


def plots(path: Path, *shown: Plot) -> None:
    """Draw plots side by side into a PNG."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    named = {}
    for axes, plot in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        lines = _draw(axes, plot)
        named |= lines if plot.legend else {}
    if named:
        figure.legend(named.values(), named, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    # So many colours are enough for lines, and make a small file.
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def panels(path: Path, pictures: dict[str, np.ndarray], columns: int = 3, quality: int | None = None) -> None:
    """Put pictures of one size side by side into a file with titles, each pixel as it is: PNG, or WebP without loss.

    A quality, 1 to 100, is that of a WebP with some loss.
    """
    font, line, gap = ImageFont.load_default(14), 22, 6
    height, width = next(iter(pictures.values())).shape[:2]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + line + gap) - gap), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (title, picture) in enumerate(pictures.items()):
        left, top = k % columns * (width + gap), k // columns * (height + line + gap)
        draw.text((left, top + 2), title, fill="black", font=font)
        sheet.paste(Image.fromarray(picture), (left, top + line))
    path.parent.mkdir(parents=True, exist_ok=True)
    # The first of these is PNG's, the others WebP's.
    sheet.save(path, optimize=True, lossless=quality is None, quality=quality or 80, method=6)


def _draw(axes: Axes, plot: Plot) -> dict[str, Line2D]:
    """Draw a plot; give its lines by name."""
    axes.set_prop_cycle(color=OTHERS)
    lines: dict[str, Line2D] = {}
    for name, (x, y) in plot.curves.items():
        color = next((color for word, color in COLORS.items() if word in name), None)
        (lines[name],) = axes.plot(x, y, color=color, lw=1.6)
    if plot.dots is not None:
        (lines["pixels"],) = axes.plot(*plot.dots, "o", color="#111111", ms=4, zorder=3)
    if plot.log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if plot.log_y:
        axes.set_yscale("log")
    if plot.frequency:
        axes.set_xlim(0, max(x[-1] + x[0] for x, _ in plot.curves.values()))
        axes.xaxis.set_major_locator(MultipleLocator(math.pi))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _in_pi(value)))
        axes.axvline(math.pi, color="#555555", ls="--", lw=1)
    axes.grid(color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(plot.title, fontsize=11, loc="left")
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    return lines


def _in_pi(value: float) -> str:
    count = round(value / math.pi)
    return "0" if count == 0 else "π" if count == 1 else f"{count}π"
