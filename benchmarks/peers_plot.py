"""Draw PSNR over seconds from the JSON file of `benchmarks.peers`.

python -m benchmarks.peers_plot JSON [-o docs/figures/peers.png]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from benchmarks.curve import Curve, by_contender, mean_curve

# Ours in blues and greens, the others in warm colours and greys, all dark enough for text on white.
STYLES = {
    "ours, faithful": "#0050a0",
    "ours, faithful to 44 dB": "#2b8cd8",
    "ours, fast": "#008a75",
    "ours, upscale": "#4b4fc4",
    "ours, paper": "#1a7f9c",
    "plain SIREN": "#b03000",
    "siren-pytorch": "#a06a00",
    "plain SIREN, compiled, bfloat16": "#e0591f",
    "siren-pytorch, compiled, bfloat16": "#c79100",
    "FINER": "#b5267e",
    "WIRE": "#7a3b8f",
    "hash grid": "#6b6b00",
}
OTHER = "#555555"
SIZE = 10.0, 6.25  # inches
DPI = 160
# Where a label may go, in points from its own point; the first that is free is taken.
_NEAR, _FAR = (0, -12, 12), (-24, 24, -36, 36, -48, 48, -60, 60)
PLACES = [(x, y) for ys in (_NEAR, _FAR) for x in (10, -10) for y in ys]


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw every contender's curve, and the published figures as stars.

    Parameters
    ----------
    report
        As `benchmarks.peers` writes it.
    path
        Of the PNG.
    """
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points: list[tuple[float, float, str, str]] = []
    curves = by_contender(Curve(**entry) for entry in report["curves"])
    for name, group in curves.items():
        color, ours = STYLES.get(name, OTHER), name.startswith("ours")
        seconds, psnr = mean_curve(group)
        axes.plot(seconds, psnr, color=color, lw=2.6 if ours else 1.6, zorder=3 if ours else 2)
        axes.plot(seconds[-1:], psnr[-1:], "o", color=color, ms=6, zorder=4)
        points.append((seconds[-1], psnr[-1], name, color))
    for entry in report["published"]["figures"]:
        axes.plot(entry["seconds"], entry["psnr"], "*", color=OTHER, ms=15, mec="white", zorder=4)
        points.append((entry["seconds"], entry["psnr"], f"{entry['name']}\npublished, V100", OTHER))
    _decorate(axes, report, curves)
    _label(figure, axes, points)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _decorate(axes: Axes, report: dict[str, Any], curves: dict[str, list[Curve]]) -> None:
    images = {curve.image for group in curves.values() for curve in group}
    begin = min(curve.seconds[0] for group in curves.values() for curve in group)
    end = max(entry["seconds"] for entry in report["published"]["figures"])
    axes.set_xscale("log")
    # Room on the right for labels.
    axes.set_xlim(begin / 1.3, max(report["limit_seconds"], end) * 8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(y=0.08)
    axes.grid(color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=12)
    axes.set_xlabel("seconds, on a logarithmic axis", fontsize=13)
    axes.set_ylabel("PSNR, dB", fontsize=13)
    about = f"{', '.join(sorted(images))}" if len(images) < 4 else f"mean of {len(images)} images"
    machine = report["machine"]
    where = machine["cpu"] if machine["device"].startswith("cpu") else machine["device"]
    axes.set_title(f"{about}; {where}", fontsize=12, loc="left")


def _label(figure: Figure, axes: Axes, points: list[tuple[float, float, str, str]]) -> None:
    """Write each name beside its point, where no other name, no other point and, if possible, no curve is."""
    figure.draw_without_rendering()  # fixes the layout
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    inside = axes.get_window_extent(renderer)
    spots = [axes.transData.transform((x, y)) for x, y, _, _ in points]
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in spots]
    lines = np.concatenate([line.get_path().interpolated(20).vertices for line in axes.lines])
    lines = axes.transData.transform(lines)
    for x, y, text, color in sorted(points, key=lambda point: -point[1]):
        label = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", color=color, fontsize=11, va="center")
        label.set_path_effects([withStroke(linewidth=3, foreground="white")])
        label.set_linespacing(1.0)

        def cost(place: tuple[int, int], label: Annotation = label) -> int:
            box = _move(label, place, renderer)
            crossed = bool(((lines > box.min) & (lines < box.max)).all(axis=1).any())
            outside = bool((box.min < inside.min).any() or (box.max > inside.max).any())
            return 100 * outside + 10 * box.count_overlaps(taken) + crossed

        place = min(PLACES, key=cost)
        taken.append(_move(label, place, renderer))
        if place[1] in _FAR:
            leader = {"arrowstyle": "-", "color": color, "lw": 0.8, "shrinkA": 0, "shrinkB": 3}
            axes.annotate("", (x, y), place, textcoords="offset points", arrowprops=leader, zorder=1)


def _move(label: Annotation, place: tuple[int, int], renderer: Any) -> Bbox:
    label.set_position(place)
    label.set_horizontalalignment("left" if place[0] > 0 else "right")
    return label.get_window_extent(renderer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/figures/peers.png"))
    arguments = parser.parse_args()
    plot(json.loads(arguments.json.read_text(encoding="utf-8")), arguments.output)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
