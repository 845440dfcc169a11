/* 3 x 3 convolutions of a pretrained network by Winograd's minimal filtering, F(4 x 4, 3 x 3).
 *
 * S. Winograd 1980; A. Lavin and S. Gray 2016, arXiv 1509.09308. A tile of 4 x 4 pixels of the result is computed from 6
 * x 6 pixels of the input. Both are transformed along both axes. Between the transforms are 36 products of features for
 * the 16 pixels, instead of 144. A convolution with a dilation is one convolution for each set of pixels whose positions
 * have the same remainders. Features are neighbours in memory, so a vector holds neighbouring features.
 */
#include "siren.h"
#include "vectors.h"

#define OUT 4                /* side of a tile of the result */
#define SIDE 6               /* side of a tile of the input */
#define POINTS (SIDE * SIDE) /* values of a transformed tile */
#define TILES 24             /* tiles of a group, whose transforms stay in the second-level cache; a multiple of 6 */
#define LINE 16              /* floats between the points of a group: at equal distances they would share cache lines */
#define PRODUCT_ROWS 6       /* 6 x BLOCK accumulators */

typedef struct {
    int32_t rows, columns;   /* of the image */
    int32_t inputs, outputs; /* features, multiples of VL */
    int32_t dilation;
    float leak;              /* slope of the rectifier below zero */
    const float *image;      /* [rows][columns][inputs]; beyond its ends are zeros */
    const float *kernels;    /* transformed: [POINTS][inputs][outputs] */
    const float *bias;       /* [outputs] */
    const float *added;      /* added before the rectifier: [rows][columns][outputs], or null */
    float *result;           /* [rows][columns][outputs] */
} Convolution;

/* The first pixel of a tile of the result. */
typedef struct { int32_t row, column; } Tile;

INLINE int smaller(int a, int b) { return a < b ? a : b; }

/* Number of tiles along an axis, of the pixels with one remainder. */
INLINE int tiles_of(int length, int dilation, int remainder) {
    int pixels = (length - remainder + dilation - 1) / dilation;
    return (pixels + OUT - 1) / OUT;
}

static int tiles_along(int length, int dilation) {
    int count = 0;
    for (int remainder = 0; remainder < dilation; remainder++) count += tiles_of(length, dilation, remainder);
    return count;
}

/* The first pixel of a tile along an axis. */
static int first_pixel(int length, int dilation, int tile) {
    int remainder = 0;
    for (int count; tile >= (count = tiles_of(length, dilation, remainder)); remainder++) tile -= count;
    return remainder + tile * OUT * dilation;
}

INLINE void transform_input(const vec *d, vec *t, int step) {
    vec even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1], outer = d[4] - d[2], twice = 2.0f * (d[3] - d[1]);
    t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    t[step] = even + odd;
    t[2 * step] = even - odd;
    t[3 * step] = outer + twice;
    t[4 * step] = outer - twice;
    t[5 * step] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

INLINE void transform_output(const vec *m, vec *y, int step) {
    vec sum = m[1] + m[2], difference = m[1] - m[2], far_sum = m[3] + m[4], far_difference = m[3] - m[4];
    y[0] = m[0] + sum + far_sum;
    y[step] = difference + 2.0f * far_difference;
    y[2 * step] = sum + 4.0f * far_sum;
    y[3 * step] = difference + 8.0f * far_difference + m[5];
}

/* Transform the input of a tile: values[POINTS], `stride` floats apart, [inputs] each. */
static void load_tile(const Convolution *c, Tile tile, const float *zeros, float *values, size_t stride) {
    const float *pixels[POINTS];
    for (int i = 0; i < POINTS; i++) {
        int row = tile.row + (i / SIDE - 1) * c->dilation, column = tile.column + (i % SIDE - 1) * c->dilation;
        int inside = row >= 0 && row < c->rows && column >= 0 && column < c->columns;
        pixels[i] = inside ? c->image + ((size_t)row * c->columns + column) * c->inputs : zeros;
    }
    for (int f = 0; f < c->inputs; f += VL) {
        vec t[POINTS];
        for (int j = 0; j < SIDE; j++) {
            vec column[SIDE];
            for (int i = 0; i < SIDE; i++) column[i] = AT_CONST(pixels[i * SIDE + j] + f);
            transform_input(column, t + j, SIDE);
        }
        for (int i = 0; i < SIDE; i++) {
            vec row[SIDE];
            transform_input(t + i * SIDE, row, 1);
            for (int j = 0; j < SIDE; j++) AT(values + (i * SIDE + j) * stride + f) = row[j];
        }
    }
}

/* Transform the sums of a tile back, and write the first rows and columns of the tile. */
INLINE void store_part(const Convolution *c, Tile tile, const float *sums, size_t stride, int rows, int columns) {
    size_t across = (size_t)c->dilation * c->outputs, down = across * c->columns;
    size_t start = ((size_t)tile.row * c->columns + tile.column) * c->outputs;
    for (int f = 0; f < c->outputs; f += VL) {
        vec t[OUT * SIDE], bias = AT_CONST(c->bias + f);
        for (int j = 0; j < SIDE; j++) {
            vec column[SIDE];
            for (int i = 0; i < SIDE; i++) column[i] = AT_CONST(sums + (i * SIDE + j) * stride + f);
            transform_output(column, t + j, SIDE);
        }
        for (int i = 0; i < rows; i++) {
            vec row[OUT];
            transform_output(t + i * SIDE, row, 1);
            for (int j = 0; j < columns; j++) {
                size_t at = start + i * down + j * across + f;
                vec high = row[j] + bias;
                if (c->added) high += AT_CONST(c->added + at);
                vec low = high * c->leak;
                ivec positive = high > low;
                AT(c->result + at) = (vec)((positive & (ivec)high) | (~positive & (ivec)low));
            }
        }
    }
}

static void store_tile(const Convolution *c, Tile tile, const float *sums, size_t stride) {
    int rows = (c->rows - tile.row + c->dilation - 1) / c->dilation;
    int columns = (c->columns - tile.column + c->dilation - 1) / c->dilation;
    if (rows >= OUT && columns >= OUT) store_part(c, tile, sums, stride, OUT, OUT);
    else store_part(c, tile, sums, stride, smaller(rows, OUT), smaller(columns, OUT));
}

INLINE void multiply_block(int vecs, int inputs, int outputs, const float *values, const float *kernel, float *sums) {
    vec sum[PRODUCT_ROWS][BLOCK];
    for (int row = 0; row < PRODUCT_ROWS; row++)
        for (int v = 0; v < vecs; v++) sum[row][v] = (vec){0};
    for (int k = 0; k < inputs; k++) {
        vec factors[BLOCK];
        for (int v = 0; v < vecs; v++) factors[v] = AT_CONST(kernel + (size_t)k * outputs + v * VL);
        for (int row = 0; row < PRODUCT_ROWS; row++) {
            float value = values[row * inputs + k];
            for (int v = 0; v < vecs; v++) sum[row][v] += value * factors[v];
        }
    }
    for (int row = 0; row < PRODUCT_ROWS; row++)
        for (int v = 0; v < vecs; v++) AT(sums + (size_t)row * outputs + v * VL) = sum[row][v];
}

/* sums[TILES][outputs] = values[TILES][inputs] kernel[inputs][outputs]. */
static void multiply(int inputs, int outputs, const float *values, const float *kernel, float *sums) {
    int f = 0;
    for (; f + BLOCK * VL <= outputs; f += BLOCK * VL)
        for (int row = 0; row < TILES; row += PRODUCT_ROWS)
            multiply_block(BLOCK, inputs, outputs, values + row * inputs, kernel + f, sums + row * outputs + f);
    for (; f < outputs; f += VL)
        for (int row = 0; row < TILES; row += PRODUCT_ROWS)
            multiply_block(1, inputs, outputs, values + row * inputs, kernel + f, sums + row * outputs + f);
}

/* Number of tiles of a convolution. */
int64_t siren_convolution_tiles(const Convolution *c) {
    return (int64_t)tiles_along(c->rows, c->dilation) * tiles_along(c->columns, c->dilation);
}

/* Compute the tiles from `start` to `stop`. Returns 1 if there is no memory. */
int siren_convolve(const Convolution *c, int64_t start, int64_t stop) {
    size_t in = (size_t)TILES * c->inputs + LINE, out = (size_t)TILES * c->outputs + LINE;
    float *values = allocate(sizeof(float) * (POINTS * (in + out) + c->inputs));
    if (!values) return 1;
    float *sums = values + POINTS * in, *zeros = sums + POINTS * out;
    /* The last group may have fewer tiles. The sums of the others are not used, but must be of numbers. */
    for (size_t i = 0; i < POINTS * in; i++) values[i] = 0;
    for (int f = 0; f < c->inputs; f++) zeros[f] = 0;
    int across = tiles_along(c->columns, c->dilation);
    for (int64_t first = start; first < stop; first += TILES) {
        int count = stop - first < TILES ? (int)(stop - first) : TILES;
        Tile tiles[TILES];
        for (int n = 0; n < count; n++) {
            tiles[n].row = first_pixel(c->rows, c->dilation, (int)((first + n) / across));
            tiles[n].column = first_pixel(c->columns, c->dilation, (int)((first + n) % across));
            load_tile(c, tiles[n], zeros, values + n * c->inputs, in);
        }
        for (int i = 0; i < POINTS; i++) {
            const float *kernel = c->kernels + (size_t)i * c->inputs * c->outputs;
            multiply(c->inputs, c->outputs, values + i * in, kernel, sums + i * out);
        }
        for (int n = 0; n < count; n++) store_tile(c, tiles[n], sums + n * c->outputs, out);
    }
    release(values);
    return 0;
}
