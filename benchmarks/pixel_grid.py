"""The rival that knows as much of the camera as we do, and has no network: pixels, and total variation.

It looks for the large image u that, seen through the antialiased bicubic A, is the small image b, and varies little:

    minimise  1/2 |A u - b|^2 + weight * sum over pixels of |grad u|,

|grad u| taken over both axes and all channels jointly (Bresson and Chan 2008), by the primal-dual method of Chambolle
and Pock (2011, algorithm 1), over-relaxed (Condat 2013). A is separable, so that the proximal map of the data term is
exact: four products with the singular vectors of its two matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.interpolators import bicubic, channels_as, channels_first, shrink_matrix, to_bytes
from napari_siren.core.noise.level import noise_level

# In units of the image's 255, the weight is the variance of the noise over this, as in a maximum a posteriori of white
# noise and Laplacian slopes, and at the least the other. Both were chosen on the Kodak photographs at x2, without noise
# and with 2 % and 5 %, which are not among those that the table is about; there the rule stays within 0.16 dB of the
# best weight of every single image, in the mean.
NOISE_PER_WEIGHT = 60.0
LEAST_WEIGHT = 0.05
# Root mean squares of what is left of the optimality conditions: of the image's as a share of the weight, of the dual
# variable's in units of the image's 255. The image is then within 0.03 of such a unit (rms) of where it would end.
TOLERANCE = 0.01
MOST_ITERATIONS = 5000
_LOOK_EVERY = 10
# Squared norm of the forward differences along two axes.
_NORM_SQUARED = 8.0
# How far a pixel may go in a step, in units of the image's 255. It sets the ratio of the two step sizes; of 1, 4, 16
# and 64 this was the quickest, with noise and without.
_STRIDE = 4.0
_RELAXATION = 1.9


@dataclass(frozen=True)
class Solution:
    """Where the method ended.

    Parameters
    ----------
    image
        (channels, rows, columns).
    iterations
        Done; `MOST_ITERATIONS` where it did not converge.
    residual
        The larger of the two that `TOLERANCE` is for.
    """

    image: Tensor
    iterations: int
    residual: float


@dataclass(frozen=True)
class DataTerm:
    """1/2 |R u C^T - b|^2 with R = U S V^T of the rows and C of the columns, in its singular vectors.

    Parameters
    ----------
    rows, columns
        V of R and of C, (size of u, size of b).
    gain
        Products of the singular values, (rows of b, columns of b).
    target
        b in the vectors U of both, (channels, rows of b, columns of b).
    """

    rows: Tensor
    columns: Tensor
    gain: Tensor
    target: Tensor

    @classmethod
    def from_low(cls, low: Tensor, scale: int) -> DataTerm:
        """Take the antialiased bicubic and a small image, (channels, rows, columns)."""
        matrices = (torch.from_numpy(shrink_matrix(n, scale)) for n in low.shape[1:])
        (u_r, s_r, v_r), (u_c, s_c, v_c) = (torch.linalg.svd(m, full_matrices=False) for m in matrices)
        target = u_r.T @ low.double() @ u_c
        return cls(*(t.to(low) for t in (v_r.T.contiguous(), v_c.T.contiguous(), torch.outer(s_r, s_c), target)))

    def proximal(self, image: Tensor, step: float) -> Tensor:
        """Give argmin_u 1/2 |u - image|^2 + step * term(u)."""
        seen = self.rows.T @ image @ self.columns
        change = step * self.gain * (self.target - self.gain * seen) / (1 + step * self.gain.square())
        return image + self.rows @ change @ self.columns.T


def pixel_grid(low: np.ndarray, scale: int) -> np.ndarray:
    """Upscale, by the weight that the image's noise asks for."""
    values = channels_first(low).astype(np.float32)
    start = torch.from_numpy(channels_first(bicubic(low, scale)).astype(np.float32))
    solution = solve(torch.from_numpy(values), scale, variation_weight(values), start)
    return to_bytes(channels_as(low, solution.image.numpy()))


def variation_weight(values: np.ndarray) -> float:
    """Give the weight for a small image, (channels, rows, columns) float32 in units of 1/255."""
    noise = noise_level(values, np.ones(values.shape[1:], dtype=bool))
    return max(LEAST_WEIGHT, noise**2 / NOISE_PER_WEIGHT)


def solve(low: Tensor, scale: int, weight: float, start: Tensor, tolerance: float = TOLERANCE) -> Solution:
    """Minimise.

    Parameters
    ----------
    low
        The small image, (channels, rows, columns), in units of 1/255.
    scale, weight
        Of A, and of the total variation.
    start
        (channels, rows * scale, columns * scale).
    tolerance
        Where to stop, see `TOLERANCE`.
    """
    data = DataTerm.from_low(low, scale)
    # tau * sigma * |grad|^2 = 1: longer steps need not converge.
    tau = _STRIDE / weight
    sigma = 1 / (tau * _NORM_SQUARED)
    image, dual = start.clone(), torch.zeros(2, *start.shape)
    found, residual = image, torch.inf
    for iteration in range(1, MOST_ITERATIONS + 1):
        found = data.proximal(image - tau * adjoint(dual), tau)
        shrunk = _within(dual + sigma * gradient(2 * found - image), weight)
        if iteration % _LOOK_EVERY == 0:
            behind, dual_behind = image - found, dual - shrunk
            of_image = (behind / tau - adjoint(dual_behind)).square().mean().sqrt() / weight
            of_dual = (dual_behind / sigma - gradient(behind)).square().mean().sqrt()
            residual = max(float(of_image), float(of_dual))
            if residual < tolerance:
                return Solution(found, iteration, residual)
        image = image + _RELAXATION * (found - image)
        dual = dual + _RELAXATION * (shrunk - dual)
    return Solution(found, MOST_ITERATIONS, residual)


def gradient(image: Tensor) -> Tensor:
    """Forward differences, 0 at the far borders: (2, channels, rows, columns)."""
    slopes = torch.zeros(2, *image.shape)
    slopes[0, :, :-1] = image[:, 1:] - image[:, :-1]
    slopes[1, :, :, :-1] = image[:, :, 1:] - image[:, :, :-1]
    return slopes


def adjoint(slopes: Tensor) -> Tensor:
    """Give the transpose of `gradient`: (channels, rows, columns)."""
    image = torch.zeros(slopes.shape[1:])
    image[:, 1:] += slopes[0, :, :-1]
    image[:, :-1] -= slopes[0, :, :-1]
    image[:, :, 1:] += slopes[1, :, :, :-1]
    image[:, :, :-1] -= slopes[1, :, :, :-1]
    return image


def _within(dual: Tensor, weight: float) -> Tensor:
    """Project on the balls of this radius: one for each pixel, over both axes and all channels."""
    length = dual.square().sum(dim=(0, 1)).sqrt()
    return dual * (weight / length.clamp(min=weight))
