/* A hostile model file, opened, checked and asked questions: for libFuzzer, or for files by name (-DLX_REPLAY).

   Checksums would stop every changed file at its header, so the target seals what it is given before it opens it. The
   memory of a session is taken apart, an allocation for each use, so that AddressSanitizer sees a step from one to the
   next; its tensors' memory is filled once with zeros and once with what is no number, and the scores have to be
   finite and the same. The words of the header that the format leaves free say which questions are asked. */

#include "run.c"

#include <stdio.h>

enum { RAW = 1, QUESTIONS = 3, MOST_ROWS = 48, MOST_FEED = 1 << 20, MOST_SCORES = 1 << 20, BLOCKS_HELD = 64 };

static uint64_t draw(uint64_t *state) {
  *state += 0x9E3779B97F4A7C15u;
  uint64_t value = *state;
  value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
  value = (value ^ value >> 27) * 0x94D049BB133111EBu;
  return value ^ value >> 31;
}

static uint64_t below(uint64_t *state, uint64_t end) { return end ? draw(state) % end : 0; }

/* -- files ---------------------------------------------------------------------------------------------------- */

static const size_t RECORD_BYTES[] = {sizeof(lx_size), sizeof(lx_input_record), sizeof(lx_tensor), sizeof(lx_weight),
                                      sizeof(lx_op)};
enum { KINDS = 5 };

static uint32_t *count_of(lx_header *head, int kind) { return &head->sizes + kind; }

static uint64_t records_of(lx_header *head) {
  uint64_t bytes = 0;
  for (int kind = 0; kind < KINDS; kind++) bytes += (uint64_t)*count_of(head, kind) * RECORD_BYTES[kind];
  return bytes;
}

/* Makes the lengths and checksums those of what is there, unless the file asks to be taken as it is. */
static void seal(uint8_t *bytes, size_t size) {
  lx_header head;
  if (size < sizeof head) return;
  memcpy(&head, bytes, sizeof head);
  if (head.reserved[1] & RAW) return;
  memcpy(head.magic, LX_MAGIC, 8);
  head.version = LX_VERSION, head.file_bytes = size, head.records_bytes = records_of(&head);
  const size_t rest = size - sizeof head;
  head.records_crc = lx_crc(0, bytes + sizeof head, head.records_bytes < rest ? (size_t)head.records_bytes : rest);
  if (head.data_start <= size) head.data_crc = lx_crc(0, bytes + head.data_start, size - (size_t)head.data_start);
  head.header_crc = lx_crc(0, &head, sizeof head - 4);
  memcpy(bytes, &head, sizeof head);
}

/* -- sessions ------------------------------------------------------------------------------------------------- */

/* Allocations of one session, each with what AddressSanitizer puts around it. */
typedef struct {
  void *held[BLOCKS_HELD];
  int many;
} blocks;

static void *hold(blocks *all, size_t bytes, int fill) {
  void *block = NULL;
  if (all->many == BLOCKS_HELD || posix_memalign(&block, LX_ALIGN, bytes ? bytes : 1)) abort();
  memset(block, fill, bytes);
  all->held[all->many++] = block;
  return block;
}

static void let_go(blocks *all) {
  while (all->many) free(all->held[--all->many]);
}

/* Gives each part of a session's memory its own allocation, of exactly the size that was counted. */
static void take_apart(lx_session *session, blocks *all, int fill) {
  const lx_model *model = session->model;
  const need size = count_memory(model);
  session->memory = hold(all, 4 * (size_t)size.memory, fill);
  session->bytes = hold(all, 4 * (size_t)size.bytes, fill);
  session->scale = hold(all, 4 * (size_t)size.columns, fill);
  session->zero = hold(all, 4 * (size_t)size.columns, fill);
  session->scores = hold(all, 4 * (size_t)size.scores, fill);
  session->sizes = hold(all, 8 * model->head.sizes, 0);
  session->tensors = hold(all, sizeof(view) * model->head.tensors, 0);
  session->rows = hold(all, sizeof(void *) * model->head.inputs, 0);
  for (uint32_t n = 0; n < model->head.sizes && all->many < BLOCKS_HELD; n++)
    if (model->sizes[n].kind == LX_ROWS) session->kept[n] = hold(all, 4 * model->sizes[n].most, 0xFF);
}

/* Behind the last tensor's rows nothing is ever written, of a session that answered one question. */
static void check_room(const lx_session *session, int fill) {
  const lx_model *model = session->model;
  const uint32_t last = model->head.tensors - 1; /* there is one: the scores are read from it */
  const view *end_of_all = &session->tensors[last];
  const size_t at = (size_t)(end_of_all->at - session->memory) +
                    lx_rounded(model->tensors[last].channels, LX_GROUP) * end_of_all->stride;
  const uint8_t *bytes = (const uint8_t *)session->memory;
  for (size_t end = 4 * (size_t)count_memory(model).memory, n = 4 * at; n < end; n++)
    if (bytes[n] != (uint8_t)fill) {
      fprintf(stderr, "byte %zu behind the last tensor was written\n", n - 4 * at);
      abort();
    }
}

/* Whether each index of the sparse weights is one of its tile's units: what else it may read is not the model's. */
static int has_sound_indices(const lx_model *model) {
  for (uint32_t n = 0; n < model->head.weights; n++) {
    const lx_weight *weight = &model->weights[n];
    if (!lx_is_sparse(weight)) continue;
    const uint32_t rows = lx_rounded(weight->rows, LX_GROUP), units = lx_units(weight);
    const uint32_t tiles = split(units, weight->tile), panels = split(rows, weight->panel);
    const lx_group *group = (const lx_group *)(model->data + weight->groups);
    const uint8_t *index = model->data + weight->indices;
    for (uint32_t panel = 0; panel < panels; panel++) {
      const uint32_t first = panel * weight->panel, many = rows - first < weight->panel ? rows - first : weight->panel;
      for (uint32_t tile = 0; tile < tiles; tile++) {
        const uint32_t left = units - tile * weight->tile, here = left < weight->tile ? left : weight->tile;
        for (uint32_t g = 0; g < many / LX_GROUP; g++, group++)
          for (uint32_t k = 0; k < lx_indices(weight) * (uint32_t)group->count; k++)
            if (*index++ >= here) return 0;
      }
    }
  }
  return 1;
}

/* -- questions ------------------------------------------------------------------------------------------------ */

static int64_t draw_id(uint64_t *state) {
  static const int64_t odd[] = {-1, INT64_MIN, INT64_MAX, 1ll << 31, 1ll << 32, 65536};
  return below(state, 200) ? (int64_t)below(state, 3) : odd[below(state, 6)];
}

static float draw_float(uint64_t *state) {
  static const uint32_t odd[] = {0x7FC00000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0xFF7FFFFF, 1, 0x80000000, 0x5F000000};
  float value = (float)(int64_t)below(state, 2001) / 1000.0f - 1.0f;
  if (!below(state, 300)) memcpy(&value, &odd[below(state, 8)], sizeof value);
  return value;
}

/* Feeds of `batch` questions, each in an allocation of its exact size; 0 if they would be large. */
static int draw_feeds(const lx_model *model, uint64_t *state, int64_t batch, lx_feed *feeds) {
  const uint32_t style = (uint32_t)below(state, 4);
  const uint64_t length = draw(state);
  for (uint32_t n = 0; n < model->head.inputs; n++) {
    const lx_input input = lx_get_input(model, (int)n);
    uint64_t of_size = length + (uint64_t)model->inputs[n].size;
    int64_t most = input.most_rows < MOST_ROWS ? input.most_rows : MOST_ROWS;
    int64_t rows = below(&of_size, 4) ? 1 + (int64_t)below(&of_size, (uint64_t)most) : most;
    if (!below(state, 100)) rows += (int64_t)below(state, 3) - 1;
    const int64_t values = batch * rows * input.width;
    feeds[n] = (lx_feed){NULL, rows, input.width};
    if (values > MOST_FEED) return 0;
    if (input.type == LX_INT64) {
      int64_t *given = malloc(values > 0 ? (size_t)values * 8 : 1);
      const int is_mask = model->sizes[input.rank == 2 ? model->inputs[n].size : 0].b == (int32_t)n;
      for (int64_t k = 0; k < values; k++)
        given[k] = !is_mask ? draw_id(state) : style == 0 ? 1 : style == 1 ? 0 : (int64_t)below(state, style);
      feeds[n].data = given;
    } else {
      float *given = malloc(values > 0 ? (size_t)values * 4 : 1);
      for (int64_t k = 0; k < values; k++) given[k] = draw_float(state);
      feeds[n].data = given;
    }
  }
  return 1;
}

static int is_same(const float *a, const float *b, size_t many) {
  for (size_t n = 0; n < many; n++)
    if (memcmp(&a[n], &b[n], 4) && !(a[n] != a[n] && b[n] != b[n])) return 0;
  return 1;
}

static int are_finite(const float *scores, size_t many) {
  for (size_t n = 0; n < many; n++)
    if (scores[n] - scores[n] != 0.0f) return 0;
  return 1;
}

static void check_error(const char *error) {
  if (!*error || strchr(error, '\n')) {
    fprintf(stderr, "an error is no sentence: '%s'\n", error);
    abort();
  }
}

/* What one session says to one batch: 0 if it answered. */
static int ask(const lx_model *model, const char *set, const lx_feed *feeds, int64_t batch, float *scores, int fill) {
  char error[256] = "";
  lx_session *session = lx_session_open(model, 1, set, error, sizeof error);
  if (!session) {
    check_error(error);
    return -1;
  }
  blocks all = {{0}, 0};
  take_apart(session, &all, fill);
  const int code = lx_run(session, feeds, batch, scores, error, sizeof error);
  if (code) check_error(error);
  if (!code && batch == 1) check_room(session, fill);
  lx_session_close(session);
  let_go(&all);
  return code;
}

/* Takes the data of the inputs of some masks, drawn by `style`, out of `feeds`, and returns them as feeds for lx_see. */
static lx_feed *draw_seen(const lx_model *model, lx_feed *feeds, uint64_t style) {
  lx_feed *seen = calloc(model->head.inputs + 1, sizeof *seen);
  for (uint32_t n = 0; n < model->head.inputs; n++) {
    if (!(style >> model->sizes[model->inputs[n].size].b % 8 & 1)) continue;
    seen[n] = feeds[n];
    feeds[n].data = NULL;
  }
  return seen;
}

/* Sees some inputs of one question, then asks it twice: 0 if it answered. */
static int see_and_ask(const lx_model *model, const char *set, const lx_feed *feeds, uint64_t style, float *scores) {
  char error[256] = "";
  lx_session *session = lx_session_open(model, 1, set, error, sizeof error);
  lx_feed *asked = calloc(model->head.inputs + 1, sizeof *asked);
  memcpy(asked, feeds, model->head.inputs * sizeof *asked);
  lx_feed *seen = draw_seen(model, asked, style);
  int code = session ? lx_see(session, seen, error, sizeof error) : -1;
  for (int time = 0; time < 2 && !code; time++) code = lx_run(session, asked, 1, scores, error, sizeof error);
  if (code) check_error(error);
  lx_session_close(session);
  free(seen), free(asked);
  return code;
}

/* A question about what was seen has the scores of a plain run, and is refused where that refuses it. */
static void check_seen(const lx_model *model, const char *set, const lx_feed *feeds, uint64_t style, const float *scores,
                       int code) {
  float *found = calloc(model->head.scores, 4);
  const int other = see_and_ask(model, set, feeds, style, found);
  if (!other && (code || !is_same(found, scores, model->head.scores))) {
    fprintf(stderr, "what was seen changes an answer (%s): %d, %d\n", set, code, other);
    abort();
  }
  free(found);
}

static void ask_all(const lx_model *model) {
  uint64_t state = model->head.reserved[0];
  const lx_kernels *const *sets = lx_find_kernels();
  size_t many = 0;
  while (sets[many]) many++;
  const int is_sound = has_sound_indices(model);
  lx_feed *feeds = calloc(model->head.inputs + 1, sizeof *feeds);
  for (int question = 0; question < QUESTIONS; question++) {
    const int64_t batch = 1 + (int64_t)below(&state, 2);
    const size_t answers = (size_t)batch * model->head.scores;
    memset(feeds, 0, model->head.inputs * sizeof *feeds);
    if (answers <= MOST_SCORES && draw_feeds(model, &state, batch, feeds)) {
      const char *set = sets[below(&state, many)]->name;
      float *first = malloc(answers * 4), *again = malloc(answers * 4);
      memset(first, 0, answers * 4), memset(again, 0xFF, answers * 4);
      const int code = ask(model, set, feeds, batch, first, 0), other = ask(model, set, feeds, batch, again, 0xFF);
      if (is_sound && code != other) {
        fprintf(stderr, "whether it answers depends on what lay in memory (%s): %d, %d\n", set, code, other);
        abort();
      }
      if ((!code && !are_finite(first, answers)) || (!other && !are_finite(again, answers))) {
        fprintf(stderr, "a score is not finite (%s)\n", set);
        abort();
      }
      if (!code && is_sound && !is_same(first, again, answers)) {
        fprintf(stderr, "the scores depend on what lay in memory (%s)\n", set);
        abort();
      }
      if (batch == 1 && is_sound) check_seen(model, set, feeds, draw(&state), first, code);
      free(first), free(again);
    }
    for (uint32_t n = 0; n < model->head.inputs; n++) free((void *)feeds[n].data);
  }
  free(feeds);
}

static int count_held(const lx_model *model) {
  int many = 8;
  for (uint32_t n = 0; n < model->head.sizes && many <= BLOCKS_HELD; n++) many += model->sizes[n].kind == LX_ROWS;
  return many;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char error[256] = "";
  uint8_t *bytes = NULL;
  if (posix_memalign((void **)&bytes, LX_ALIGN, size ? size : 1)) return 0;
  if (size) memcpy(bytes, data, size);
  seal(bytes, size);
  lx_model *model = lx_open_bytes(bytes, size, error, sizeof error);
  if (model) {
    if (lx_verify(model, error, sizeof error)) check_error(error);
    if (count_held(model) <= BLOCKS_HELD) ask_all(model);
    lx_close(model);
  } else {
    check_error(error);
  }
  free(bytes);
  return 0;
}

/* -- changes -------------------------------------------------------------------------------------------------- */

#ifdef LX_REPLAY

static int replay(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return fprintf(stderr, "%s: cannot be opened\n", path), 1;
  static uint8_t bytes[1 << 20];
  const size_t size = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  fprintf(stderr, "%s\n", path); /* the last line before a crash says whose it is */
  LLVMFuzzerTestOneInput(bytes, size);
  return 0;
}

int main(int many, char **paths) {
  for (int n = 1; n < many; n++)
    if (replay(paths[n])) return 1;
  return many < 2;
}

#else

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

static uint32_t draw_word(uint64_t *state, uint32_t before) {
  static const uint32_t odd[] = {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 63, 64, 127, 255, 256, 257, 65535, 65536, 65537,
                                 1u << 24, (1u << 24) + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFC0};
  switch (below(state, 6)) {
    case 0:
      return before + 1;
    case 1:
      return before - 1;
    case 2:
      return (uint32_t)below(state, 12);
    case 3:
      return before + (uint32_t)below(state, 65) * 4 - 128;
    case 4:
      return before ^ 1u << below(state, 32);
    default:
      return odd[below(state, sizeof odd / sizeof *odd)];
  }
}

static void change_word(uint8_t *at, uint64_t *state) {
  uint32_t word;
  memcpy(&word, at, 4);
  word = draw_word(state, word);
  memcpy(at, &word, 4);
}

/* Where the records of a kind lie; 0 if none do. */
static size_t find_records(lx_header *head, size_t size, int kind) {
  size_t at = sizeof *head;
  for (int before = 0; before < kind; before++) at += (size_t)*count_of(head, before) * RECORD_BYTES[before];
  const uint32_t many = *count_of(head, kind);
  return many && many < 4096 && at + many * RECORD_BYTES[kind] <= size ? at : 0;
}

/* A word of a record becomes another, or that of a neighbour. */
static void change_record(uint8_t *bytes, size_t size, uint64_t *state) {
  lx_header head;
  memcpy(&head, bytes, sizeof head);
  static const int drawn[] = {0, 0, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4};
  const int kind = drawn[below(state, sizeof drawn / sizeof *drawn)];
  const size_t at = find_records(&head, size, kind), each = RECORD_BYTES[kind];
  if (!at) return;
  const uint32_t many = *count_of(&head, kind);
  uint8_t *record = bytes + at + below(state, many) * each;
  const size_t word = below(state, each / 4) * 4;
  if (below(state, 4))
    change_word(record + word, state);
  else
    memcpy(record + word, bytes + at + below(state, many) * each + word, 4);
}

/* Two records change places, or one becomes another. */
static void move_record(uint8_t *bytes, size_t size, uint64_t *state) {
  lx_header head;
  memcpy(&head, bytes, sizeof head);
  const int kind = below(state, 3) ? 4 : (int)below(state, KINDS);
  const size_t at = find_records(&head, size, kind), each = RECORD_BYTES[kind];
  if (!at) return;
  uint8_t kept[128], *one = bytes + at + below(state, *count_of(&head, kind)) * each;
  uint8_t *other = bytes + at + below(state, *count_of(&head, kind)) * each;
  memcpy(kept, one, each), memmove(one, other, each);
  if (below(state, 2)) memcpy(other, kept, each);
}

/* One record more, a copy, or one less; the weights move by whole lines of 64 bytes. */
static size_t count_record(uint8_t *bytes, size_t size, size_t most, uint64_t *state) {
  lx_header head;
  memcpy(&head, bytes, sizeof head);
  const int kind = below(state, 3) ? 4 : (int)below(state, KINDS);
  const size_t at = find_records(&head, size, kind), each = RECORD_BYTES[kind];
  const size_t end = sizeof head + (size_t)records_of(&head), start = (size_t)head.data_start;
  if (!at || start > size || end > start || size + 192 > most) return size;
  const uint32_t many = *count_of(&head, kind), place = (uint32_t)below(state, many);
  uint8_t *record = bytes + at + place * each;
  if (below(state, 2)) {
    memmove(bytes + start + 128, bytes + start, size - start); /* 128 holds any record */
    memmove(record + each, record, end - (size_t)(record - bytes));
    head.data_start += 128, size += 128, (*count_of(&head, kind))++;
  } else {
    memmove(record, record + each, end - (size_t)(record + each - bytes));
    (*count_of(&head, kind))--;
  }
  memcpy(bytes, &head, sizeof head);
  return size;
}

/* Groups of a sparse weight: entries go from one to another, which keeps their sum, or rows change places. */
static void change_groups(uint8_t *bytes, size_t size, uint64_t *state) {
  lx_header head;
  memcpy(&head, bytes, sizeof head);
  const size_t at = find_records(&head, size, 3);
  if (!at) return;
  lx_weight weight;
  memcpy(&weight, bytes + at + below(state, head.weights) * sizeof weight, sizeof weight);
  const uint64_t from = head.data_start + weight.groups, many = ((uint64_t)weight.rows + 3) / 4;
  if (from < head.data_start || many > size || from > size || (size - from) / sizeof(lx_group) < many) return;
  lx_group one, other;
  uint8_t *const first = bytes + from + below(state, many) * sizeof one, *const second = bytes + from + below(state, many) * sizeof one;
  memcpy(&one, first, sizeof one), memcpy(&other, second, sizeof other);
  const uint16_t moved = (uint16_t)below(state, one.count + 1u);
  uint8_t row;
  if (first == second) {
    const uint64_t a = below(state, LX_GROUP), b = below(state, LX_GROUP);
    row = one.rows[a], one.rows[a] = one.rows[b], one.rows[b] = row;
    memcpy(first, &one, sizeof one);
    return;
  }
  one.count = (uint16_t)(one.count - moved), other.count = (uint16_t)(other.count + moved);
  row = one.rows[0], one.rows[0] = other.rows[0], other.rows[0] = row;
  memcpy(first, &one, sizeof one), memcpy(second, &other, sizeof other);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
  uint64_t state = seed;
  if (size < sizeof(lx_header)) return LLVMFuzzerMutate(data, size, most);
  lx_header *head = (lx_header *)data;
  for (uint64_t turn = 0, turns = 1 + below(&state, 3); turn < turns; turn++) switch (below(&state, 16)) {
      case 0:
        change_word(data + below(&state, sizeof(lx_header) / 4) * 4, &state);
        break;
      case 1:
      case 2:
        move_record(data, size, &state);
        break;
      case 3:
      case 4:
        size = count_record(data, size, most, &state);
        break;
      case 5:
        change_groups(data, size, &state);
        break;
      case 6:
        size = LLVMFuzzerMutate(data, size, most);
        if (size < sizeof(lx_header)) return size;
        break;
      case 7:
        if (size > sizeof(lx_header))
          LLVMFuzzerMutate(data + sizeof(lx_header), size - sizeof(lx_header), size - sizeof(lx_header));
        break;
      case 8:
        memcpy(&head->reserved[0], &state, 4);
        break;
      default:
        change_record(data, size, &state);
    }
  seal(data, size);
  if (head->reserved[1] & RAW && below(&state, 2)) head->reserved[1] &= ~(uint32_t)RAW;
  return size;
}

#endif
