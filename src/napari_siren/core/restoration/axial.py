"""`AxialScale`: learns from the planes of a stack what lies between its slices.

A stack is finer within its slices than across them. A slice that is blurred and thinned along its rows, as the stack is
along z, and the slice itself are a pair for which the truth is known. A network that has learned to go from the one to
the other is then asked about the planes across the slices (Weigert et al. 2017, arXiv 1704.01510; Zhao et al. 2020,
SMORE, doi 10.1109/TMI.2020.3037187). No other image has a part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor

from napari_siren.core.forward.back_projection import make_consistent
from napari_siren.core.forward.operator import Observation
from napari_siren.core.restoration.self_supervised import Learner

Array = npt.NDArray[np.floating[Any]]

# Thinned rows, and columns, that a step sees at the most; a slice has to have this many thinned rows, and a side so
# many pixels.
_ROWS, _COLUMNS = 24, 64
LEAST_ROWS, LEAST_SIDE = 6, 16
# Where slices are hardly further apart than pixels there is nothing to learn, and with fewer of them nothing to go by.
LEAST_RATIO, LEAST_SLICES = 1.25, 3
# The blur along z is not known; pairs have one drawn from zero to this standard deviation, in distances of slices:
# slices are seldom closer than half the width of the point spread function at half maximum.
_BLUR = 0.6
# Share of the pairs that are thinned twice as much, which is what the trial is about.
_TWICE = 0.2
# Added to what the network sees, so that it does not lean on the last digit of a pixel.
_LEAST_NOISE = 0.002
_ORDER = 3


class AxialScale(Learner):
    """A network that is trained on the slices of one stack.

    Parameters
    ----------
    values
        (channels, slices, rows, columns), float32, normalised to about [-1, 1].
    known
        Which slices are there, evenly spaced; see `known_slices`.
    ratio
        Distance of those that are there in pixels of a slice, `LEAST_RATIO` or more.
    thick
        Whether a slice is the mean over the distance to the next, or what is there at its centre.
    noise
        Standard deviation of the noise, in units of `values`.
    seed, rough
        As in `Learner`.
    """

    rates = (0.01, 1e-3)

    def __init__(
        self,
        values: Tensor,
        known: slice,
        ratio: float,
        thick: bool,
        noise: float = 0.0,
        seed: int = 0,
        rough: bool = False,
    ) -> None:
        self.slices, self.ratio, self.thick, self.noise = values[:, known].contiguous(), ratio, thick, noise
        self._known, self._count = known, values.shape[1]
        super().__init__(len(values), values.device, seed, rough)

    def pair(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return what the network adds to splines in a random part of a thinned slice, and what it should add."""
        plane = self.slices[:, rng.integers(self.slices.shape[1])]
        plane = plane.mT if rng.random() < 0.5 else plane
        plane = plane.flip([axis for axis in (1, 2) if rng.random() < 0.5])
        rows, columns = plane.shape[1:]
        ratio = self.ratio * (2 if rng.random() < _TWICE and rows >= 2 * LEAST_ROWS * self.ratio else 1)
        count = min(_ROWS, int(rows / ratio))
        height, width = min(rows, round(count * ratio)), min(columns, _COLUMNS)
        top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
        plane = plane[:, top : top + height, left : left + width]
        blur = _gaussian(height, _BLUR * ratio * float(rng.random()))
        first = (ratio - 1) / 2 if self.thick else float(rng.uniform(0, max(0.0, height - 1 - (count - 1) * ratio)))
        thinning = _slices_of(height, first + ratio * np.arange(count), ratio if self.thick else 0.0) @ blur
        son = self._matrix(thinning) @ plane
        missing = self.noise**2 * (1 - float(np.square(thinning).sum(axis=1).mean()))
        sigma = max(_LEAST_NOISE, np.sqrt(max(0.0, missing)))
        son = son + sigma * torch.from_numpy(rng.standard_normal(son.shape, dtype=np.float32)).to(son)
        positions = (np.arange(height) - first) / ratio
        asked = np.flatnonzero((positions >= -0.5) & (positions <= count - 0.5))
        details = self._matrix(blur[asked]) @ plane - self._matrix(_spline(count, positions[asked])) @ son
        return self._details(son, positions[asked], ratio)[None], details[None]

    @torch.no_grad()
    def predict(self, shape: Sequence[int], flips: int = 2) -> Tensor:
        """Tell what a finer stack of the same extent is.

        Parameters
        ----------
        shape
            Slices, rows and columns; the latter as in the stack.
        flips
            1, or 2 for the mean of what is told of the stack and of its mirror image along z.

        Returns
        -------
        Tensor
            (channels, *shape), normalised as `values`. Splines, where the network is no better in `gain`.
        """
        places = (np.arange(shape[0]) + 0.5) * self._count / shape[0] - 0.5
        positions = (places - self._known.start) / self._known.step
        fine = self._plain(self.slices, positions)
        if self.gain() > 0:
            fine = fine + self._across(self.slices, positions, self.ratio, flips > 1)
        if self._known.step > 1:
            return fine
        return make_consistent(fine, self.slices, Observation.of("box" if self.thick else "point", 3), self.noise)

    @torch.no_grad()
    def gain(self) -> float:
        """Return by how much every second slice, left out, is told better than by splines.

        Returns
        -------
        float
            1 is perfect, below 0 worse; the share of the squared error that is gone. 1 where there are too few slices
            to try.
        """
        kept = self.slices[:, ::2]
        if kept.shape[1] < LEAST_SLICES or self.thick:
            return 1.0
        out = self.slices[:, 1 : 2 * kept.shape[1] - 2 : 2]
        positions = np.arange(out.shape[1]) + 0.5
        missed = out - self._plain(kept, positions)
        left = missed - self._across(kept, positions, 2 * self.ratio, both_ways=False)
        return 1 - float(left.square().sum() / missed.square().sum().clamp_min(1e-12))

    def _plain(self, slices: Tensor, positions: Array) -> Tensor:
        """Interpolate by splines."""
        weights = self._matrix(_spline(slices.shape[1], positions))
        return torch.einsum("pz,czyx->cpyx", weights, slices)

    def _across(self, slices: Tensor, positions: Array, ratio: float, both_ways: bool) -> Tensor:
        """Return what is to be added to splines: the mean of what planes across rows and across columns tell."""
        added = self._planes(slices, positions, ratio)
        if both_ways:
            mirrored = (slices.shape[1] - 1 - positions)[::-1]
            added = (added + self._planes(slices.flip(1), mirrored, ratio).flip(1)) / 2
        return added

    def _planes(self, slices: Tensor, positions: Array, ratio: float) -> Tensor:
        channels, _, rows, columns = slices.shape
        total = slices.new_zeros((channels, len(positions), rows, columns))
        for row in range(rows):
            total[:, :, row] += self._details(slices[:, :, row], positions, ratio)
        for column in range(columns):
            total[:, :, :, column] += self._details(slices[:, :, :, column], positions, ratio)
        return total / 2

    def _details(self, son: Tensor, positions: Array, ratio: float) -> Tensor:
        """Ask the network about rows between those of a plane: (channels, positions, columns)."""
        across = np.arange(son.shape[2], dtype=np.float64)
        with self.precision():
            features = self.network.encode(son[None].contiguous())
            return self.told(features, (positions, across), (1 / ratio, 1.0))[0]

    def _matrix(self, weights: Array) -> Tensor:
        return torch.from_numpy(weights.astype(np.float32)).to(self.device)


def known_slices(observed: npt.NDArray[np.bool_]) -> slice | None:
    """Return which slices of a stack are there, where others are missing as a whole and these are evenly spaced.

    Parameters
    ----------
    observed
        bool, (slices, rows, columns).
    """
    there = observed.any(axis=(1, 2))
    places = np.flatnonzero(there)
    steps = np.unique(np.diff(places))
    if len(places) < LEAST_SLICES or len(steps) != 1 or not observed[places].all():
        return None
    return slice(int(places[0]), int(places[-1]) + 1, int(steps[0]))


def _slices_of(rows: int, centres: Array, thickness: float) -> Array:
    """Weights of rows in slices, (slices, rows): linear between two of them, or the mean over a thickness."""
    places = np.arange(rows)
    if thickness == 0:
        hats: Array = np.clip(1 - np.abs(places - centres[:, np.newaxis]), 0.0, None)
        return _normalised(hats)
    top, bottom = (centres[:, np.newaxis] + sign * thickness / 2 for sign in (-1, 1))
    shared: Array = np.clip(np.minimum(bottom, places + 0.5) - np.maximum(top, places - 0.5), 0.0, None)
    return _normalised(shared)


def _gaussian(rows: int, sigma: float) -> Array:
    """Weights of a Gaussian blur, (rows, rows); what lies beyond is not seen."""
    distance = np.subtract.outer(np.arange(rows), np.arange(rows)) / max(sigma, 1e-3)
    weights: Array = np.exp(-0.5 * np.square(distance))
    return _normalised(weights)


def _normalised(weights: Array) -> Array:
    """Make rows sum to 1."""
    shares: Array = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _spline(count: int, positions: Array) -> Array:
    """Weights of the interpolating cubic spline, (positions, count); beyond the ends it stays what it is there."""
    spline = make_interp_spline(np.arange(count), np.eye(count), k=min(_ORDER, count - 1))
    weights: Array = spline(np.clip(positions, 0, count - 1))
    return weights
