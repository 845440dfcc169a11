"""`FLIPS`: the eight flipped and rotated versions of an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Flip:
    """One of the eight symmetries of a square: flips, and an exchange of rows and columns.

    Parameters
    ----------
    axes
        Axes to reverse, before the exchange.
    turned
        Whether rows and columns are exchanged.
    """

    axes: tuple[int, ...]
    turned: bool

    def __call__(self, image: Tensor) -> Tensor:
        """Apply the symmetry to the last two axes."""
        flipped = image.flip([axis - 2 for axis in self.axes])
        return flipped.mT if self.turned else flipped

    def back(self, image: Tensor) -> Tensor:
        """Apply the inverse."""
        return (image.mT if self.turned else image).flip([axis - 2 for axis in self.axes])


FLIPS = tuple(Flip(axes, turned) for turned in (False, True) for axes in ((), (0,), (1,), (0, 1)))
