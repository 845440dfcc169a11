"""An image from its derivatives by least squares on the pixel grid: Poisson's equation.

The image goes on beyond its edge as its mirror image (Neumann). Differences are then products in the cosine basis, and
the equation is solved by one transform there and back. Where pixels are known, or derivatives missing, that solution is
the preconditioner of conjugate gradients.
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

# What a missing derivative weighs, with zero in its place: holes are spanned by a membrane.
_MEMBRANE = 1e-4
_TOLERANCE = 1e-7
_MOST_ITERATIONS = 500


@dataclass(frozen=True)
class Derivatives:
    """The gradient of images on a grid, its adjoint, and the inverse of both in turn.

    Parameters
    ----------
    stencil
        ``"forward"``, the difference to the next pixel (0 at the last); ``"central"``, half of that between the two
        neighbours; ``"exact"``, the derivative at pixel centres of the image's cosine series.
    shape, spacing
        Pixels along each axis, and the distance between their centres.
    """

    stencil: Stencil
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def gradient(self, image: Array) -> Array:
        """Differentiate (channels, *shape) to (dimensions, channels, *shape), per physical length."""
        return np.stack([self._along(image, axis) / step for axis, step in enumerate(self.spacing, start=1)])

    def adjoint(self, gradient: Array) -> Array:
        """Apply the transpose of `gradient`, which is minus the divergence."""
        total = np.zeros(gradient.shape[1:])
        for axis, (part, step) in enumerate(zip(gradient, self.spacing, strict=True), start=1):
            total += self._back(part, axis) / step
        return total

    def laplacian(self, image: Array) -> Array:
        """Apply `gradient` and then the divergence; with "forward" the sum of second differences."""
        return -self.adjoint(self.gradient(image))

    @cached_property
    def symbol(self) -> Array:
        """Minus the Laplacian in the cosine basis, (*shape)."""
        total = np.zeros(self.shape)
        for axis, (n, step) in enumerate(zip(self.shape, self.spacing, strict=True)):
            k = _frequencies(n)
            along = {"forward": 2 * np.sin(k / 2), "central": np.sin(k), "exact": k}[self.stencil]
            total += (along / step).reshape([-1 if i == axis else 1 for i in range(len(self.shape))]) ** 2
        return total

    def inverse(self, right: Array, constant: float = np.inf) -> Array:
        """Find the image whose Laplacian is minus (channels, *shape); its mean is that of `right` / `constant`."""
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
    """Find the image whose gradient is nearest to a given one in the sense of least squares.

    Parameters
    ----------
    operator
        How the gradient was taken.
    gradient
        (dimensions, channels, *shape); finite, but where missing.
    missing
        (*shape), where the gradient says nothing: there the image is a membrane.
    known
        As in `solve`.

    Returns
    -------
    ndarray
        (channels, *shape); with mean 0 where nothing is known of a channel.
    """
    if missing is None or not missing.any():
        return solve(operator, operator.adjoint(gradient), None, known)
    right = operator.adjoint(np.where(missing, 0.0, gradient))
    return solve(operator, right, np.where(missing, _MEMBRANE, 1.0), known)


def solve(operator: Derivatives, right: Array, weight: Array | None = None, known: Array | None = None) -> Array:
    """Solve adjoint(weight * gradient(u)) = right for u, where u is not known.

    Parameters
    ----------
    operator
        How to differentiate.
    right
        (channels, *shape).
    weight
        (*shape), positive; None is 1 everywhere.
    known
        (channels, *shape), the pixels to be kept as they are, NaN where not known; None knows none.

    Returns
    -------
    ndarray
        (channels, *shape); with mean 0 where nothing is known of a channel.
    """
    kept = np.full(right.shape, np.nan) if known is None else known
    return np.stack([_solve_channel(operator, r, weight, k) for r, k in zip(right, kept, strict=True)])


def _solve_channel(operator: Derivatives, right: Array, weight: Array | None, known: Array) -> Array:
    """Solve in one go where that can be, else by conjugate gradients for the pixels that are not known."""
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

    # A constant is no solution of its own where pixels are known: it counts like the longest wave.
    waves = operator.symbol[operator.symbol > 0]
    constant = np.inf if size == free.size or not waves.size else float(waves.min())
    matrix = LinearOperator((size, size), matvec=lambda v: apply(spread(v))[free], dtype=np.float64)
    nearly = LinearOperator(
        (size, size), matvec=lambda v: operator.inverse(spread(v), constant)[0][free], dtype=np.float64
    )
    rest = (right - apply(image[np.newaxis]))[free]
    if rest.any():
        image[free] = cg(matrix, rest, rtol=_TOLERANCE, maxiter=_MOST_ITERATIONS, M=nearly)[0]
    return image


def _frequencies(n: int) -> Array:
    """Return those of the cosine basis, in radians per pixel."""
    frequencies: Array = np.pi * np.arange(n) / n
    return frequencies
