/* Vectors of floats of any SIMD width, with their sine and cosine, and products of matrices. */
#ifndef VECTORS_H
#define VECTORS_H
#include "siren.h"

#include <stddef.h>

#if defined(__AVX512F__)
#define VL 16
#define BLOCK 4 /* 4 x 4 accumulators, out of 32 registers */
#elif defined(__AVX__)
#define VL 8
#define BLOCK 2 /* 4 x 2 accumulators, out of 16 registers */
#else
#define VL 4
#define BLOCK 4
#endif
#define ROWS 4

typedef float vec __attribute__((vector_size(VL * 4), may_alias));
typedef int32_t ivec __attribute__((vector_size(VL * 4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(VL * 4), may_alias));
#define AT(p) (*(vec *)(p))
#define AT_CONST(p) (*(const vec *)(p))

/* sin and cos of z. First subtract a multiple of pi in three parts (Cody and Waite). Then evaluate two even polynomials
 * on [-pi/2, pi/2], close to minimax, with absolute error below 2e-7. The parity of the multiple gives the sign. */
INLINE void sincos_vec(vec z, vec *s, vec *c) {
    const float round_to_even = 12582912.0f; /* 1.5 * 2^23 */
    vec k = z * 0.318309886183790672f + round_to_even;
    uvec sign = ((uvec)k) << 31;
    k -= round_to_even;
    vec r = z - k * 3.140625f;
    r = r - k * 9.67502593994140625e-4f;
    r = r - k * 1.509957990978376432e-7f;
    vec r2 = r * r;
    vec p = r2 * -2.3889859e-8f + 2.7525562e-6f;
    p = p * r2 - 1.9840874e-4f;
    p = p * r2 + 8.3333310e-3f;
    p = p * r2 - 1.6666667e-1f;
    p = p * r2 * r + r;
    vec q = r2 * 1.9907571e-9f - 2.7532926e-7f;
    q = q * r2 + 2.4801324e-5f;
    q = q * r2 - 1.3888885e-3f;
    q = q * r2 + 4.1666666e-2f;
    q = q * r2 - 0.5f;
    q = q * r2 + 1.0f;
    *s = (vec)((uvec)p ^ sign);
    *c = (vec)((uvec)q ^ sign);
}

INLINE float sum_lanes(vec a) {
    float s = 0;
    for (int i = 0; i < VL; i++) s += a[i];
    return s;
}

/* ---- C[m][n] = bias[m] + sum_k A[m * ra + k * ca] B[k][n] ------------------------------------------------------ */

INLINE void product_block(int rows, int vecs, int K, const float *A, int ra, int ca, const float *B, int ldb,
                          const float *bias, float *C, int ldc) {
    vec acc[ROWS][BLOCK];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) acc[r][v] = (vec){0} + (bias ? bias[r] : 0.0f);
    for (int k = 0; k < K; k++) {
        vec b[BLOCK];
        for (int v = 0; v < vecs; v++) b[v] = AT_CONST(B + (size_t)k * ldb + v * VL);
        for (int r = 0; r < rows; r++) {
            float a = A[r * ra + k * ca];
            for (int v = 0; v < vecs; v++) acc[r][v] += a * b[v];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) AT(C + (size_t)r * ldc + v * VL) = acc[r][v];
}

INLINE void product_columns(int vecs, int M, int K, const float *A, int ra, int ca, const float *B, int ldb,
                            const float *bias, float *C, int ldc) {
    int m = 0;
    for (; m + ROWS <= M; m += ROWS)
        product_block(ROWS, vecs, K, A + m * ra, ra, ca, B, ldb, bias ? bias + m : 0, C + m * ldc, ldc);
    const float *rest = A + m * ra, *rest_bias = bias ? bias + m : 0;
    switch (M - m) {
    case 3: product_block(3, vecs, K, rest, ra, ca, B, ldb, rest_bias, C + m * ldc, ldc); break;
    case 2: product_block(2, vecs, K, rest, ra, ca, B, ldb, rest_bias, C + m * ldc, ldc); break;
    case 1: product_block(1, vecs, K, rest, ra, ca, B, ldb, rest_bias, C + m * ldc, ldc); break;
    }
}

static void product(int M, int K, int N, const float *A, int ra, int ca, const float *B, int ldb, const float *bias,
                    float *C, int ldc) {
    int n = 0;
    for (; n + BLOCK * VL <= N; n += BLOCK * VL) product_columns(BLOCK, M, K, A, ra, ca, B + n, ldb, bias, C + n, ldc);
    for (; n + 2 * VL <= N; n += 2 * VL) product_columns(2, M, K, A, ra, ca, B + n, ldb, bias, C + n, ldc);
    for (; n < N; n += VL) product_columns(1, M, K, A, ra, ca, B + n, ldb, bias, C + n, ldc);
}

#if VL == 16
/* The sums of 16 vectors, as one vector. It takes 4 rounds of halving instead of 16 reductions. */
INLINE vec sum_each(const vec *t) {
    vec a[8], b[4], c[2];
    for (int i = 0; i < 8; i++)
        a[i] = __builtin_shufflevector(t[i], t[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(t[i], t[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    for (int i = 0; i < 4; i++)
        b[i] = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
               __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int i = 0; i < 2; i++)
        c[i] = __builtin_shufflevector(b[i], b[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               __builtin_shufflevector(b[i], b[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return __builtin_shufflevector(c[0], c[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
           __builtin_shufflevector(c[0], c[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}
#endif

#endif
