/* Matrix products of bfloat16 with float32 sums by Intel's AMX: registers, and the layouts of their data.
 *
 * The left factor has natural rows of 32. The right factor has pairs of its rows interleaved, in two halves of 16
 * columns ("pairs"). The macro AMX is defined if the compiler targets a processor with AMX. */
#ifndef AMX_H
#define AMX_H
#include "siren.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__linux__)
#define AMX
#include <immintrin.h>
#include <string.h>

#define FEATURES 32

typedef uint16_t Row[FEATURES];    /* bfloat16: 32 features of a sample, or 16 columns of 2 interleaved rows */
typedef float WideRow[FEATURES];
typedef struct { Row row[FEATURES]; } __attribute__((aligned(64))) Square; /* natural rows */
typedef struct { Row half[2][16]; } __attribute__((aligned(64))) Pairs; /* [half of the columns][pair of rows] */

/* ---- registers ------------------------------------------------------------------------------------------------- */

static void configure(void) {
    /* It must be constant: gcc 12 assumes that only the first bytes are read, and may omit writes to the others. */
    static const struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; }
        config = {.palette = 1, .bytes = {[0 ... 7] = 64}, .rows = {[0 ... 7] = 16}};
    _tile_loadconfig(&config);
}

INLINE void load_left(const void *top, const void *bottom) {
    _tile_loadd(4, top, 64);
    _tile_loadd(5, bottom, 64);
}

INLINE void load_right(const Pairs *right) {
    _tile_loadd(6, right->half[0], 64);
    _tile_loadd(7, right->half[1], 64);
}

/* Add the product of the left factor (4 above 5) and the right factor (6 beside 7) to the sums in registers 0 to 3. */
INLINE void multiply_all(void) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

INLINE void clear_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

INLINE void load_sums(WideRow *c) {
    _tile_loadd(0, c[0], 128);
    _tile_loadd(1, c[0] + 16, 128);
    _tile_loadd(2, c[16], 128);
    _tile_loadd(3, c[16] + 16, 128);
}

INLINE void store_sums(WideRow *c) {
    _tile_stored(0, c[0], 128);
    _tile_stored(1, c[0] + 16, 128);
    _tile_stored(2, c[16], 128);
    _tile_stored(3, c[16] + 16, 128);
}

INLINE __m512i pack(__m512 lo, __m512 hi) { return (__m512i)_mm512_cvtne2ps_pbh(hi, lo); }
INLINE __m512 widen(__m256i half) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)); }

/* Split 32 floats into a bfloat16 part, and a bfloat16 remainder. */
INLINE void split(const float *x, uint16_t *high, uint16_t *low) {
    __m512 a = _mm512_load_ps(x), b = _mm512_load_ps(x + 16);
    __m512i h = pack(a, b);
    _mm512_store_si512(high, h);
    a = _mm512_sub_ps(a, widen(_mm512_castsi512_si256(h)));
    _mm512_store_si512(low, pack(a, _mm512_sub_ps(b, widen(_mm512_extracti64x4_epi64(h, 1)))));
}

INLINE __mmask16 lanes(int left) { return left >= 16 ? 0xffff : left > 0 ? (1u << left) - 1 : 0; }

/* ---- rearranging ------------------------------------------------------------------------------------------------ */

/* Interleave two rows: columns 0 to 15 of both to lo, and columns 16 to 31 of both to hi. */
INLINE void interleave(const uint16_t *a, const uint16_t *b, uint16_t *lo, uint16_t *hi) {
    const __m512i first = _mm512_set_epi32(0x2f000f, 0x2e000e, 0x2d000d, 0x2c000c, 0x2b000b, 0x2a000a, 0x290009, 0x280008,
                                           0x270007, 0x260006, 0x250005, 0x240004, 0x230003, 0x220002, 0x210001, 0x200000);
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    __m512i x = _mm512_load_si512(a), y = _mm512_load_si512(b);
    _mm512_store_si512(lo, _mm512_permutex2var_epi16(x, first, y));
    _mm512_store_si512(hi, _mm512_permutex2var_epi16(x, second, y));
}

INLINE void pair_rows(const Row *rows, Pairs *to) {
    for (int k = 0; k < 16; k++) interleave(rows[2 * k], rows[2 * k + 1], to->half[0][k], to->half[1][k]);
}

/* The same, but with the columns in the cheapest order, called `shuffled`: 16 h + 4 q + r holds 8 q + 4 h + r. */
INLINE void pair_rows_shuffled(const Row *rows, Pairs *to) {
    for (int k = 0; k < 16; k++) {
        __m512i x = _mm512_load_si512(rows[2 * k]), y = _mm512_load_si512(rows[2 * k + 1]);
        _mm512_store_si512(to->half[0][k], _mm512_unpacklo_epi16(x, y));
        _mm512_store_si512(to->half[1][k], _mm512_unpackhi_epi16(x, y));
    }
}

INLINE int unshuffled(int column) { return 8 * (column >> 2 & 3) + 4 * (column >> 4) + (column & 3); }

/* Transpose 16 x 16 units of 32 bits. from_bytes and to_bytes are the distances of the rows in bytes. */
INLINE void transpose(const void *from, int from_bytes, void *to, int to_bytes) {
    __m512i r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512((const char *)from + i * from_bytes);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
    for (int i = 0; i < 16; i++) _mm512_storeu_si512((char *)to + i * to_bytes, r[i]);
}

/* The transpose of 32 rows, in pairs, as a right factor. */
INLINE void pair_columns(const Row *rows, Pairs *to) {
    transpose(rows[0], 64, to->half[0], 64);
    transpose(rows[16], 64, to->half[1], 64);
}

/* The transpose of 32 rows, [feature][sample], with shuffled features. */
INLINE void turn(const Row *rows, Row *to) {
    Pairs pairs;
    pair_rows_shuffled(rows, &pairs);
    transpose(pairs.half[0], 64, to[0], 64);
    transpose(pairs.half[1], 64, to[16], 64);
}

#endif
#endif
