/* The vector code: compiled once for each instruction set, and chosen when a session is opened. */

#ifndef LX_KERNELS_H
#define LX_KERNELS_H

#include "file.h"

/* Kernels return 0 if all values that they computed are finite. Only the requested columns count: those after the last one
   hold values of other questions. Otherwise the answer is refused, because NaN may not reach the scores: the minimum and
   maximum of a number and NaN hide it, and so does a weight that is left out. */

/* Rows of memory start at multiples of LX_COLUMNS values, so that vectors of every size fit. A kernel may read up to LX_MARGIN
   values before and after a tensor, and does not use them. */
enum { LX_COLUMNS = 16, LX_MARGIN = 3 * LX_COLUMNS, LX_MOST_BLOCK = 80 };

/* A panel of a linear layer: y = activation(W x + bias + residual), [rows, columns], channel after channel. */
typedef struct {
  const lx_weight *weight;
  const uint8_t *data;       /* the start of the file's weights */
  uint32_t panel, columns;
  const void *x;             /* float [units][x_stride], or four bytes a value (quantise) */
  size_t x_stride;
  float *y;                  /* of the whole tensor */
  size_t y_stride;
  const float *bias;         /* or NULL */
  const float *residual;     /* or NULL */
  size_t residual_stride;
  const float *x_scale;      /* of quantised x, one value for each column */
  const int32_t *x_zero;
  uint32_t activation;
} lx_product;

typedef struct {
  const float *query, *key, *value; /* of one head, [size][stride] */
  size_t query_stride, key_stride, value_stride;
  float *out;
  size_t out_stride;
  uint32_t size, queries, keys;
  float scale;
  float *scores; /* scratch, [keys rounded up to 4][queries rounded up to LX_COLUMNS] */
} lx_attention;

typedef struct {
  const float *x, *add; /* add: or NULL */
  size_t x_stride, add_stride;
  float *y;
  size_t y_stride;
  const float *gain, *bias;
  uint32_t channels, columns; /* columns: at most LX_COLUMNS */
  float epsilon;
  uint32_t activation;
} lx_norm;

/* x [channels][x_stride] as bytes, four channels a value: byte = round(x / scale) + zero, with a scale and zero for each
   column. */
typedef struct {
  const float *x;
  size_t x_stride;
  uint32_t channels, columns; /* columns: at most LX_COLUMNS */
  uint32_t *bytes;
  size_t bytes_stride;
  float *scale;
  int32_t *zero;
} lx_quantise;

/* One channel: y = activation(kernel * x + bias), where x has zeros around it. */
typedef struct {
  const float *x;          /* [x_height][x_width] */
  uint32_t x_width, x_height, padding; /* padding: the zeros left of and above x */
  const float *zeros;      /* a row of zeros as wide as x, with a margin on both sides */
  const float *weights;    /* [kernel][kernel] */
  float bias;
  uint32_t kernel, stride, width, height; /* the width and height of y */
  float *y;
  uint32_t activation;
} lx_filter;

typedef struct {
  const char *name;
  uint32_t block; /* the columns of a product with many columns that are computed together */
  uint32_t (*filter)(const lx_filter *job);
  uint32_t (*product)(const lx_product *job);
  uint32_t (*attend)(const lx_attention *job);
  /* These compute up to LX_COLUMNS columns; the pointers are at the first of them. */
  uint32_t (*norm)(const lx_norm *job);
  uint32_t (*quantise)(const lx_quantise *job);
} lx_kernels;

/* The sets that this processor can run, best first; NULL ends them. */
const lx_kernels *const *lx_find_kernels(void);

#endif
