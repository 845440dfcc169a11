"""`Representation`: the interface of the functions that a `Field` can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Order = Literal["value", "first", "second"]


class Representation(Protocol):
    """A function of position with normalised values. Lengths are in samples: sample k lies at k + 0.5."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of fitted samples along each axis."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the evaluation."""
        ...

    @property
    def parameters(self) -> int:
        """Number of all parameters."""
        ...

    @property
    def size(self) -> str:
        """Number of parameters in a few words."""
        ...

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Representation:
        """Return the same function on another device, or in another precision."""
        ...

    def on_grid(self, positions: Sequence[npt.NDArray[np.float64]], order: Order) -> Tensor:
        """Evaluate on the product of ascending positions along each axis.

        Parameters
        ----------
        positions
            One ascending array for each axis.
        order
            "value", or the "first" or "second" derivative along each axis.

        Returns
        -------
        Tensor
            (parts, channels, *lengths). Values have one part; derivatives have one for each axis.
        """
        ...

    def at_points(self, points: Tensor, order: Order) -> Tensor:
        """Evaluate at any points, float64, (points, axes); return (parts, points, channels).

        Raises
        ------
        InputError
            The points require a gradient. `FieldModule` is the function for autograd.
        """
        ...
