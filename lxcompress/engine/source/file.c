/* Opens a model file and checks it, so that no operation can leave its memory.

   All numbers of a file are checked once here: the tensors, weights and sizes of each operation, their largest values, and
   the number of entries in each tile of a sparse weight. The index of an entry is one byte into a tile of 256 units that
   always exist in memory, so the weights themselves need no check. */

#include "file.h"
#include "system.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the file format is little-endian, and so must the machine be"
#endif

_Static_assert(sizeof(lx_header) == 128, "header");
_Static_assert(sizeof(lx_size) == 32, "size");
_Static_assert(sizeof(lx_input_record) == 64, "input");
_Static_assert(sizeof(lx_tensor) == 16, "tensor");
_Static_assert(sizeof(lx_weight) == 96, "weight");
_Static_assert(sizeof(lx_op) == 112, "op");
_Static_assert(sizeof(lx_group) == 8, "group");

enum { MOST_RECORDS = 1 << 16, MOST_CHANNELS = 1 << 24, MOST_COLUMNS = 1 << 18 };

typedef struct {
  char *text;
  size_t bytes;
} complaint;

int lx_fail(char *error, size_t error_bytes, const char *format, ...) {
  if (error && error_bytes) {
    va_list list;
    va_start(list, format);
    vsnprintf(error, error_bytes, format, list);
    va_end(list);
  }
  return -1;
}

#define FAIL(...) lx_fail(to->text, to->bytes, __VA_ARGS__)
#define NEED(condition, ...)            \
  do {                                  \
    if (!(condition)) return FAIL(__VA_ARGS__); \
  } while (0)

uint32_t lx_crc(uint32_t before, const void *bytes, size_t size) {
  /* Eight tables process eight bytes at once. They are on the stack, because nothing here is global. */
  uint32_t table[8][256];
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t value = n;
    for (int bit = 0; bit < 8; bit++) value = value & 1 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
    table[0][n] = value;
  }
  for (int k = 1; k < 8; k++)
    for (uint32_t n = 0; n < 256; n++) table[k][n] = table[0][table[k - 1][n] & 255] ^ (table[k - 1][n] >> 8);
  const uint8_t *at = bytes;
  uint32_t crc = ~before;
  for (; size >= 8; size -= 8, at += 8) {
    uint32_t low, high;
    memcpy(&low, at, 4);
    memcpy(&high, at + 4, 4);
    low ^= crc;
    crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
          table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
  }
  for (; size; size--) crc = table[0][(crc ^ *at++) & 255] ^ (crc >> 8);
  return ~crc;
}

/* Checks that the file is an engine file of a known version, is complete, and has undamaged records. */
static int check_header(lx_model *model, complaint *to) {
  NEED(model->size >= sizeof(lx_header), "has %zu bytes, fewer than a header", model->size);
  lx_header *head = &model->head;
  memcpy(head, model->bytes, sizeof *head);
  NEED(!memcmp(head->magic, LX_MAGIC, 8), "is not an engine file");
  NEED(head->version == LX_VERSION, "has version %u, but this engine reads version %d", head->version, LX_VERSION);
  NEED(head->header_crc == lx_crc(0, head, sizeof *head - 4), "its header is damaged");
  NEED(head->file_bytes == model->size, "is cut short or too long: expected %llu bytes, found %zu",
       (unsigned long long)head->file_bytes, model->size);
  NEED(head->sizes <= MOST_RECORDS && head->inputs <= MOST_RECORDS && head->tensors <= MOST_RECORDS &&
           head->weights <= MOST_RECORDS && head->ops <= MOST_RECORDS,
       "has more than %d records of a kind", MOST_RECORDS);
  uint64_t records = head->sizes * sizeof(lx_size) + head->inputs * sizeof(lx_input_record) +
                     head->tensors * sizeof(lx_tensor) + head->weights * sizeof(lx_weight) + head->ops * sizeof(lx_op);
  NEED(head->records_bytes == records, "its records have %llu bytes, expected %llu",
       (unsigned long long)head->records_bytes, (unsigned long long)records);
  NEED(head->data_start % LX_ALIGN == 0 && head->data_start <= model->size &&
           head->data_start >= sizeof(lx_header) + records,
       "its weights start at %llu, which is inside of its records", (unsigned long long)head->data_start);
  NEED(head->records_crc == lx_crc(0, model->bytes + sizeof(lx_header), records), "its records are damaged");
  NEED(head->scores > 0 && head->scores <= MOST_CHANNELS, "gives %u scores", head->scores);
  NEED(head->inputs > 0, "takes no input");
  const uint8_t *at = model->bytes + sizeof(lx_header);
  model->sizes = (const lx_size *)at, at += head->sizes * sizeof(lx_size);
  model->inputs = (const lx_input_record *)at, at += head->inputs * sizeof(lx_input_record);
  model->tensors = (const lx_tensor *)at, at += head->tensors * sizeof(lx_tensor);
  model->weights = (const lx_weight *)at, at += head->weights * sizeof(lx_weight);
  model->ops = (const lx_op *)at;
  model->data = model->bytes + head->data_start;
  return 0;
}

/* Returns whether a name ends with a zero byte and has no control character, so that an error can print it. */
static int is_name(const char name[32]) {
  for (int n = 0; n < 32; n++) {
    const unsigned char letter = (unsigned char)name[n];
    if (!letter) return n > 0;
    if (letter < ' ' || letter == 127) return 0;
  }
  return 0;
}

static int check_input(const lx_model *model, uint32_t place, complaint *to) {
  const lx_input_record *input = &model->inputs[place];
  NEED(is_name(input->name), "input %u has no name", place);
  NEED(input->type == LX_INT64 || input->type == LX_FLOAT32, "input %u has the unknown type %u", place, input->type);
  NEED(input->rank == 2 || input->rank == 3, "input %u has rank %u", place, input->rank);
  NEED(input->width > 0 && input->width <= MOST_CHANNELS && (input->rank == 3 || input->width == 1),
       "input %u is %u wide", place, input->width);
  NEED(input->size >= 0 && (uint32_t)input->size < model->head.sizes && model->sizes[input->size].kind == LX_ROWS,
       "input %u has a number of rows that is not a size of the file", place);
  return 0;
}

static int check_size(const lx_model *model, uint32_t place, complaint *to) {
  const lx_size *size = &model->sizes[place];
  NEED(size->most > 0 && size->most <= MOST_COLUMNS, "size %u has the limit %u", place, size->most);
  NEED(size->add >= -MOST_COLUMNS && size->add <= MOST_COLUMNS, "size %u adds %d", place, size->add);
  int64_t a = size->a, b = size->b;
  switch (size->kind) {
    case LX_CONSTANT:
      NEED(size->add > 0 && (uint32_t)size->add <= size->most, "size %u has the value %d", place, size->add);
      return 0;
    case LX_ROWS:
      NEED(b >= 0 && b < model->head.inputs && model->inputs[b].type == LX_INT64 && model->inputs[b].rank == 2 &&
               model->inputs[b].size == (int32_t)place,
           "size %u has no mask", place);
      return 0;
    case LX_SUM:
      NEED(a >= 0 && a < place && b >= LX_NONE && b < (int64_t)place,
           "size %u is the sum of sizes that are not before it", place);
      return 0;
  }
  return FAIL("size %u has the unknown kind %u", place, size->kind);
}

/* Returns whether [offset, offset + count * each) is inside the weights, at a multiple of 64, and whether all arrays so far
   fit together: many weights with the same bytes would make a small file slow to check. */
static int claim(lx_model *model, uint64_t offset, uint64_t count, uint64_t each) {
  const uint64_t room = model->size - model->head.data_start;
  if (offset % LX_ALIGN || offset > room || count > (room - offset) / each) return 0;
  model->claimed += count * each;
  return model->claimed <= room;
}

/* Unused offsets are checked too, because they are added to pointers. */
static int points_inside(const lx_model *model, const lx_weight *weight) {
  const uint64_t room = model->size - model->head.data_start;
  return weight->values <= room && weight->indices <= room && weight->groups <= room && weight->starts <= room &&
         weight->scales <= room && weight->sums <= room;
}

static uint64_t value_bytes(const lx_weight *weight) {
  return weight->type == LX_F32 ? 4 : weight->type == LX_BF16 ? 2 : 1;
}

/* Checks the groups, their rows and the sum of their entries, which the loops over a sparse weight rely on. */
static int check_groups(lx_model *model, uint32_t place, complaint *to) {
  const lx_weight *weight = &model->weights[place];
  uint32_t rows = lx_rounded(weight->rows, LX_GROUP), units = lx_units(weight);
  uint32_t panels = (rows + weight->panel - 1) / weight->panel, tiles = (units + weight->tile - 1) / weight->tile;
  NEED(claim(model, weight->groups, (uint64_t)rows / LX_GROUP * tiles, sizeof(lx_group)) &&
           claim(model, weight->starts, panels + 1, sizeof(uint64_t)) &&
           claim(model, weight->indices, weight->entries, lx_indices(weight)),
       "weight %u lies outside of the file", place);
  const lx_group *group = (const lx_group *)(model->data + weight->groups);
  const uint64_t *starts = (const uint64_t *)(model->data + weight->starts);
  uint64_t entries = 0;
  for (uint32_t panel = 0; panel < panels; panel++) {
    uint32_t first = panel * weight->panel, many = rows - first < weight->panel ? rows - first : weight->panel;
    NEED(starts[panel] == entries, "weight %u has a panel with a wrong start", place);
    for (uint32_t tile = 0; tile < tiles; tile++) {
      uint64_t seen[LX_MOST_PANEL / 64] = {0};
      for (uint32_t n = 0; n < many / LX_GROUP; n++, group++) {
        for (int r = 0; r < LX_GROUP; r++) {
          uint32_t row = group->rows[r];
          NEED(row < many && !(seen[row / 64] >> row % 64 & 1),
               "weight %u has a row that is repeated or does not exist", place);
          seen[row / 64] |= 1ull << row % 64;
        }
        entries += group->count;
      }
    }
  }
  NEED(starts[panels] == entries && entries == weight->entries, "weight %u has %llu entries, expected %llu", place,
       (unsigned long long)entries, (unsigned long long)weight->entries);
  return 0;
}

static int check_weight(lx_model *model, uint32_t place, complaint *to) {
  const lx_weight *weight = &model->weights[place];
  uint64_t rows = weight->rows, columns = weight->columns, many = lx_rounded(weight->rows, LX_GROUP);
  NEED(rows > 0 && rows <= MOST_CHANNELS && columns > 0 && columns <= MOST_CHANNELS && rows * columns <= 1ull << 34,
       "weight %u is %u x %u", place, weight->rows, weight->columns);
  NEED(weight->type <= LX_I8 && weight->layout < LX_LAYOUTS, "weight %u has an unknown type or layout", place);
  NEED(weight->layout < LX_SHARED_SPARSE || weight->shared == 2 || weight->shared == LX_GROUP,
       "weight %u has an index for %u rows, expected 2 or 4", place, weight->shared);
  int is_product = weight->layout >= LX_DENSE;
  NEED(!is_product || (weight->panel > 0 && weight->panel <= LX_MOST_PANEL && weight->panel % LX_GROUP == 0 &&
                       weight->tile > 0 && weight->tile <= LX_MOST_TILE),
       "weight %u has panels of %u and tiles of %u", place, weight->panel, weight->tile);
  NEED(weight->entries <= 1ull << 34, "weight %u has too many entries", place);
  NEED(points_inside(model, weight), "weight %u lies outside of the file", place);
  NEED(weight->type != LX_I8 || claim(model, weight->scales, many, 4), "weight %u has no scales", place);
  int is_whole;
  switch (weight->layout) {
    case LX_VECTOR:
      NEED(weight->type == LX_F32 && columns == 1, "weight %u is not a vector of float32", place);
      is_whole = claim(model, weight->values, rows, 4);
      break;
    case LX_TABLE:
      is_whole = claim(model, weight->values, rows * columns, value_bytes(weight));
      break;
    case LX_DENSE:
      NEED(weight->entries == many / LX_GROUP * columns, "weight %u has a wrong number of entries", place);
      is_whole = claim(model, weight->values, weight->entries * LX_GROUP, value_bytes(weight));
      break;
    case LX_SPARSE:
    case LX_SHARED_SPARSE:
      NEED(weight->layout == LX_SPARSE || weight->type != LX_I8, "weight %u has an unknown type or layout", place);
      is_whole = claim(model, weight->values, weight->entries * LX_GROUP, value_bytes(weight));
      break;
    default:
      NEED(weight->type == LX_I8 && claim(model, weight->sums, many, 4), "weight %u has no sums", place);
      NEED(lx_is_sparse(weight) || weight->entries == many / LX_GROUP * lx_units(weight),
           "weight %u has a wrong number of entries", place);
      is_whole = claim(model, weight->values, weight->entries, 16);
  }
  NEED(is_whole, "weight %u lies outside of the file", place);
  return lx_is_sparse(weight) ? check_groups(model, place, to) : 0;
}

static int has_size(const lx_model *model, int32_t size) { return size >= 0 && (uint32_t)size < model->head.sizes; }

static int check_slice(const lx_model *model, uint32_t op, int place, complaint *to) {
  const lx_slice *slice = &model->ops[op].in[place];
  NEED(slice->tensor >= 0 && (uint32_t)slice->tensor < model->head.tensors,
       "operation %u reads a tensor that does not exist", op);
  uint32_t channels = model->tensors[slice->tensor].channels;
  NEED(slice->rows > 0 && slice->row <= channels && slice->rows <= channels - slice->row,
       "operation %u reads channels that do not exist", op);
  NEED((slice->start == LX_NONE || has_size(model, slice->start)) && has_size(model, slice->columns),
       "operation %u reads columns that are not a size of the file", op);
  return 0;
}

static const lx_weight *find_weight(const lx_model *model, int32_t place) {
  return place >= 0 && (uint32_t)place < model->head.weights ? &model->weights[place] : NULL;
}

static int is_vector(const lx_model *model, int32_t place, uint32_t rows) {
  const lx_weight *found = find_weight(model, place);
  return found && found->layout == LX_VECTOR && found->rows == rows;
}

/* Returns the value of a size that is constant; 0 for another size. */
static uint32_t constant_of(const lx_model *model, int32_t size) {
  const lx_size *found = &model->sizes[size];
  return found->kind == LX_CONSTANT ? (uint32_t)found->add : 0;
}

/* Checks the sizes of the pictures that an operation reads and writes. Any kernel is allowed that some pixel is under. */
static int check_picture(const lx_model *model, uint32_t place, complaint *to) {
  const lx_op *op = &model->ops[place];
  const uint32_t in = constant_of(model, op->in[0].columns), out = constant_of(model, model->tensors[op->out].size);
  NEED(in && out && op->in[0].start == LX_NONE && op->width && in % op->width == 0 && op->out_width &&
           out % op->out_width == 0,
       "operation %u has a picture of an unknown width or height", place);
  if (op->code == LX_POOL) return 0;
  const uint32_t most_kernel = op->code == LX_PATCHES ? LX_MOST_PATCH : LX_MOST_KERNEL;
  const uint32_t most_stride = op->code == LX_PATCHES ? LX_MOST_PATCH : LX_MOST_STRIDE;
  NEED(op->count > 0 && op->count <= most_kernel && op->mode > 0 && op->mode <= most_stride && op->padding < op->count,
       "operation %u has a kernel of %u, a stride of %u and a padding of %u", place, op->count, op->mode, op->padding);
  return 0;
}

/* Checks that the input of LX_PLANES holds one picture for each channel. */
static int check_planes(const lx_model *model, uint32_t place, complaint *to) {
  const lx_op *op = &model->ops[place];
  const lx_tensor *out = &model->tensors[op->out];
  const uint32_t pixels = constant_of(model, out->size);
  NEED(op->input >= 0 && (uint32_t)op->input < model->head.inputs && pixels, "operation %u loads a picture that does not fit",
       place);
  const lx_input_record *input = &model->inputs[op->input];
  NEED(input->type == LX_FLOAT32 && input->width % pixels == 0 &&
           (uint64_t)model->sizes[input->size].most * (input->width / pixels) == out->channels,
       "operation %u loads a picture that does not fit", place);
  return 0;
}

static int check_op(const lx_model *model, uint32_t place, complaint *to) {
  const lx_op *op = &model->ops[place];
  NEED(op->code < LX_OPS, "operation %u has the unknown kind %u", place, op->code);
  int slices = lx_count_slices(op);
  for (int n = 0; n < slices; n++)
    if (check_slice(model, place, n, to)) return -1;
  for (int n = slices; n < 3; n++) NEED(op->in[n].tensor == LX_NONE,
                                        "operation %u has an input that it does not read", place);
  const lx_weight *weight = find_weight(model, op->weight);
  if (op->code == LX_SCORES) {
    const uint64_t columns = op->mode == LX_ALL_COLUMNS ? constant_of(model, op->in[0].columns) : 1;
    NEED(op->mode <= LX_ALL_COLUMNS && op->in[0].rows * columns == model->head.scores,
         "operation %u gives a wrong number of scores", place);
    return 0;
  }
  NEED(op->out >= 0 && (uint32_t)op->out < model->head.tensors, "operation %u writes a tensor that does not exist", place);
  const lx_tensor *out = &model->tensors[op->out];
  for (int n = 0; n < slices; n++)
    NEED(op->in[n].tensor != op->out, "operation %u reads the tensor that it writes", place);
  uint32_t kind = model->sizes[out->size].kind;
  switch (op->code) {
    case LX_EMBED:
      NEED(weight && weight->layout == LX_TABLE && weight->columns == out->channels,
           "operation %u has no table of its width", place);
      NEED(op->mode <= LX_BY_CONSTANT && op->adds <= 1, "operation %u has the unknown mode %u", place, op->mode);
      if (op->mode == LX_BY_CONSTANT) {
        NEED(op->count < weight->rows, "operation %u embeds row %u of %u", place, op->count, weight->rows);
        return 0;
      }
      if (op->mode == LX_BY_POSITION && kind == LX_CONSTANT) {
        NEED(constant_of(model, out->size) <= weight->rows, "operation %u has more columns than its table has rows", place);
        return 0;
      }
      NEED(kind == LX_ROWS, "operation %u has no mask to count positions with", place);
      NEED(op->mode == LX_BY_POSITION ||
               (op->input >= 0 && (uint32_t)op->input < model->head.inputs && model->inputs[op->input].type == LX_INT64 &&
                model->inputs[op->input].rank == 2 && model->inputs[op->input].size == out->size),
           "operation %u looks up an input that does not fit", place);
      return 0;
    case LX_LOAD:
      NEED(op->input >= 0 && (uint32_t)op->input < model->head.inputs && model->inputs[op->input].type == LX_FLOAT32 &&
               model->inputs[op->input].size == out->size && model->inputs[op->input].width == out->channels,
           "operation %u loads an input that does not fit", place);
      return 0;
    case LX_PLANES:
      return check_planes(model, place, to);
    case LX_PATCHES:
      if (check_picture(model, place, to)) return -1;
      NEED((uint64_t)op->in[0].rows * op->count * op->count == out->channels,
           "operation %u does not have a channel for each pixel under its kernel", place);
      return 0;
    case LX_FILTER:
      if (check_picture(model, place, to)) return -1;
      NEED(op->in[0].rows == out->channels && out->channels <= MOST_CHANNELS / (LX_MOST_KERNEL * LX_MOST_KERNEL) &&
               is_vector(model, op->weight, out->channels * op->count * op->count) &&
               (op->bias == LX_NONE || is_vector(model, op->bias, out->channels)),
           "operation %u has a kernel, bias or input that does not fit its output", place);
      NEED(op->activation < LX_ACTIVATIONS, "operation %u has the unknown activation %u", place, op->activation);
      return 0;
    case LX_POOL:
      if (check_picture(model, place, to)) return -1;
      NEED(op->in[0].rows == out->channels, "operation %u pools other channels than it writes", place);
      return 0;
    case LX_JOIN:
      for (int n = 0; n < slices; n++)
        NEED(op->in[n].rows == out->channels, "operation %u joins tensors of different channels", place);
      return 0;
    case LX_LINEAR:
      NEED(weight && weight->layout >= LX_DENSE && weight->columns == op->in[0].rows && weight->rows == out->channels,
           "operation %u has a weight or input that does not fit its output", place);
      NEED(op->bias == LX_NONE || is_vector(model, op->bias, out->channels),
           "operation %u has a bias that does not fit its output", place);
      NEED(op->activation < LX_ACTIVATIONS, "operation %u has the unknown activation %u", place, op->activation);
      NEED(slices == 1 || op->in[1].rows == out->channels, "operation %u adds a tensor of other channels", place);
      return 0;
    case LX_NORM:
      NEED(op->in[0].rows == out->channels && (slices == 1 || op->in[1].rows == out->channels) &&
               is_vector(model, op->weight, out->channels) && is_vector(model, op->bias, out->channels),
           "operation %u has a gain, bias or input that does not fit its output", place);
      NEED(op->activation < LX_ACTIVATIONS, "operation %u has the unknown activation %u", place, op->activation);
      return 0;
    default:
      NEED(op->count > 0 && op->in[0].rows == out->channels && op->in[1].rows == out->channels &&
               op->in[2].rows == out->channels && out->channels % op->count == 0,
           "operation %u has queries, keys or values that do not fit its output", place);
      NEED(op->in[1].columns == op->in[2].columns, "operation %u has different numbers of keys and values", place);
      return 0;
  }
}

/* Checks that every tensor is written before it is read, and that the scores come last, so that an answer depends only on
   its question. */
static int check_order(const lx_model *model, complaint *to) {
  uint64_t written[MOST_RECORDS / 64] = {0};
#define IS_WRITTEN(tensor) (written[(tensor) / 64] >> (tensor) % 64 & 1)
  for (uint32_t n = 0; n < model->head.ops; n++) {
    const lx_op *op = &model->ops[n];
    NEED(op->code != LX_SCORES || n + 1 == model->head.ops, "operation %u gives the scores, but is not the last one", n);
    for (int slice = 0; slice < lx_count_slices(op); slice++)
      NEED(IS_WRITTEN((uint32_t)op->in[slice].tensor), "operation %u reads a tensor before it is written", n);
    NEED(op->code != LX_EMBED || !op->adds || IS_WRITTEN((uint32_t)op->out),
         "operation %u adds to a tensor before it is written", n);
    if (op->code != LX_SCORES) written[op->out / 64] |= 1ull << op->out % 64;
  }
#undef IS_WRITTEN
  NEED(model->head.ops > 0 && model->ops[model->head.ops - 1].code == LX_SCORES, "the last operation gives no scores");
  return 0;
}

static int check_model(lx_model *model, complaint *to) {
  if (check_header(model, to)) return -1;
  for (uint32_t n = 0; n < model->head.inputs; n++)
    if (check_input(model, n, to)) return -1;
  for (uint32_t n = 0; n < model->head.sizes; n++)
    if (check_size(model, n, to)) return -1;
  for (uint32_t n = 0; n < model->head.tensors; n++) {
    const lx_tensor *tensor = &model->tensors[n];
    NEED(tensor->channels > 0 && tensor->channels <= MOST_CHANNELS && has_size(model, tensor->size),
         "tensor %u has %u channels", n, tensor->channels);
  }
  for (uint32_t n = 0; n < model->head.weights; n++)
    if (check_weight(model, n, to)) return -1;
  for (uint32_t n = 0; n < model->head.ops; n++)
    if (check_op(model, n, to)) return -1;
  return check_order(model, to);
}

lx_model *lx_open(const char *path, char *error, size_t error_bytes) {
  size_t size = 0;
  const void *bytes = lx_map(path, &size, error, error_bytes);
  if (!bytes) return NULL;
  lx_model *model = lx_open_bytes(bytes, size, error, error_bytes);
  if (model)
    model->is_mapped = 1;
  else
    lx_unmap(bytes, size);
  return model;
}

lx_model *lx_open_bytes(const void *bytes, size_t size, char *error, size_t error_bytes) {
  complaint to = {error, error_bytes};
  lx_model *model = calloc(1, sizeof *model);
  if (!model || (uintptr_t)bytes % LX_ALIGN) {
    lx_fail(error, error_bytes, model ? "is not at a multiple of 64 in memory" : "there is not enough memory to open it");
    free(model);
    return NULL;
  }
  model->bytes = bytes, model->size = size;
  if (!check_model(model, &to)) return model;
  free(model);
  return NULL;
}

int lx_verify(const lx_model *model, char *error, size_t error_bytes) {
  if (lx_crc(0, model->data, model->size - model->head.data_start) == model->head.data_crc) return 0;
  return lx_fail(error, error_bytes, "its weights are damaged");
}

void lx_close(lx_model *model) {
  if (model && model->is_mapped) lx_unmap(model->bytes, model->size);
  free(model);
}

int lx_count_inputs(const lx_model *model) { return (int)model->head.inputs; }

int64_t lx_count_scores(const lx_model *model) { return model->head.scores; }

lx_input lx_get_input(const lx_model *model, int place) {
  const lx_input_record *input = &model->inputs[place];
  return (lx_input){input->name, (int)input->type, (int)input->rank, input->width, model->sizes[input->size].most};
}
