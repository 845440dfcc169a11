"""`Outliers`: single samples with values of their own, which a field adds to its tiles.

A tile cannot have one value far outside the range of the others without ringing around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.field.representation import Order
from napari_siren.core.field.tiling import smoothstep

# Order of the derivative of each kind of evaluation.
_DERIVATIVES: dict[Order, int] = {"value": 0, "first": 1, "second": 2}
# A kernel along one axis, with its first and second derivative.
_Jet = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Outliers:
    """A sum of compact kernels, one for each outlier: sum_k amount_k prod_axes S(1 - |x - x_k|).

    S is `smoothstep`, and lengths are in samples. A kernel is 1 at its own sample and 0 at all others. The second
    derivatives are continuous. At every sample, the first and second derivatives are 0.

    Parameters
    ----------
    shape
        Number of fitted samples along each axis.
    numbers
        Numbers of the samples in C order, int64, (outliers,), ascending. There is at least one.
    amounts
        Normalised values to add to those of the tiles, (outliers, channels).

    Examples
    --------
    >>> outliers = Outliers((3, 4), torch.tensor([5]), torch.tensor([[8.0]]))
    >>> outliers.at_points(torch.tensor([[1.5, 1.5], [1.5, 2.0], [1.5, 2.5]]), "value").flatten().tolist()
    [8.0, 4.0, 0.0]
    """

    shape: tuple[int, ...]
    numbers: Tensor
    amounts: Tensor

    @property
    def positions(self) -> npt.NDArray[np.float64]:
        """Positions of the outliers in samples, float64, (outliers, axes)."""
        indices = np.stack(np.unravel_index(self.numbers.cpu().numpy(), self.shape), axis=1)
        return indices.astype(np.float64) + 0.5

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Mask of the samples with an outlier, bool, of shape `shape`."""
        mask = np.zeros(self.shape, dtype=np.bool_)
        mask.flat[self.numbers.cpu().numpy()] = True
        return mask

    def check(self, channels: int) -> None:
        """Compare the parts with each other, and with the number of channels.

        Raises
        ------
        ValueError
            The numbers do not ascend or lie outside the shape, or the amounts have another shape or are not finite.
        """
        numbers, amounts = self.numbers, self.amounts
        if numbers.dtype != torch.int64 or numbers.ndim != 1 or not len(numbers):
            raise ValueError("the numbers of the outliers are not a list of integers")
        if int(numbers[0]) < 0 or int(numbers[-1]) >= math.prod(self.shape) or bool((numbers.diff() <= 0).any()):
            raise ValueError("the numbers of the outliers do not ascend within the image")
        if tuple(amounts.shape) != (len(numbers), channels):
            raise ValueError("the amounts of the outliers do not match the image")
        if amounts.dtype != torch.float64 or not bool(torch.isfinite(amounts).all()):
            raise ValueError("the amounts of the outliers are not finite numbers")

    def added_on_grid(self, values: Tensor, positions: Sequence[npt.NDArray[np.float64]], order: Order) -> Tensor:
        """Return the sum of the values of a representation on a grid and of the outliers.

        Parameters
        ----------
        values, positions, order
            Result and arguments of `Representation.on_grid`.
        """
        centres = self.positions
        ranges = [np.searchsorted(x, c + np.array([[-1.0], [1.0]])) for x, c in zip(positions, centres.T, strict=True)]
        near = np.logical_and.reduce([stop > start for start, stop in ranges])
        if not near.any():
            return values
        jets: list[_Jet] = []
        index = np.zeros((1,) * (len(self.shape) + 1), dtype=np.int64)
        for axis, (along, bounds) in enumerate(zip(positions, ranges, strict=True)):
            start, stop = bounds[:, near]
            columns = start[:, None] + np.arange((stop - start).max())
            inside = columns < stop[:, None]
            columns = np.where(inside, columns, 0)
            # A kernel is zero at a distance of 1.
            distances = np.where(inside, along[columns] - centres[near, axis, None], 1.0)
            shape = [len(columns), *(columns.shape[1] if i == axis else 1 for i in range(len(self.shape)))]
            jets.append(_kernel(torch.from_numpy(distances.reshape(shape))))
            index = index * len(along) + columns.reshape(shape)
        amounts = self.amounts.cpu()[torch.from_numpy(near)].T.reshape(-1, len(columns), *(1,) * len(self.shape))
        added = _weights(jets, order)[:, None] * amounts
        rows = torch.from_numpy(index.reshape(-1)).to(values.device)
        return values.flatten(2).index_add(2, rows, added.flatten(2).to(values)).reshape(values.shape)

    def at_points(self, points: Tensor, order: Order) -> Tensor:
        """Evaluate at any points, (points, axes), in samples; return (parts, points, channels).

        Autograd differentiates the values twice in the points.
        """
        first = torch.floor(points.detach() - 0.5)
        offsets = (points - first).unbind(1)
        sides = [[_kernel(along - middle) for middle in (0.5, 1.5)] for along in offsets]
        total: Tensor | None = None
        # At most 2^d samples have a kernel at a point.
        for corner in product((0, 1), repeat=len(self.shape)):
            weights = _weights([along[side] for along, side in zip(sides, corner, strict=True)], order)
            added = weights[:, :, None] * self._amounts_of(first.long() + points.new_tensor(corner).long())
            total = added if total is None else total + added
        assert total is not None
        return total

    def _amounts_of(self, samples: Tensor) -> Tensor:
        """Return the amounts of samples, (points, axes), int64: (points, channels), 0 for all but the outliers."""
        last = len(self.numbers) - 1
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        inside = ((samples >= 0) & (samples < samples.new_tensor(self.shape))).all(dim=1)
        number = (samples * samples.new_tensor(strides)).sum(dim=1)
        row = torch.zeros_like(number)
        # A binary search. `torch.searchsorted` cannot be exported to ONNX.
        for bit in reversed(range(last.bit_length())):
            further = (row + (1 << bit)).clamp(max=last)
            row = torch.where(self.numbers[further] <= number, further, row)
        return self.amounts[row] * (inside & (self.numbers[row] == number))[:, None]


def _kernel(distance: Tensor) -> _Jet:
    """Return the kernel along one axis at distances from its sample."""
    value, first, second = smoothstep(1 - distance.abs())
    return value, -torch.sign(distance) * first, second


def _weights(jets: Sequence[_Jet], order: Order) -> Tensor:
    """Return the product of kernels along all axes, or its derivatives: (parts, *broadcast shape)."""
    degree = _DERIVATIVES[order]
    if degree == 0:
        return reduce(torch.mul, (value for value, _, _ in jets))[None]
    axes = range(len(jets))
    return torch.stack([reduce(torch.mul, (jets[i][degree * (i == axis)] for i in axes)) for axis in axes])
