"""Poisson's equation: an image from its derivatives by least squares on the pixel grid.

The image is mirrored at its edges (Neumann). Differences are then products in the cosine basis, and one transform and
its inverse solve the equation. If pixels are known, or derivatives are missing, that solution is the preconditioner of
conjugate gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, dctn, dst, idct, idctn, idst
from scipy.sparse.linalg import LinearOperator, cg

Stencil = Literal["forward", "central", "exact"]
Array = npt.NDArray[np.float64]

# Weight of a missing derivative, which is set to zero. It makes the image a membrane over holes.
_MEMBRANE = 1e-4
# Relative residual at which conjugate gradients stop.
_TOLERANCE = 1e-7
# Largest number of their iterations.
_MOST_ITERATIONS = 500


@dataclass(frozen=True)
class Derivatives:
    """The derivatives of images on a grid: gradient, adjoint, Laplacian, and the inverse of the Laplacian.

    Parameters
    ----------
    stencil
        Method of the differentiation. ``"forward"``: the difference to the next pixel (0 at the last). ``"central"``:
        half of the difference between the two neighbours. ``"exact"``: the derivative of the image's cosine series at
        pixel centres.
    shape
        Number of pixels along each axis.
    spacing
        Physical distance between pixel centres along each axis.
    """

    stencil: Stencil
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def gradient(self, image: Array) -> Array:
        """Return the gradient of (channels, *shape) as (dimensions, channels, *shape), per physical length."""
        return np.stack([self._along(image, axis) / step for axis, step in enumerate(self.spacing, start=1)])

    def adjoint(self, gradient: Array) -> Array:
        """Apply the transpose of `gradient`: minus the divergence."""
        total = np.zeros(gradient.shape[1:])
        for axis, (part, step) in enumerate(zip(gradient, self.spacing, strict=True), start=1):
            total += self._back(part, axis) / step
        return total

    def laplacian(self, image: Array) -> Array:
        """Return the divergence of the gradient. For "forward" it is the sum of second differences."""
        return -self.adjoint(self.gradient(image))

    @cached_property
    def symbol(self) -> Array:
        """Symbol of minus the Laplacian in the cosine basis, (*shape)."""
        total = np.zeros(self.shape)
        for axis, (n, step) in enumerate(zip(self.shape, self.spacing, strict=True)):
            k = _frequencies(n)
            along = {"forward": 2 * np.sin(k / 2), "central": np.sin(k), "exact": k}[self.stencil]
            total += (along / step).reshape([-1 if i == axis else 1 for i in range(len(self.shape))]) ** 2
        return total

    def inverse(self, right: Array, constant: float = np.inf) -> Array:
        """Solve Poisson's equation by one cosine transform and its inverse.

        Parameters
        ----------
        right
            Minus the Laplacian of the image, (channels, *shape).
        constant
            Divisor of the mean: the image's mean is the mean of `right` divided by it. With the default it is 0.

        Returns
        -------
        ndarray
            Image of shape (channels, *shape).
        """
        axes = tuple(range(1, right.ndim))
        symbol = self.symbol.copy()
        symbol.flat[0] = constant
        image: Array = idctn(dctn(right, axes=axes, norm="ortho") / symbol, axes=axes, norm="ortho")
        return image

    def _along(self, image: Array, axis: int) -> Array:
        u = np.moveaxis(image, axis, -1)
        if self.stencil == "exact":
            series = dct(u, axis=-1, norm="ortho") * -_frequencies(u.shape[-1])
            slope = idst(np.roll(series, -1, axis=-1), axis=-1, norm="ortho")
        else:
            slope, steps = np.zeros_like(u), np.diff(u, axis=-1)
            slope[..., :-1] = steps
            if self.stencil == "central":
                slope[..., 1:] += steps
                slope /= 2
        return np.moveaxis(slope, -1, axis)

    def _back(self, slope: Array, axis: int) -> Array:
        g = np.moveaxis(slope, axis, -1)
        if self.stencil == "exact":
            series = np.roll(dst(g, axis=-1, norm="ortho"), 1, axis=-1)
            image = idct(series * -_frequencies(g.shape[-1]), axis=-1, norm="ortho")
        else:
            steps = g[..., :-1] if self.stencil == "forward" else (g[..., :-1] + g[..., 1:]) / 2
            image = np.zeros_like(g)
            image[..., :-1] -= steps
            image[..., 1:] += steps
        return np.moveaxis(image, -1, axis)


def potential(
    operator: Derivatives, gradient: Array, missing: npt.NDArray[np.bool_] | None = None, known: Array | None = None
) -> Array:
    """Return the image of a gradient by least squares.

    Parameters
    ----------
    operator
        Derivatives with the stencil of the gradient.
    gradient
        Gradient of shape (dimensions, channels, *shape), finite except at missing pixels.
    missing
        Mask of shape (*shape): True for pixels without a usable gradient. The image is a membrane there.
    known
        Known pixels, see `solve`.

    Returns
    -------
    ndarray
        Image of shape (channels, *shape). A channel without known pixels has mean 0.
    """
    if missing is None or not missing.any():
        return solve(operator, operator.adjoint(gradient), None, known)
    right = operator.adjoint(np.where(missing, 0.0, gradient))
    return solve(operator, right, np.where(missing, _MEMBRANE, 1.0), known)


def solve(operator: Derivatives, right: Array, weight: Array | None = None, known: Array | None = None) -> Array:
    """Solve adjoint(weight * gradient(u)) = right for the unknown pixels of u.

    Parameters
    ----------
    operator
        Derivatives of the equation.
    right
        Right side, (channels, *shape).
    weight
        Weight of each pixel's gradient, (*shape), positive. None is 1 everywhere.
    known
        Known pixels, (channels, *shape), with NaN for the unknown ones. Known pixels keep their values. None stands for
        no known pixels.

    Returns
    -------
    ndarray
        Image u of shape (channels, *shape). A channel without known pixels has mean 0.
    """
    pixels = np.full(right.shape, np.nan) if known is None else known
    return np.stack([_solve_channel(operator, r, weight, k) for r, k in zip(right, pixels, strict=True)])


def _solve_channel(operator: Derivatives, right: Array, weight: Array | None, known: Array) -> Array:
    """Solve for one channel: directly if all pixels are unknown and weigh 1, otherwise by conjugate gradients."""
    free = np.isnan(known)
    if weight is None and free.all():
        return cast(Array, operator.inverse(right[np.newaxis])[0])
    image: Array = np.where(free, 0.0, known)
    size = int(free.sum())

    def spread(values: Array) -> Array:
        whole: Array = np.zeros((1, *free.shape))
        whole[0, free] = values.ravel()
        return whole

    def apply(channel: Array) -> Array:
        slopes = operator.gradient(channel)
        applied: Array = operator.adjoint(slopes if weight is None else slopes * weight)[0]
        return applied

    # If pixels are known, a constant is determined by them. The preconditioner treats it like the longest wave.
    waves = operator.symbol[operator.symbol > 0]
    constant = np.inf if size == free.size or not waves.size else float(waves.min())
    matrix = LinearOperator((size, size), matvec=lambda v: apply(spread(v))[free], dtype=np.float64)
    preconditioner = LinearOperator(
        (size, size), matvec=lambda v: operator.inverse(spread(v), constant)[0][free], dtype=np.float64
    )
    residual = (right - apply(image[np.newaxis]))[free]
    if residual.any():
        image[free] = cg(matrix, residual, rtol=_TOLERANCE, maxiter=_MOST_ITERATIONS, M=preconditioner)[0]
    return image


def _frequencies(n: int) -> Array:
    """Return the frequencies of the cosine basis, in radians per pixel."""
    frequencies: Array = np.pi * np.arange(n) / n
    return frequencies
