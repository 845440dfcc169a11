/* What the files of the native engine share. */
#ifndef SIREN_H
#define SIREN_H
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int32_t inputs, outputs, layers, width, samples;
    float omega;
    int64_t tile_stride;   /* parameters of a tile */
    int64_t coords_stride; /* 0 where the tiles share their coordinates */
    const int64_t *weights, *biases; /* first column of each of layers + 1 weights and biases */
} Network;

#endif
