"""Back-projection: consistency of a render with its image."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from napari_siren.core.forward.operator import ForwardOperator

# Number of iterations at most. They end earlier if the residual is within the noise.
_ROUNDS = 6
# Side in pixels of the neighbourhood in which residuals are compared with the noise at each brightness, and the ratio
# of their standard deviations that may be chance.
_SIDE, _CHANCE = 9, 1.1
_POOLING: dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def back_project(fine: Tensor, values: Tensor, observation: ForwardOperator, noise: float | Tensor) -> Tensor:
    """Make a render agree with an image through the forward operator, to within the noise (Irani and Peleg 1991).

    Parameters
    ----------
    fine
        Render, floating, (channels, *fine_shape).
    values
        Image, floating, (channels, *shape).
    observation
        Forward operator from the render to the pixels.
    noise
        Standard deviation of the image's noise, in the units of `values`: a number, or one for each pixel, (channels,
        *shape). The noise stays out of the render. With one number for all pixels, the residuals of all pixels together
        are compared with it. Otherwise those around each pixel are.

    Returns
    -------
    Tensor
        The corrected render, (channels, *fine_shape).
    """
    dimensions = fine.ndim - 1
    interpolation = ForwardOperator.from_kind("point", dimensions)
    for _ in range(_ROUNDS):
        residual = values - observation(fine, values.shape[1:])
        excess = _excess(residual, noise)
        if not excess.any():
            break
        # In place, since renders can be large.
        fine = interpolation(residual * excess, fine.shape[1:]).add_(fine)
    return fine


def _excess(residual: Tensor, noise: float | Tensor) -> Tensor:
    """Return the share of residuals that exceeds the noise, 0 to 1: a number, or one for each pixel."""
    squares = residual.square()
    if not isinstance(noise, Tensor):
        return (1 - noise / squares.mean().sqrt().clamp_min(1e-12)).clamp_min(0)
    dimensions = residual.ndim - 1
    sides = [min(_SIDE, n - 1 + n % 2) for n in residual.shape[1:]]
    pool = _POOLING[dimensions]
    around: Tensor = pool(squares[None], sides, 1, [side // 2 for side in sides], count_include_pad=False)[0]
    return (1 - _CHANCE * noise / around.sqrt().clamp_min(1e-12)).clamp_min(0)
