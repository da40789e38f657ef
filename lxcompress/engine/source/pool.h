/* Threads that run one function together, and meet at barriers within it. */

#ifndef LX_POOL_H
#define LX_POOL_H

typedef struct lx_pool lx_pool;

/* `threads` counts the caller. NULL if they cannot be had. */
lx_pool *lx_pool_open(int threads);

/* Calls work(context, thread) on all threads, the caller being thread 0, and returns when all have returned. */
void lx_pool_run(lx_pool *pool, void (*work)(void *context, int thread), void *context);

/* Waits, within `work`, until all threads are here. */
void lx_pool_meet(lx_pool *pool);

/* The next of the numbers below `items`, within `work`; `items` when all were given. Each is given once, until lx_pool_meet.
   A thread is given those of its own share first, the same ones each time: it finds in its own cache what it wrote when
   it last had them. Then it helps the others. All threads ask with the same `items`. */
unsigned lx_pool_next(lx_pool *pool, int thread, unsigned items);

void lx_pool_close(lx_pool *pool);

#endif
