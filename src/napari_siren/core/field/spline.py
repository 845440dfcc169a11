"""`SampleSpline`: the cubic spline through the samples of a restored image.

Its first and second derivatives are continuous. They are exact derivatives of the spline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import spline_filter1d
from torch import Tensor

from napari_siren.core.field.coordinates import check_no_gradient
from napari_siren.core.field.representation import Order

# Number of coefficients with an influence on a point, along each axis.
_TAPS = 4
# Largest distance of a position from a sample that still counts as the sample, in samples.
_AT_SAMPLE = 1e-9
# Order of the derivative of each kind of evaluation.
_DERIVATIVES: dict[Order, int] = {"value": 0, "first": 1, "second": 2}


@dataclass(frozen=True)
class SampleSpline:
    """A cubic spline through samples. Beyond the ends of an axis it has the value at the end.

    Parameters
    ----------
    samples
        Samples, normalised, float32, (channels, *shape).
    dtype
        Dtype of the values.
    """

    samples: Tensor
    dtype: torch.dtype = field(default=torch.float32, kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples along each axis."""
        return tuple(self.samples.shape[1:])

    @property
    def device(self) -> torch.device:
        """Device of the samples."""
        return self.samples.device

    @property
    def parameters(self) -> int:
        """Number of samples of all channels."""
        return self.samples.numel()

    @property
    def size(self) -> str:
        """Number of samples in a few words."""
        return f"{self.parameters:,} samples"

    @cached_property
    def coefficients(self) -> Tensor:
        """Coefficients of the B-splines, float32, (channels, *shape)."""
        values = self.samples.cpu().numpy()
        for axis in range(1, values.ndim):
            values = spline_filter1d(values, 3, axis, output=np.float32, mode="reflect")
        return torch.from_numpy(values).to(self.device)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> SampleSpline:
        """Return the same spline on another device, or with values of another dtype."""
        moved = SampleSpline(self.samples.to(device), dtype=dtype or self.dtype)
        if "coefficients" in self.__dict__:
            moved.__dict__["coefficients"] = self.coefficients.to(device)
        return moved

    def on_grid(self, positions: Sequence[npt.NDArray[np.float64]], order: Order) -> Tensor:
        """Evaluate on the product of ascending positions along each axis: (parts, channels, *lengths)."""
        if order == "value":
            at_samples = [_whole_numbers(along, n) for along, n in zip(positions, self.shape, strict=True)]
            if all(numbers is not None for numbers in at_samples):
                return self._picked([numbers for numbers in at_samples if numbers is not None])[None]
        parts = []
        for derivatives in self._derivatives(order):
            taps_of = zip(positions, self.shape, derivatives, strict=True)
            along = [_taps(torch.from_numpy(x), n, d) for x, n, d in taps_of]
            starts = [int(taps.min()) for taps, _ in along]
            values = self.coefficients
            for axis, (start, (taps, _)) in enumerate(zip(starts, along, strict=True), 1):
                values = values.narrow(axis, start, int(taps.max()) + 1 - start)
            # The last axis first: the rows of the others are contiguous.
            for axis in reversed(range(len(along))):
                taps, weights = along[axis]
                values = self._combined(values, axis + 1, taps - starts[axis], weights)
            parts.append(values)
        return torch.stack(parts)

    def at_points(self, points: Tensor, order: Order) -> Tensor:
        """Evaluate at any points, float64, (points, axes); return (parts, points, channels)."""
        check_no_gradient(points)
        columns = points.double().cpu()
        parts = [interpolate(self.coefficients, columns, d, self.dtype) for d in self._derivatives(order)]
        return torch.stack(parts)

    def _picked(self, numbers: Sequence[npt.NDArray[np.int64]]) -> Tensor:
        """Return the samples with some numbers along each axis."""
        values = self.samples
        for axis, along in enumerate(numbers, 1):
            first, count = int(along[0]), len(along)
            if int(along[-1]) - first + 1 == count:
                values = values.narrow(axis, first, count)
            else:
                values = values.index_select(axis, torch.from_numpy(along).to(self.device))
        return values.to(self.dtype)

    def _derivatives(self, order: Order) -> list[tuple[int, ...]]:
        """Return the order of the derivative along each axis, for each part."""
        axes, degree = len(self.shape), _DERIVATIVES[order]
        return [(0,) * axes] if degree == 0 else [tuple(degree * (i == k) for i in range(axes)) for k in range(axes)]

    def _combined(self, values: Tensor, axis: int, taps: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sums of values along an axis."""
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        total: Tensor | None = None
        for numbers, factors in zip(taps.unbind(1), weights.unbind(1), strict=True):
            factor = factors.to(self.device, self.dtype).reshape(shape)
            term = values.index_select(axis, numbers.to(self.device)).to(self.dtype)
            total = term * factor if total is None else total.addcmul_(term, factor)
        assert total is not None
        return total


def interpolate(coefficients: Tensor, points: Tensor, derivatives: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Evaluate a spline, or a derivative of it, at any points.

    Autograd differentiates it in the coefficients and twice in the points.

    Parameters
    ----------
    coefficients
        Coefficients of the B-splines, (channels, *shape).
    points
        (points, axes), in samples. Weights are computed with their dtype and on their device.
    derivatives
        Order of the derivative along each axis: 0, 1 or 2.
    dtype
        Dtype of the values.

    Returns
    -------
    Tensor
        Values on the device of the coefficients, (points, channels).
    """
    shape, device, flat = coefficients.shape[1:], coefficients.device, coefficients.flatten(1)
    along = [_taps(x, n, d) for x, n, d in zip(points.unbind(1), shape, derivatives, strict=True)]
    total = torch.zeros(points.shape[0], len(coefficients), dtype=dtype, device=device)
    for choice in product(range(_TAPS), repeat=len(along)):
        number, weight = torch.zeros_like(along[0][0][:, 0]), torch.ones_like(along[0][1][:, 0])
        for (taps, weights), n, k in zip(along, shape, choice, strict=True):
            number, weight = number * n + taps[:, k], weight * weights[:, k]
        values = flat.index_select(1, number.to(device)).mT.to(dtype)
        total = total + values * weight.to(device, dtype)[:, None]
    return total


def _whole_numbers(positions: npt.NDArray[np.float64], samples: int) -> npt.NDArray[np.int64] | None:
    """Return the numbers of the samples at ascending positions, or None if a position is between samples."""
    numbers = np.rint(positions - 0.5)
    if not len(positions) or np.abs(positions - 0.5 - numbers).max() > _AT_SAMPLE:
        return None
    whole: npt.NDArray[np.int64] = numbers.astype(np.int64)
    return whole if whole[0] >= 0 and whole[-1] < samples else None


def _taps(positions: Tensor, samples: int, derivative: int) -> tuple[Tensor, Tensor]:
    """Return the coefficients with an influence on positions, int64, and their weights, (positions, 4) each."""
    inside = positions.clamp(0, samples)
    first = torch.floor(inside - 0.5)
    t = inside - 0.5 - first
    numbers = first.long()[:, None] + torch.arange(-1, _TAPS - 1, device=positions.device)
    # The samples are mirrored at the ends of the axis. A short axis is mirrored several times.
    numbers = numbers % (2 * samples)
    numbers = torch.minimum(numbers, 2 * samples - 1 - numbers)
    weights = torch.stack(_B_SPLINES[derivative](t), dim=1)
    if derivative:
        weights = weights.masked_fill(((positions < 0) | (positions > samples))[:, None], 0)
    return numbers, weights


_B_SPLINES = (
    lambda t: ((1 - t) ** 3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6),
    lambda t: (-((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2, (1 + 2 * t - 3 * t**2) / 2, t**2 / 2),
    lambda t: (1 - t, 3 * t - 2, 1 - 3 * t, t),
)
