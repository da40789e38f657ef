/* Threads that run one function together, and meet at barriers within it. */

#ifndef LX_POOL_H
#define LX_POOL_H

typedef struct lx_pool lx_pool;

/* `threads` includes the caller. Returns NULL if the threads cannot be started. */
lx_pool *lx_pool_open(int threads);

/* Calls work(context, thread) on all threads, the caller being thread 0, and returns when all have returned. */
void lx_pool_run(lx_pool *pool, void (*work)(void *context, int thread), void *context);

/* Called within `work`: waits until all threads have called it. */
void lx_pool_meet(lx_pool *pool);

/* Called within `work`: returns the next number below `items`, or `items` when there is none. Each number is returned once,
   until lx_pool_meet. A thread first gets the numbers of its own share: the same ones each time, so that its cache still
   holds what it wrote for them. Then it helps the others. All threads must pass the same `items`. */
unsigned lx_pool_next(lx_pool *pool, int thread, unsigned items);

void lx_pool_close(lx_pool *pool);

#endif
