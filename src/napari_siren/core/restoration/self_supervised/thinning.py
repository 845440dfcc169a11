"""`Thinning`: the reduction of the rows of an image to fewer rows, like the slices of a stack along z."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline

Array = npt.NDArray[np.floating[Any]]

# Largest standard deviation of the blur, in distances of slices. The blur along z is not known, but slices are seldom
# closer than half the width of the point spread function at half maximum.
_BLUR = 0.6
# Degree of the splines.
_ORDER = 3


@dataclass(frozen=True)
class Thinning:
    """The reduction of the rows of an image to fewer rows, after a blur along the rows.

    Parameters
    ----------
    rows, count
        Number of rows of the image, and number after the reduction.
    ratio
        Distance between the remaining rows, in rows of the image.
    thick
        Whether a remaining row is the mean over the distance to the next one. Otherwise it is the value at its centre.
    first
        Centre of the first remaining row, in rows of the image.
    sigma
        Standard deviation of the blur, in rows of the image.
    """

    rows: int
    count: int
    ratio: float
    thick: bool
    first: float
    sigma: float

    @classmethod
    def draw(cls, rng: np.random.Generator, rows: int, count: int, ratio: float, thick: bool) -> Thinning:
        """Return a reduction with a random blur and, for rows that are not thick, a random first centre."""
        sigma = _BLUR * ratio * float(rng.random())
        first = (ratio - 1) / 2 if thick else float(rng.uniform(0, max(0.0, rows - 1 - (count - 1) * ratio)))
        return cls(rows, count, ratio, thick, first, sigma)

    @cached_property
    def reduction(self) -> Array:
        """Weights of the image's rows in the remaining rows, (count, rows)."""
        centres = self.first + self.ratio * np.arange(self.count)
        weights: Array = row_weights(self.rows, centres, self.ratio if self.thick else 0.0) @ self._blur
        return weights

    @property
    def positions(self) -> Array:
        """Positions of the image's rows between the remaining rows, counted from the first one of these.

        Rows that lie more than half a distance outside are left out.
        """
        positions: Array = self._all_positions[self._inside]
        return positions

    @property
    def blur(self) -> Array:
        """Weights of the image's rows in the blurred rows at `positions`, (positions, rows)."""
        weights: Array = self._blur[self._inside]
        return weights

    @property
    def noise_share(self) -> float:
        """Share of the variance of independent noise that is left."""
        return float(np.square(self.reduction).sum(axis=1).mean())

    @cached_property
    def _blur(self) -> Array:
        return gaussian_weights(self.rows, self.sigma)

    @property
    def _all_positions(self) -> Array:
        positions: Array = (np.arange(self.rows) - self.first) / self.ratio
        return positions

    @cached_property
    def _inside(self) -> npt.NDArray[np.intp]:
        positions = self._all_positions
        return np.flatnonzero((positions >= -0.5) & (positions <= self.count - 0.5))


def row_weights(rows: int, centres: Array, thickness: float) -> Array:
    """Return the weights of rows in slices, (slices, rows): linear interpolation, or the mean over a thickness."""
    positions = np.arange(rows)
    if thickness == 0:
        hats: Array = np.clip(1 - np.abs(positions - centres[:, np.newaxis]), 0.0, None)
        return _normalised(hats)
    top, bottom = (centres[:, np.newaxis] + sign * thickness / 2 for sign in (-1, 1))
    overlap: Array = np.clip(np.minimum(bottom, positions + 0.5) - np.maximum(top, positions - 0.5), 0.0, None)
    return _normalised(overlap)


def gaussian_weights(rows: int, sigma: float) -> Array:
    """Return the weights of a Gaussian blur, (rows, rows). Rows beyond the ends have no weight."""
    distance = np.subtract.outer(np.arange(rows), np.arange(rows)) / max(sigma, 1e-3)
    weights: Array = np.exp(-0.5 * np.square(distance))
    return _normalised(weights)


def spline_weights(count: int, positions: Array) -> Array:
    """Return the weights of the interpolating cubic spline, (positions, count); it is constant beyond the ends."""
    spline = make_interp_spline(np.arange(count), np.eye(count), k=min(_ORDER, count - 1))
    weights: Array = spline(np.clip(positions, 0, count - 1))
    return weights


def _normalised(weights: Array) -> Array:
    """Return weights with a sum of 1 in each row."""
    shares: Array = weights / weights.sum(axis=1, keepdims=True)
    return shares
