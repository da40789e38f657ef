/* hostile LIST: opens, verifies and asks each model file that LIST names, one a line.

   For each file it writes a line: the path, a tab, and what the engine refuses it for, which is empty if it answers. Questions
   are the same on every machine. */

#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_INPUTS = 64, MOST_VALUES = 1 << 22, MOST_PATH = 4096 };

static char error[512];

static void fill(const lx_input *input, int64_t rows, lx_feed *feed) {
  const size_t many = (size_t)(rows * input->width);
  int64_t *ids = malloc(many * sizeof *ids);
  float *values = (float *)ids;
  if (!ids) exit(2);
  for (size_t n = 0; n < many; n++) {
    const int value = input->rank == 2 ? 1 : (int)(n * 2654435761u >> 7) % 4;
    if (input->type == LX_INT64) ids[n] = value;
    else values[n] = (float)value;
  }
  *feed = (lx_feed){ids, rows, input->width};
}

/* Returns what lx_run returns for one question of `rows` rows, or of as many as the model allows. */
static int ask(const lx_model *model, lx_session *session, int64_t rows) {
  const int inputs = lx_count_inputs(model);
  lx_feed feeds[MOST_INPUTS];
  for (int n = 0; n < inputs; n++) {
    const lx_input input = lx_get_input(model, n);
    int64_t most = input.most_rows < rows ? input.most_rows : rows;
    if (most * input.width > MOST_VALUES) most = MOST_VALUES / input.width;
    fill(&input, most ? most : 1, &feeds[n]);
  }
  float *scores = malloc(((size_t)lx_count_scores(model) + 1) * sizeof *scores);
  if (!scores) exit(2);
  const int status = lx_run(session, feeds, 1, scores, error, sizeof error);
  for (int n = 0; n < inputs; n++) free((void *)feeds[n].data);
  free(scores);
  return status;
}

static int ask_all(const lx_model *model, const char *set, int threads) {
  static const int64_t rows[] = {1, 7, 100000};
  lx_session *session = lx_session_open(model, threads, set, error, sizeof error);
  if (!session) return -1;
  int status = 0;
  for (size_t n = 0; n < sizeof rows / sizeof *rows && !status; n++) status = ask(model, session, rows[n]);
  lx_session_close(session);
  return status;
}

static void try_file(const char *path) {
  lx_model *model = lx_open(path, error, sizeof error);
  if (model && !lx_verify(model, error, sizeof error) && lx_count_inputs(model) <= MOST_INPUTS)
    if (!ask_all(model, NULL, 1)) ask_all(model, "base", 2);
  lx_close(model);
}

int main(int count, char **words) {
  FILE *list = count == 2 ? fopen(words[1], "r") : NULL;
  if (!list) return fprintf(stderr, "hostile LIST\n"), 2;
  char path[MOST_PATH];
  while (fgets(path, sizeof path, list)) {
    path[strcspn(path, "\r\n")] = 0;
    *error = 0;
    try_file(path);
    printf("%s\t%s\n", path, error);
    fflush(stdout); /* the first file without a line is the one that ended the process */
  }
  fclose(list);
  return 0;
}
