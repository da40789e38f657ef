/* engine-bench MODEL SAMPLES THREADS RUNS TOKENS OBJECTS: times an engine file on the device where it runs.

   It answers one question RUNS times, of TOKENS words about OBJECTS regions, and writes the seconds of each answer to the file
   SAMPLES, one a line. It prints the seconds to open the model, and the most memory that the process had. */

#define _GNU_SOURCE
#include "../source/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MOST_INPUTS = 16, WORD_IDS = 4 }; /* every vocabulary has the ids 1 to WORD_IDS */

extern const char lx_sources[]; /* the checksum of the engine's sources, which build.py writes */

static char error[512];

static void need(int condition, const char *reason) {
  if (condition) return;
  fprintf(stderr, "engine-bench: %s\n", reason);
  exit(1);
}

static double read_clock(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Returns a number from 0 to 1, the same sequence in each process (a linear congruential generator). */
static float draw(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) / (float)(1 << 24);
}

/* Returns `rows` rows of an input: masks of ones, random ids of words, or random features. */
static lx_feed make_feed(lx_input input, int64_t rows) {
  const size_t count = (size_t)(rows * input.width);
  const int is_ids = !strcmp(input.name, "input_ids");
  void *data = malloc(count * (input.type == LX_INT64 ? sizeof(int64_t) : sizeof(float)));
  need(data != NULL, "there is not enough memory for the inputs");
  for (size_t index = 0; index < count; index++) {
    if (input.type == LX_FLOAT32)
      ((float *)data)[index] = draw();
    else
      ((int64_t *)data)[index] = is_ids ? 1 + (int64_t)(draw() * WORD_IDS) : 1;
  }
  return (lx_feed){data, rows, input.width};
}

static int reads_words(lx_input input) { return !strcmp(input.name, "input_ids") || !strcmp(input.name, "attention_mask"); }

int main(int count, char **words) {
  need(count == 7, "expected MODEL SAMPLES THREADS RUNS TOKENS OBJECTS");
  const int threads = atoi(words[3]), runs = atoi(words[4]);
  const int64_t tokens = atoll(words[5]), objects = atoll(words[6]);

  const double start = read_clock();
  lx_model *model = lx_open(words[1], error, sizeof error);
  need(model != NULL, error);
  lx_session *session = lx_session_open(model, threads, NULL, error, sizeof error);
  need(session != NULL, error);
  printf("load %.6f s\n", read_clock() - start);

  lx_feed feeds[MOST_INPUTS];
  const int inputs = lx_count_inputs(model);
  need(inputs <= MOST_INPUTS, "the model has too many inputs");
  for (int index = 0; index < inputs; index++) {
    const lx_input input = lx_get_input(model, index);
    feeds[index] = make_feed(input, reads_words(input) ? tokens : objects);
  }
  float *scores = malloc((size_t)lx_count_scores(model) * sizeof *scores);
  FILE *samples = fopen(words[2], "w");
  need(scores && samples, "the file of samples cannot be written");
  for (int run = 0; run < runs; run++) {
    const double before = read_clock();
    need(!lx_run(session, feeds, 1, scores, error, sizeof error), error);
    fprintf(samples, "%.9f\n", read_clock() - before);
  }
  need(!fclose(samples), "the file of samples cannot be written");

  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("peak %ld KiB\ninstructions %s\nsources %s\n", usage.ru_maxrss, lx_instruction_sets(), lx_sources);
  return 0; /* the system frees the memory */
}
