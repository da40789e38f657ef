/* Windows 7 and newer, without any library but the system's and the C library. */

#include "system.h"

#if defined(_WIN32) && !defined(LX_NO_SYSTEM)

#include "file.h"

#include <stdlib.h>

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

enum { ERROR_CHARACTERS = 256 };

/* Writes why the last call of the system failed, in the words of the system and without the newline at their end. */
static void complain(char *error, size_t error_bytes) {
  const DWORD code = GetLastError();
  const DWORD options = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS | FORMAT_MESSAGE_MAX_WIDTH_MASK;
  wchar_t wide[ERROR_CHARACTERS];
  char text[3 * ERROR_CHARACTERS];
  const DWORD length = FormatMessageW(options, NULL, code, 0, wide, ERROR_CHARACTERS, NULL);
  int bytes = WideCharToMultiByte(CP_UTF8, 0, wide, (int)length, text, sizeof text, NULL, NULL);
  while (bytes && (text[bytes - 1] == ' ' || text[bytes - 1] == '.')) bytes--;
  lx_fail(error, error_bytes, "cannot be opened (Windows error %lu: %.*s)", code, bytes, text);
}

/* Opens a file for reading. Another program may read it, rename it or delete it at the same time, but not write it. */
static HANDLE open_file(const char *path) {
  const int length = MultiByteToWideChar(CP_UTF8, 0, path, -1, NULL, 0);
  wchar_t *wide = malloc(((size_t)length + 1) * sizeof *wide);
  if (!wide) return INVALID_HANDLE_VALUE;
  wide[0] = 0;
  MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, length);
  const DWORD shared = FILE_SHARE_READ | FILE_SHARE_DELETE;
  HANDLE file = CreateFileW(wide, GENERIC_READ, shared, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
  free(wide);
  return file;
}

/* The view stays valid without its handles. Windows refuses to truncate a file that is mapped, but not to overwrite a part of
   it, which is not checked again. To replace a model, write another file and rename it. */
const void *lx_map(const char *path, size_t *size, char *error, size_t error_bytes) {
  HANDLE file = open_file(path);
  if (file == INVALID_HANDLE_VALUE) {
    complain(error, error_bytes);
    return NULL;
  }
  LARGE_INTEGER length = {0};
  const int is_mappable = GetFileType(file) == FILE_TYPE_DISK && GetFileSizeEx(file, &length) && length.QuadPart > 0;
  HANDLE section = is_mappable ? CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL) : NULL;
  const void *bytes = section ? MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0) : NULL;
  if (section) CloseHandle(section);
  CloseHandle(file);
  if (!bytes) lx_fail(error, error_bytes, LX_UNMAPPED);
  *size = (size_t)length.QuadPart;
  return bytes;
}

void lx_unmap(const void *bytes, size_t size) {
  (void)size;
  UnmapViewOfFile(bytes);
}

struct lx_lock {
  SRWLOCK mutex;
  CONDITION_VARIABLE signal;
};

lx_lock *lx_lock_open(void) {
  lx_lock *lock = malloc(sizeof *lock);
  if (!lock) return NULL;
  InitializeSRWLock(&lock->mutex);
  InitializeConditionVariable(&lock->signal);
  return lock;
}

void lx_lock_take(lx_lock *lock) { AcquireSRWLockExclusive(&lock->mutex); }
void lx_lock_release(lx_lock *lock) { ReleaseSRWLockExclusive(&lock->mutex); }
void lx_lock_wait(lx_lock *lock) { SleepConditionVariableSRW(&lock->signal, &lock->mutex, INFINITE, 0); }
void lx_lock_wake_all(lx_lock *lock) { WakeAllConditionVariable(&lock->signal); }
void lx_lock_close(lx_lock *lock) { free(lock); }

struct lx_thread {
  HANDLE handle;
  void (*work)(void *argument);
  void *argument;
};

static DWORD WINAPI run_thread(void *argument) {
  const lx_thread *thread = argument;
  thread->work(thread->argument);
  return 0;
}

lx_thread *lx_thread_start(void (*work)(void *argument), void *argument) {
  lx_thread *thread = malloc(sizeof *thread);
  if (!thread) return NULL;
  thread->work = work, thread->argument = argument;
  thread->handle = CreateThread(NULL, 0, run_thread, thread, 0, NULL);
  if (thread->handle) return thread;
  free(thread);
  return NULL;
}

void lx_thread_join(lx_thread *thread) {
  WaitForSingleObject(thread->handle, INFINITE);
  CloseHandle(thread->handle);
  free(thread);
}

void lx_thread_yield(void) { SwitchToThread(); }

#endif
