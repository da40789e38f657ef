/* Linux, macOS, Android and other systems with POSIX. */

#define _GNU_SOURCE
#include "system.h"

#if !defined(_WIN32) && !defined(LX_NO_SYSTEM)

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file must not change while it is open, like that of a library: reading a part that was truncated, or is on a removed
   disk, ends the process (SIGBUS), and a part that was overwritten is not checked again. To replace a model, write another
   file and rename it. */
const void *lx_map(const char *path, size_t *size, char *error, size_t error_bytes) {
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* do not wait for a pipe, which is refused */
  struct stat about;
  if (file < 0 || fstat(file, &about)) {
    lx_fail(error, error_bytes, "cannot be opened (%s)", strerror(errno));
    if (file >= 0) close(file);
    return NULL;
  }
  void *bytes = S_ISREG(about.st_mode) && about.st_size > 0
                    ? mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, file, 0)
                    : MAP_FAILED;
  close(file);
  if (bytes == MAP_FAILED) {
    lx_fail(error, error_bytes, LX_UNMAPPED);
    return NULL;
  }
  *size = (size_t)about.st_size;
  return bytes;
}

void lx_unmap(const void *bytes, size_t size) { munmap((void *)bytes, size); }

struct lx_lock {
  pthread_mutex_t mutex;
  pthread_cond_t signal;
};

lx_lock *lx_lock_open(void) {
  lx_lock *lock = malloc(sizeof *lock);
  if (!lock) return NULL;
  pthread_mutex_init(&lock->mutex, NULL);
  pthread_cond_init(&lock->signal, NULL);
  return lock;
}

void lx_lock_take(lx_lock *lock) { pthread_mutex_lock(&lock->mutex); }
void lx_lock_release(lx_lock *lock) { pthread_mutex_unlock(&lock->mutex); }
void lx_lock_wait(lx_lock *lock) { pthread_cond_wait(&lock->signal, &lock->mutex); }
void lx_lock_wake_all(lx_lock *lock) { pthread_cond_broadcast(&lock->signal); }

void lx_lock_close(lx_lock *lock) {
  pthread_cond_destroy(&lock->signal);
  pthread_mutex_destroy(&lock->mutex);
  free(lock);
}

struct lx_thread {
  pthread_t handle;
  void (*work)(void *argument);
  void *argument;
};

static void *run_thread(void *argument) {
  const lx_thread *thread = argument;
  thread->work(thread->argument);
  return NULL;
}

lx_thread *lx_thread_start(void (*work)(void *argument), void *argument) {
  lx_thread *thread = malloc(sizeof *thread);
  if (!thread) return NULL;
  thread->work = work, thread->argument = argument;
  if (!pthread_create(&thread->handle, NULL, run_thread, thread)) return thread;
  free(thread);
  return NULL;
}

void lx_thread_join(lx_thread *thread) {
  pthread_join(thread->handle, NULL);
  free(thread);
}

void lx_thread_yield(void) { sched_yield(); }

#endif
