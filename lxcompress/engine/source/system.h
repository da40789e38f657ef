/* What the engine needs from the operating system: a file in memory, and threads that can sleep.

   One source implements it for each kind of system: system_posix.c, system_windows.c, and system_none.c for a program that has
   neither files nor threads (LX_NO_SYSTEM). All three are compiled; those for other systems are then empty. */

#ifndef LX_SYSTEM_H
#define LX_SYSTEM_H

#include <stddef.h>

/* Maps the file at `path` (UTF-8 on Windows) into memory, for reading only, and writes its size. Returns NULL and writes `error`
   if it cannot be opened, is empty or is not a regular file. */
#define LX_UNMAPPED "is empty, or cannot be mapped into memory"
const void *lx_map(const char *path, size_t *size, char *error, size_t error_bytes);
void lx_unmap(const void *bytes, size_t size);

/* A lock together with a signal. lx_lock_open returns NULL if there is no memory. */
typedef struct lx_lock lx_lock;
lx_lock *lx_lock_open(void);
void lx_lock_take(lx_lock *lock);
void lx_lock_release(lx_lock *lock);
/* Releases the lock, sleeps until lx_lock_wake_all, and takes the lock again. It may also return without a signal. */
void lx_lock_wait(lx_lock *lock);
void lx_lock_wake_all(lx_lock *lock);
void lx_lock_close(lx_lock *lock);

/* Starts a thread that calls work(argument). Returns NULL if it cannot be started. */
typedef struct lx_thread lx_thread;
lx_thread *lx_thread_start(void (*work)(void *argument), void *argument);
/* Waits until the thread ends, and frees it. */
void lx_thread_join(lx_thread *thread);
/* Lets another thread run on this processor. */
void lx_thread_yield(void);

#endif
