"""`Engine`: the interface of every implementation of a fitting step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from napari_siren.core.network.losses import Loss
from napari_siren.core.network.siren import Siren

if TYPE_CHECKING:
    from napari_siren.core.network.optimizer import Optimizer


def no_check() -> None:
    """Do nothing: the default for `Engine.check`."""


class Engine(Protocol):
    """An implementation of a fitting step: networks, gradients of a loss, and orthogonalised matrices.

    All engines compute the same numbers, up to rounding.
    """

    name: str
    check: Callable[[], None]
    """Function called between blocks. An exception from it ends the work."""

    def forward(self, siren: Siren, x: Tensor) -> Tensor:
        """Evaluate the networks: x (tiles or 1, inputs, samples) -> (tiles, outputs, samples)."""
        ...

    def gradient(self, siren: Siren, x: Tensor, loss: Loss, out: Tensor) -> Tensor:
        """Write the gradient of the mean loss with respect to `siren.theta` to `out`; return each tile's loss."""
        ...

    def losses(self, siren: Siren, x: Tensor, loss: Loss) -> Tensor:
        """Return each tile's loss, (tiles,), without a gradient."""
        ...

    def orthogonalise(self, matrices: Tensor) -> Tensor:
        """Return the nearest orthogonal matrices to (…, n, n), approximately; the input may be overwritten."""
        ...

    def update(self, optimizer: Optimizer, gradient: Tensor, rate: Tensor, average: Tensor) -> None:
        """Do one optimiser step, with step sizes multiplied by `rate` (tiles,), and update the mean weights."""
        ...

    def shrink(self) -> bool:
        """Use smaller blocks from now on, after memory ran out; return False if they cannot be smaller."""
        ...
