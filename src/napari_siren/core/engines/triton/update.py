"""The optimiser's kernels of the Triton engine: Muon's orthogonalisation, and a whole step of `Optimizer.move`.

One program processes one matrix. The matrix stays in registers through all iterations.
"""

from __future__ import annotations

import triton
import triton.language as tl

from napari_siren.core.engines.triton.kernels import places, product


@triton.jit
def _orthogonal(x, coefficients, STEPS: tl.constexpr):
    """Return the orthogonalised matrix.

    The matrix is first scaled to a norm below 1. Each step is X <- a X + (b A + c A^2) X, A = X X^T, with its own
    (a, b, c).
    """
    zeros = tl.zeros_like(x)
    x = x / (tl.sqrt(tl.sum(x * x)) * 1.01 + 1e-30)
    for step in range(STEPS):
        a = tl.load(coefficients + 3 * step)
        b = tl.load(coefficients + 3 * step + 1)
        c = tl.load(coefficients + 3 * step + 2)
        gram = product(x, tl.trans(x), zeros, False)
        x = product(b * gram + c * product(gram, gram, zeros, False), x, a * x, False)
    return x


@triton.jit
def orthogonalise_kernel(matrices, coefficients, SIZE: tl.constexpr, PADDED: tl.constexpr, STEPS: tl.constexpr):
    """Orthogonalise one matrix [SIZE][SIZE] for each program, in place."""
    offsets, mask = places(PADDED, PADDED, SIZE, SIZE)
    matrices += tl.program_id(0).to(tl.int64) * SIZE * SIZE
    matrix = tl.load(matrices + offsets, mask=mask, other=0.0)
    tl.store(matrices + offsets, _orthogonal(matrix, coefficients, STEPS), mask=mask)


@triton.jit
def muon_kernel(
    theta,
    gradient,
    average,
    momentum,
    rate,
    coefficients,
    learning_rate,
    decay,
    averaging,
    START: tl.constexpr,
    PARAMETERS: tl.constexpr,
    MATRICES: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Update matrix j of a tile and its mean in program (tile, j). The matrices begin at column START."""
    tile = tl.program_id(0).to(tl.int64)
    matrix = tl.program_id(1)
    offsets, mask = places(PADDED, PADDED, SIZE, SIZE)
    column = tile * PARAMETERS + START + matrix * SIZE * SIZE + offsets
    momentum += (tile * MATRICES + matrix) * SIZE * SIZE + offsets
    g = tl.load(gradient + column, mask=mask, other=0.0)
    m = tl.load(momentum, mask=mask, other=0.0)
    m += (1 - decay) * (g - m)
    tl.store(momentum, m, mask=mask)
    direction = _orthogonal(g + decay * (m - g), coefficients, STEPS)
    value = tl.load(theta + column, mask=mask, other=0.0) - learning_rate * tl.load(rate + tile) * direction
    tl.store(theta + column, value, mask=mask)
    mean = tl.load(average + column, mask=mask, other=0.0)
    tl.store(average + column, mean + (1 - averaging) * (value - mean), mask=mask)


@triton.jit
def adam_kernel(
    theta,
    gradient,
    average,
    mean,
    square,
    count,
    rate,
    learning_rate,
    beta1,
    beta2,
    log2_beta1,
    log2_beta2,
    epsilon,
    averaging,
    COLUMNS: tl.constexpr,
    PARAMETERS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Update BLOCK of the first COLUMNS parameters of a tile, and their mean, in program (tile, block).

    The count already includes this step.
    """
    tile = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = i < COLUMNS
    column = tile * PARAMETERS + i
    state = tile * COLUMNS + i
    steps = tl.load(count + tile)
    g = tl.load(gradient + column, mask=mask, other=0.0)
    m = tl.load(mean + state, mask=mask, other=0.0)
    m += (1 - beta1) * (g - m)
    tl.store(mean + state, m, mask=mask)
    s = beta2 * tl.load(square + state, mask=mask, other=0.0) + (1 - beta2) * g * g
    tl.store(square + state, s, mask=mask)
    size = learning_rate * tl.load(rate + tile) / (1 - tl.exp2(steps * log2_beta1))
    scale = tl.sqrt(s / (1 - tl.exp2(steps * log2_beta2))) + epsilon
    value = tl.load(theta + column, mask=mask, other=0.0) - m / scale * size
    tl.store(theta + column, value, mask=mask)
    old = tl.load(average + column, mask=mask, other=0.0)
    tl.store(average + column, old + (1 - averaging) * (value - old), mask=mask)
