/* Definitions shared by the files of the native engine. */
#ifndef SIREN_H
#define SIREN_H
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int32_t inputs, outputs, layers, width, samples;
    float omega;
    int64_t tile_stride;   /* number of parameters of a tile */
    int64_t coords_stride; /* 0 if all tiles share their coordinates */
    const int64_t *weights, *biases; /* first column of the weights and of the biases of each of layers + 1 layers */
} Network;

#endif
