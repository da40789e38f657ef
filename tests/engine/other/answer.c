/* answer MODEL QUESTIONS ANSWERS THREADS TIMES [INSTRUCTIONS]: what a program in C does with the engine, from engine.h alone.

   QUESTIONS: int64 batch; then for each input, in the model's order, int64 rows, int64 width, and the values. ANSWERS:
   the scores, as they lie in memory. The instruction sets are written out, and the seconds of the fastest of TIMES. */

#define _POSIX_C_SOURCE 200809L
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_INPUTS = 16 };

static char error[512];

static void need(int condition, const char *said) {
  if (condition) return;
  fprintf(stderr, "%s\n", said);
  exit(1);
}

static void *read_values(FILE *file, size_t size) {
  void *values = malloc(size + 1);
  need(values && fread(values, 1, size, file) == size, "the questions are not whole");
  return values;
}

static int64_t read_number(FILE *file) {
  int64_t number = 0;
  need(fread(&number, sizeof number, 1, file) == 1, "the questions are not whole");
  return number;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(int count, char **words) {
  need(count == 6 || count == 7, "answer MODEL QUESTIONS ANSWERS THREADS TIMES [INSTRUCTIONS]");
  lx_model *model = lx_open(words[1], error, sizeof error);
  need(model != NULL, error);
  need(!lx_verify(model, error, sizeof error), error);
  lx_session *session = lx_session_open(model, atoi(words[4]), count == 7 ? words[6] : NULL, error, sizeof error);
  need(session != NULL, error);

  FILE *questions = fopen(words[2], "rb"), *answers = fopen(words[3], "wb");
  need(questions && answers, "a file cannot be opened");
  const int64_t batch = read_number(questions);
  lx_feed feeds[MOST_INPUTS];
  need(lx_count_inputs(model) <= MOST_INPUTS, "a model has too many inputs");
  for (int place = 0; place < lx_count_inputs(model); place++) {
    const size_t each = lx_get_input(model, place).type == LX_INT64 ? sizeof(int64_t) : sizeof(float);
    feeds[place].rows = read_number(questions);
    feeds[place].width = read_number(questions);
    feeds[place].data = read_values(questions, (size_t)(batch * feeds[place].rows * feeds[place].width) * each);
  }

  const size_t size = (size_t)(batch * lx_count_scores(model));
  float *scores = malloc(size * sizeof *scores);
  need(scores != NULL, "there is no memory");
  double fastest = 0;
  for (int turn = 0; turn < atoi(words[5]); turn++) {
    const double start = now();
    need(!lx_run(session, feeds, batch, scores, error, sizeof error), error);
    const double taken = now() - start;
    if (turn == 0 || taken < fastest) fastest = taken;
  }
  need(fwrite(scores, sizeof *scores, size, answers) == size && !fclose(answers), "the answers cannot be written");
  fclose(questions);
  printf("%s\n%.9f\n", lx_instruction_sets(), fastest);
  for (int place = 0; place < lx_count_inputs(model); place++) free((void *)feeds[place].data);
  free(scores);
  lx_session_close(session);
  lx_close(model);
  return 0;
}
