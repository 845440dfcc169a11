"""The networks' kernels of the Triton engine. Importing this needs Triton; nothing is compiled before it is used.

One program has one tile, or a share of its samples, and goes over them in blocks. A block is sample-major, [sample]
[feature], with the features filled up with zeros to 16, 32 or 64: an activation is the left factor of the next product
and stays in registers, forward and backward, until the block is done. omega is folded into the weights when they are
loaded, and into their gradients when they are stored.

A tile's parameters lie as `SirenShape.columns` has them: first weights, the biases of all sine layers, last weights and
bias, and then the hidden matrices.
"""

# Triton's tuples are added; it knows no starred items.
# ruff: noqa: RUF005

from __future__ import annotations

import triton
import triton.language as tl

# Inputs and outputs are filled up to what a tensor core takes.
SMALL = tl.constexpr(16)
# Sizes that change from call to call, and are not worth a kernel of their own.
_SIZES = ("samples", "x_stride", "share", "tiles")


@triton.jit
def sines(z, ROUGH: tl.constexpr):
    """Return sin and cos of z, as siren.c and amx.c have them: to 2e-7, or to 1e-4 if rough."""
    shifted = z * 0.318309886183790672 + 12582912.0  # rounds to a multiple of pi; its parity is the sign
    sign = shifted.to(tl.int32, bitcast=True) << 31
    k = shifted - 12582912.0
    if ROUGH:
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
def factor_of(a, ROUGH: tl.constexpr):
    """Return a factor of a hidden product."""
    return a.to(tl.bfloat16 if ROUGH else tl.float32)


@triton.jit
def product(a, b, sums, ROUGH: tl.constexpr):
    """Add a b to sums, in float32: float32 factors go as three tf32 products, which is as exact, or as one if rough."""
    return tl.dot(a, b, acc=sums, input_precision="tf32" if ROUGH else "tf32x3")


@triton.jit
def places(ROWS: tl.constexpr, COLUMNS: tl.constexpr, rows, columns):
    """Where the elements of a matrix of rows x columns lie in memory, filled up to ROWS x COLUMNS; which there are."""
    r = tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, COLUMNS)[None, :]
    return r * columns + c, (r < rows) & (c < columns)


@triton.jit
def _first_places(INPUTS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Columns of the first layer as [input, and the bias][out]; which there are."""
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
    """Load all but the hidden matrices: (first [input and bias][out], hidden biases, last [channel][in], its bias)."""
    at, there = _first_places(INPUTS, WIDTH, PADDED)
    first = omega * tl.load(theta + at, mask=there, other=0.0)
    o = tl.arange(0, PADDED)
    biases = ()
    for layer in tl.static_range(1, LAYERS):
        bias = tl.load(theta + WIDTH * (INPUTS + layer) + o, mask=o < WIDTH, other=0.0)
        biases = biases + (omega * bias,)
    at, there = places(SMALL, PADDED, OUTPUTS, WIDTH)
    last = tl.load(theta + WIDTH * (INPUTS + LAYERS) + at, mask=there, other=0.0)
    c = tl.arange(0, SMALL)
    last_bias = tl.load(theta + WIDTH * (INPUTS + LAYERS + OUTPUTS) + c, mask=c < OUTPUTS, other=0.0)
    return first, biases, last, last_bias


@triton.jit
def _hidden(matrices, layer, omega, WIDTH: tl.constexpr, PADDED: tl.constexpr, ROUGH: tl.constexpr):
    """Load the matrix [out][in] into a layer, as a factor."""
    at, there = places(PADDED, PADDED, WIDTH, WIDTH)
    return factor_of(omega * tl.load(matrices + (layer - 1) * WIDTH * WIDTH + at, mask=there, other=0.0), ROUGH)


@triton.jit
def _positions(x, samples, p, INPUTS: tl.constexpr):
    """Load the positions of samples p, and a 1 for the bias: [input][sample]."""
    d = tl.arange(0, SMALL)[:, None]
    there = (d < INPUTS) & (p[None, :] < samples)
    return tl.where(d == INPUTS, 1.0, tl.load(x + d.to(tl.int64) * samples + p[None, :], mask=there, other=0.0))


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
    ROUGH: tl.constexpr,
):
    """Evaluate a block: (values [sample][channel], sines of all layers as factors, their cosines, the last sine)."""
    first, biases, last, last_bias = vectors
    # Compilers would keep all matrices out of the loop over blocks, in more shared memory than there is.
    tl.debug_barrier()
    # Never rough: frequencies times positions must be exact.
    h, cosine = sines(product(tl.trans(positions), first, tl.zeros((BLOCK, PADDED), tl.float32), False), ROUGH)
    factors, cosines = (factor_of(h, ROUGH),), (cosine,)
    for layer in tl.static_range(1, LAYERS):
        bias = tl.zeros((BLOCK, PADDED), tl.float32) + biases[layer - 1][None, :]
        matrix = _hidden(matrices, layer, omega, WIDTH, PADDED, ROUGH)
        h, cosine = sines(product(factors[layer - 1], tl.trans(matrix), bias, ROUGH), ROUGH)
        factors = factors + (factor_of(h, ROUGH),)
        cosines = cosines + (cosine,)
    values = product(h, tl.trans(last), tl.zeros((BLOCK, SMALL), tl.float32) + last_bias[None, :], ROUGH)
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
    ROUGH: tl.constexpr,
):
    """Write values[tile][channel][sample]; program (tile, part) has `share` samples, whole blocks."""
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
        found = _forward(vectors, matrices, positions, omega, LAYERS, WIDTH, PADDED, BLOCK, ROUGH)
        there = (p[:, None] < samples) & (c < OUTPUTS)
        tl.store(values + c.to(tl.int64) * samples + p[:, None], found[0], mask=there)


@triton.jit
def _no_sums(LAYERS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    """Zeros for the gradient: (first, hidden biases, hidden matrices, last, last bias by sample)."""
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
    found,
    dv,
    omega,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    ROUGH: tl.constexpr,
):
    """Return the sums with a block added, whose gradient with respect to the values is dv."""
    first_sums, bias_sums, hidden_sums, last_sums, last_bias_sums = sums
    _values, factors, cosines, h = found
    tl.debug_barrier()  # as in _forward
    last_sums = product(tl.trans(dv), h, last_sums, ROUGH)
    dh = product(dv, last, tl.zeros((BLOCK, PADDED), tl.float32), ROUGH)
    biases, hidden = (), ()
    for layer in tl.static_range(LAYERS - 1, 0, -1):
        dz = dh * cosines[layer]
        biases = (bias_sums[layer - 1] + tl.sum(dz, axis=0),) + biases
        dz = factor_of(dz, ROUGH)
        hidden = (product(tl.trans(dz), factors[layer - 1], hidden_sums[layer - 1], ROUGH),) + hidden
        matrix = _hidden(matrices, layer, omega, WIDTH, PADDED, ROUGH)
        dh = product(dz, matrix, tl.zeros((BLOCK, PADDED), tl.float32), ROUGH)
    first_sums = product(positions, dh * cosines[0], first_sums, ROUGH)
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
    at, there = _first_places(INPUTS, WIDTH, PADDED)
    tl.store(gradient + at, omega * first, mask=there)
    at, there = places(SMALL, PADDED, OUTPUTS, WIDTH)
    tl.store(gradient + WIDTH * (INPUTS + LAYERS) + at, last, mask=there)
    gradient += WIDTH * INPUTS
    o = tl.arange(0, PADDED)
    c = tl.arange(0, SMALL)
    tl.store(gradient + WIDTH * (LAYERS + OUTPUTS) + c, tl.sum(last_bias, axis=0), mask=c < OUTPUTS)
    matrices = gradient + WIDTH * (LAYERS + OUTPUTS) + OUTPUTS
    at, there = places(PADDED, PADDED, WIDTH, WIDTH)
    for layer in tl.static_range(1, LAYERS):
        tl.store(gradient + WIDTH * layer + o, omega * biases[layer - 1], mask=o < WIDTH)
        tl.store(matrices + (layer - 1) * WIDTH * WIDTH + at, omega * hidden[layer - 1], mask=there)


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
    ROUGH: tl.constexpr,
    SQUARED: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """Write gradient[part][tile][parameter] and losses[part][tile] of the `share` samples of program (tile, part).

    SQUARED: the loss is sum_p weight[tile][p] sum_c (f - target)^2, and the gradient that of factor[tile] / 2 times it;
    without BACKWARD the loss is all. Else target[tile][c][p] is the gradient with respect to the values, from whatever
    loss, and `losses` is left alone.
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
        found = _forward(vectors, matrices, positions, omega, LAYERS, WIDTH, PADDED, BLOCK, ROUGH)
        there = (p[:, None] < samples) & (c < OUTPUTS)
        dv = tl.load(target + c.to(tl.int64) * samples + p[:, None], mask=there, other=0.0)
        if SQUARED:
            w = tl.load(weight + tile * samples + p, mask=p < samples, other=0.0)
            residual = tl.where(there, found[0] - dv, 0.0)
            dv = residual * w[:, None]
            total += residual * dv
            dv *= tl.load(factor + tile)
        if BACKWARD:
            sums = _backward(
                sums, vectors[2], matrices, positions, found, dv, omega, LAYERS, WIDTH, PADDED, BLOCK, ROUGH
            )
    row = part.to(tl.int64) * tiles + tile
    if SQUARED:
        tl.store(losses + row, tl.sum(total))
    if BACKWARD:
        _store_gradient(gradient + row * PARAMETERS, sums, omega, INPUTS, OUTPUTS, LAYERS, WIDTH, PADDED)
