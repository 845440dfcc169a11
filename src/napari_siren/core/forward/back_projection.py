"""Making a render agree with the image that it was made of."""

from __future__ import annotations

from torch import Tensor

from napari_siren.core.forward.operator import Observation

_ROUNDS = 6


def make_consistent(fine: Tensor, values: Tensor, observation: Observation, noise: float) -> Tensor:
    """Make a render agree with an image as its pixels see it, to within the noise (Irani and Peleg 1991).

    Parameters
    ----------
    fine, values
        (channels, *shape), the render and the image.
    observation
        How a pixel sees.
    noise
        Standard deviation of the image's noise, which is not to be put back.
    """
    dimensions = fine.ndim - 1
    interpolation = Observation.of("point", dimensions)
    for _ in range(_ROUNDS):
        missed = values - observation(fine, values.shape[1:])
        size = float(missed.square().mean().sqrt())
        if size <= noise:
            break
        fine = fine + (1 - noise / size) * interpolation(missed, fine.shape[1:])
    return fine
