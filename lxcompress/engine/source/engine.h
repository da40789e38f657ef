/* The engine: one mapped model file, any number of sessions over it.

   A model is read-only and may be shared by threads; a session answers one call at a time. Every function that can fail
   says why in `error`: one sentence, without a newline. Nothing here prints, exits or keeps global state.

   No score is ever computed from NaN or infinity: lx_run refuses the answer instead, on every instruction set. */

#ifndef LX_ENGINE_H
#define LX_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct lx_model lx_model;
typedef struct lx_session lx_session;

enum { LX_INT64 = 0, LX_FLOAT32 = 1 };

/* What lx_run and lx_see return. LX_NOT_FINITE: an input holds NaN or infinity, also in a row that its mask leaves out, or a value
   inside of the model is NaN or overflows. LX_REFUSED: anything else. */
enum { LX_ANSWERED = 0, LX_REFUSED = -1, LX_NOT_FINITE = -2 };

/* An input of a model: `rank` 2 means [batch, rows], rank 3 means [batch, rows, width]. */
typedef struct {
  const char *name;
  int type, rank;
  int64_t width, most_rows;
} lx_input;

/* The data of one input, dense and in C order; `rows` and `width` as above (`width` is 1 for rank 2). */
typedef struct {
  const void *data;
  int64_t rows, width;
} lx_feed;

/* Maps the file at `path` and checks all of its structure. Returns NULL and writes `error` if the file is damaged. */
lx_model *lx_open(const char *path, char *error, size_t error_bytes);

/* Does the same for a file in memory. Its address must be a multiple of 64, and it must stay there. */
lx_model *lx_open_bytes(const void *bytes, size_t size, char *error, size_t error_bytes);

/* Reads every byte of the weights and compares their checksum with the stated one: 0 if it is the same. */
int lx_verify(const lx_model *model, char *error, size_t error_bytes);

void lx_close(lx_model *model);

int lx_count_inputs(const lx_model *model);
lx_input lx_get_input(const lx_model *model, int place);
int64_t lx_count_scores(const lx_model *model);

/* The instruction sets that this processor can run, best first, as one text with spaces between. */
const char *lx_instruction_sets(void);

/* Allocates memory for one question of any size up to the model's largest, and starts `threads` - 1 threads.
   The threads sleep between calls. `instructions` names a set of lx_instruction_sets; NULL takes the best. */
lx_session *lx_session_open(const lx_model *model, int threads, const char *instructions, char *error,
                            size_t error_bytes);

/* Writes the scores, float32 [batch, lx_count_scores], for `feeds`: one feed for each input, in the model's order.
   Returns LX_ANSWERED if all went well; otherwise `scores` are not valid. */
int lx_run(lx_session *session, const lx_feed *feeds, int64_t batch, float *scores, char *error, size_t error_bytes);

/* Computes what depends on the given inputs alone, such as those of an image, and keeps it until the next lx_see. A feed
   without data (NULL) is an input of the questions; an input and its mask are given together. After it, lx_run takes feeds
   without data for the inputs that were seen, computes the rest for each question, and writes the same scores as without
   lx_see. lx_run with all inputs works as before, and keeps what was seen. Returns what lx_run returns; if it fails, nothing
   is kept. */
int lx_see(lx_session *session, const lx_feed *feeds, char *error, size_t error_bytes);

void lx_session_close(lx_session *session);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
