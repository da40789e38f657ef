/* The binary format of the model file (docs/engine.md), and the checked model in memory.

   All numbers are little-endian, every record has a fixed size, and every array of weights starts at a multiple of 64. */

#ifndef LX_FILE_H
#define LX_FILE_H

#include "engine.h"

#define LX_MAGIC "lxengine"
enum { LX_VERSION = 1, LX_ALIGN = 64, LX_NONE = -1, LX_GROUP = 4, LX_MOST_PANEL = 256, LX_MOST_TILE = 256 };

typedef struct {
  char magic[8];
  uint32_t version, records_crc; /* CRC-32 of the records, as in zlib */
  uint64_t file_bytes, records_bytes, data_start;
  uint32_t data_crc; /* of the bytes from data_start to the end */
  uint32_t sizes, inputs, tensors, weights, ops; /* the number of records of each kind, which follow in this order */
  uint32_t scores;
  uint32_t reserved[14];
  uint32_t header_crc; /* of the first 124 bytes */
} lx_header;

/* The number of columns of a tensor, known only when a question arrives. */
enum { LX_CONSTANT = 0, LX_ROWS = 1, LX_SUM = 2 };
typedef struct {
  uint32_t kind;    /* LX_CONSTANT: add. LX_ROWS: the rows of an input that a mask keeps. LX_SUM: two sizes plus add. */
  int32_t a, b;     /* LX_ROWS: b is the mask's input. LX_SUM: earlier sizes; b may be LX_NONE. */
  int32_t add;
  uint32_t most;    /* the largest value allowed */
  uint32_t reserved[3];
} lx_size;

typedef struct {
  char name[32]; /* ends with a zero byte */
  uint32_t type, rank, width;
  int32_t size; /* an LX_ROWS size: its number of rows */
  uint32_t reserved[4];
} lx_input_record;

/* Channels and columns; one row of memory for each channel. */
typedef struct {
  uint32_t channels;
  int32_t size;
  uint32_t reserved[2];
} lx_tensor;

/* LX_SHARED_...: neighbouring rows share the indices of their units. A layout from LX_QUANTISED on reads quantised inputs,
   but for LX_SHARED_SPARSE. */
enum {
  LX_VECTOR = 0,
  LX_TABLE = 1,
  LX_DENSE = 2,
  LX_SPARSE = 3,
  LX_QUANTISED = 4,
  LX_BLOCKS = 5,
  LX_SHARED_SPARSE = 6,
  LX_SHARED_BLOCKS = 7,
  LX_LAYOUTS = 8
};
enum { LX_F32 = 0, LX_BF16 = 1, LX_I8 = 2 };
typedef struct {
  uint32_t layout, type, rows, columns;
  uint32_t panel, tile; /* rows of a panel, a multiple of 4; units of a tile */
  uint64_t entries;
  uint64_t values, indices, groups, starts, scales, sums; /* offsets from data_start */
  uint32_t shared; /* LX_SHARED_...: the rows that share an index, 2 or 4 */
  uint32_t reserved[3];
} lx_weight;

/* Four rows of a panel (their indices in it), and their number of entries in a tile. */
typedef struct {
  uint8_t rows[LX_GROUP];
  uint16_t count, reserved;
} lx_group;

/* Some rows and columns of a tensor. */
typedef struct {
  int32_t tensor;
  uint32_t row, rows;
  int32_t start, columns; /* sizes; start LX_NONE is column 0 */
} lx_slice;

/* The columns of a picture are its pixels, row after row. LX_PLANES: the rows of an input become channels; a row that holds
   several pictures becomes as many channels. LX_PATCHES: the pixels under a kernel become channels, channel after channel
   and row after row, so that LX_LINEAR is a convolution.
   LX_FILTER: a kernel for each channel (depthwise). LX_POOL: the mean of each cell of a grid, as torch's
   adaptive_avg_pool2d. Pixels outside of the picture are zero. */
enum {
  LX_EMBED = 0,
  LX_LOAD = 1,
  LX_JOIN = 2,
  LX_LINEAR = 3,
  LX_NORM = 4,
  LX_ATTEND = 5,
  LX_SCORES = 6,
  LX_PLANES = 7,
  LX_PATCHES = 8,
  LX_FILTER = 9,
  LX_POOL = 10,
  LX_OPS = 11
};
enum { LX_LINEAR_ONLY = 0, LX_GELU = 1, LX_TANH = 2, LX_RELU = 3, LX_RELU6 = 4, LX_ACTIVATIONS = 5 };
enum { LX_FIRST_COLUMN = 0, LX_ALL_COLUMNS = 1 };
enum { LX_MOST_KERNEL = 15, LX_MOST_STRIDE = 8, LX_MOST_PATCH = 64 }; /* LX_MOST_PATCH: of both, for LX_PATCHES */
/* LX_BY_POSITION: in a tensor of constant size, the position is the column. */
enum { LX_BY_INPUT = 0, LX_BY_POSITION = 1, LX_BY_CONSTANT = 2 };
typedef struct {
  uint32_t code;
  int32_t out;              /* a tensor; all of it is written */
  int32_t input;            /* LX_EMBED by input, LX_LOAD, LX_PLANES */
  int32_t weight, bias;     /* LX_NORM: weight is the gain. LX_FILTER: a vector, kernel after kernel. */
  uint32_t activation;      /* LX_LINEAR, LX_FILTER, LX_NORM */
  uint32_t count;           /* LX_ATTEND: heads. LX_EMBED: the constant row. LX_PATCHES, LX_FILTER: the kernel's side. */
  uint32_t mode;            /* LX_EMBED: what selects the row. LX_SCORES: which columns. LX_PATCHES, LX_FILTER: the stride. */
  uint32_t adds;            /* LX_EMBED: 1 adds to the values of `out` */
  float scalar;             /* LX_ATTEND: the factor of the scores. LX_NORM: epsilon. */
  lx_slice in[3];
  uint32_t width, out_width; /* LX_PATCHES, LX_FILTER, LX_POOL: the pixels of a row of the picture that is read, and written */
  uint32_t padding;          /* LX_PATCHES, LX_FILTER: the zeros left of and above the picture */
} lx_op;

struct lx_model {
  const uint8_t *bytes;
  size_t size;
  uint64_t claimed; /* bytes of the arrays that were checked so far */
  int is_mapped;
  lx_header head;
  const lx_size *sizes;
  const lx_input_record *inputs;
  const lx_tensor *tensors;
  const lx_weight *weights;
  const lx_op *ops;
  const uint8_t *data;
};

uint32_t lx_crc(uint32_t before, const void *bytes, size_t size);

#if defined(__MINGW32__) && !defined(__clang__)
#define LX_PRINTF gnu_printf /* build.py asks for it; the printf of Windows does not know %zu */
#else
#define LX_PRINTF printf
#endif

/* Always returns -1, with `error` written. */
int lx_fail(char *error, size_t error_bytes, const char *format, ...) __attribute__((format(LX_PRINTF, 3, 4)));

/* Whether the product reads quantised inputs, four bytes at once. */
static inline int lx_is_quantised(const lx_weight *weight) {
  return weight->layout == LX_QUANTISED || weight->layout == LX_BLOCKS || weight->layout == LX_SHARED_BLOCKS;
}

/* Whether units of zeros are left out, so that the weight has groups, starts and indices. */
static inline int lx_is_sparse(const lx_weight *weight) {
  return weight->layout == LX_SPARSE || weight->layout == LX_BLOCKS || weight->layout >= LX_SHARED_SPARSE;
}

/* The indices of an entry of a sparse weight: one for each row, or for each set of rows that share it. */
static inline uint32_t lx_indices(const lx_weight *weight) {
  return weight->layout >= LX_SHARED_SPARSE ? LX_GROUP / weight->shared : LX_GROUP;
}

/* Units of a weight's columns: the columns, or blocks of four of them. */
static inline uint32_t lx_units(const lx_weight *weight) {
  return lx_is_quantised(weight) ? (weight->columns + 3) / 4 : weight->columns;
}

/* Returns how many of its three slices an operation reads; an optional one is absent if its tensor is LX_NONE. */
static inline int lx_count_slices(const lx_op *op) {
  switch (op->code) {
    case LX_EMBED:
    case LX_LOAD:
    case LX_PLANES:
      return 0;
    case LX_SCORES:
    case LX_PATCHES:
    case LX_FILTER:
    case LX_POOL:
      return 1;
    case LX_ATTEND:
      return 3;
    default:
      return op->in[1].tensor == LX_NONE ? 1 : 2;
  }
}

static inline uint32_t lx_rounded(uint32_t value, uint32_t to) { return (value + to - 1) / to * to; }

#endif
