/* Answers questions without Python, for tools that watch a program: drive MODEL QUESTIONS [THREADS [SESSIONS [RUNS [SET
   [SEE]]]]]].

   A file of questions is a row of batches: int64 batch, then for each input int64 rows, int64 width, and its data. The
   scores of all batches go to the standard output, as float32. Each of SESSIONS threads has a session of its own over the
   one model, of THREADS threads, and asks everything RUNS times; each answer has to be the first, to the bit. With SEE, the
   first question of a batch is also asked after its last inputs were seen, as many as lx_see takes, and has the same answer. */

#include "engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

enum { MOST_SESSIONS = 16, MOST_INPUTS = 16, ERROR_BYTES = 256 };

typedef struct {
  lx_feed *feeds;
  int64_t batch;
} question;

typedef struct {
  const lx_model *model;
  const question *questions;
  int many, threads, runs;
  const char *set;
  int sees;
  float *scores; /* of all questions */
  char error[ERROR_BYTES];
} job;

static void *need(void *block) {
  if (block) return block;
  fprintf(stderr, "there is no memory\n");
  exit(2);
}

static void take(void *to, size_t bytes, FILE *from) {
  if (fread(to, 1, bytes, from) == bytes) return;
  fprintf(stderr, "the questions end too early\n");
  exit(2);
}

/* One batch; 0 at the end of the file. */
static int read_question(const lx_model *model, FILE *from, question *to) {
  if (fread(&to->batch, sizeof to->batch, 1, from) != 1) return 0;
  const int inputs = lx_count_inputs(model);
  to->feeds = need(calloc((size_t)inputs, sizeof *to->feeds));
  for (int n = 0; n < inputs; n++) {
    lx_feed *feed = &to->feeds[n];
    take(&feed->rows, sizeof feed->rows, from);
    take(&feed->width, sizeof feed->width, from);
    const size_t each = lx_get_input(model, n).type == LX_INT64 ? 8 : 4;
    const size_t bytes = (size_t)(to->batch * feed->rows * feed->width) * each;
    void *data = need(malloc(bytes ? bytes : 1));
    take(data, bytes, from);
    feed->data = data;
  }
  return 1;
}

static int read_questions(const lx_model *model, const char *path, question **all) {
  FILE *from = fopen(path, "rb");
  if (!from) return fprintf(stderr, "%s: cannot be opened\n", path), exit(2), 0;
  int many = 0;
  *all = need(malloc(sizeof **all));
  while (read_question(model, from, &(*all)[many])) *all = need(realloc(*all, (size_t)(++many + 1) * sizeof **all));
  fclose(from);
  return many;
}

static int64_t count_scores(const job *all) {
  int64_t many = 0;
  for (int n = 0; n < all->many; n++) many += all->questions[n].batch * lx_count_scores(all->model);
  return many;
}

/* Sees the inputs of a question from `first` on, and asks it. Returns 0 if lx_see refuses: an input lacks its mask. */
static int see(const job *all, lx_session *session, const question *about, int first, float *scores, char *error) {
  const int inputs = lx_count_inputs(all->model);
  lx_feed seen[MOST_INPUTS] = {0}, asked[MOST_INPUTS] = {0};
  for (int n = 0; n < inputs; n++) *(n < first ? &asked[n] : &seen[n]) = about->feeds[n];
  if (lx_see(session, seen, error, ERROR_BYTES)) return 0;
  lx_run(session, asked, 1, scores, error, ERROR_BYTES);
  return 1;
}

/* Compares what is answered after each possible lx_see with `scores`, those of a plain run. */
static void see_all(job *all, lx_session *session, const question *about, const float *scores) {
  const size_t bytes = (size_t)lx_count_scores(all->model) * sizeof(float);
  float *found = need(malloc(bytes));
  for (int first = 1; first < lx_count_inputs(all->model); first++) {
    char error[ERROR_BYTES] = "";
    if (see(all, session, about, first, found, error) && (*error || memcmp(found, scores, bytes)))
      snprintf(all->error, ERROR_BYTES, "what was seen changes an answer %.200s", error);
  }
  free(found);
}

static void *answer(void *argument) {
  job *all = argument;
  lx_session *session = lx_session_open(all->model, all->threads, all->set, all->error, ERROR_BYTES);
  if (!session) return NULL;
  for (int run = 0; run < all->runs && !*all->error; run++) {
    float *to = all->scores;
    for (int n = 0; n < all->many && !*all->error; n++) {
      const size_t bytes = (size_t)(all->questions[n].batch * lx_count_scores(all->model)) * sizeof(float);
      float *fresh = need(malloc(bytes ? bytes : 1));
      if (!lx_run(session, all->questions[n].feeds, all->questions[n].batch, fresh, all->error, ERROR_BYTES)) {
        if (run && memcmp(fresh, to, bytes)) snprintf(all->error, ERROR_BYTES, "run %d answers otherwise", run);
        memcpy(to, fresh, bytes);
        if (all->sees) see_all(all, session, &all->questions[n], fresh);
      }
      to += bytes / sizeof(float);
      free(fresh);
    }
  }
  lx_session_close(session);
  return NULL;
}

static int answer_all(job *first, int sessions) {
  job jobs[MOST_SESSIONS];
  pthread_t threads[MOST_SESSIONS];
  const size_t bytes = (size_t)count_scores(first) * sizeof(float);
  int failed = 0;
  for (int n = 0; n < sessions; n++) {
    jobs[n] = *first;
    jobs[n].scores = need(calloc(1, bytes + 1));
    if (pthread_create(&threads[n], NULL, answer, &jobs[n])) return fprintf(stderr, "there are no threads\n"), 2;
  }
  for (int n = 0; n < sessions; n++) pthread_join(threads[n], NULL);
  for (int n = 0; n < sessions; n++) {
    if (!*jobs[n].error && memcmp(jobs[n].scores, jobs[0].scores, bytes))
      snprintf(jobs[n].error, ERROR_BYTES, "session %d answers otherwise", n);
    if (*jobs[n].error) failed = 1, fprintf(stderr, "%s\n", jobs[n].error);
  }
  if (!failed) fwrite(jobs[0].scores, 1, bytes, stdout);
  for (int n = 0; n < sessions; n++) free(jobs[n].scores);
  return failed;
}

static int number(int many, char **arguments, int place, int otherwise) {
  return many > place ? atoi(arguments[place]) : otherwise;
}

int main(int many, char **arguments) {
#ifdef _WIN32
  _setmode(_fileno(stdout), _O_BINARY);
#endif
  char error[ERROR_BYTES] = "";
  const int sessions = number(many, arguments, 4, 1);
  if (many < 3 || sessions < 1 || sessions > MOST_SESSIONS) return fprintf(stderr, "drive MODEL QUESTIONS ...\n"), 2;
  lx_model *model = lx_open(arguments[1], error, sizeof error);
  if (!model || lx_verify(model, error, sizeof error)) {
    lx_close(model);
    return fprintf(stderr, "%s\n", error), 1;
  }
  question *questions;
  job first = {.model = model, .threads = number(many, arguments, 3, 1), .runs = number(many, arguments, 5, 1),
               .set = many > 6 ? arguments[6] : NULL, .sees = many > 7};
  first.many = read_questions(model, arguments[2], &questions);
  first.questions = questions;
  const int failed = answer_all(&first, sessions);
  for (int n = 0; n < first.many; n++) {
    for (int input = 0; input < lx_count_inputs(model); input++) free((void *)questions[n].feeds[input].data);
    free(questions[n].feeds);
  }
  free(questions);
  lx_close(model);
  return failed;
}
