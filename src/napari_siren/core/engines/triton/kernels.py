"""The networks' kernels of the Triton engine. The import needs Triton; nothing is compiled before its first use.

One program processes one tile, or a share of its samples, block by block. A block is sample-major, [sample][feature],
and its features are padded with zeros to 16, 32 or 64. An activation is the left factor of the next product. It stays
in registers, in the forward and the backward pass, until the block is complete. Weights are multiplied by omega when
they are loaded, and their gradients when they are stored.

The parameters of a tile are in the order of `NetworkSpec.columns`: first weights, biases of all sine layers, last
weights and bias, and then the hidden matrices.
"""

# Triton does not support starred items, so tuples are concatenated.
# ruff: noqa: RUF005

from __future__ import annotations

import triton
import triton.language as tl

# Padded number of inputs and of outputs: the smallest side of a product on tensor cores.
SMALL = tl.constexpr(16)
# Arguments that change from call to call. A kernel of their own for each value would not pay.
_SIZES = ("samples", "x_stride", "share", "tiles")


@triton.jit
def sines(z, LOW_PRECISION: tl.constexpr):
    """Return sin and cos of z, by the method of siren.c and amx.c.

    The absolute error is up to 2e-7, or up to 1e-4 with LOW_PRECISION.
    """
    shifted = z * 0.318309886183790672 + 12582912.0  # Round to a multiple of pi. Its parity is the sign.
    sign = shifted.to(tl.int32, bitcast=True) << 31
    k = shifted - 12582912.0
    if LOW_PRECISION:
        r = z - k * 3.14159265358979
        r2 = r * r
        p = (r2 * -1.8447486e-4 + 8.3109378e-3) * r2 - 1.6665578e-1
        q = (r2 * -1.2712436e-3 + 4.1493919e-2) * r2 - 4.9991209e-1
        q = q * r2 + 9.9999355e-1
    else:
        r = ((z - k * 3.140625) - k * 9.67502593994140625e-4) - k * 1.509957990978376432e-7
        r2 = r * r
        p = (r2 * -2.3889859e-8 + 2.7525562e-6) * r2 - 1.9840874e-4
        p = (p * r2 + 8.3333310e-3) * r2 - 1.6666667e-1
        q = (r2 * 1.9907571e-9 - 2.7532926e-7) * r2 + 2.4801324e-5
        q = (q * r2 - 1.3888885e-3) * r2 + 4.1666666e-2
        q = (q * r2 - 0.5) * r2 + 1.0
    p = p * r2 * r + r
    sine = (p.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    cosine = (q.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    return sine, cosine


@triton.jit
def factor_of(a, LOW_PRECISION: tl.constexpr):
    """Return a factor of a hidden product, in the dtype of the product."""
    return a.to(tl.bfloat16 if LOW_PRECISION else tl.float32)


@triton.jit
def product(a, b, sums, LOW_PRECISION: tl.constexpr):
    """Return sums + a b, in float32.

    Float32 factors are multiplied as three tf32 products, which is as exact as float32. With LOW_PRECISION, they are
    multiplied as one tf32 product.
    """
    return tl.dot(a, b, acc=sums, input_precision="tf32" if LOW_PRECISION else "tf32x3")


@triton.jit
def places(ROWS: tl.constexpr, COLUMNS: tl.constexpr, rows, columns):
    """Return memory offsets of a matrix of rows x columns, padded to ROWS x COLUMNS, and the mask of its elements."""
    r = tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, COLUMNS)[None, :]
    return r * columns + c, (r < rows) & (c < columns)


@triton.jit
def _first_places(INPUTS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Return the parameter columns of the first layer, [input, and the bias][out], and the mask of its elements."""
    d = tl.arange(0, SMALL)[:, None]
    o = tl.arange(0, PADDED)[None, :]
    return tl.where(d < INPUTS, o * INPUTS + d, WIDTH * INPUTS + o), (d <= INPUTS) & (o < WIDTH)


@triton.jit
def _vectors(
    theta,
    omega,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Load all parameters but the hidden matrices.

    They are (first layer [input and bias][out], hidden biases, last weights [channel][in], last bias).
    """
    offsets, mask = _first_places(INPUTS, WIDTH, PADDED)
    first = omega * tl.load(theta + offsets, mask=mask, other=0.0)
    o = tl.arange(0, PADDED)
    biases = ()
    for layer in tl.static_range(1, LAYERS):
        bias = tl.load(theta + WIDTH * (INPUTS + layer) + o, mask=o < WIDTH, other=0.0)
        biases = biases + (omega * bias,)
    offsets, mask = places(SMALL, PADDED, OUTPUTS, WIDTH)
    last = tl.load(theta + WIDTH * (INPUTS + LAYERS) + offsets, mask=mask, other=0.0)
    c = tl.arange(0, SMALL)
    last_bias = tl.load(theta + WIDTH * (INPUTS + LAYERS + OUTPUTS) + c, mask=c < OUTPUTS, other=0.0)
    return first, biases, last, last_bias


@triton.jit
def _hidden(matrices, layer, omega, WIDTH: tl.constexpr, PADDED: tl.constexpr, LOW_PRECISION: tl.constexpr):
    """Load the weights [out][in] of a hidden layer, as a factor."""
    offsets, mask = places(PADDED, PADDED, WIDTH, WIDTH)
    return factor_of(
        omega * tl.load(matrices + (layer - 1) * WIDTH * WIDTH + offsets, mask=mask, other=0.0), LOW_PRECISION
    )


@triton.jit
def _positions(x, samples, p, INPUTS: tl.constexpr):
    """Load the positions of samples p as [input][sample], with a row of 1 for the bias."""
    d = tl.arange(0, SMALL)[:, None]
    mask = (d < INPUTS) & (p[None, :] < samples)
    return tl.where(d == INPUTS, 1.0, tl.load(x + d.to(tl.int64) * samples + p[None, :], mask=mask, other=0.0))


@triton.jit
def _forward(
    vectors,
    matrices,
    positions,
    omega,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    LOW_PRECISION: tl.constexpr,
):
    """Evaluate a block: (values [sample][channel], sines of all layers as factors, their cosines, the last sine)."""
    first, biases, last, last_bias = vectors
    # Without a barrier, compilers load all matrices before the loop over blocks, and exceed the shared memory.
    tl.debug_barrier()
    # Never in low precision: frequencies times positions must be exact.
    h, cosine = sines(product(tl.trans(positions), first, tl.zeros((BLOCK, PADDED), tl.float32), False), LOW_PRECISION)
    factors, cosines = (factor_of(h, LOW_PRECISION),), (cosine,)
    for layer in tl.static_range(1, LAYERS):
        bias = tl.zeros((BLOCK, PADDED), tl.float32) + biases[layer - 1][None, :]
        matrix = _hidden(matrices, layer, omega, WIDTH, PADDED, LOW_PRECISION)
        h, cosine = sines(product(factors[layer - 1], tl.trans(matrix), bias, LOW_PRECISION), LOW_PRECISION)
        factors = factors + (factor_of(h, LOW_PRECISION),)
        cosines = cosines + (cosine,)
    values = product(h, tl.trans(last), tl.zeros((BLOCK, SMALL), tl.float32) + last_bias[None, :], LOW_PRECISION)
    return values, factors, cosines, h


@triton.jit(do_not_specialize=_SIZES)
def forward_kernel(
    theta,
    x,
    values,
    samples,
    x_stride,
    share,
    omega,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    PARAMETERS: tl.constexpr,
    BLOCK: tl.constexpr,
    LOW_PRECISION: tl.constexpr,
):
    """Write values[tile][channel][sample]. Program (tile, part) has `share` samples, in whole blocks."""
    tile = tl.program_id(0).to(tl.int64)
    theta += tile * PARAMETERS
    x += tile * x_stride
    values += tile * OUTPUTS * samples
    vectors = _vectors(theta, omega, INPUTS, OUTPUTS, LAYERS, WIDTH, PADDED)
    matrices = theta + WIDTH * (INPUTS + LAYERS + OUTPUTS) + OUTPUTS
    c = tl.arange(0, SMALL)[None, :]
    start = tl.program_id(1) * share
    for begin in range(start, min(start + share, samples), BLOCK):
        p = begin + tl.arange(0, BLOCK)
        positions = _positions(x, samples, p, INPUTS)
        results = _forward(vectors, matrices, positions, omega, LAYERS, WIDTH, PADDED, BLOCK, LOW_PRECISION)
        mask = (p[:, None] < samples) & (c < OUTPUTS)
        tl.store(values + c.to(tl.int64) * samples + p[:, None], results[0], mask=mask)


@triton.jit
def _no_sums(LAYERS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    """Return zeros for the gradient: (first, hidden biases, hidden matrices, last, last bias by sample)."""
    biases, hidden = (), ()
    for _layer in tl.static_range(1, LAYERS):
        biases = biases + (tl.zeros((PADDED,), tl.float32),)
        hidden = hidden + (tl.zeros((PADDED, PADDED), tl.float32),)
    first = tl.zeros((SMALL, PADDED), tl.float32)
    last = tl.zeros((SMALL, PADDED), tl.float32)
    return first, biases, hidden, last, tl.zeros((BLOCK, SMALL), tl.float32)


@triton.jit
def _backward(
    sums,
    last,
    matrices,
    positions,
    results,
    dv,
    omega,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    LOW_PRECISION: tl.constexpr,
):
    """Return the sums with a block added; dv is its gradient with respect to the values."""
    first_sums, bias_sums, hidden_sums, last_sums, last_bias_sums = sums
    _values, factors, cosines, h = results
    tl.debug_barrier()  # The reason is the same as in `_forward`.
    last_sums = product(tl.trans(dv), h, last_sums, LOW_PRECISION)
    dh = product(dv, last, tl.zeros((BLOCK, PADDED), tl.float32), LOW_PRECISION)
    biases, hidden = (), ()
    for layer in tl.static_range(LAYERS - 1, 0, -1):
        dz = dh * cosines[layer]
        biases = (bias_sums[layer - 1] + tl.sum(dz, axis=0),) + biases
        dz = factor_of(dz, LOW_PRECISION)
        hidden = (product(tl.trans(dz), factors[layer - 1], hidden_sums[layer - 1], LOW_PRECISION),) + hidden
        matrix = _hidden(matrices, layer, omega, WIDTH, PADDED, LOW_PRECISION)
        dh = product(dz, matrix, tl.zeros((BLOCK, PADDED), tl.float32), LOW_PRECISION)
    first_sums = product(positions, dh * cosines[0], first_sums, LOW_PRECISION)
    return first_sums, biases, hidden, last_sums, last_bias_sums + dv


@triton.jit
def _store_gradient(
    gradient,
    sums,
    omega,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
):
    first, biases, hidden, last, last_bias = sums
    offsets, mask = _first_places(INPUTS, WIDTH, PADDED)
    tl.store(gradient + offsets, omega * first, mask=mask)
    offsets, mask = places(SMALL, PADDED, OUTPUTS, WIDTH)
    tl.store(gradient + WIDTH * (INPUTS + LAYERS) + offsets, last, mask=mask)
    gradient += WIDTH * INPUTS
    o = tl.arange(0, PADDED)
    c = tl.arange(0, SMALL)
    tl.store(gradient + WIDTH * (LAYERS + OUTPUTS) + c, tl.sum(last_bias, axis=0), mask=c < OUTPUTS)
    matrices = gradient + WIDTH * (LAYERS + OUTPUTS) + OUTPUTS
    offsets, mask = places(PADDED, PADDED, WIDTH, WIDTH)
    for layer in tl.static_range(1, LAYERS):
        tl.store(gradient + WIDTH * layer + o, omega * biases[layer - 1], mask=o < WIDTH)
        tl.store(matrices + (layer - 1) * WIDTH * WIDTH + offsets, omega * hidden[layer - 1], mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def gradient_kernel(
    theta,
    x,
    target,
    weight,
    factor,
    gradient,
    losses,
    samples,
    x_stride,
    share,
    tiles,
    omega,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    PARAMETERS: tl.constexpr,
    BLOCK: tl.constexpr,
    LOW_PRECISION: tl.constexpr,
    SQUARED: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """Write gradient[part][tile][parameter] and losses[part][tile] of the `share` samples of program (tile, part).

    With SQUARED, the loss is sum_p weight[tile][p] sum_c (f - target)^2, and the gradient is that of factor[tile] / 2
    times the loss. Without SQUARED, target[tile][c][p] is the gradient of any loss with respect to the values, and
    `losses` is not written. Without BACKWARD, no gradient is written.
    """
    tile = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    theta += tile * PARAMETERS
    x += tile * x_stride
    target += tile * OUTPUTS * samples
    vectors = _vectors(theta, omega, INPUTS, OUTPUTS, LAYERS, WIDTH, PADDED)
    matrices = theta + WIDTH * (INPUTS + LAYERS + OUTPUTS) + OUTPUTS
    c = tl.arange(0, SMALL)[None, :]
    sums = _no_sums(LAYERS, PADDED, BLOCK)
    total = tl.zeros((BLOCK, SMALL), tl.float32)
    for begin in range(part * share, min(part * share + share, samples), BLOCK):
        p = begin + tl.arange(0, BLOCK)
        positions = _positions(x, samples, p, INPUTS)
        results = _forward(vectors, matrices, positions, omega, LAYERS, WIDTH, PADDED, BLOCK, LOW_PRECISION)
        mask = (p[:, None] < samples) & (c < OUTPUTS)
        dv = tl.load(target + c.to(tl.int64) * samples + p[:, None], mask=mask, other=0.0)
        if SQUARED:
            w = tl.load(weight + tile * samples + p, mask=p < samples, other=0.0)
            residual = tl.where(mask, results[0] - dv, 0.0)
            dv = residual * w[:, None]
            total += residual * dv
            dv *= tl.load(factor + tile)
        if BACKWARD:
            sums = _backward(
                sums, vectors[2], matrices, positions, results, dv, omega, LAYERS, WIDTH, PADDED, BLOCK, LOW_PRECISION
            )
    row = part.to(tl.int64) * tiles + tile
    if SQUARED:
        tl.store(losses + row, tl.sum(total))
    if BACKWARD:
        _store_gradient(gradient + row * PARAMETERS, sums, omega, INPUTS, OUTPUTS, LAYERS, WIDTH, PADDED)
