"""Draw how the error that is left falls when the pixels that are called worst are left out, from `benchmarks.upscale`.

python -m benchmarks.trust_plot JSON ["Set14 x2" ...] [-o docs/figures/trust.png]
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
from matplotlib.ticker import PercentFormatter

from benchmarks.trust import SHARES

METHOD = "ours"
OURS, BEST, CHANCE = "#0050a0", "#6b6b00", "#777777"
SIZE, DPI = (4.4, 3.8), 120  # inches for each case


def plot(report: dict[str, Any], cases: list[str], path: Path) -> None:
    """Draw a panel for each case: means over its images, and each image's own curve.

    Parameters
    ----------
    report
        As `benchmarks.upscale --trust` writes it.
    cases
        Names, as "Set14 x2".
    path
        Of the PNG.
    """
    figure = Figure(figsize=(SIZE[0] * len(cases), SIZE[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for axes, case in zip(panels, cases, strict=True):
        trust = list(report["cases"][case]["methods"][METHOD]["trust"].values())
        curves = np.array([entry["curve"] for entry in trust])
        oracles = np.array([entry["oracle"] for entry in trust])
        axes.axhline(1, color=CHANCE, lw=1.4, ls="--")
        axes.plot(SHARES, curves.T, color=OURS, lw=0.7, alpha=0.3)
        axes.plot(SHARES, curves.mean(axis=0), color=OURS, lw=2.6)
        axes.plot(SHARES, oracles.mean(axis=0), color=BEST, lw=1.8)
        _decorate(axes, case, len(trust))
    for text, y, color in (
        ("at random", 1.02, CHANCE),
        ("by the uncertainty", float(curves.mean(axis=0)[50]) + 0.03, OURS),
        ("by the true error", float(oracles.mean(axis=0)[35]) + 0.03, BEST),
    ):
        panels[-1].text(0.98, y, text, color=color, fontsize=10, ha="right", va="bottom")
    panels[0].set_ylabel("mean error of the rest, of that of all")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _decorate(axes: Axes, case: str, images: int) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.15)
    axes.grid(color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("pixels left out, the worst first")
    axes.set_title(f"{case}, {images} images", fontsize=11, loc="left")


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("cases", nargs="*", default=["Set14 x2"])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/figures/trust.png"))
    arguments = parser.parse_args(options)
    plot(json.loads(arguments.json.read_text(encoding="utf-8")), arguments.cases, arguments.output)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
