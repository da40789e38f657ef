/* A small pool. Between calls its threads sleep; within one they spin for a moment at a barrier, then yield. */

#include "pool.h"
#include "system.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { SPINS = 4000, LINE = 64 };

/* A thread of the pool; the first is the caller. Each has its own cache line, because other threads read `next` too. */
typedef struct {
  _Alignas(LINE) atomic_uint next; /* how many of its share were taken */
  lx_pool *pool;
  lx_thread *handle;
  int number;
} worker;

struct lx_pool {
  int threads, started;
  /* How many threads are at the barrier, and how often all were: in separate cache lines, because threads write them at the
     same time. */
  _Alignas(LINE) atomic_uint arrived;
  _Alignas(LINE) atomic_uint met;
  _Alignas(LINE) lx_lock *lock; /* of what follows; NULL for a pool of one thread */
  unsigned calls;
  int is_closing;
  void (*work)(void *context, int thread);
  void *context;
  void *allocated;
  worker workers[];
};

static void pause_a_moment(unsigned spins) {
  if (spins >= SPINS) {
    lx_thread_yield();
    return;
  }
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

static void restart(lx_pool *pool) {
  for (int n = 0; n < pool->threads; n++) atomic_store_explicit(&pool->workers[n].next, 0, memory_order_relaxed);
}

void lx_pool_meet(lx_pool *pool) {
  if (pool->threads == 1) {
    restart(pool);
    return;
  }
  const unsigned before = atomic_load_explicit(&pool->met, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)pool->threads) {
    atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
    restart(pool);
    atomic_store_explicit(&pool->met, before + 1, memory_order_release);
    return;
  }
  for (unsigned spins = 0; atomic_load_explicit(&pool->met, memory_order_acquire) == before; spins++)
    pause_a_moment(spins);
}

unsigned lx_pool_next(lx_pool *pool, int thread, unsigned items) {
  const unsigned threads = (unsigned)pool->threads;
  for (unsigned n = 0; n < threads; n++) {
    const unsigned whose = ((unsigned)thread + n) % threads;
    const unsigned first = (unsigned)((uint64_t)items * whose / threads);
    const unsigned share = (unsigned)((uint64_t)items * (whose + 1) / threads) - first;
    atomic_uint *next = &pool->workers[whose].next;
    if (atomic_load_explicit(next, memory_order_relaxed) >= share) continue;
    const unsigned mine = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
    if (mine < share) return first + mine;
  }
  return items;
}

static void serve(void *argument) {
  worker *self = argument;
  lx_pool *pool = self->pool;
  for (unsigned seen = 0;;) {
    lx_lock_take(pool->lock);
    while (pool->calls == seen && !pool->is_closing) lx_lock_wait(pool->lock);
    const int is_closing = pool->is_closing;
    seen = pool->calls;
    lx_lock_release(pool->lock);
    if (is_closing) return;
    pool->work(pool->context, self->number);
    lx_pool_meet(pool);
  }
}

/* Starts the threads of a pool after the first. Returns -1 if one cannot be started. */
static int start_threads(lx_pool *pool) {
  for (; pool->started < pool->threads; pool->started++) {
    worker *one = &pool->workers[pool->started];
    one->pool = pool, one->number = pool->started;
    one->handle = lx_thread_start(serve, one);
    if (!one->handle) return -1;
  }
  return 0;
}

lx_pool *lx_pool_open(int threads) {
  uint8_t *allocated = calloc(1, sizeof(lx_pool) + (size_t)threads * sizeof(worker) + LINE);
  if (!allocated) return NULL;
  lx_pool *pool = (lx_pool *)(allocated + (LINE - (uintptr_t)allocated % LINE) % LINE);
  pool->allocated = allocated, pool->threads = threads, pool->started = 1;
  atomic_init(&pool->arrived, 0);
  atomic_init(&pool->met, 0);
  for (int n = 0; n < threads; n++) atomic_init(&pool->workers[n].next, 0);
  if (threads == 1) return pool;
  pool->lock = lx_lock_open();
  if (pool->lock && !start_threads(pool)) return pool;
  lx_pool_close(pool);
  return NULL;
}

void lx_pool_run(lx_pool *pool, void (*work)(void *context, int thread), void *context) {
  if (pool->threads > 1) {
    lx_lock_take(pool->lock);
    pool->work = work, pool->context = context, pool->calls++;
    lx_lock_wake_all(pool->lock);
    lx_lock_release(pool->lock);
  }
  work(context, 0);
  lx_pool_meet(pool);
}

void lx_pool_close(lx_pool *pool) {
  if (!pool) return;
  if (pool->lock) {
    lx_lock_take(pool->lock);
    pool->is_closing = 1;
    lx_lock_wake_all(pool->lock);
    lx_lock_release(pool->lock);
    for (int n = 1; n < pool->started; n++) lx_thread_join(pool->workers[n].handle);
    lx_lock_close(pool->lock);
  }
  free(pool->allocated);
}
