"""A rough gradient in float64, with the roundings of an engine put in where it has them, and how much they may matter.

An engine that rounds is compared with this, tightly, and this with exact arithmetic. How far the two may be apart is
derived from the number format and from the networks, not from a machine: bfloat16 keeps 8 bits, so that a rounding is
off by at most 2^-8 of the value, in either direction and independently of the others. To first order the error of a
result is its Jacobian times these errors. The Jacobian is not needed itself: its product with random errors is the
derivative in a random direction, and the root mean square over a few directions is the size to expect (small-sample
estimates of condition, Kenney and Laub 1994).

For hidden layers whose phases have a variance of about one, as those of these tests, the errors of a gradient grow in
proportion to the depth: those of the phases grow like the square root of the layers before, and each of the layers
passes its own on to the gradient. With 8 layers that is about 1 %.
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
# Of the polynomials for sines and cosines in amx.c, absolute.
SINE_ERROR = 6e-4
# The errors are at most so many times what is to be expected: sums of many independent ones are about normal.
MOST_DEVIATIONS = 2.0
# Sums in float32 and in float64 differ by some 2^-21, and bfloat16 numbers are 2^-8 apart: a few in ten thousand values
# are rounded the other way, by a whole step. Their root mean square is a few per cent of that of all roundings.
SHARE_OF_FLIPS = 0.1

Rounding = Callable[[Tensor], Tensor]
Sines = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Roundings:
    """Where an engine is not exact.

    Parameters
    ----------
    factor
        Applied to every factor of the hidden products.
    total
        Applied to the hidden products themselves.
    sines
        Sine and cosine of a phase.
    ends
        Whether the last layer's factors are rounded too: the sines that go into it, and the gradient of the outputs
        where it multiplies them.
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
    """As `sincos_row` in amx.c."""
    half_turns = torch.round(z / math.pi)
    sign = 1 - 2 * (half_turns % 2)
    r = z - math.pi * half_turns
    r2 = r * r
    sine = r * (9.99696773e-01 + r2 * (-1.65673078e-01 + r2 * 7.51437676e-03))
    cosine = 9.99403270e-01 + r2 * (-4.95580911e-01 + r2 * 3.67917018e-02)
    return sign * sine, sign * cosine


EXACT = Roundings(same, same, exact_sines, ends=False)
AMX = Roundings(to_bfloat16, same, amx_sines, ends=True)
# PyTorch's products of bfloat16 are themselves bfloat16.
WIDE = Roundings(to_bfloat16, to_bfloat16, exact_sines, ends=False)


def gradient(siren: Siren, x: Tensor, loss: Loss, roundings: Roundings) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses, gradient and values in float64, with some roundings."""
    siren, x, loss = siren.to(dtype=torch.float64), x.double(), to_double(loss)
    omega_0, last = siren.omega_0, siren.shape.hidden_layers
    factor, total = roundings.factor, roundings.total
    factor_of_last = factor if roundings.ends else same
    weights, biases = siren.shape.weights(siren.theta), siren.shape.biases(siren.theta)
    out = torch.zeros_like(siren.theta)
    weight_gradients, bias_gradients = siren.shape.weights(out), siren.shape.biases(out)

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
    """Return the norms to expect of the errors of losses, gradient and values, to first order."""

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
    """Return what core/network/orthogonalise.py does, of square matrices, in float64, with products of some kind."""
    x = matrices.double()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) * 1.01 + 1e-30)
    for a, b, c in ORTHOGONALISATION:
        gram = product(x, x.mT)
        x = a * x + product(b * gram + c * product(gram, gram), x)
    return x


def expected_orthogonalisation_error(matrices: Tensor) -> float:
    """Return the norm to expect of the error where each factor is two numbers of bfloat16, to first order.

    They leave 2^-16 of it. Of the four products that of the second numbers is left out, which is as much again.
    """
    most = UNIT_ROUNDOFF**2

    def with_noise(noise: Noise) -> tuple[Tensor, ...]:
        return (orthogonalise(matrices, lambda a, b: noise(a, 2 * most * a) @ noise(b, most * b)),)

    return _expected(with_noise)[0]


# ---- errors to first order -----------------------------------------------------------------------------

Noise = Callable[[Tensor, Tensor], Tensor]  # a value, and the most that it may be off by
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
