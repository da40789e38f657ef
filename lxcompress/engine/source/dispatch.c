/* Which instruction sets were compiled, and which of them this processor has. */

#include "kernels.h"

#if defined(LX_HAS_avxvnni) || defined(LX_HAS_avx512vl)
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
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
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
  if (has_avxvnni() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    add(&known, &lx_kernels_avxvnni);
#endif
#ifdef LX_HAS_avx2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add(&known, &lx_kernels_avx2);
#endif
#ifdef LX_HAS_dotprod
  if (has_dotprod()) add(&known, &lx_kernels_dotprod);
#endif
  add(&known, &lx_kernels_base);
}

const lx_kernels *const *lx_find_kernels(void) { return known.found; }

const char *lx_instruction_sets(void) { return known.names; }
