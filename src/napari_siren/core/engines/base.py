"""What every way to carry out a step can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from napari_siren.core.network.losses import Loss
from napari_siren.core.network.siren import Siren

if TYPE_CHECKING:
    from napari_siren.core.network.optimizer import Optimizer


class Engine(Protocol):
    """One way to evaluate networks, to differentiate a loss, and to orthogonalise matrices.

    Every engine gives the same numbers to rounding.
    """

    name: str
    check: Callable[[], None]
    """Called between blocks; what it raises ends the work."""

    def forward(self, siren: Siren, x: Tensor) -> Tensor:
        """Evaluate: x (tiles or 1, inputs, samples) -> (tiles, outputs, samples)."""
        ...

    def gradient(self, siren: Siren, x: Tensor, loss: Loss, out: Tensor) -> Tensor:
        """Write the gradient of the mean loss with respect to `siren.theta` to `out`; give each tile's loss."""
        ...

    def losses(self, siren: Siren, x: Tensor, loss: Loss) -> Tensor:
        """Return each tile's loss, (tiles,), without a gradient."""
        ...

    def orthogonalise(self, matrices: Tensor) -> Tensor:
        """Return the nearest orthogonal matrices to (…, n, n) (approximately); may reuse the input's memory."""
        ...

    def update(self, optimizer: Optimizer, gradient: Tensor, rate: Tensor, average: Tensor) -> None:
        """Take a step of the optimiser, at a share `rate` (tiles,) of its step sizes, and move the mean weights."""
        ...

    def shrink(self) -> bool:
        """Work in smaller blocks from now on, after memory ran out; False where there is no smaller."""
        ...
