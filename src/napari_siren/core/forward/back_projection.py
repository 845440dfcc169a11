"""Back-projection: consistency of a render with its image."""

from __future__ import annotations

from torch import Tensor

from napari_siren.core.forward.operator import ForwardOperator

# Number of iterations at most. They end earlier if the residual is within the noise.
_ROUNDS = 6


def back_project(fine: Tensor, values: Tensor, observation: ForwardOperator, noise: float) -> Tensor:
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
        Standard deviation of the image's noise, in the units of `values`. The noise stays out of the render.

    Returns
    -------
    Tensor
        The corrected render, (channels, *fine_shape).
    """
    dimensions = fine.ndim - 1
    interpolation = ForwardOperator.from_kind("point", dimensions)
    for _ in range(_ROUNDS):
        residual = values - observation(fine, values.shape[1:])
        size = float(residual.square().mean().sqrt())
        if size <= noise:
            break
        # In place, since renders can be large.
        fine = interpolation(residual, fine.shape[1:]).mul_(1 - noise / size).add_(fine)
    return fine
