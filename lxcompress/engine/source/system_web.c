/* Threads in a browser or in Node: workers that share the memory of the page's engine. web/engine.mjs starts them, and each calls
   lx_help, which does not return. A session takes those that are idle. */

#include "system.h"

#if defined(LX_NO_SYSTEM) && defined(__wasm_atomics__)

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { MOST_HELPERS = 63, YIELD_NS = 20000 };

typedef enum { ABSENT, IDLE, BUSY } helper_state;

typedef struct {
  atomic_int state;
  void (*work)(void *argument);
  void *argument;
} helper;

static helper helpers[MOST_HELPERS];

/* Sleeps while *value is `expected`, for at most `ns`, or -1; a wake-up may also come without a reason. The main thread of a page may
   not sleep: there, web/engine.mjs starts no threads. It is never inlined: the first compiler of V8 11 (Node 20) reads wrong values
   after a wait in a loop. */
static __attribute__((noinline)) void sleep_while(void *value, int expected, int64_t ns) {
  __builtin_wasm_memory_atomic_wait32(value, expected, ns);
}
static void wake_all(void *value) { __builtin_wasm_memory_atomic_notify(value, UINT32_MAX); }

/* Serves sessions as the thread `number`, from 0 on, until the worker is ended. */
void lx_help(int number);
void lx_help(int number) {
  helper *self = &helpers[number];
  for (;;) {
    atomic_store(&self->state, IDLE);
    while (atomic_load(&self->state) != BUSY) sleep_while(&self->state, IDLE, -1);
    self->work(self->argument);
  }
}

/* Returns how many helpers are idle. */
int lx_count_idle(void);
int lx_count_idle(void) {
  int count = 0;
  for (int n = 0; n < MOST_HELPERS; n++) count += atomic_load(&helpers[n].state) == IDLE;
  return count;
}

struct lx_lock {
  atomic_int is_taken, signals;
};

lx_lock *lx_lock_open(void) { return calloc(1, sizeof(lx_lock)); }
/* It is held for a few instructions only. */
void lx_lock_take(lx_lock *lock) {
  while (atomic_exchange(&lock->is_taken, 1)) lx_thread_yield();
}
void lx_lock_release(lx_lock *lock) { atomic_store(&lock->is_taken, 0); }
void lx_lock_wait(lx_lock *lock) {
  const int before = atomic_load(&lock->signals);
  lx_lock_release(lock);
  sleep_while(&lock->signals, before, -1);
  lx_lock_take(lock);
}
void lx_lock_wake_all(lx_lock *lock) {
  atomic_fetch_add(&lock->signals, 1);
  wake_all(&lock->signals);
}
void lx_lock_close(lx_lock *lock) { free(lock); }

lx_thread *lx_thread_start(void (*work)(void *argument), void *argument) {
  for (int n = 0; n < MOST_HELPERS; n++) {
    helper *one = &helpers[n];
    if (atomic_load(&one->state) != IDLE) continue;
    one->work = work, one->argument = argument;
    atomic_store(&one->state, BUSY);
    wake_all(&one->state);
    return (lx_thread *)one;
  }
  return NULL;
}

void lx_thread_join(lx_thread *thread) {
  while (atomic_load(&((helper *)thread)->state) == BUSY) lx_thread_yield();
}

/* There is nothing that yields, so it sleeps. */
void lx_thread_yield(void) {
  static int never = 0;
  sleep_while(&never, 0, YIELD_NS);
}

#endif
