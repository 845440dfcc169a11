/* One step of many small sine networks, a tile at a time, with all data in cache from the first layer to the gradient.
 *
 * It is compiled for the wheels, or by library.py on the user's machine (gcc >= 12 or clang, any SIMD width). pytorch.py
 * does the same in PyTorch, and the tests compare the two.
 *
 * Layout: feature-major. An activation is [feature][sample], so a vector holds neighbouring samples. Every product is a
 * sum of broadcast weights times vectors, so a network may have any width. Samples are processed in chunks of CHUNK, so
 * that all activations of a chunk stay in the second-level cache. One evaluation computes both the sine and the cosine.
 */
#include "siren.h"
#include "vectors.h"

#include <string.h>

#define CHUNK 256

/* ---- G[m][k] += sum_n D[m][n] H[k][n] -------------------------------------------------------------------------- */

INLINE void outer_block(int rows, int cols, int N, const float *D, const float *H, int ld, float *G, int ldg) {
    vec acc[ROWS * BLOCK];
    for (int i = 0; i < ROWS * BLOCK; i++) acc[i] = (vec){0};
    for (int n = 0; n < N; n += VL) {
        vec h[BLOCK];
        for (int k = 0; k < cols; k++) h[k] = AT_CONST(H + (size_t)k * ld + n);
        for (int r = 0; r < rows; r++) {
            vec d = AT_CONST(D + (size_t)r * ld + n);
            for (int k = 0; k < cols; k++) acc[r * BLOCK + k] += d * h[k];
        }
    }
#if VL == 16
    vec sums = sum_each(acc);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < cols; k++) G[r * ldg + k] += sums[r * BLOCK + k];
#else
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < cols; k++) G[r * ldg + k] += sum_lanes(acc[r * BLOCK + k]);
#endif
}

INLINE void outer_rows(int rows, int K, int N, const float *D, const float *H, int ld, float *G) {
    int k = 0;
    for (; k + BLOCK <= K; k += BLOCK) outer_block(rows, BLOCK, N, D, H + (size_t)k * ld, ld, G + k, K);
    for (; k < K; k++) outer_block(rows, 1, N, D, H + (size_t)k * ld, ld, G + k, K);
}

static void outer(int M, int K, int N, const float *D, const float *H, int ld, float *G) {
    int m = 0;
    for (; m + ROWS <= M; m += ROWS) outer_rows(ROWS, K, N, D + (size_t)m * ld, H, ld, G + m * K);
    for (; m < M; m++) outer_rows(1, K, N, D + (size_t)m * ld, H, ld, G + m * K);
}

/* ---- the networks ---------------------------------------------------------------------------------------------- */

/* Copy n floats, and pad them with zeros to whole vectors. Returns the padded number. */
INLINE int load_padded(float *to, const float *from, int n) {
    int padded = (n + VL - 1) / VL * VL;
    memcpy(to, from, sizeof(float) * n);
    memset(to + n, 0, sizeof(float) * (padded - n));
    return padded;
}

/* Write the sines of all layers at N positions to S, omega times their cosines to Co unless it is null, and the outputs
 * to F. */
static void forward_chunk(const Network *net, const float *theta, int N, const float *X, float *S, float *Co, float *F) {
    const int W = net->width;
    const float *h = X;
    int into = net->inputs;
    for (int l = 0; l < net->layers; l++) {
        /* Without cosines there is no backward pass, so two buffers for activations are enough. */
        float *s = S + (size_t)W * CHUNK * (Co ? l : l & 1), *c = Co ? Co + (size_t)W * CHUNK * l : 0;
        product(W, into, N, theta + net->weights[l], into, 1, h, CHUNK, theta + net->biases[l], s, CHUNK);
        for (int o = 0; o < W; o++)
            for (int j = o * CHUNK; j < o * CHUNK + N; j += VL) {
                vec sine, cosine;
                sincos_vec(AT(s + j) * net->omega, &sine, &cosine);
                AT(s + j) = sine;
                if (c) AT(c + j) = cosine * net->omega;
            }
        h = s;
        into = W;
    }
    product(net->outputs, W, N, theta + net->weights[net->layers], W, 1, h, CHUNK, theta + net->biases[net->layers], F,
            CHUNK);
}

/* Write n positions, from p on, to X. Returns n, padded to whole vectors. */
static int load_positions(const Network *net, const float *coords, int p, int n, float *X) {
    int N = 0;
    for (int i = 0; i < net->inputs; i++) N = load_padded(X + i * CHUNK, coords + (size_t)i * net->samples + p, n);
    return N;
}

static void backward_chunk(const Network *net, const float *theta, int N, const float *X, const float *S,
                           const float *Co, const float *F, float *D, float *E, float *grad) {
    const int W = net->width;
    const size_t act = (size_t)W * CHUNK;
    const float *dz = F;
    for (int l = net->layers; l >= 0; l--) {
        int into = l ? W : net->inputs, out = l < net->layers ? W : net->outputs;
        outer(out, into, N, dz, l ? S + act * (l - 1) : X, CHUNK, grad + net->weights[l]);
        for (int o = 0; o < out; o++) {
            vec sum = {0};
            for (int j = o * CHUNK; j < o * CHUNK + N; j += VL) sum += AT_CONST(dz + j);
            grad[net->biases[l] + o] += sum_lanes(sum);
        }
        if (!l) return;
        float *dh = dz == D ? E : D;
        const float *c = Co + act * (l - 1);
        product(into, out, N, theta + net->weights[l], 1, into, dz, CHUNK, 0, dh, CHUNK);
        for (int o = 0; o < into; o++)
            for (int j = o * CHUNK; j < o * CHUNK + N; j += VL) AT(dh + j) *= AT_CONST(c + j);
        dz = dh;
    }
}

/* Write values[t][c][p] of tiles t0 to t1 - 1. Returns 0, or 1 if memory runs out. */
int siren_forward(const Network *net, int t0, int t1, const float *theta, const float *coords, float *values) {
    const size_t act = (size_t)net->width * CHUNK;
    float *S = allocate(sizeof(float) * (2 * act + CHUNK * (net->inputs + net->outputs)));
    if (!S) return 1;
    float *X = S + 2 * act, *F = X + CHUNK * net->inputs;
    for (int t = t0; t < t1; t++)
        for (int p = 0; p < net->samples; p += CHUNK) {
            int n = net->samples - p < CHUNK ? net->samples - p : CHUNK;
            int N = load_positions(net, coords + t * net->coords_stride, p, n, X);
            forward_chunk(net, theta + t * net->tile_stride, N, X, S, 0, F);
            for (int k = 0; k < net->outputs; k++)
                memcpy(values + ((size_t)t * net->outputs + k) * net->samples + p, F + k * CHUNK, sizeof(float) * n);
        }
    release(S);
    return 0;
}

/* An axis of a grid, sorted by the cells with at least one sample. */
typedef struct {
    const int64_t *starts, *counts;     /* first sample of each cell, and its number of samples */
    const float *positions, *windows;   /* [cell][width]: positions for the cell's networks, and weights there */
    int64_t width, stride;              /* largest number of samples of a cell; stride of a sample in the output */
} Axis;

/* Samples of a tile in one row along the last axis: their number, and their offset in the output. */
typedef struct { int length; int64_t to; } Stretch;

/* Write positions and weights of n samples of a tile, from `first` on, row by row. Returns the number of stretches. */
static int load_samples(const Network *net, const Axis *axes, const int32_t *cells, int64_t first, int n, float *X,
                        float *weights, Stretch *stretches) {
    const int inner = net->inputs - 1;
    const Axis *last = axes + inner;
    const int64_t length = last->counts[cells[inner]], corner = cells[inner] * last->width;
    int count = 0;
    for (int j = 0; j < n; j += stretches[count++].length) {
        int64_t row = (first + j) / length, column = (first + j) % length;
        int64_t to = (last->starts[cells[inner]] + column) * last->stride;
        int run = n - j < length - column ? n - j : (int)(length - column);
        float weight = 1;
        for (int i = inner - 1; i >= 0; i--) {
            const Axis *axis = axes + i;
            int64_t k = row % axis->counts[cells[i]], at = cells[i] * axis->width + k;
            row /= axis->counts[cells[i]];
            to += (axis->starts[cells[i]] + k) * axis->stride;
            weight *= axis->windows[at];
            for (int m = j; m < j + run; m++) X[i * CHUNK + m] = axis->positions[at];
        }
        memcpy(X + inner * CHUNK + j, last->positions + corner + column, sizeof(float) * run);
        for (int m = 0; m < run; m++) weights[j + m] = weight * last->windows[corner + column + m];
        stretches[count] = (Stretch){run, to};
    }
    return count;
}

/* out[c][grid] += weight times value, for tiles t0 to t1 - 1. No two tiles may share a sample. Tile t belongs to cell
 * cells[t][axis] of each axis. channel_stride is the number of values from one channel of the output to the next.
 * Returns 0, or 1 if memory runs out. */
int siren_blend(const Network *net, int t0, int t1, const float *theta, const Axis *axes, const int32_t *cells,
                int64_t channel_stride, float *out) {
    const size_t act = (size_t)net->width * CHUNK;
    float *S = allocate(sizeof(float) * (2 * act + CHUNK * (net->inputs + net->outputs + 1)));
    if (!S) return 1;
    float *X = S + 2 * act, *F = X + CHUNK * net->inputs, *weights = F + CHUNK * net->outputs;
    Stretch stretches[CHUNK];
    memset(X, 0, sizeof(float) * CHUNK * net->inputs);
    for (int t = t0; t < t1; t++) {
        const int32_t *own = cells + t * net->inputs;
        int64_t samples = 1;
        for (int i = 0; i < net->inputs; i++) samples *= axes[i].counts[own[i]];
        for (int64_t p = 0; p < samples; p += CHUNK) {
            int n = samples - p < CHUNK ? (int)(samples - p) : CHUNK;
            int count = load_samples(net, axes, own, p, n, X, weights, stretches);
            forward_chunk(net, theta + t * net->tile_stride, (n + VL - 1) / VL * VL, X, S, 0, F);
            for (int r = 0, j = 0; r < count; j += stretches[r++].length)
                for (int c = 0; c < net->outputs; c++) {
                    float *to = out + c * channel_stride + stretches[r].to;
                    for (int m = 0; m < stretches[r].length; m++) to[m] += weights[j + m] * F[c * CHUNK + j + m];
                }
        }
    }
    release(S);
    return 0;
}

/* Gradient of tiles t0 to t1 - 1 with respect to their parameters, grad[t][parameters].
 *
 * With weight, the loss is sum_p weight[t][p] sum_c (f - target)^2, written to loss[t]. The gradient is that of
 * factor[t] / 2 times the loss. With a null grad, only the loss is computed. Without weight, target[t][c][p] is the
 * gradient of any loss with respect to the values. Returns 0, or 1 if memory runs out. */
int siren_gradient(const Network *net, int t0, int t1, const float *theta, const float *coords, const float *target,
                   const float *weight, const float *factor, float *grad, float *loss) {
    const int P = net->samples, C = net->outputs;
    const size_t act = (size_t)net->width * CHUNK;
    size_t floats = act * (2 * net->layers + 2) + (size_t)CHUNK * (net->inputs + C + 2);
    float *S = allocate(sizeof(float) * floats);
    if (!S) return 1;
    float *Co = S + act * net->layers, *D = Co + act * net->layers, *E = D + act;
    float *X = E + act, *F = X + CHUNK * net->inputs, *y = F + CHUNK * C, *w = y + CHUNK;
    for (int t = t0; t < t1; t++) {
        const float *tile = theta + t * net->tile_stride;
        float *g = grad ? grad + t * net->tile_stride : 0;
        double total = 0;
        if (g) memset(g, 0, sizeof(float) * net->tile_stride);
        for (int p = 0; p < P; p += CHUNK) {
            int n = P - p < CHUNK ? P - p : CHUNK;
            int N = load_positions(net, coords + t * net->coords_stride, p, n, X);
            forward_chunk(net, tile, N, X, S, g ? Co : 0, F);
            if (weight) load_padded(w, weight + (size_t)t * P + p, n);
            for (int k = 0; k < C; k++) {
                load_padded(y, target + ((size_t)t * C + k) * P + p, n);
                float *f = F + k * CHUNK;
                vec sum = {0};
                if (weight)
                    for (int j = 0; j < N; j += VL) {
                        vec r = AT(f + j) - AT(y + j), rw = r * AT(w + j);
                        sum += r * rw;
                        AT(f + j) = rw * factor[t];
                    }
                else
                    memcpy(f, y, sizeof(float) * N);
                total += sum_lanes(sum);
            }
            if (g) backward_chunk(net, tile, N, X, S, Co, F, D, E, g);
        }
        if (weight) loss[t] = (float)total;
    }
    release(S);
    return 0;
}

/* Orthogonalise matrices t0 to t1 - 1, [size][size], in place: X <- a X + (b A + c A^2) X, A = X X^T, with coefficients
 * (a, b, c) for each of the steps. Returns 0, or 1 if memory runs out. */
int siren_orthogonalise(int t0, int t1, int size, int steps, const float *coefficients, float *matrices) {
    const int ld = (size + VL - 1) / VL * VL;
    const size_t area = (size_t)size * ld;
    float *buffer = allocate(sizeof(float) * 5 * area);
    if (!buffer) return 1;
    memset(buffer, 0, sizeof(float) * 5 * area);
    float *X = buffer, *Y = X + area, *T = Y + area, *A = T + area, *B = A + area;
    for (int t = t0; t < t1; t++) {
        float *G = matrices + (size_t)t * size * size;
        vec squares = {0};
        for (int r = 0; r < size; r++) load_padded(X + r * ld, G + r * size, size);
        for (size_t j = 0; j < area; j += VL) squares += AT(X + j) * AT(X + j);
        float inverse = 1.0f / (__builtin_sqrtf(sum_lanes(squares)) * 1.01f + 1e-30f);
        for (size_t j = 0; j < area; j += VL) AT(X + j) *= inverse;
        for (int i = 0; i < steps; i++) {
            const float *abc = coefficients + 3 * i;
            for (int r = 0; r < size; r++)
                for (int k = 0; k < size; k++) T[k * ld + r] = X[r * ld + k];
            product(size, size, ld, X, ld, 1, T, ld, 0, A, ld);
            product(size, size, ld, A, ld, 1, A, ld, 0, B, ld);
            for (size_t j = 0; j < area; j++) B[j] = abc[1] * A[j] + abc[2] * B[j];
            for (int r = 0; r < size; r++) B[r * ld + r] += abc[0];
            product(size, size, ld, B, ld, 1, X, ld, 0, Y, ld);
            float *swap = X;
            X = Y;
            Y = swap;
        }
        for (int r = 0; r < size; r++)
            for (int k = 0; k < size; k++) G[r * size + k] = X[r * ld + k];
    }
    release(buffer);
    return 0;
}
