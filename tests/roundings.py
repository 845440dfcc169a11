"""Gradients in float64 with the roundings of an engine, and the expected size of the rounding errors.

An engine that rounds is compared tightly with these gradients, and these gradients are compared with exact arithmetic.
The bound of the second comparison follows from the number format and the networks, not from a machine. bfloat16 keeps
8 bits, so that the error of a rounding is at most 2^-8 of the value, in either direction and independent of the others.
To first order the error of a result is its Jacobian times these errors. The Jacobian itself is not needed. Its product
with random errors is the derivative in a random direction, and the root mean square over a few directions is the
expected size (small-sample estimates of condition, Kenney and Laub 1994).

The hidden layers of these tests have phases with a variance of about one. For such layers the errors of a gradient grow
in proportion to the depth: the errors of the phases grow with the square root of the number of layers before, and each
layer adds its own error to the gradient. With 8 layers the error is about 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_siren.core.network.losses import Loss, ObservedLoss, SquaredLoss
from napari_siren.core.network.orthogonalise import ORTHOGONALISATION
from napari_siren.core.network.siren import Siren

UNIT_ROUNDOFF = 2.0**-8
# Absolute error of the polynomials for sines and cosines in amx.c.
SINE_ERROR = 6e-4
# Largest ratio of an error to its expected size. The errors are about normal, as sums of many independent errors.
MOST_DEVIATIONS = 2.0
# Sums in float32 and in float64 differ by about 2^-21, and neighbouring bfloat16 numbers by 2^-8. A few in ten thousand
# values are therefore rounded to the other neighbour. Their root mean square is a few per cent of that of all errors.
SHARE_OF_FLIPS = 0.1

Rounding = Callable[[Tensor], Tensor]
Sines = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Roundings:
    """The roundings of an engine.

    Parameters
    ----------
    factor
        Rounding of every factor of the hidden products.
    total
        Rounding of the hidden products themselves.
    sines
        Function for the sine and the cosine of a phase.
    ends
        Whether the factors of the last layer are rounded, too: its input sines, and the gradient of the outputs in
        their product.
    """

    factor: Rounding
    total: Rounding
    sines: Sines
    ends: bool


def same(t: Tensor) -> Tensor:
    return t


def to_bfloat16(t: Tensor) -> Tensor:
    return t.to(torch.bfloat16).to(t.dtype)


def exact_sines(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.sin(), z.cos()


def amx_sines(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return sine and cosine as `sincos_row` in amx.c computes them."""
    half_turns = torch.round(z / math.pi)
    sign = 1 - 2 * (half_turns % 2)
    r = z - math.pi * half_turns
    r2 = r * r
    sine = r * (9.99696773e-01 + r2 * (-1.65673078e-01 + r2 * 7.51437676e-03))
    cosine = 9.99403270e-01 + r2 * (-4.95580911e-01 + r2 * 3.67917018e-02)
    return sign * sine, sign * cosine


EXACT = Roundings(same, same, exact_sines, ends=False)
AMX = Roundings(to_bfloat16, same, amx_sines, ends=True)
# In PyTorch, products of bfloat16 factors are bfloat16 numbers themselves.
WIDE = Roundings(to_bfloat16, to_bfloat16, exact_sines, ends=False)


def gradient(siren: Siren, x: Tensor, loss: Loss, roundings: Roundings) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses, gradient and values in float64, with some roundings."""
    siren, x, loss = siren.to(dtype=torch.float64), x.double(), to_double(loss)
    omega_0, last = siren.omega_0, siren.spec.hidden_layers
    factor, total = roundings.factor, roundings.total
    factor_of_last = factor if roundings.ends else same
    weights, biases = siren.spec.weights(siren.theta), siren.spec.biases(siren.theta)
    out = torch.zeros_like(siren.theta)
    weight_gradients, bias_gradients = siren.spec.weights(out), siren.spec.biases(out)

    slopes = [omega_0 * weights[0], *(factor(omega_0 * weight) for weight in weights[1:last])]
    inputs, cosines = [x.expand(siren.tiles, -1, -1)], []
    for layer in range(last):
        z = slopes[layer] @ inputs[-1]
        sine, cosine = roundings.sines(omega_0 * biases[layer] + (total(z) if layer else z))
        inputs.append(factor(sine) if layer + 1 < last else factor_of_last(sine))
        cosines.append(cosine)
    values = weights[last] @ inputs[last] + biases[last]

    losses, given = loss.value_and_gradient(values, slice(None))
    weight_gradients[last].copy_(factor_of_last(given) @ inputs[last].mT)
    bias_gradients[last].copy_(given.sum(dim=2, keepdim=True))
    dz = (weights[last].mT @ given) * cosines[-1]
    for layer in reversed(range(last)):
        bias_gradients[layer].copy_(omega_0 * dz.sum(dim=2, keepdim=True))
        dz = factor(dz) if layer else dz
        product = dz @ inputs[layer].mT
        weight_gradients[layer].copy_(omega_0 * (total(product) if layer else product))
        if layer:
            dz = total(slopes[layer].mT @ dz) * cosines[layer - 1]
    return losses, out, values


def expected_errors(siren: Siren, x: Tensor, loss: Loss, roundings: Roundings) -> tuple[float, ...]:
    """Return the expected norms of the errors of losses, gradient and values, to first order."""

    def with_noise(noise: Noise) -> tuple[Tensor, ...]:
        factor, total = (
            same if rounding is same else lambda t: noise(t, UNIT_ROUNDOFF * t)
            for rounding in (roundings.factor, roundings.total)
        )

        def sines(z: Tensor) -> tuple[Tensor, Tensor]:
            error = torch.full_like(z, 0.0 if roundings.sines is exact_sines else SINE_ERROR)
            return noise(z.sin(), error), noise(z.cos(), error)

        return gradient(siren, x, loss, Roundings(factor, total, sines, roundings.ends))

    return _expected(with_noise)


# ---- orthogonalisation ---------------------------------------------------------------------------------


def orthogonalise(matrices: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Orthogonalise square matrices as core/network/orthogonalise.py does, in float64, with a given product."""
    x = matrices.double()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) * 1.01 + 1e-30)
    for a, b, c in ORTHOGONALISATION:
        gram = product(x, x.mT)
        x = a * x + product(b * gram + c * product(gram, gram), x)
    return x


def expected_orthogonalisation_error(matrices: Tensor) -> float:
    """Return the expected norm of the error with factors as sums of two bfloat16 numbers, to first order.

    The two numbers represent a factor up to 2^-16 of its value. Of the four products, the product of the second numbers
    is left out. This adds an error of the same size.
    """
    most = UNIT_ROUNDOFF**2

    def with_noise(noise: Noise) -> tuple[Tensor, ...]:
        return (orthogonalise(matrices, lambda a, b: noise(a, 2 * most * a) @ noise(b, most * b)),)

    return _expected(with_noise)[0]


# ---- errors to first order -----------------------------------------------------------------------------

Noise = Callable[[Tensor, Tensor], Tensor]  # takes a value and its largest error
_DIRECTIONS, _STEP = 4, 1e-4


def _expected(evaluate: Callable[[Noise], tuple[Tensor, ...]]) -> tuple[float, ...]:
    generator = torch.Generator().manual_seed(0)

    def noise(t: Tensor, most: Tensor) -> Tensor:
        return t + _STEP * most * (2 * torch.rand(t.shape, generator=generator, dtype=t.dtype) - 1)

    exact = evaluate(lambda t, _: t)
    squares = [
        [float((found - expected).square().sum()) for found, expected in zip(evaluate(noise), exact, strict=True)]
        for _ in range(_DIRECTIONS)
    ]
    return tuple(math.sqrt(sum(column) / _DIRECTIONS) / _STEP for column in zip(*squares, strict=True))


def to_double(loss: Loss) -> Loss:
    if isinstance(loss, ObservedLoss):
        return replace(loss, data=to_double(loss.data), variation=loss.variation.double())
    assert isinstance(loss, SquaredLoss)
    return SquaredLoss(loss.target.double(), loss.weight.double())
