/* A session: the memory for one question at a time, and the loop over a model's operations.

   First the sizes of a question are found, and every slice of every operation is checked against them. Then the tensors
   are laid out one after another. All threads go through the operations together. An operation is cut into items that any
   thread may take, none of which depends on another, so that results are the same whatever the number of threads. */

#include "kernels.h"
#include "pool.h"
#include "seen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = LX_MOST_TILE + 1, CHANNELS_AT_ONCE = 64 };
/* From this many columns on, a product is cut into blocks of columns instead of panels: all rows of a block are computed while
   its columns are in the nearest cache. A question has fewer columns, a picture more. */
enum { MANY_COLUMNS = 4 * LX_MOST_BLOCK };

/* The most bytes of a session: a small file could otherwise ask for all of a machine's memory. */
#ifndef LX_MOST_MEMORY
#define LX_MOST_MEMORY (1ull << 32)
#endif

typedef struct {
  float *at;
  size_t stride;
  uint32_t columns;
} view;

/* Which operations run: all of them; those that lx_see can do; or those that are left for the question. */
typedef enum { RUN_ALL, RUN_BEFORE, RUN_ASKED } phase;

struct lx_session {
  const lx_model *model;
  const lx_kernels *kernels;
  lx_pool *pool;
  int threads;
  int64_t *sizes;       /* the columns of each size, for this question */
  int32_t **kept;       /* of each LX_ROWS size: which rows of its inputs its mask keeps */
  view *tensors;
  const void **rows;    /* of each input: its rows for this question */
  float *memory;        /* all tensors */
  float *zeros;         /* a row of the widest picture, with a margin on both sides */
  uint32_t *bytes;      /* a quantised input */
  float *scale;         /* of its columns */
  int32_t *zero;
  float *scores;        /* of attention, or a block of a product, for each thread */
  size_t scores_each;
  void *allocated;      /* what `memory` and the others lie in */
  float *answer;
  phase phase;
  lx_seen *seen;        /* what lx_see keeps, or NULL */
  uint32_t not_finite;  /* whether an operation read or wrote NaN or infinity; any thread sets it */
};

static size_t stride_of(int64_t columns) { return ((size_t)columns + LX_COLUMNS - 1) / LX_COLUMNS * LX_COLUMNS; }

/* -- opening -------------------------------------------------------------------------------------------------- */

typedef struct {
  uint64_t memory, bytes, columns, scores, zeros; /* values of four bytes; where size_t has 32 bits, more than it can count */
} need;

/* Returns what the largest question would need; no more than this is ever touched. After the last tensor there is room for
   a whole tile, because an index of a damaged file may point anywhere within a tile. */
static need count_memory(const lx_model *model) {
  need all = {0, 0, 0, 0, 0};
  for (uint32_t n = 0; n < model->head.sizes; n++) {
    uint64_t stride = stride_of(model->sizes[n].most);
    if (stride > all.columns) all.columns = stride;
  }
  for (uint32_t n = 0; n < model->head.tensors; n++) {
    const lx_tensor *tensor = &model->tensors[n];
    all.memory += lx_rounded(tensor->channels, LX_GROUP) * (uint64_t)stride_of(model->sizes[tensor->size].most) + LX_MARGIN;
  }
  all.memory += LX_MARGIN + ROOM * all.columns + LX_COLUMNS * LX_GROUP;
  for (uint32_t n = 0; n < model->head.ops; n++) {
    const lx_op *op = &model->ops[n];
    if (op->code == LX_LINEAR && lx_is_quantised(&model->weights[op->weight])) {
      uint64_t units = lx_units(&model->weights[op->weight]) + ROOM;
      uint64_t bytes = units * stride_of(model->sizes[op->in[0].columns].most);
      if (bytes > all.bytes) all.bytes = bytes;
    }
    if (op->code == LX_LINEAR && model->sizes[op->in[0].columns].most >= MANY_COLUMNS) {
      const uint64_t block = (lx_units(&model->weights[op->weight]) + ROOM) * (uint64_t)LX_MOST_BLOCK;
      if (block > all.scores) all.scores = block;
    }
    if (op->code == LX_FILTER && op->width + 2ull * LX_MARGIN > all.zeros) all.zeros = op->width + 2ull * LX_MARGIN;
    if (op->code == LX_ATTEND) {
      uint64_t keys = lx_rounded(model->sizes[op->in[1].columns].most, LX_GROUP);
      uint64_t scores = keys * stride_of(model->sizes[op->in[0].columns].most);
      if (scores > all.scores) all.scores = scores;
    }
  }
  return all;
}

static void *take(uint8_t **from, uint64_t bytes) {
  void *taken = *from;
  *from += (bytes + LX_ALIGN - 1) / LX_ALIGN * LX_ALIGN;
  return taken;
}

/* Returns the bytes of all that a session allocates. Lengths are bounded by the checks of file.c: no sum overflows 64 bits. */
static uint64_t count_bytes(const lx_model *model, int threads) {
  const lx_header *head = &model->head;
  need all = count_memory(model);
  uint64_t total = 64ull * LX_ALIGN + 4ull * (all.memory + all.zeros + all.bytes + 2 * all.columns + all.scores * (uint64_t)threads);
  for (uint32_t n = 0; n < head->sizes; n++)
    if (model->sizes[n].kind == LX_ROWS) total += stride_of(model->sizes[n].most) * 4;
  return total + head->sizes * 16ull + head->tensors * sizeof(view) + head->inputs * 8ull;
}

static int allocate(lx_session *session) {
  const lx_model *model = session->model;
  const lx_header *head = &model->head;
  need all = count_memory(model);
  const uint64_t total = count_bytes(model, session->threads);
  session->allocated = total > SIZE_MAX ? NULL : calloc(1, (size_t)total);
  if (!session->allocated) return -1;
  session->scores_each = (size_t)all.scores;
  uint8_t *at = session->allocated;
  at += (LX_ALIGN - (uintptr_t)at % LX_ALIGN) % LX_ALIGN;
  session->memory = take(&at, 4 * all.memory);
  session->zeros = take(&at, 4 * all.zeros);
  session->bytes = take(&at, 4 * all.bytes);
  session->scale = take(&at, 4 * all.columns);
  session->zero = take(&at, 4 * all.columns);
  session->scores = take(&at, 4 * all.scores * (uint64_t)session->threads);
  session->sizes = take(&at, 8 * head->sizes);
  session->kept = take(&at, sizeof(int32_t *) * head->sizes);
  session->tensors = take(&at, sizeof(view) * head->tensors);
  session->rows = take(&at, sizeof(void *) * head->inputs);
  for (uint32_t n = 0; n < head->sizes; n++)
    if (model->sizes[n].kind == LX_ROWS) session->kept[n] = take(&at, 4 * stride_of(model->sizes[n].most));
  return 0;
}

static const lx_kernels *find_kernels(const char *name) {
  for (const lx_kernels *const *each = lx_find_kernels(); *each; each++)
    if (!name || !strcmp(name, (*each)->name)) return *each;
  return NULL;
}

lx_session *lx_session_open(const lx_model *model, int threads, const char *instructions, char *error,
                            size_t error_bytes) {
  const lx_kernels *kernels = find_kernels(instructions);
  if (!kernels || threads < 1 || threads > 1024) {
    if (kernels)
      lx_fail(error, error_bytes, "threads: expected 1 to 1024, got %d", threads);
    else
      lx_fail(error, error_bytes, "this processor has no %s; it has %s", instructions, lx_instruction_sets());
    return NULL;
  }
  const unsigned long long megabytes = count_bytes(model, threads) >> 20;
  if (megabytes >= LX_MOST_MEMORY >> 20) {
    lx_fail(error, error_bytes, "a session with threads=%d would need %llu MB, expected less than %llu", threads, megabytes,
            LX_MOST_MEMORY >> 20);
    return NULL;
  }
  lx_session *session = calloc(1, sizeof *session);
  if (session) {
    session->model = model, session->kernels = kernels, session->threads = threads;
    if (!allocate(session)) session->pool = lx_pool_open(threads);
    if (session->pool) return session;
  }
  lx_fail(error, error_bytes, "there is not enough memory, or no thread can be started, for a session with threads=%d",
          threads);
  lx_session_close(session);
  return NULL;
}

void lx_session_close(lx_session *session) {
  if (!session) return;
  lx_pool_close(session->pool);
  lx_seen_close(session->seen, session->model);
  free(session->allocated);
  free(session);
}

/* -- one question: its sizes ---------------------------------------------------------------------------------- */

typedef struct {
  char *text;
  size_t bytes;
} complaint;

#define FAIL(...) lx_fail(to->text, to->bytes, __VA_ARGS__)
#define NEED(condition, ...)                    \
  do {                                          \
    if (!(condition)) return FAIL(__VA_ARGS__); \
  } while (0)

/* Returns the feed of an input: for a question about what was seen, the one that is kept. */
static const lx_feed *find_feed(const lx_session *session, const lx_feed *feeds, uint32_t input) {
  return session->phase == RUN_ASKED && session->seen->inputs[input] ? &session->seen->feeds[input] : &feeds[input];
}

/* Whether this phase has the value of a size. */
static int has_size(const lx_session *session, uint32_t size) {
  return session->phase != RUN_BEFORE || session->seen->sizes[size];
}

/* Whether an operation runs in this phase. */
static int runs(const lx_session *session, uint32_t op) {
  return session->phase == RUN_ALL || (session->seen->ops[op] == LX_ASKED) == (session->phase == RUN_ASKED);
}

/* Finds the rows that a mask keeps, and returns their number. */
static int64_t keep_rows(const int64_t *mask, int64_t rows, int32_t *kept) {
  int64_t count = 0;
  for (int64_t row = 0; row < rows; row++)
    if (mask[row]) kept[count++] = (int32_t)row;
  return count;
}

static int find_sizes(lx_session *session, const lx_feed *feeds, complaint *to) {
  const lx_model *model = session->model;
  for (uint32_t n = 0; n < model->head.sizes; n++) {
    const lx_size *size = &model->sizes[n];
    int64_t value = size->add;
    session->sizes[n] = 0;
    if (!has_size(session, n)) continue;
    if (size->kind == LX_ROWS) {
      value = keep_rows(session->rows[size->b], find_feed(session, feeds, (uint32_t)size->b)->rows, session->kept[n]);
      NEED(value > 0, "the mask %s keeps no token or region of a question", model->inputs[size->b].name);
    }
    if (size->kind == LX_SUM) value += session->sizes[size->a] + (size->b == LX_NONE ? 0 : session->sizes[size->b]);
    NEED(value >= 0 && value <= size->most,
         "a question has a size of %lld, expected 0 to %u", (long long)value, size->most);
    session->sizes[n] = value;
  }
  return 0;
}

static void lay_out(lx_session *session) {
  const lx_model *model = session->model;
  float *at = session->memory + LX_MARGIN;
  for (uint32_t n = 0; n < model->head.tensors; n++) {
    const lx_tensor *tensor = &model->tensors[n];
    int64_t columns = session->sizes[tensor->size];
    session->tensors[n] = (view){at, stride_of(columns), (uint32_t)columns};
    /* What is read past the end of a tensor is not in the next one, which another thread may be writing. */
    at += lx_rounded(tensor->channels, LX_GROUP) * stride_of(columns) + LX_MARGIN;
  }
}

static int64_t start_of(const lx_session *session, const lx_slice *slice) {
  return slice->start == LX_NONE ? 0 : session->sizes[slice->start];
}

static view take_slice(const lx_session *session, const lx_slice *slice) {
  view found = session->tensors[slice->tensor];
  found.at += slice->row * found.stride + (size_t)start_of(session, slice);
  found.columns = (uint32_t)session->sizes[slice->columns];
  return found;
}

static int check_slices(const lx_session *session, const lx_op *op, complaint *to) {
  for (int n = 0; n < lx_count_slices(op); n++) {
    int64_t start = start_of(session, &op->in[n]), columns = session->sizes[op->in[n].columns];
    NEED(columns > 0 && start >= 0 && start + columns <= session->tensors[op->in[n].tensor].columns,
         "a question is too short: %lld columns from column %lld do not exist", (long long)columns, (long long)start);
  }
  return 0;
}

/* Checks that the slices of an operation have as many columns as its result, and that its rows are in its table. */
static int check_columns(const lx_session *session, const lx_op *op, complaint *to) {
  const lx_model *model = session->model;
  if (op->code == LX_SCORES) return 0;
  if (op->code == LX_PLANES) {
    const lx_input_record *input = &model->inputs[op->input];
    const int64_t planes_of_row = input->width / session->sizes[model->tensors[op->out].size];
    NEED(session->sizes[input->size] * planes_of_row == model->tensors[op->out].channels,
         "a picture has another number of planes than %u", model->tensors[op->out].channels);
  }
  const int64_t out = session->tensors[op->out].columns;
  const int64_t first = op->in[0].tensor == LX_NONE ? 0 : session->sizes[op->in[0].columns];
  const int64_t second = op->in[1].tensor == LX_NONE ? 0 : session->sizes[op->in[1].columns];
  NEED(out > 0, "a question has no token or region to read");
  const int32_t *kept = op->code == LX_EMBED ? session->kept[model->tensors[op->out].size] : NULL;
  if (kept && op->mode != LX_BY_CONSTANT) {
    const int64_t *ids = op->mode == LX_BY_INPUT ? session->rows[op->input] : NULL;
    for (int64_t column = 0; column < out; column++) {
      const int64_t id = ids ? ids[kept[column]] : kept[column];
      NEED(id >= 0 && id < model->weights[op->weight].rows, "%s is %lld, expected 0 to %u", ids ? "an id" : "a position",
           (long long)id, model->weights[op->weight].rows - 1);
    }
    return 0;
  }
  if (op->code == LX_JOIN) NEED(first + second == out,
                                "two joined tensors do not have the number of columns of the result");
  if (op->code == LX_ATTEND) NEED(first == out, "attention has another number of queries than of results");
  if (op->code == LX_LINEAR || op->code == LX_NORM)
    NEED(first == out && (op->in[1].tensor == LX_NONE || second == out),
         "two tensors that are added have different numbers of columns");
  return 0;
}

/* -- operations ----------------------------------------------------------------------------------------------- */

static const void *find_data(const lx_session *session, uint64_t offset) { return session->model->data + offset; }

static const float *find_vector(const lx_session *session, int32_t weight) {
  return weight == LX_NONE ? NULL : find_data(session, session->model->weights[weight].values);
}

static float read_value(const lx_session *session, const lx_weight *weight, size_t row, size_t column) {
  const size_t place = row * weight->columns + column;
  const void *values = find_data(session, weight->values);
  if (weight->type == LX_F32) return ((const float *)values)[place];
  if (weight->type == LX_I8)
    return (float)((const int8_t *)values)[place] * ((const float *)find_data(session, weight->scales))[row];
  uint32_t bits = (uint32_t)((const uint16_t *)values)[place] << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint32_t is_finite(float value) { return value - value == 0.0f; }

static uint32_t end_of(uint32_t first, uint32_t channels) {
  return channels - first < CHANNELS_AT_ONCE ? channels : first + CHANNELS_AT_ONCE;
}

/* Returns the row of the table that LX_EMBED looks up for a column. */
static size_t find_row(const lx_session *session, const lx_op *op, uint32_t column) {
  if (op->mode == LX_BY_CONSTANT) return op->count;
  const int32_t *kept = session->kept[session->model->tensors[op->out].size];
  if (!kept) return column;
  if (op->mode == LX_BY_POSITION) return (size_t)kept[column];
  const int64_t *ids = session->rows[op->input];
  return (size_t)ids[kept[column]];
}

static uint32_t embed(const lx_session *session, const lx_op *op, uint32_t first) {
  const lx_weight *table = &session->model->weights[op->weight];
  const lx_tensor *tensor = &session->model->tensors[op->out];
  const view out = session->tensors[op->out];
  uint32_t found = 0;
  for (uint32_t column = 0; column < out.columns; column++) {
    const size_t row = find_row(session, op, column);
    for (uint32_t channel = first; channel < end_of(first, tensor->channels); channel++) {
      float *to = out.at + channel * out.stride + column;
      *to = read_value(session, table, row, channel) + (op->adds ? *to : 0.0f);
      found |= !is_finite(*to);
    }
  }
  return found;
}

static void load(const lx_session *session, const lx_op *op, uint32_t first) {
  const lx_tensor *tensor = &session->model->tensors[op->out];
  const view out = session->tensors[op->out];
  const float *rows = session->rows[op->input];
  for (uint32_t column = 0; column < out.columns; column++) {
    const float *from = rows + (size_t)session->kept[tensor->size][column] * tensor->channels;
    for (uint32_t channel = first; channel < end_of(first, tensor->channels); channel++)
      out.at[channel * out.stride + column] = from[channel];
  }
}

static void join(const lx_session *session, const lx_op *op, uint32_t first) {
  const view out = session->tensors[op->out];
  const uint32_t end = end_of(first, session->model->tensors[op->out].channels);
  float *to = out.at;
  for (int n = 0; n < 2 && op->in[n].tensor != LX_NONE; n++) {
    const view in = take_slice(session, &op->in[n]);
    for (uint32_t channel = first; channel < end; channel++)
      memcpy(to + channel * out.stride, in.at + channel * in.stride, in.columns * sizeof(float));
    to += in.columns;
  }
}

/* Copies the rows of an input for LX_PLANES; prepare() checks that its mask keeps all of them. */
static void copy_planes(const lx_session *session, const lx_op *op, uint32_t first) {
  const view out = session->tensors[op->out];
  const float *rows = session->rows[op->input];
  for (uint32_t channel = first; channel < end_of(first, session->model->tensors[op->out].channels); channel++)
    memcpy(out.at + channel * out.stride, rows + (size_t)channel * out.columns, out.columns * sizeof(float));
}

/* Copies every `stride`-th of the pixels of a row, from the pixel `first` on, which may be left of the row. */
static void copy_row(float *to, uint32_t count, const float *row, int64_t first, uint32_t stride, uint32_t width) {
  uint32_t n = 0;
  for (; n < count && first + (int64_t)n * stride < 0; n++) to[n] = 0.0f;
  const int64_t left = (int64_t)width - (first + (int64_t)n * stride), fit = left <= 0 ? 0 : (left + stride - 1) / stride;
  const uint32_t many = fit < count - n ? (uint32_t)fit : count - n;
  const float *from = row + first + (int64_t)n * stride;
  float *at = to + n;
  if (stride == 1)
    memcpy(at, from, many * sizeof(float));
  else if (stride == 2)
    for (uint32_t k = 0; k < many; k++) at[k] = from[2 * k];
  else
    for (uint32_t k = 0; k < many; k++) at[k] = from[(size_t)stride * k];
  n += many;
  if (n < count) memset(to + n, 0, (count - n) * sizeof(float));
}

/* One channel of LX_PATCHES: the pixel under one weight of the kernel, for each position of the kernel. */
static void take_patches(const lx_session *session, const lx_op *op, uint32_t channel) {
  const view in = take_slice(session, &op->in[0]), out = session->tensors[op->out];
  const uint32_t side = op->count, under = channel % (side * side);
  const float *x = in.at + channel / (side * side) * in.stride;
  const int64_t height = in.columns / op->width, left = (int64_t)(under % side) - op->padding;
  for (uint32_t row = 0; row < out.columns / op->out_width; row++) {
    const int64_t y = (int64_t)row * op->mode + under / side - op->padding;
    float *to = out.at + channel * out.stride + (size_t)row * op->out_width;
    if (y < 0 || y >= height)
      memset(to, 0, op->out_width * sizeof(float));
    else
      copy_row(to, op->out_width, x + y * op->width, left, op->mode, op->width);
  }
}

static uint32_t filter(const lx_session *session, const lx_op *op, uint32_t channel) {
  const view in = take_slice(session, &op->in[0]), out = session->tensors[op->out];
  const float *bias = find_vector(session, op->bias);
  const lx_filter job = {.x = in.at + channel * in.stride, .x_width = op->width, .x_height = in.columns / op->width,
                         .padding = op->padding, .zeros = session->zeros + LX_MARGIN,
                         .weights = find_vector(session, op->weight) + (size_t)channel * op->count * op->count,
                         .bias = bias ? bias[channel] : 0.0f, .kernel = op->count, .stride = op->mode,
                         .width = op->out_width, .height = out.columns / op->out_width,
                         .y = out.at + channel * out.stride, .activation = op->activation};
  return session->kernels->filter(&job);
}

static uint32_t pool(const lx_session *session, const lx_op *op, uint32_t first) {
  const view in = take_slice(session, &op->in[0]), out = session->tensors[op->out];
  const uint32_t width = op->width, height = in.columns / width, wide = op->out_width, high = out.columns / wide;
  const uint32_t end = end_of(first, session->model->tensors[op->out].channels);
  uint32_t found = 0;
  for (uint32_t cell = 0; cell < out.columns; cell++) {
    const uint64_t row = cell / wide, column = cell % wide;
    const uint32_t top = (uint32_t)(row * height / high), bottom = (uint32_t)(((row + 1) * height + high - 1) / high);
    const uint32_t left = (uint32_t)(column * width / wide), right = (uint32_t)(((column + 1) * width + wide - 1) / wide);
    const float pixels = (float)((uint64_t)(bottom - top) * (right - left));
    for (uint32_t channel = first; channel < end; channel++) {
      const float *x = in.at + channel * in.stride;
      float sum = 0.0f;
      for (uint32_t i = top; i < bottom; i++)
        for (uint32_t j = left; j < right; j++) sum += x[(size_t)i * width + j];
      const float mean = sum / pixels;
      out.at[channel * out.stride + cell] = mean;
      found |= !is_finite(mean);
    }
  }
  return found;
}

/* Returns the product of an operation, without its panel. */
static lx_product make_product(const lx_session *session, const lx_op *op) {
  const lx_weight *weight = &session->model->weights[op->weight];
  const view in = take_slice(session, &op->in[0]), out = session->tensors[op->out];
  const int is_quantised = lx_is_quantised(weight);
  lx_product job = {.weight = weight, .data = session->model->data, .columns = out.columns,
                    .x = is_quantised ? (const void *)session->bytes : in.at,
                    .x_stride = is_quantised ? out.stride : in.stride,
                    .y = out.at, .y_stride = out.stride, .bias = find_vector(session, op->bias),
                    .x_scale = session->scale, .x_zero = session->zero, .activation = op->activation};
  if (op->in[1].tensor != LX_NONE) {
    const view residual = take_slice(session, &op->in[1]);
    job.residual = residual.at, job.residual_stride = residual.stride;
  }
  return job;
}

static uint32_t multiply(const lx_session *session, const lx_op *op, uint32_t panel) {
  lx_product job = make_product(session, op);
  job.panel = panel;
  return session->kernels->product(&job);
}

static uint32_t split(uint32_t all, uint32_t each) { return (all + each - 1) / each; }

/* All rows of a product for a block of columns, which are copied next to each other first: rows of a picture are far apart. */
static uint32_t multiply_block(const lx_session *session, const lx_op *op, uint32_t item, int thread) {
  lx_product job = make_product(session, op);
  const size_t block = session->kernels->block, column = item * block;
  const uint32_t left = job.columns - (uint32_t)column, units = lx_units(job.weight);
  float *near = session->scores + (size_t)thread * session->scores_each;
  job.columns = left < block ? left : (uint32_t)block;
  const size_t bytes = stride_of(job.columns) * sizeof(float);
  const float *from = (const float *)job.x + column;
  for (uint32_t unit = 0; unit < units; unit++) memcpy(near + unit * block, from + unit * job.x_stride, bytes);
  job.x = near, job.x_stride = block, job.y += column, job.x_scale += column, job.x_zero += column;
  if (job.residual) job.residual += column;
  uint32_t found = 0;
  for (job.panel = 0; job.panel < split(lx_rounded(job.weight->rows, LX_GROUP), job.weight->panel); job.panel++)
    found |= session->kernels->product(&job);
  return found;
}

/* Returns how many of the LX_COLUMNS columns from `column` on exist. */
static uint32_t columns_from(size_t column, uint32_t columns) {
  const uint32_t left = columns - (uint32_t)column;
  return left < LX_COLUMNS ? left : LX_COLUMNS;
}

static uint32_t quantise(const lx_session *session, const lx_op *op, uint32_t item) {
  const view in = take_slice(session, &op->in[0]);
  const size_t column = (size_t)item * LX_COLUMNS;
  const lx_quantise job = {.x = in.at + column, .x_stride = in.stride, .channels = op->in[0].rows,
                           .columns = columns_from(column, in.columns), .bytes = session->bytes + column,
                           .bytes_stride = stride_of(in.columns), .scale = session->scale + column,
                           .zero = session->zero + column};
  return session->kernels->quantise(&job);
}

static uint32_t norm(const lx_session *session, const lx_op *op, uint32_t item) {
  const view in = take_slice(session, &op->in[0]), out = session->tensors[op->out];
  const size_t column = (size_t)item * LX_COLUMNS;
  lx_norm job = {.x = in.at + column, .x_stride = in.stride, .y = out.at + column, .y_stride = out.stride,
                 .gain = find_vector(session, op->weight), .bias = find_vector(session, op->bias),
                 .channels = op->in[0].rows, .columns = columns_from(column, in.columns),
                 .epsilon = op->scalar, .activation = op->activation};
  if (op->in[1].tensor != LX_NONE) {
    const view add = take_slice(session, &op->in[1]);
    job.add = add.at + column, job.add_stride = add.stride;
  }
  return session->kernels->norm(&job);
}

static uint32_t attend(const lx_session *session, const lx_op *op, uint32_t head, int thread) {
  const view query = take_slice(session, &op->in[0]), key = take_slice(session, &op->in[1]);
  const view value = take_slice(session, &op->in[2]), out = session->tensors[op->out];
  const uint32_t size = op->in[0].rows / op->count;
  const size_t row = (size_t)head * size;
  const lx_attention job = {.query = query.at + row * query.stride, .query_stride = query.stride,
                            .key = key.at + row * key.stride, .key_stride = key.stride,
                            .value = value.at + row * value.stride, .value_stride = value.stride,
                            .out = out.at + row * out.stride, .out_stride = out.stride,
                            .size = size, .queries = query.columns, .keys = key.columns, .scale = op->scalar,
                            .scores = session->scores + (size_t)thread * session->scores_each};
  return session->kernels->attend(&job);
}

static void give_scores(const lx_session *session, const lx_op *op) {
  const view in = take_slice(session, &op->in[0]);
  const uint32_t columns = op->mode == LX_ALL_COLUMNS ? in.columns : 1;
  for (uint32_t column = 0; column < columns; column++)
    for (uint32_t n = 0; n < op->in[0].rows; n++)
      session->answer[(size_t)column * op->in[0].rows + n] = in.at[n * in.stride + column];
}

/* Whether a product is cut into blocks of columns. */
static int is_wide(const lx_session *session, const lx_op *op) { return session->tensors[op->out].columns >= MANY_COLUMNS; }

static void run_op(lx_session *session, const lx_op *op, int thread) {
  const lx_model *model = session->model;
  const uint32_t channels = op->code == LX_SCORES ? 0 : model->tensors[op->out].channels;
  const uint32_t parts = op->code == LX_SCORES ? 0 : split(session->tensors[op->out].columns, LX_COLUMNS);
  uint32_t items = 1, found = 0;
  switch (op->code) {
    case LX_EMBED:
    case LX_LOAD:
    case LX_JOIN:
    case LX_PLANES:
    case LX_POOL:
      items = split(channels, CHANNELS_AT_ONCE);
      break;
    case LX_PATCHES:
    case LX_FILTER:
      items = channels;
      break;
    case LX_NORM:
      items = parts;
      break;
    case LX_ATTEND:
      items = op->count;
      break;
    case LX_LINEAR:
      if (lx_is_quantised(&model->weights[op->weight])) {
        for (uint32_t n; (n = lx_pool_next(session->pool, thread, parts)) < parts;) found |= quantise(session, op, n);
        lx_pool_meet(session->pool);
      }
      items = is_wide(session, op) ? split(session->tensors[op->out].columns, session->kernels->block)
                                   : split(lx_rounded(channels, LX_GROUP), model->weights[op->weight].panel);
      break;
  }
  for (uint32_t n; (n = lx_pool_next(session->pool, thread, items)) < items;) switch (op->code) {
      case LX_EMBED:
        found |= embed(session, op, n * CHANNELS_AT_ONCE);
        break;
      case LX_LOAD:
        load(session, op, n * CHANNELS_AT_ONCE);
        break;
      case LX_JOIN:
        join(session, op, n * CHANNELS_AT_ONCE);
        break;
      case LX_LINEAR:
        found |= is_wide(session, op) ? multiply_block(session, op, n, thread) : multiply(session, op, n);
        break;
      case LX_PLANES:
        copy_planes(session, op, n * CHANNELS_AT_ONCE);
        break;
      case LX_PATCHES:
        take_patches(session, op, n);
        break;
      case LX_FILTER:
        found |= filter(session, op, n);
        break;
      case LX_POOL:
        found |= pool(session, op, n * CHANNELS_AT_ONCE);
        break;
      case LX_NORM:
        found |= norm(session, op, n);
        break;
      case LX_ATTEND:
        found |= attend(session, op, n, thread);
        break;
      case LX_SCORES:
        give_scores(session, op);
        break;
    }
  if (found) __atomic_store_n(&session->not_finite, 1, __ATOMIC_RELAXED);
  lx_pool_meet(session->pool);
}

/* Copies the result of an operation out of its tensor while an image is seen, and back into it for each question. An
   operation after it may write the tensor, so all threads meet. */
static void copy_result(lx_session *session, uint32_t op, int thread) {
  const int32_t out = session->model->ops[op].out;
  const uint32_t channels = session->model->tensors[out].channels, items = split(channels, CHANNELS_AT_ONCE);
  const view tensor = session->tensors[out];
  for (uint32_t n; (n = lx_pool_next(session->pool, thread, items)) < items;) {
    const uint32_t first = n * CHANNELS_AT_ONCE;
    const size_t at = first * tensor.stride, bytes = (end_of(first, channels) - first) * tensor.stride * sizeof(float);
    float *kept = session->seen->results[op] + at;
    if (session->phase == RUN_ASKED)
      memcpy(tensor.at + at, kept, bytes);
    else
      memcpy(kept, tensor.at + at, bytes);
  }
  lx_pool_meet(session->pool);
}

static void run_ops(void *context, int thread) {
  lx_session *session = context;
  for (uint32_t n = 0; n < session->model->head.ops; n++) {
    if (runs(session, n)) run_op(session, &session->model->ops[n], thread);
    if (session->phase != RUN_ALL && session->seen->ops[n] == LX_HELD) copy_result(session, n, thread);
  }
}

/* -- running -------------------------------------------------------------------------------------------------- */

static int check_feeds(const lx_session *session, const lx_feed *feeds, complaint *to) {
  const lx_model *model = session->model;
  for (uint32_t n = 0; n < model->head.inputs; n++) {
    const lx_input_record *input = &model->inputs[n];
    const lx_size *size = &model->sizes[input->size];
    const lx_feed *feed = find_feed(session, feeds, n), *mask = find_feed(session, feeds, (uint32_t)size->b);
    if (session->phase == RUN_BEFORE && !feed->data && !mask->data) continue;
    if (feed != &feeds[n]) {
      NEED(!feeds[n].data, "%s was seen: give none of the seen inputs with a question, or all inputs", input->name);
      continue;
    }
    NEED(feed->data, "%s is missing", input->name);
    NEED(mask->data, "%s is given without its mask %s", input->name, model->inputs[size->b].name);
    NEED(feed->width == input->width, "%s is %lld wide, expected %u", input->name, (long long)feed->width, input->width);
    NEED(feed->rows > 0 && feed->rows <= size->most, "%s has %lld rows, expected 1 to %u", input->name,
         (long long)feed->rows, size->most);
    NEED(feed->rows == mask->rows, "%s has %lld rows, but its mask has %lld", input->name, (long long)feed->rows,
         (long long)mask->rows);
  }
  return 0;
}

/* Returns the name of what a value belongs to, for an error. */
static const char *name_question(const lx_session *session, int64_t place, char text[32]) {
  if (session->phase == RUN_BEFORE) return "what is seen";
  snprintf(text, 32, "question %lld", (long long)place);
  return text;
}

/* Checks one row at a time, so that the compiler checks many values at once, and the first bad row can be named. */
static int check_finite(const lx_session *session, const lx_feed *feeds, int64_t place, complaint *to) {
  const lx_model *model = session->model;
  for (uint32_t n = 0; n < model->head.inputs; n++) {
    const float *values = session->rows[n];
    if (model->inputs[n].type != LX_FLOAT32 || !values) continue;
    for (int64_t row = 0; row < feeds[n].rows; row++, values += feeds[n].width) {
      uint32_t found = 0;
      for (int64_t column = 0; column < feeds[n].width; column++) found |= !is_finite(values[column]);
      if (!found) continue;
      char text[32];
      lx_fail(to->text, to->bytes, "%s holds NaN or infinity in row %lld of %s", model->inputs[n].name, (long long)row,
              name_question(session, place, text));
      return LX_NOT_FINITE;
    }
  }
  return LX_ANSWERED;
}

/* Points to the rows of a question; those of a seen image are the same for all questions, and its floats are not needed. */
static void find_rows(lx_session *session, const lx_feed *feeds, int64_t place) {
  const lx_model *model = session->model;
  for (uint32_t n = 0; n < model->head.inputs; n++) {
    const lx_feed *feed = find_feed(session, feeds, n);
    const size_t each = model->inputs[n].type == LX_INT64 ? sizeof(int64_t) : sizeof(float);
    const size_t before = feed == &feeds[n] ? (size_t)place * (size_t)(feed->rows * feed->width) * each : 0;
    session->rows[n] = feed->data ? (const uint8_t *)feed->data + before : NULL;
  }
}

/* Finds the rows, sizes and tensors of a question, and checks the operations of this phase against them. */
static int prepare(lx_session *session, const lx_feed *feeds, int64_t place, complaint *to) {
  const lx_model *model = session->model;
  find_rows(session, feeds, place);
  if (find_sizes(session, feeds, to)) return LX_REFUSED;
  if (check_finite(session, feeds, place, to)) return LX_NOT_FINITE;
  lay_out(session);
  for (uint32_t n = 0; n < model->head.ops; n++)
    if (runs(session, n) && (check_slices(session, &model->ops[n], to) || check_columns(session, &model->ops[n], to)))
      return LX_REFUSED;
  return LX_ANSWERED;
}

/* Runs the operations of this phase on all threads. */
static int compute(lx_session *session, int64_t place, complaint *to) {
  session->not_finite = 0;
  lx_pool_run(session->pool, run_ops, session);
  if (!session->not_finite) return LX_ANSWERED;
  char text[32];
  lx_fail(to->text, to->bytes, "a value inside of the model is NaN or overflows in %s", name_question(session, place, text));
  return LX_NOT_FINITE;
}

int lx_run(lx_session *session, const lx_feed *feeds, int64_t batch, float *scores, char *error, size_t error_bytes) {
  complaint told = {error, error_bytes}, *to = &told;
  NEED(batch > 0, "there is no question");
  session->phase = RUN_ALL;
  for (uint32_t n = 0; session->seen && n < session->model->head.inputs; n++)
    if (session->seen->inputs[n] && !feeds[n].data) session->phase = RUN_ASKED;
  if (check_feeds(session, feeds, to)) return LX_REFUSED;
  for (int64_t place = 0; place < batch; place++) {
    session->answer = scores + (size_t)place * session->model->head.scores;
    int status = prepare(session, feeds, place, to);
    if (!status) status = compute(session, place, to);
    if (status) return status;
  }
  return LX_ANSWERED;
}

static int see(lx_session *session, const lx_feed *feeds, complaint *to) {
  int status = prepare(session, feeds, 0, to);
  if (status) return status;
  status = lx_seen_allocate(session->seen, session->model, session->sizes, stride_of, LX_MOST_MEMORY);
  NEED(status != LX_TOO_LARGE, "what is seen would need %llu MB or more", LX_MOST_MEMORY >> 20);
  NEED(status == LX_FITS, "there is not enough memory to keep what is seen");
  return compute(session, 0, to);
}

static void forget(lx_session *session) {
  lx_seen_close(session->seen, session->model);
  session->seen = NULL;
}

int lx_see(lx_session *session, const lx_feed *feeds, char *error, size_t error_bytes) {
  complaint told = {error, error_bytes}, *to = &told;
  forget(session);
  uint32_t given = 0;
  session->phase = RUN_BEFORE;
  for (uint32_t n = 0; n < session->model->head.inputs; n++) given += feeds[n].data != NULL;
  NEED(given, "there is no input to see");
  if (check_feeds(session, feeds, to)) return LX_REFUSED;
  session->seen = lx_seen_open(session->model, feeds);
  NEED(session->seen, "there is not enough memory to keep what is seen");
  const int status = see(session, feeds, to);
  if (status) forget(session);
  return status;
}
