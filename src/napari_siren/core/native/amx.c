/* The step of siren.c with bfloat16 products and float32 sums, on processors that multiply matrices of 16 x 32 in one
 * instruction (Intel AMX). Positions, first layer, sines, losses and parameters stay in float32. The last layer's
 * weights are split into two bfloat16 parts. The sines and cosines then take most of the time, not the products.
 *
 * Layout: sample-major. An activation is [sample][32 features], padded with zeros. It is a left factor.
 */
#include "amx.h"

#ifdef AMX
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK 32 /* samples at a time: one instruction sums over them, and they fit the first-level cache */
#define MOST_LAYERS 8
#define MOST_INPUTS 4
#define MOST_OUTPUTS 16

int siren_amx_ready(void) {
    /* Linux gives the tile registers (18) only to processes that request them. */
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18) == 0;
}

/* ---- a tile's parameters, in the layout of the products ---------------------------------------------------------- */

typedef struct {
    WideRow first[MOST_INPUTS], bias[MOST_LAYERS], last[MOST_OUTPUTS]; /* times omega, except for the last */
    Pairs forward[MOST_LAYERS], backward[MOST_LAYERS];
    Row last_high[16], last_low[16]; /* transposed, in pairs */
    float last_bias[MOST_OUTPUTS];
} __attribute__((aligned(64))) Parameters;

/* Write the parameters of a network. All other elements must be zero. */
static void prepare(const Network *net, const float *theta, Parameters *p) {
    const int W = net->width, L = net->layers;
    const __m512 omega = _mm512_set1_ps(net->omega);
    WideRow wide[16] __attribute__((aligned(64)));
    Square rows, low;
    memset(&rows, 0, sizeof rows);
    for (int o = 0; o < W; o++) {
        for (int d = 0; d < net->inputs; d++) p->first[d][o] = net->omega * theta[net->weights[0] + o * net->inputs + d];
        for (int l = 0; l < L; l++) p->bias[l][o] = net->omega * theta[net->biases[l] + o];
    }
    for (int l = 1; l < L; l++) {
        for (int o = 0; o < W; o++) {
            const float *row = theta + net->weights[l] + o * W;
            __m512 lo = _mm512_maskz_loadu_ps(lanes(W), row), hi = _mm512_maskz_loadu_ps(lanes(W - 16), row + 16);
            _mm512_store_si512(rows.row[o], pack(_mm512_mul_ps(lo, omega), _mm512_mul_ps(hi, omega)));
        }
        pair_columns(rows.row, &p->forward[l]);
        pair_rows(rows.row, &p->backward[l]);
    }
    memset(wide, 0, sizeof wide);
    for (int c = 0; c < net->outputs; c++) {
        memcpy(p->last[c], theta + net->weights[L] + c * W, sizeof(float) * W);
        memcpy(wide[c], p->last[c], sizeof wide[c]);
        p->last_bias[c] = theta[net->biases[L] + c];
    }
    for (int c = 0; c < 16; c++) split(wide[c], rows.row[c], low.row[c]);
    transpose(rows.row, 64, p->last_high, 64);
    transpose(low.row, 64, p->last_low, 64);
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

typedef struct {
    Row h[MOST_LAYERS][CHUNK];          /* sines */
    WideRow cosine[MOST_LAYERS][CHUNK];
    WideRow z[CHUNK];                   /* before the sine, or its gradient */
    Row dz[CHUNK];
    Pairs pairs;
    Row turned[FEATURES];               /* dz, transposed */
    Row given[16];                      /* d, as a left factor */
    float values[CHUNK][16], x[MOST_INPUTS][CHUNK], d[MOST_OUTPUTS][CHUNK];
    int count;                          /* number of samples; the gradient of the rows after them is zero */
} __attribute__((aligned(64))) Scratch;

/* sin and cos of z, by the method of siren.c. The error is up to 6e-04, below the resolution of bfloat16. */
INLINE void sincos_row(__m512 z, __m512 *s, __m512 *c) {
    const __m512 round_to_even = _mm512_set1_ps(12582912.0f);
    __m512 k = _mm512_fmadd_ps(z, _mm512_set1_ps(0.318309886183790672f), round_to_even);
    __m512i sign = _mm512_slli_epi32(_mm512_castps_si512(k), 31);
    k = _mm512_sub_ps(k, round_to_even);
    __m512 r = _mm512_fnmadd_ps(k, _mm512_set1_ps(3.14159265358979f), z), r2 = _mm512_mul_ps(r, r);
    __m512 p = _mm512_fmadd_ps(r2, _mm512_set1_ps(7.51437676e-03f), _mm512_set1_ps(-1.65673078e-01f));
    p = _mm512_mul_ps(_mm512_fmadd_ps(p, r2, _mm512_set1_ps(9.99696773e-01f)), r);
    __m512 q = _mm512_fmadd_ps(r2, _mm512_set1_ps(3.67917018e-02f), _mm512_set1_ps(-4.95580911e-01f));
    q = _mm512_fmadd_ps(q, r2, _mm512_set1_ps(9.99403270e-01f));
    *s = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(p), sign));
    *c = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(q), sign));
}

INLINE void activate(__m512 z0, __m512 z1, uint16_t *h, float *cosine) {
    __m512 s0, s1, c0, c1;
    sincos_row(z0, &s0, &c0);
    sincos_row(z1, &s1, &c1);
    _mm512_store_si512(h, pack(s0, s1));
    _mm512_store_ps(cosine, c0);
    _mm512_store_ps(cosine + 16, c1);
}

/* z = h W' + bias. */
INLINE void apply(const Row *h, const Pairs *right, const float *bias, WideRow *z) {
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias + 16, 0);
    _tile_loadd(2, bias, 0);
    _tile_loadd(3, bias + 16, 0);
    load_left(h[0], h[16]);
    load_right(right);
    multiply_all();
    store_sums(z);
}

/* The gradient after a sine: z = dz W. */
INLINE void apply_back(const Row *dz, const Pairs *right, WideRow *z) {
    clear_sums();
    load_left(dz[0], dz[16]);
    load_right(right);
    multiply_all();
    store_sums(z);
}

static void forward(const Network *net, const Parameters *p, Scratch *s) {
    for (int n = 0; n < s->count; n++) {
        __m512 z0 = _mm512_load_ps(p->bias[0]), z1 = _mm512_load_ps(p->bias[0] + 16);
        for (int d = 0; d < net->inputs; d++) {
            __m512 x = _mm512_set1_ps(s->x[d][n]);
            z0 = _mm512_fmadd_ps(x, _mm512_load_ps(p->first[d]), z0);
            z1 = _mm512_fmadd_ps(x, _mm512_load_ps(p->first[d] + 16), z1);
        }
        activate(z0, z1, s->h[0][n], s->cosine[0][n]);
    }
    for (int l = 1; l < net->layers; l++) {
        apply(s->h[l - 1], &p->forward[l], p->bias[l], s->z);
        for (int n = 0; n < s->count; n++)
            activate(_mm512_load_ps(s->z[n]), _mm512_load_ps(s->z[n] + 16), s->h[l][n], s->cosine[l][n]);
    }
    _tile_loadd(6, p->last_high, 64);
    _tile_loadd(7, p->last_low, 64);
    for (int n = 0; n < CHUNK; n += 16) {
        _tile_loadd(0, p->last_bias, 0);
        _tile_loadd(4, s->h[net->layers - 1][n], 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(0, 4, 7);
        _tile_stored(0, s->values[n], 64);
    }
}

/* One output of 16 samples. */
INLINE __m512 output(const Scratch *s, int n, int c) {
    const __m512i rows = _mm512_mullo_epi32(
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(16));
    return _mm512_i32gather_ps(rows, s->values[n] + c, 4);
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* Last and hidden are [output][input], with shuffled inputs. The outputs of hidden layers are shuffled, too. */
typedef struct {
    WideRow first[MOST_INPUTS], bias[MOST_LAYERS], last[MOST_OUTPUTS], hidden[MOST_LAYERS][FEATURES];
} __attribute__((aligned(64))) Sums;

/* Gradient of the last layer's weights: sums over the samples of gradient times sine. */
static void add_last(const Network *net, Scratch *s, Sums *sums) {
    for (int c = 0; c < net->outputs; c++)
        _mm512_store_si512(s->given[c], pack(_mm512_load_ps(s->d[c]), _mm512_load_ps(s->d[c] + 16)));
    pair_rows_shuffled(s->h[net->layers - 1], &s->pairs);
    _tile_loadd(0, sums->last[0], 128);
    _tile_loadd(1, sums->last[0] + 16, 128);
    _tile_loadd(4, s->given, 64);
    load_right(&s->pairs);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_stored(0, sums->last[0], 128);
    _tile_stored(1, sums->last[0] + 16, 128);
}

/* Gradient of the first layer's weights: sums over the samples of position times gradient. */
static void add_first(const Network *net, const Scratch *s, Sums *sums) {
    __m512 lo[MOST_INPUTS], hi[MOST_INPUTS];
    for (int d = 0; d < MOST_INPUTS; d++) lo[d] = hi[d] = _mm512_setzero_ps();
    /* Process all inputs at once, used or not: an addition waits only for the previous one of the same sum. */
    for (int n = 0; n < s->count; n++)
        for (int d = 0; d < MOST_INPUTS; d++) {
            __m512 x = _mm512_set1_ps(s->x[d][n]);
            lo[d] = _mm512_fmadd_ps(x, _mm512_load_ps(s->z[n]), lo[d]);
            hi[d] = _mm512_fmadd_ps(x, _mm512_load_ps(s->z[n] + 16), hi[d]);
        }
    for (int d = 0; d < net->inputs; d++) {
        _mm512_store_ps(sums->first[d], _mm512_add_ps(_mm512_load_ps(sums->first[d]), lo[d]));
        _mm512_store_ps(sums->first[d] + 16, _mm512_add_ps(_mm512_load_ps(sums->first[d] + 16), hi[d]));
    }
}

/* Gradient before a sine, from the gradient after it. For the first layer it stays in float32. */
INLINE void pass_sine(Scratch *s, int l, int n, __m512 a0, __m512 a1, __m512 *b0, __m512 *b1) {
    a0 = _mm512_mul_ps(a0, _mm512_load_ps(s->cosine[l][n]));
    a1 = _mm512_mul_ps(a1, _mm512_load_ps(s->cosine[l][n] + 16));
    *b0 = _mm512_add_ps(*b0, a0);
    *b1 = _mm512_add_ps(*b1, a1);
    if (l) {
        _mm512_store_si512(s->dz[n], pack(a0, a1));
    } else {
        _mm512_store_ps(s->z[n], a0);
        _mm512_store_ps(s->z[n] + 16, a1);
    }
}

static void backward(const Network *net, const Parameters *p, Scratch *s, Sums *sums) {
    const int L = net->layers;
    for (int n = s->count; n < CHUNK; n++) _mm512_store_si512(s->dz[n], _mm512_setzero_si512());
    add_last(net, s, sums);
    for (int l = L - 1; l >= 0; l--) {
        __m512 b0 = _mm512_load_ps(sums->bias[l]), b1 = _mm512_load_ps(sums->bias[l] + 16);
        if (l == L - 1) {
            for (int n = 0; n < s->count; n++) {
                __m512 a0 = _mm512_setzero_ps(), a1 = a0;
                for (int c = 0; c < net->outputs; c++) {
                    __m512 d = _mm512_set1_ps(s->d[c][n]);
                    a0 = _mm512_fmadd_ps(d, _mm512_load_ps(p->last[c]), a0);
                    a1 = _mm512_fmadd_ps(d, _mm512_load_ps(p->last[c] + 16), a1);
                }
                pass_sine(s, l, n, a0, a1, &b0, &b1);
            }
        } else {
            for (int n = 0; n < s->count; n++)
                pass_sine(s, l, n, _mm512_load_ps(s->z[n]), _mm512_load_ps(s->z[n] + 16), &b0, &b1);
        }
        _mm512_store_ps(sums->bias[l], b0);
        _mm512_store_ps(sums->bias[l] + 16, b1);
        if (!l) break;
        turn(s->dz, s->turned);
        pair_rows_shuffled(s->h[l - 1], &s->pairs);
        /* Compute both products together: each change between tile and vector registers costs about 50 cycles. */
        apply_back(s->dz, &p->backward[l], s->z);
        load_sums(sums->hidden[l]);
        load_left(s->turned[0], s->turned[16]);
        load_right(&s->pairs);
        multiply_all();
        store_sums(sums->hidden[l]);
    }
    add_first(net, s, sums);
}

/* Write n values, times a factor. */
INLINE void write_row(float *to, __m512 a, __m512 b, float factor, int n) {
    __m512 f = _mm512_set1_ps(factor);
    _mm512_mask_storeu_ps(to, lanes(n), _mm512_mul_ps(a, f));
    _mm512_mask_storeu_ps(to + 16, lanes(n - 16), _mm512_mul_ps(b, f));
}

/* The same for a row with shuffled columns. */
INLINE void write_shuffled(float *to, const float *from, float factor, int n) {
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    __m512 x = _mm512_load_ps(from), y = _mm512_load_ps(from + 16);
    write_row(to, _mm512_permutex2var_ps(x, low, y), _mm512_permutex2var_ps(x, high, y), factor, n);
}

static void write_gradient(const Network *net, const Sums *sums, float *g) {
    const int W = net->width, L = net->layers;
    for (int o = 0; o < W; o++)
        for (int d = 0; d < net->inputs; d++) g[net->weights[0] + o * net->inputs + d] = net->omega * sums->first[d][o];
    for (int l = 0; l < L; l++)
        write_row(g + net->biases[l], _mm512_load_ps(sums->bias[l]), _mm512_load_ps(sums->bias[l] + 16), net->omega, W);
    for (int l = 1; l < L; l++)
        for (int r = 0; r < FEATURES; r++)
            if (unshuffled(r) < W)
                write_shuffled(g + net->weights[l] + unshuffled(r) * W, sums->hidden[l][r], net->omega, W);
    for (int c = 0; c < net->outputs; c++) write_shuffled(g + net->weights[L] + c * W, sums->last[c], 1, W);
}

/* ---- whole tiles ------------------------------------------------------------------------------------------------- */

typedef struct { Parameters parameters; Scratch scratch; Sums sums; } Work;

static Work *start(void) {
    Work *work = allocate(sizeof *work);
    if (!work) return 0;
    memset(work, 0, sizeof *work);
    configure();
    return work;
}

static int end(Work *work) {
    _tile_release();
    release(work);
    return 0;
}

/* Load the positions of n samples, from p on, padded with zeros. */
static void load_positions(const Network *net, const float *coords, int p, int n, Scratch *s) {
    s->count = n;
    for (int d = 0; d < net->inputs; d++)
        for (int j = 0; j < CHUNK; j += 16)
            _mm512_store_ps(s->x[d] + j, _mm512_maskz_loadu_ps(lanes(n - j), coords + (size_t)d * net->samples + p + j));
}

/* The same as siren_forward. */
int siren_amx_forward(const Network *net, int t0, int t1, const float *theta, const float *coords, float *values) {
    const int P = net->samples;
    Work *work = start();
    if (!work) return 1;
    Scratch *s = &work->scratch;
    for (int t = t0; t < t1; t++) {
        prepare(net, theta + t * net->tile_stride, &work->parameters);
        for (int p = 0; p < P; p += CHUNK) {
            int n = P - p < CHUNK ? P - p : CHUNK;
            load_positions(net, coords + t * net->coords_stride, p, n, s);
            forward(net, &work->parameters, s);
            for (int c = 0; c < net->outputs; c++)
                for (int j = 0; j < CHUNK; j += 16)
                    _mm512_mask_storeu_ps(values + ((size_t)t * net->outputs + c) * P + p + j, lanes(n - j),
                                          output(s, j, c));
        }
    }
    return end(work);
}

/* The same as siren_gradient, but grad must not be null. */
int siren_amx_gradient(const Network *net, int t0, int t1, const float *theta, const float *coords, const float *target,
                       const float *weight, const float *factor, float *grad, float *loss) {
    const int P = net->samples, C = net->outputs;
    Work *work = start();
    if (!work) return 1;
    Scratch *s = &work->scratch;
    for (int t = t0; t < t1; t++) {
        __m512 total = _mm512_setzero_ps(), last_bias[MOST_OUTPUTS];
        for (int c = 0; c < C; c++) last_bias[c] = _mm512_setzero_ps();
        prepare(net, theta + t * net->tile_stride, &work->parameters);
        memset(&work->sums, 0, offsetof(Sums, hidden) + net->layers * sizeof *work->sums.hidden);
        for (int p = 0; p < P; p += CHUNK) {
            int n = P - p < CHUNK ? P - p : CHUNK;
            load_positions(net, coords + t * net->coords_stride, p, n, s);
            forward(net, &work->parameters, s);
            for (int c = 0; c < C; c++)
                for (int j = 0; j < CHUNK; j += 16) {
                    __m512 d = _mm512_maskz_loadu_ps(lanes(n - j), target + ((size_t)t * C + c) * P + p + j);
                    if (weight) {
                        __m512 w = _mm512_maskz_loadu_ps(lanes(n - j), weight + (size_t)t * P + p + j);
                        __m512 r = _mm512_sub_ps(output(s, j, c), d), rw = _mm512_mul_ps(r, w);
                        total = _mm512_fmadd_ps(r, rw, total);
                        d = _mm512_mul_ps(rw, _mm512_set1_ps(factor[t]));
                    }
                    last_bias[c] = _mm512_add_ps(last_bias[c], d);
                    _mm512_store_ps(s->d[c] + j, d);
                }
            backward(net, &work->parameters, s, &work->sums);
        }
        float *g = grad + t * net->tile_stride;
        write_gradient(net, &work->sums, g);
        for (int c = 0; c < C; c++) g[net->biases[net->layers] + c] = _mm512_reduce_add_ps(last_bias[c]);
        if (weight) loss[t] = _mm512_reduce_add_ps(total);
    }
    return end(work);
}

#else

int siren_amx_ready(void) { return 0; }

#endif
