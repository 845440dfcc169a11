/* One step of the optimiser (core/network/optimizer.py): Adam, Muon and the running mean of the weights. It processes
 * some tiles at a time, so that each part finds the data of the previous one in the cache. */
#include "siren.h"

#include <stdlib.h>

typedef struct {
    int32_t parameters, adam; /* number of parameters of a tile: all, and the first ones, updated by Adam */
    int32_t matrices, size;   /* the other parameters: number of square matrices, and their rows */
    int32_t steps, amx;       /* steps of the orthogonalisation, and whether it uses AMX */
    float learning_rate, beta1, beta2, epsilon;
    float muon_learning_rate, momentum, averaging;
    const float *coefficients;
} Rule;

int siren_orthogonalise(int t0, int t1, int size, int steps, const float *coefficients, float *matrices);
int siren_amx_orthogonalise(int t0, int t1, int size, int steps, const float *coefficients, float *matrices);

INLINE float lerp(float a, float b, float share) { return a + share * (b - a); }

static void adam(const Rule *r, float rate, float count, float *theta, const float *g, float *mean, float *square) {
    const float size = r->learning_rate * rate / (1 - __builtin_powf(r->beta1, count));
    const float correction = 1 / (1 - __builtin_powf(r->beta2, count));
    for (int i = 0; i < r->adam; i++) {
        mean[i] = lerp(mean[i], g[i], 1 - r->beta1);
        square[i] = r->beta2 * square[i] + (1 - r->beta2) * g[i] * g[i];
        theta[i] -= size * mean[i] / (__builtin_sqrtf(square[i] * correction) + r->epsilon);
    }
}

/* Update tiles t0 to t1 - 1. Returns 0, or 1 if memory runs out. */
int siren_update(const Rule *r, int t0, int t1, float *theta, const float *gradient, const float *rate, float *average,
                 float *mean, float *square, float *count, float *momentum) {
    const int hidden = r->matrices * r->size * r->size;
    float *direction = malloc(sizeof(float) * ((size_t)(t1 - t0) * hidden + 1));
    if (!direction) return 1;
    for (int t = t0; t < t1; t++) {
        const float *g = gradient + (size_t)t * r->parameters + r->adam;
        float *d = direction + (size_t)(t - t0) * hidden, *m = momentum + (size_t)t * hidden;
        for (int i = 0; i < hidden; i++) {
            m[i] = lerp(m[i], g[i], 1 - r->momentum);
            d[i] = lerp(g[i], m[i], r->momentum);
        }
    }
    int failed = 0;
    if (hidden) {
        const int count_of = (t1 - t0) * r->matrices;
        failed = r->amx ? siren_amx_orthogonalise(0, count_of, r->size, r->steps, r->coefficients, direction)
                        : siren_orthogonalise(0, count_of, r->size, r->steps, r->coefficients, direction);
    }
    for (int t = t0; t < t1 && !failed; t++) {
        float *p = theta + (size_t)t * r->parameters, *a = average + (size_t)t * r->parameters;
        const float *d = direction + (size_t)(t - t0) * hidden, step = r->muon_learning_rate * rate[t];
        count[t] += 1;
        adam(r, rate[t], count[t], p, gradient + (size_t)t * r->parameters, mean + (size_t)t * r->adam,
             square + (size_t)t * r->adam);
        for (int i = 0; i < hidden; i++) p[r->adam + i] -= step * d[i];
        for (int i = 0; i < r->parameters; i++) a[i] = lerp(a[i], p[i], 1 - r->averaging);
    }
    free(direction);
    return failed;
}
