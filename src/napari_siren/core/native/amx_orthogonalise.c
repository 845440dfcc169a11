/* siren_orthogonalise by Intel's AMX, for matrices of up to 32 x 32. Each factor is split into two bfloat16 parts, and
 * three of the four products are added. The reason: a gradient has few large singular values. The iteration amplifies
 * the small ones up to 54 times, and with single parts they would be lost in the rounding. */
#include "amx.h"

#ifdef AMX

typedef struct { Square high, low; } Left;
typedef struct { Pairs high, low; } Right;
typedef struct { WideRow x[FEATURES], a[FEATURES], b[FEATURES]; Left left; Right turned, x_right, a_right; } Work;

/* c = left right */
static void multiply(const Left *left, const Right *right, WideRow *c) {
    clear_sums();
    load_left(left->low.row[0], left->low.row[16]);
    load_right(&right->high);
    multiply_all();
    load_left(left->high.row[0], left->high.row[16]);
    multiply_all();
    load_right(&right->low);
    multiply_all();
    store_sums(c);
}

static void split_all(const WideRow *x, Left *to) {
    for (int r = 0; r < FEATURES; r++) split(x[r], to->high.row[r], to->low.row[r]);
}

static void pair_both(const Left *from, Right *to) {
    pair_rows(from->high.row, &to->high);
    pair_rows(from->low.row, &to->low);
}

/* x <- a x + (b g + c g^2) x, g = x x^T */
static void improve(Work *w, const float *abc) {
    const __m512 a = _mm512_set1_ps(abc[0]), b = _mm512_set1_ps(abc[1]), c = _mm512_set1_ps(abc[2]);
    split_all(w->x, &w->left);
    pair_columns(w->left.high.row, &w->turned.high);
    pair_columns(w->left.low.row, &w->turned.low);
    pair_both(&w->left, &w->x_right);
    multiply(&w->left, &w->turned, w->a);
    split_all(w->a, &w->left);
    pair_both(&w->left, &w->a_right);
    multiply(&w->left, &w->a_right, w->b);
    float *g = w->a[0], *square = w->b[0], *x = w->x[0];
    for (int i = 0; i < FEATURES * FEATURES; i += 16)
        _mm512_store_ps(g + i, _mm512_fmadd_ps(c, _mm512_load_ps(square + i), _mm512_mul_ps(b, _mm512_load_ps(g + i))));
    split_all(w->a, &w->left);
    multiply(&w->left, &w->x_right, w->b);
    for (int i = 0; i < FEATURES * FEATURES; i += 16)
        _mm512_store_ps(x + i, _mm512_fmadd_ps(a, _mm512_load_ps(x + i), _mm512_load_ps(square + i)));
}

/* The same as siren_orthogonalise. */
int siren_amx_orthogonalise(int t0, int t1, int size, int steps, const float *coefficients, float *matrices) {
    Work *w = allocate(sizeof *w);
    if (!w) return 1;
    configure();
    for (int t = t0; t < t1; t++) {
        float *m = matrices + (size_t)t * size * size, *x = w->x[0];
        __m512 squares = _mm512_setzero_ps();
        memset(w->x, 0, sizeof w->x);
        for (int r = 0; r < size; r++)
            for (int k = 0; k < size; k += 16) {
                __m512 part = _mm512_maskz_loadu_ps(lanes(size - k), m + r * size + k);
                squares = _mm512_fmadd_ps(part, part, squares);
                _mm512_store_ps(w->x[r] + k, part);
            }
        float norm = __builtin_sqrtf(_mm512_reduce_add_ps(squares));
        const __m512 inverse = _mm512_set1_ps(1.0f / (norm * 1.01f + 1e-30f));
        for (int i = 0; i < FEATURES * FEATURES; i += 16)
            _mm512_store_ps(x + i, _mm512_mul_ps(_mm512_load_ps(x + i), inverse));
        for (int i = 0; i < steps; i++) improve(w, coefficients + 3 * i);
        for (int r = 0; r < size; r++) memcpy(m + r * size, w->x[r], sizeof(float) * size);
    }
    _tile_release();
    release(w);
    return 0;
}

#else

int siren_amx_orthogonalise(int t0, int t1, int size, int steps, const float *coefficients, float *matrices) {
    (void)t0, (void)t1, (void)size, (void)steps, (void)coefficients, (void)matrices;
    return 1;
}

#endif
