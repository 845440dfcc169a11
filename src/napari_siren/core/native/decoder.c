/* The decoder of a pretrained network at the points of a grid: interpolation of features, sine layers, a linear output.
 *
 * network.py does the same in PyTorch, and the tests compare the two. A point's features are neighbours in memory, so a
 * vector holds neighbouring features. Points are processed in groups that stay in the first-level cache.
 */
#include "siren.h"
#include "vectors.h"

#define POINTS 64

typedef struct {
    int32_t width, layers;   /* of the sine layers; the width is a multiple of VL */
    int32_t columns;         /* columns of the features */
    int32_t outputs;         /* columns of the result */
    int32_t row_taps, column_taps;
    float bias, scale;       /* of the result: scale * (head . h + bias) */
    const float *first;      /* first layer at the pixels, [rows][columns][width] */
    const int64_t *row_pixels, *column_pixels;   /* pixels of each row and column of the result, [taps][length] */
    const float *row_weights, *column_weights;   /* their weights */
    const float *of_rows, *of_columns;           /* phases, [rows or columns of the result][width] */
    const float *weights, *biases; /* of the later sine layers: [layers - 1][inputs][outputs], [layers - 1][width] */
    const float *head;
    float *values;           /* result, [rows][outputs]; added to what is there */
    int64_t rows;            /* rows of the result */
} Decoder;

/* A vector at any address. Tensors of PyTorch are aligned, but parts of them need not be. */
typedef float loose_vec __attribute__((vector_size(VL * 4), aligned(4), may_alias));
#define LOAD(p) ((vec)(*(const loose_vec *)(p)))

INLINE vec sine(vec z) {
    vec s, c;
    sincos_vec(z, &s, &c);
    return s;
}

/* Interpolation along the rows: [columns][width]. */
static void interpolate_row(const Decoder *d, int64_t row, float *along) {
    int length = d->columns * d->width;
    for (int i = 0; i < length; i += VL) {
        vec sum = {0};
        for (int tap = 0; tap < d->row_taps; tap++) {
            int64_t at = tap * d->rows + row;
            sum += d->row_weights[at] * LOAD(d->first + d->row_pixels[at] * length + i);
        }
        AT(along + i) = sum;
    }
}

/* The first sine layer of `count` points of a row, [count][width]. */
static void first_layer(const Decoder *d, int64_t row, int start, int count, const float *along, float *h) {
    for (int n = 0; n < count; n++)
        for (int f = 0; f < d->width; f += VL) {
            vec z = LOAD(d->of_rows + row * d->width + f) +
                    LOAD(d->of_columns + (int64_t)(start + n) * d->width + f);
            for (int tap = 0; tap < d->column_taps; tap++) {
                int64_t at = (int64_t)tap * d->outputs + start + n;
                z += d->column_weights[at] * LOAD(along + d->column_pixels[at] * d->width + f);
            }
            AT(h + n * d->width + f) = sine(z);
        }
}

static void output(const Decoder *d, int count, const float *h, float *values) {
    for (int n = 0; n < count; n++) {
        vec sum = {0};
        for (int f = 0; f < d->width; f += VL) sum += LOAD(d->head + f) * AT_CONST(h + n * d->width + f);
        values[n] += d->scale * (sum_lanes(sum) + d->bias);
    }
}

/* Number of floats in a vector, of which widths are multiples. */
int siren_vector_length(void) { return VL; }

/* Add the values of rows `start` to `stop` of the result. Returns 1 if there is no memory. */
int siren_decode(const Decoder *d, int64_t start, int64_t stop) {
    int width = d->width;
    size_t work = POINTS * (size_t)width, bytes = sizeof(float) * ((size_t)d->columns * width + 2 * work);
    float *h = allocate(bytes);
    if (!h) return 1;
    float *z = h + work, *along = z + work;
    for (int64_t row = start; row < stop; row++) {
        interpolate_row(d, row, along);
        for (int first = 0; first < d->outputs; first += POINTS) {
            int count = d->outputs - first < POINTS ? d->outputs - first : POINTS;
            first_layer(d, row, first, count, along, h);
            for (int layer = 0; layer + 1 < d->layers; layer++) {
                const float *bias = d->biases + layer * width;
                product(count, width, width, h, width, 1, d->weights + (size_t)layer * width * width, width, 0, z, width);
                for (int n = 0; n < count; n++)
                    for (int f = 0; f < width; f += VL)
                        AT(h + n * width + f) = sine(AT(z + n * width + f) + LOAD(bias + f));
            }
            output(d, count, h, d->values + row * d->outputs + first);
        }
    }
    release(h);
    return 0;
}
