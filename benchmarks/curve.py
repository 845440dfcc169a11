"""A contender's PSNR over time, what is read off it, and the published figures that stand beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

TARGETS = (30.0, 35.0, 40.0, 44.0, 50.0)
# JSON has no infinity, which is the PSNR of a reconstruction without an error.
EXACT = 100.0

PUBLISHED = (
    {"name": "GaussianImage", "psnr": 44.08, "seconds": 107.0},
    {"name": "I-NGP", "psnr": 43.88, "seconds": 491.0},
    {"name": "SIREN", "psnr": 40.83, "seconds": 6582.0},
)
PUBLISHED_SOURCE = "arXiv 2403.08551: means over Kodak, on a V100"


@dataclass
class Curve:
    """PSNR of the rounded, clipped image at some moments of a fit.

    Parameters
    ----------
    name, image
        The contender, and the image.
    parameters, steps
        Real numbers that are fitted, and steps done.
    seconds, psnr
        Moments, ascending, and dB.
    step_seconds
        Median time of a step.
    compile_seconds
        Spent on compiling before the clock ran; 0 where nothing is compiled.
    """

    name: str
    image: str
    parameters: int = 0
    steps: int = 0
    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    step_seconds: float = math.nan
    compile_seconds: float = 0.0

    def add(self, seconds: float, psnr: float) -> None:
        """Add a moment; without a PSNR (nan) it is left out."""
        if not math.isnan(psnr):
            self.seconds.append(seconds)
            self.psnr.append(min(psnr, EXACT))

    def seconds_to(self, target: float) -> float | None:
        """Give the first moment at which a PSNR was seen to be reached, or None."""
        moments = zip(self.seconds, self.psnr, strict=True)
        return next((seconds for seconds, psnr in moments if psnr >= target), None)

    def psnr_at(self, seconds: float) -> float | None:
        """Give the highest PSNR seen until a moment; None before the first."""
        moments = zip(self.seconds, self.psnr, strict=True)
        return max((psnr for moment, psnr in moments if moment <= seconds), default=None)


def by_contender(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    """Group curves, one for each image, by their contender."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.name, []).append(curve)
    return groups


def mean(values: Iterable[float | None]) -> float | None:
    """Give the mean; None where a value is missing."""
    there = list(values)
    known = [value for value in there if value is not None]
    return sum(known) / len(known) if known and len(known) == len(there) else None


def mean_curve(curves: list[Curve]) -> tuple[list[float], list[float]]:
    """Give moments and the mean over the images of what each had reached by then."""
    begin = max(curve.seconds[0] for curve in curves)
    moments = sorted({s for curve in curves for s in curve.seconds if s >= begin})
    reached = [mean(curve.psnr_at(moment) for curve in curves) for moment in moments]
    return moments, [psnr for psnr in reached if psnr is not None]
