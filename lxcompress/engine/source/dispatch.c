/* Which instruction sets were compiled, and which of them this processor has. */

#include "kernels.h"

#if defined(LX_HAS_avx2) || defined(LX_HAS_avxvnni) || defined(LX_HAS_avx512) || defined(LX_HAS_avx512vl)
#define HAS_AVX 1
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#ifdef LX_HAS_avx512
extern const lx_kernels lx_kernels_avx512;
#endif
#ifdef LX_HAS_avx512vl
extern const lx_kernels lx_kernels_avx512vl;
#endif
#ifdef LX_HAS_avxvnni
extern const lx_kernels lx_kernels_avxvnni;
#endif
#ifdef LX_HAS_avx2
extern const lx_kernels lx_kernels_avx2;
#endif
#ifdef LX_HAS_dotprod
extern const lx_kernels lx_kernels_dotprod;
#endif
extern const lx_kernels lx_kernels_base;

enum { MOST_SETS = 6 };

typedef struct {
  const lx_kernels *found[MOST_SETS];
  char names[64];
} sets;

static void add(sets *all, const lx_kernels *one) {
  int place = 0;
  while (all->found[place]) place++;
  all->found[place] = one;
  size_t end = 0;
  while (all->names[end]) end++;
  if (end) all->names[end++] = ' ';
  for (const char *letter = one->name; *letter; letter++) all->names[end++] = *letter;
}

#ifdef LX_HAS_dotprod
static int has_dotprod(void) {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  int has = 0; /* the A12 and older processors do not have it */
  size_t size = sizeof has;
  return !sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, NULL, 0) && has;
#else
  return 0;
#endif
}
#endif

#ifdef HAS_AVX
/* The processor is asked directly: __builtin_cpu_supports finds nothing in a library that zig links. */
enum { SAVED_YMM = 0x06, SAVED_ZMM = 0xE6 };

static int has_all(unsigned value, unsigned bits) { return (value & bits) == bits; }

/* Returns whether the system saves these registers when it changes to another thread. */
static int saves(unsigned registers) {
  unsigned a = 0, b = 0, c = 0, d = 0, saved = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !has_all(c, bit_OSXSAVE | bit_AVX | bit_FMA)) return 0;
  __asm__ __volatile__("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
#ifdef __APPLE__
  if (has_all(saved, SAVED_YMM)) saved |= SAVED_ZMM; /* macOS saves them from the first use on */
#endif
  return has_all(saved, registers);
}
#endif

#if defined(LX_HAS_avx2) || defined(LX_HAS_avxvnni)
static int has_avx2(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return saves(SAVED_YMM) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && has_all(b, bit_AVX2);
}
#endif

#if defined(LX_HAS_avx512) || defined(LX_HAS_avx512vl)
static int has_avx512(void) {
  const unsigned wanted = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return saves(SAVED_ZMM) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && has_all(b, wanted) && has_all(c, bit_AVX512VNNI);
}
#endif

#ifdef LX_HAS_avxvnni
/* Clang 16 and older do not know its name. */
static int has_avxvnni(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

#ifdef LX_HAS_avx512vl
/* AMD's family 19h (Zen 4) computes 512 bits in two halves; its later families do not. */
static int halves_vectors(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx || c != signature_AMD_ecx || d != signature_AMD_edx) return 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (a >> 8 & 0xF) + (a >> 20 & 0xFF) == 0x19;
}
#endif

/* Filled when the library is loaded, before any thread can read it. */
static sets known;

static __attribute__((constructor)) void find(void) {
#if defined(LX_HAS_avx512) || defined(LX_HAS_avx512vl)
  if (has_avx512()) {
#ifdef LX_HAS_avx512vl
    if (halves_vectors()) add(&known, &lx_kernels_avx512vl);
#endif
#ifdef LX_HAS_avx512
    add(&known, &lx_kernels_avx512);
#endif
#ifdef LX_HAS_avx512vl
    if (!halves_vectors()) add(&known, &lx_kernels_avx512vl);
#endif
  }
#endif
#ifdef LX_HAS_avxvnni
  if (has_avxvnni() && has_avx2()) add(&known, &lx_kernels_avxvnni);
#endif
#ifdef LX_HAS_avx2
  if (has_avx2()) add(&known, &lx_kernels_avx2);
#endif
#ifdef LX_HAS_dotprod
  if (has_dotprod()) add(&known, &lx_kernels_dotprod);
#endif
  add(&known, &lx_kernels_base);
}

const lx_kernels *const *lx_find_kernels(void) { return known.found; }

const char *lx_instruction_sets(void) { return known.names; }
