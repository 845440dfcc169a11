"""The optimiser's kernels of the Triton engine: Muon's orthogonalisation, and a whole step of `Optimizer.move`.

One program has one matrix, which stays in registers through all iterations.
"""

from __future__ import annotations

import triton
import triton.language as tl

from napari_siren.core.engines.triton.kernels import places, product


@triton.jit
def _orthogonal(x, coefficients, STEPS: tl.constexpr):
    """X <- a X + (b A + c A^2) X, A = X X^T, from the matrix scaled to a norm below 1, with (a, b, c) of each step."""
    nothing = tl.zeros_like(x)
    x = x / (tl.sqrt(tl.sum(x * x)) * 1.01 + 1e-30)
    for step in range(STEPS):
        a = tl.load(coefficients + 3 * step)
        b = tl.load(coefficients + 3 * step + 1)
        c = tl.load(coefficients + 3 * step + 2)
        gram = product(x, tl.trans(x), nothing, False)
        x = product(b * gram + c * product(gram, gram, nothing, False), x, a * x, False)
    return x


@triton.jit
def orthogonalise_kernel(matrices, coefficients, SIZE: tl.constexpr, PADDED: tl.constexpr, STEPS: tl.constexpr):
    """Orthogonalise matrix [SIZE][SIZE] of each program in place."""
    at, there = places(PADDED, PADDED, SIZE, SIZE)
    matrices += tl.program_id(0).to(tl.int64) * SIZE * SIZE
    tl.store(matrices + at, _orthogonal(tl.load(matrices + at, mask=there, other=0.0), coefficients, STEPS), mask=there)


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
    """Move matrix j, from column START on, of a tile, and its mean: program (tile, j)."""
    tile = tl.program_id(0).to(tl.int64)
    matrix = tl.program_id(1)
    at, there = places(PADDED, PADDED, SIZE, SIZE)
    column = tile * PARAMETERS + START + matrix * SIZE * SIZE + at
    momentum += (tile * MATRICES + matrix) * SIZE * SIZE + at
    g = tl.load(gradient + column, mask=there, other=0.0)
    m = tl.load(momentum, mask=there, other=0.0)
    m += (1 - decay) * (g - m)
    tl.store(momentum, m, mask=there)
    direction = _orthogonal(g + decay * (m - g), coefficients, STEPS)
    value = tl.load(theta + column, mask=there, other=0.0) - learning_rate * tl.load(rate + tile) * direction
    tl.store(theta + column, value, mask=there)
    mean = tl.load(average + column, mask=there, other=0.0)
    tl.store(average + column, mean + (1 - averaging) * (value - mean), mask=there)


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
    """Move the first COLUMNS parameters of a tile, and their mean, BLOCK of them: program (tile, block).

    The count has been raised for this step.
    """
    tile = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = i < COLUMNS
    column = tile * PARAMETERS + i
    state = tile * COLUMNS + i
    done = tl.load(count + tile)
    g = tl.load(gradient + column, mask=there, other=0.0)
    m = tl.load(mean + state, mask=there, other=0.0)
    m += (1 - beta1) * (g - m)
    tl.store(mean + state, m, mask=there)
    s = beta2 * tl.load(square + state, mask=there, other=0.0) + (1 - beta2) * g * g
    tl.store(square + state, s, mask=there)
    size = learning_rate * tl.load(rate + tile) / (1 - tl.exp2(done * log2_beta1))
    scale = tl.sqrt(s / (1 - tl.exp2(done * log2_beta2))) + epsilon
    value = tl.load(theta + column, mask=there, other=0.0) - m / scale * size
    tl.store(theta + column, value, mask=there)
    before = tl.load(average + column, mask=there, other=0.0)
    tl.store(average + column, before + (1 - averaging) * (value - before), mask=there)
