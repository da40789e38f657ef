/* Finds the operations that do not depend on the question, whatever their order in the file.

   A tensor has different values at different times. An operation reads the value that was written last before it in the
   file, so a pass over the operations in their order finds what each one depends on. */

#include "seen.h"

#include <stdlib.h>
#include <string.h>

static int is_known(const lx_seen *seen, int32_t size) { return size == LX_NONE || seen->sizes[size]; }

static void find_sizes(lx_seen *seen, const lx_model *model) {
  for (uint32_t n = 0; n < model->head.sizes; n++) {
    const lx_size *size = &model->sizes[n];
    seen->sizes[n] = size->kind == LX_CONSTANT || (size->kind == LX_ROWS && seen->inputs[size->b]) ||
                     (size->kind == LX_SUM && is_known(seen, size->a) && is_known(seen, size->b));
  }
}

/* Returns whether all tensors that an operation reads, and their sizes, are known before the question. */
static int reads_before(const lx_seen *seen, const lx_op *op, const uint32_t *writers) {
  for (int n = 0; n < lx_count_slices(op); n++) {
    const lx_slice *slice = &op->in[n];
    if (!is_known(seen, slice->start) || !is_known(seen, slice->columns)) return 0;
    if (seen->ops[writers[slice->tensor]] == LX_ASKED) return 0;
  }
  return op->code != LX_EMBED || !op->adds || seen->ops[writers[op->out]] != LX_ASKED;
}

static int is_before(const lx_seen *seen, const lx_model *model, const lx_op *op, const uint32_t *writers) {
  if (op->code == LX_SCORES || !seen->sizes[model->tensors[op->out].size]) return 0;
  const int reads_input = op->code == LX_LOAD || op->code == LX_PLANES || (op->code == LX_EMBED && op->mode == LX_BY_INPUT);
  return (!reads_input || seen->inputs[op->input]) && reads_before(seen, op, writers);
}

/* Keeps the result of an operation that a question needs. */
static void hold(lx_seen *seen, uint32_t writer) {
  if (seen->ops[writer] == LX_BEFORE) seen->ops[writer] = LX_HELD;
}

/* An LX_EMBED that adds to a known value is known too: its input and the mask of that value are seen together. */
static void find_ops(lx_seen *seen, const lx_model *model, uint32_t *writers) {
  for (uint32_t n = 0; n < model->head.ops; n++) {
    const lx_op *op = &model->ops[n];
    if (is_before(seen, model, op, writers)) {
      seen->ops[n] = LX_BEFORE;
    } else {
      for (int slice = 0; slice < lx_count_slices(op); slice++) hold(seen, writers[op->in[slice].tensor]);
    }
    if (op->code != LX_SCORES) writers[op->out] = n;
  }
}

static int copy_ids(lx_seen *seen, const lx_model *model, const lx_feed *feeds) {
  size_t ids = 1;
  for (uint32_t n = 0; n < model->head.inputs; n++)
    if (seen->inputs[n] && model->inputs[n].type == LX_INT64) ids += (size_t)(feeds[n].rows * feeds[n].width);
  int64_t *to = seen->ids = malloc(ids * sizeof *to);
  if (!to) return -1;
  for (uint32_t n = 0; n < model->head.inputs; n++) {
    if (!seen->inputs[n]) continue;
    seen->feeds[n] = (lx_feed){NULL, feeds[n].rows, feeds[n].width};
    if (model->inputs[n].type != LX_INT64) continue;
    const size_t many = (size_t)(feeds[n].rows * feeds[n].width);
    seen->feeds[n].data = memcpy(to, feeds[n].data, many * sizeof *to);
    to += many;
  }
  return 0;
}

lx_seen *lx_seen_open(const lx_model *model, const lx_feed *feeds) {
  const lx_header *head = &model->head;
  lx_seen *seen = calloc(1, sizeof *seen);
  uint32_t *writers = calloc(head->tensors + 1u, sizeof *writers);
  if (seen) {
    seen->inputs = calloc(head->inputs, 1), seen->sizes = calloc(head->sizes + 1u, 1), seen->ops = calloc(head->ops, 1);
    seen->feeds = calloc(head->inputs, sizeof *seen->feeds), seen->results = calloc(head->ops, sizeof *seen->results);
  }
  if (!seen || !writers || !seen->inputs || !seen->sizes || !seen->ops || !seen->feeds || !seen->results) goto fail;
  for (uint32_t n = 0; n < head->inputs; n++) seen->inputs[n] = feeds[n].data != NULL;
  if (copy_ids(seen, model, feeds)) goto fail;
  find_sizes(seen, model);
  find_ops(seen, model, writers);
  free(writers);
  return seen;
fail:
  free(writers);
  lx_seen_close(seen, model);
  return NULL;
}

int lx_seen_allocate(lx_seen *seen, const lx_model *model, const int64_t *columns, size_t (*stride)(int64_t), uint64_t most) {
  uint64_t total = 0;
  for (uint32_t n = 0; n < model->head.ops; n++) {
    if (seen->ops[n] != LX_HELD) continue;
    const lx_tensor *tensor = &model->tensors[model->ops[n].out];
    const uint64_t bytes = (uint64_t)tensor->channels * stride(columns[tensor->size]) * sizeof(float);
    total += bytes;
    if (total >= most || total > SIZE_MAX) return LX_TOO_LARGE;
    seen->results[n] = malloc((size_t)bytes);
    if (!seen->results[n]) return LX_NO_MEMORY;
  }
  return LX_FITS;
}

void lx_seen_close(lx_seen *seen, const lx_model *model) {
  if (!seen) return;
  for (uint32_t n = 0; seen->results && n < model->head.ops; n++) free(seen->results[n]);
  free(seen->inputs), free(seen->sizes), free(seen->ops), free(seen->feeds), free(seen->results), free(seen->ids);
  free(seen);
}
