/* What a session keeps of an image: the results that depend on some inputs alone, and that later questions read. */

#ifndef LX_SEEN_H
#define LX_SEEN_H

#include "file.h"

/* LX_ASKED: an operation that depends on an input that was not seen. LX_BEFORE: one that does not. LX_HELD: the same, and
   an LX_ASKED operation reads its result, so the result is kept. */
enum { LX_ASKED = 0, LX_BEFORE = 1, LX_HELD = 2 };

typedef struct {
  uint8_t *inputs;  /* of each input: whether it was seen */
  uint8_t *sizes;   /* of each size: whether the seen inputs determine it */
  uint8_t *ops;     /* of each operation: LX_ASKED, LX_BEFORE or LX_HELD */
  lx_feed *feeds;   /* of each seen input: its rows and width, and a copy of its numbers if it is int64 */
  float **results;  /* of each LX_HELD operation: its tensor */
  int64_t *ids;     /* the copied numbers */
} lx_seen;

/* Finds what depends on the inputs of `feeds` that have data, and copies their int64 numbers. NULL without memory. */
lx_seen *lx_seen_open(const lx_model *model, const lx_feed *feeds);

/* Allocates the results, which have less than `most` bytes. `columns` has the value of each known size, and `stride`
   returns the length of a row in memory. Returns LX_FITS, or why not. */
enum { LX_FITS = 0, LX_TOO_LARGE = 1, LX_NO_MEMORY = 2 };
int lx_seen_allocate(lx_seen *seen, const lx_model *model, const int64_t *columns, size_t (*stride)(int64_t), uint64_t most);

void lx_seen_close(lx_seen *seen, const lx_model *model);

#endif
