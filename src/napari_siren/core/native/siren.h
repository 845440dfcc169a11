/* Definitions shared by the files of the native engine. */
#ifndef SIREN_H
#define SIREN_H
#include <stdint.h>
#include <stdlib.h>

/* gcc does not align vectors on the stack on Windows, and Microsoft's headers export no function by default. */
#if defined(_WIN32) && !(defined(__clang__) && defined(__MINGW32__))
#error "on Windows, compile with clang for MinGW, such as zig cc"
#endif

#define INLINE static inline __attribute__((always_inline))

/* Memory for vectors, aligned to 64 bytes, or null. It is freed by `release`. */
#ifdef _WIN32
#include <malloc.h>
INLINE void *allocate(size_t bytes) { return _aligned_malloc(bytes, 64); }
INLINE void release(void *memory) { _aligned_free(memory); }
#else
INLINE void *allocate(size_t bytes) {
    void *memory;
    return posix_memalign(&memory, 64, bytes) ? 0 : memory;
}
INLINE void release(void *memory) { free(memory); }
#endif

typedef struct {
    int32_t inputs, outputs, layers, width, samples;
    float omega;
    int64_t tile_stride;   /* number of parameters of a tile */
    int64_t coords_stride; /* 0 if all tiles share their coordinates */
    const int64_t *weights, *biases; /* first column of the weights and of the biases of each of layers + 1 layers */
} Network;

#endif
