/* A program without files, such as one in a browser: models are opened from memory. It has no threads either, unless they are workers
   of a page: system_web.c. */

#include "system.h"

#ifdef LX_NO_SYSTEM

#include "file.h"

const void *lx_map(const char *path, size_t *size, char *error, size_t error_bytes) {
  (void)path, (void)size;
  lx_fail(error, error_bytes, "this build cannot open files: open the model from memory");
  return NULL;
}

void lx_unmap(const void *bytes, size_t size) { (void)bytes, (void)size; }

#ifndef __wasm_atomics__
/* A pool of one thread has no lock. */
lx_lock *lx_lock_open(void) { return NULL; }
void lx_lock_take(lx_lock *lock) { (void)lock; }
void lx_lock_release(lx_lock *lock) { (void)lock; }
void lx_lock_wait(lx_lock *lock) { (void)lock; }
void lx_lock_wake_all(lx_lock *lock) { (void)lock; }
void lx_lock_close(lx_lock *lock) { (void)lock; }

lx_thread *lx_thread_start(void (*work)(void *argument), void *argument) {
  (void)work, (void)argument;
  return NULL;
}

void lx_thread_join(lx_thread *thread) { (void)thread; }
void lx_thread_yield(void) {}

#endif
#endif
