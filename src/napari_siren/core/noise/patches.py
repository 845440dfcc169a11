"""`Patches`: the scatter of small patches at each brightness, and the line through the quiet ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import minimum_filter, uniform_filter
from scipy.stats import chi2

from napari_siren.core.noise.level import degrees_of_freedom

Numbers = npt.NDArray[np.float64]

# Side of a patch in pixels, and the quantile of the patches of a brightness that is regarded as noise alone.
SIDE, _QUIET = 9, 0.25
# Smallest number of patches for an estimate.
LEAST = 20
# Iterations of the regression, and largest number of patches in it.
_ITERATIONS, _MOST = 30, 1 << 17
# Smallest variance to divide by.
_LEAST_VARIANCE = 1e-12
# Smallest share of the second differences of a patch that have no interpolated pixel.
_LEAST_SHARE = 0.2
# Number of parts whose lines are compared, and side of the blocks of patches that belong to the same part. Patches
# overlap, so neighbours do not differ by chance alone.
_PARTS, _BLOCK = 8, 4


@dataclass(frozen=True)
class Patches:
    """Patches of an image.

    Parameters
    ----------
    scatter
        Estimate of the noise variance of each patch. It contains texture too, so that the quiet patches count: a
        quantile of the estimates is the true variance if there is noise alone.
    level
        Mean value of each patch.
    part
        Number of the part of the image that each patch belongs to, from 0. Each part is spread over the image.
    """

    scatter: Numbers
    level: Numbers
    part: npt.NDArray[np.intp]

    @classmethod
    def from_values(cls, values: npt.NDArray[np.float32], used: npt.NDArray[np.bool_] | None = None) -> Patches:
        """Return the patches of (slices, rows, columns), by second differences.

        Pixels that are False in `used` are interpolated. Differences with them are left out if enough patches remain.
        """
        squares = np.square(np.diff(np.diff(values.astype(np.float64), n=2, axis=1), n=2, axis=2) / 6)
        level, parts, share = _means(values[:, 1:-1, 1:-1]), _parts(squares.shape), 1.0
        scatter = _means(squares)
        if used is not None:
            valid = minimum_filter(used, (1, 3, 3))[:, 1:-1, 1:-1]
            shares = _means(valid)
            enough = shares >= _LEAST_SHARE
            if np.count_nonzero(enough) >= LEAST:
                scatter, level, parts = _means(squares * valid)[enough] / shares[enough], level[enough], parts[enough]
                share = float(shares[enough].mean())
        patches = cls(scatter / _quantile_of_noise(share), level, parts)
        return patches.chosen(np.argsort(level)[:: -(-len(level) // _MOST)]) if len(level) > _MOST else patches

    def chosen(self, selection: npt.NDArray[np.generic]) -> Patches:
        """Return some of the patches, by a mask or by their numbers."""
        return Patches(self.scatter[selection], self.level[selection], self.part[selection])

    def by_parts(self) -> Iterator[Patches]:
        """Yield the patches of each part that has enough of them."""
        for number in range(_PARTS):
            mask = self.part == number
            if np.count_nonzero(mask) >= LEAST:
                yield self.chosen(mask)

    def variance(self) -> float:
        """Return the noise variance if it is the same at each brightness."""
        return float(np.quantile(self.scatter, _QUIET))

    def line(self) -> tuple[float, float]:
        """Return slope and offset of the noise variance over the brightness.

        It is the quantile regression of Koenker and Bassett (1978, doi 10.2307/1913643) of relative deviations, by
        iteratively reweighted least squares.
        """
        level, scatter = self.level, self.scatter
        slope, offset = 0.0, self.variance()
        least = max(1e-3 * float(scatter.mean()), _LEAST_VARIANCE)
        for _ in range(_ITERATIONS):
            line = slope * level + offset
            expected, deviation = np.maximum(line, least), scatter - line
            share = np.where(deviation > 0, _QUIET, 1 - _QUIET)
            weights = share / np.maximum(np.abs(deviation), 1e-3 * expected) / expected
            slope, offset = _weighted_line(level, scatter, weights / weights.sum())
        return slope, offset


def _weighted_line(x: Numbers, y: Numbers, weights: Numbers) -> tuple[float, float]:
    """Return slope and offset of the line of least squares for weights of sum 1. If all x are equal, the slope is 0."""
    middle, height = float(weights @ x), float(weights @ y)
    spread = float(weights @ np.square(x - middle))
    slope = float(weights @ ((x - middle) * (y - height))) / spread if spread > _LEAST_VARIANCE else 0.0
    return slope, height - slope * middle


def _quantile_of_noise(share: float) -> float:
    """Return the quantile `_QUIET` of the patches' variances for white noise, as a share of its variance.

    Parameters
    ----------
    share
        Share of a patch that is used.
    """
    freedom = share * degrees_of_freedom([SIDE, SIDE])
    return float(chi2.ppf(_QUIET, freedom) / freedom)


def _means(values: npt.NDArray[np.generic]) -> Numbers:
    """Return the mean of each patch of (slices, rows, columns). Neighbouring patches overlap by half."""
    smooth = uniform_filter(values.astype(np.float64), (0, SIDE, SIDE), mode="nearest")
    patches: Numbers = smooth[:, :: SIDE // 2, :: SIDE // 2].ravel()
    return patches


def _parts(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return the part of each patch: blocks of patches are dealt out at random."""
    counts = [shape[0], *(-(-n // (SIDE // 2)) for n in shape[1:])]
    blocks = np.random.default_rng(0).integers(_PARTS, size=(counts[0], *(-(-n // _BLOCK) for n in counts[1:])))
    rows, columns = (np.arange(n) // _BLOCK for n in counts[1:])
    return blocks[:, rows][:, :, columns].ravel()
