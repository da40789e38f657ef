/* The vector code, for LANES values at a time. It is compiled for each instruction set, with -DLX_SET=NAME.

   A product walks through a weight panel by panel, tile by tile and group by group: the activations of a tile stay in
   the nearest cache, and four rows times up to MOST_VECTORS vectors of columns stay in registers. Each entry is four
   weights, one of each row, of which every lane of a vector gets a copy. A lane is a column: what it computes, and in what
   order, does not depend on the thread that computes the other columns. */

#include "kernels.h"

#include <math.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

/* A processor that computes 512 bits in two halves loses nothing with vectors of 256 bits, and pads columns less. */
#if defined(__AVX512F__) && !defined(LX_HALVES)
#define WIDE
#endif

#if defined(WIDE)
#define REGISTERS_FOR 4
enum { LANES = 16, TWO_SUMS = 2, AT_ONCE = 4 };
#elif defined(__AVX512F__)
#define REGISTERS_FOR 5
enum { LANES = 8, TWO_SUMS = 2, AT_ONCE = 2 };
#elif defined(__AVX2__)
#define REGISTERS_FOR 3
enum { LANES = 8, TWO_SUMS = 1, AT_ONCE = 2 };
#elif defined(__aarch64__)
#define REGISTERS_FOR 5
enum { LANES = 4, TWO_SUMS = 2, AT_ONCE = 2 };
#else
#define REGISTERS_FOR 2
enum { LANES = 4, TWO_SUMS = 1, AT_ONCE = 2 };
#endif
enum { MOST_VECTORS = REGISTERS_FOR, PAIR = 2 };

/* How many bytes of weights are prefetched: processors prefetch by themselves only up to the end of a page. */
enum { AHEAD = 8192 };

/* A page loads the library over a network: there no loop is repeated for ReLU6 alone, and fewer rows are computed at once. */
#ifdef __wasm__
enum { IS_SMALL = 1, FILTER_ROWS = 2 };
#else
enum { IS_SMALL = 0, FILTER_ROWS = 4 };
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

typedef float vector __attribute__((vector_size(LANES * 4)));
typedef int32_t whole __attribute__((vector_size(LANES * 4)));
typedef uint32_t bits __attribute__((vector_size(LANES * 4)));
typedef vector loose_vector __attribute__((aligned(4), may_alias));
typedef bits loose_bits __attribute__((aligned(4), may_alias));

INLINE vector load(const float *from) { return *(const loose_vector *)from; }
INLINE void store(float *to, vector value) { *(loose_vector *)to = value; }
INLINE bits load_bits(const void *from) { return *(const loose_bits *)from; }
INLINE void store_bits(void *to, bits value) { *(loose_bits *)to = value; }
INLINE vector splat(float value) { return (vector){0} + value; }
INLINE vector choose(whole where, vector yes, vector no) {
  return (vector)(((bits)yes & (bits)where) | ((bits)no & ~(bits)where));
}
/* If a or b is NaN, the result is b, as in x86's instructions, which GCC does not choose by itself. */
#if defined(WIDE)
INLINE vector least(vector a, vector b) { return (vector)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vector most(vector a, vector b) { return (vector)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
INLINE vector least(vector a, vector b) { return (vector)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE vector most(vector a, vector b) { return (vector)_mm256_max_ps((__m256)a, (__m256)b); }
#else
INLINE vector least(vector a, vector b) { return choose(a < b, a, b); }
INLINE vector most(vector a, vector b) { return choose(a > b, a, b); }
#endif

/* sum + a b, as one instruction where a machine has it; compilers know the instruction of all but WebAssembly. */
INLINE vector add_product(vector sum, vector a, vector b) {
#ifdef __wasm_relaxed_simd__
  return (vector)wasm_f32x4_relaxed_madd((v128_t)a, (v128_t)b, (v128_t)sum);
#else
  return sum + a * b;
#endif
}

/* Returns x as a product that was rounded: a compiler must not join it with a sum into one multiply-add. */
INLINE vector rounded(vector x) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(x));
#elif defined(__SSE2__)
  __asm__("" : "+x"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#endif
  return x;
}

INLINE uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Returns 0 in each lane that is finite, and NaN in the others. */
INLINE bits not_finite(vector x) { return (bits)(x - x); }

/* All bits of the first `columns` lanes. */
INLINE bits first_lanes(uint32_t columns) {
  bits lane;
  UNROLL for (int n = 0; n < LANES; n++) lane[n] = (uint32_t)n;
  return (bits)(lane < columns);
}

INLINE uint32_t any(bits value) {
  uint32_t all = 0;
  UNROLL for (int n = 0; n < LANES; n++) all |= value[n];
  return all;
}

/* The nearest whole number, ties to even, of values below 2^22. */
static const float MAGIC = 12582912.0f;

/* e^x, within 2 units of the last place (Cephes' polynomial, which most libraries use). */
INLINE vector exponential(vector x) {
  x = most(least(x, splat(88.3f)), splat(-87.3f));
  vector power = x * 1.44269504f + MAGIC;
  bits shift = (bits)power << 23;
  power = power - MAGIC;
  x = x - power * 0.693359375f;
  x = x + power * 2.12194440e-4f;
  vector y = splat(1.9875691500e-4f);
  y = y * x + 1.3981999507e-3f;
  y = y * x + 8.3334519073e-3f;
  y = y * x + 4.1665795894e-2f;
  y = y * x + 1.6666665459e-1f;
  y = y * x + 5.0000001201e-1f;
  y = y * x * x + x + 1.0f;
  return (vector)((bits)y + shift);
}

/* x/2 (1 + erf(x / sqrt 2)), erf within 4e-7: a quotient of polynomials, fitted over [-4, 4] (bench/fit_erf.py). */
INLINE vector gelu(vector x) {
  const vector z = most(least(x * 0.707106781f, splat(4.0f)), splat(-4.0f)), t = z * z, half = x * 0.5f;
  vector p = splat(1.921665849e-08f);
  p = p * t - 1.990302962e-06f;
  p = p * t + 1.555393683e-04f;
  p = p * t + 4.293221049e-03f;
  p = p * t + 5.243407562e-02f;
  p = p * t + 2.139490396e-01f;
  p = p * t + 1.128378630e+00f;
  vector q = splat(1.098073320e-03f);
  q = q * t + 1.555146370e-02f;
  q = q * t + 1.208014414e-01f;
  q = q * t + 5.229350328e-01f;
  q = q * t + 1.0f;
  return half + half * choose(t < 16.0f, z * p / q, z * 0.25f);
}

/* x (1/2 + x P(x^2)), within 4.5e-5 of GELU: for products of quantised inputs, whose own error is larger. P was fitted over
   [-4.25, 4.25], and is exact at its ends, so that the function is 0 or x beyond (bench/fit_erf.py). */
INLINE vector short_gelu(vector x) {
  const vector z = most(least(x, splat(4.25f)), splat(-4.25f)), t = z * z;
  vector p = splat(4.552638128e-11f);
  p = p * t - 4.509976392e-09f;
  p = p * t + 1.981035780e-07f;
  p = p * t - 5.132146271e-06f;
  p = p * t + 8.826252451e-05f;
  p = p * t - 1.077278284e-03f;
  p = p * t + 9.711201303e-03f;
  p = p * t - 6.617516279e-02f;
  p = p * t + 3.988088667e-01f;
  return x * (p * z + 0.5f);
}

INLINE vector tangent(vector x) { return 1.0f - 2.0f / (exponential(x + x) + 1.0f); }

INLINE vector activate(vector x, uint32_t activation, const int is_rough) {
  switch (activation) {
    case LX_GELU:
      return is_rough ? short_gelu(x) : gelu(x);
    case LX_TANH:
      return tangent(x);
    case LX_RELU:
      return most(x, splat(0.0f));
    case LX_RELU6:
      return least(most(x, splat(0.0f)), splat(6.0f));
    default:
      return x;
  }
}

/* Four values, repeated over a vector; `pick` copies the value of row r into every lane. */
typedef float four __attribute__((vector_size(16)));
typedef int32_t four_whole __attribute__((vector_size(16)));

#if defined(__clang__) || __GNUC__ >= 12
#define PERMUTE(w, ...) __builtin_shufflevector(w, w, __VA_ARGS__)
#else
#define PERMUTE(w, ...) __builtin_shuffle(w, (whole){__VA_ARGS__})
#endif
#define FOUR(n) n, n, n, n

/* Every second value of two vectors, from the first on. */
#if defined(WIDE)
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#elif defined(__AVX2__)
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14
#else
#define EVENS 0, 2, 4, 6
#endif
#if defined(__clang__) || __GNUC__ >= 12
INLINE vector evens(vector a, vector b) { return __builtin_shufflevector(a, b, EVENS); }
#else
INLINE vector evens(vector a, vector b) { return __builtin_shuffle(a, b, (whole){EVENS}); }
#endif

#if defined(WIDE)
/* GCC's own shuffle from 4 to 16 values goes through memory, and takes the time of eight entries. */
INLINE vector spread(four w) { return (vector)_mm512_broadcast_f32x4((__m128)w); }
#define PICK(w, r) PERMUTE(w, FOUR(r), FOUR(4 + r), FOUR(8 + r), FOUR(12 + r))
#elif defined(__AVX2__)
INLINE vector spread(four w) { return (vector)_mm256_broadcastsi128_si256((__m128i)w); }
#define PICK(w, r) PERMUTE(w, FOUR(r), FOUR(4 + r))
#else
INLINE vector spread(four w) { return w; }
#define PICK(w, r) PERMUTE(w, FOUR(r))
#endif
/* One of the entries of a vector, repeated over it. */
INLINE vector take_entry(vector w, int n) {
#if defined(WIDE)
  switch (n) {
    case 0:
      return PERMUTE(w, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
    case 1:
      return PERMUTE(w, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
    case 2:
      return PERMUTE(w, 8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11);
    default:
      return PERMUTE(w, 12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15);
  }
#elif defined(__AVX2__)
  return n == 0 ? PERMUTE(w, 0, 1, 2, 3, 0, 1, 2, 3) : PERMUTE(w, 4, 5, 6, 7, 4, 5, 6, 7);
#else
  (void)n;
  return w;
#endif
}

/* The weight of row r, in every lane. */
INLINE vector pick(vector w, int r) {
  switch (r) {
    case 0:
      return PICK(w, 0);
    case 1:
      return PICK(w, 1);
    case 2:
      return PICK(w, 2);
    default:
      return PICK(w, 3);
  }
}

/* Bytes of an entry: four weights, or four blocks of four bytes. */
INLINE size_t entry_bytes(const int is_blocks, const int type) {
  return is_blocks || type == LX_F32 ? 16 : type == LX_BF16 ? 8 : 4;
}

/* The four weights (or blocks) of an entry, repeated over a vector. */
INLINE vector read_entry(const void *from, const int type, const int is_blocks) {
  if (type == LX_F32 || is_blocks) {
    four w;
    memcpy(&w, from, sizeof w);
    return spread(w);
  }
  if (type == LX_BF16) {
    typedef uint16_t narrow __attribute__((vector_size(8)));
    typedef uint32_t wide __attribute__((vector_size(16)));
    narrow half;
    memcpy(&half, from, sizeof half);
    return spread((four)(__builtin_convertvector(half, wide) << 16));
  }
  typedef int8_t tiny __attribute__((vector_size(4)));
  tiny byte;
  memcpy(&byte, from, sizeof byte);
  return spread(__builtin_convertvector(__builtin_convertvector(byte, four_whole), four));
}

/* As many entries as fit into a vector, one after another. */
INLINE vector read_entries(const void *from, const int type, const int is_blocks) {
  if (type == LX_F32 || is_blocks) return load(from);
  if (type == LX_BF16) {
    typedef uint16_t narrow __attribute__((vector_size(LANES * 2)));
    narrow half;
    memcpy(&half, from, sizeof half);
    return (vector)(__builtin_convertvector(half, bits) << 16);
  }
  typedef int8_t tiny __attribute__((vector_size(LANES)));
  tiny byte;
  memcpy(&byte, from, sizeof byte);
  return __builtin_convertvector(__builtin_convertvector(byte, whole), vector);
}

/* sum + x . w over the four bytes of a value: x as `quantise` left it, w signed. Exact on every machine. */
#if defined(WIDE)
enum { X_OFFSET = 0 };
INLINE bits dot(bits sum, bits x, bits w) {
  return (bits)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
}
#elif defined(__AVX512VNNI__)
enum { X_OFFSET = 0 };
INLINE bits dot(bits sum, bits x, bits w) {
  return (bits)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)x, (__m256i)w);
}
#elif defined(__AVXVNNI__)
enum { X_OFFSET = 0 };
INLINE bits dot(bits sum, bits x, bits w) {
  return (bits)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)w);
}
#elif defined(__AVX2__)
enum { X_OFFSET = 0 };
/* The instruction for bytes would saturate; the one for pairs of 16 bits does not. */
INLINE bits dot(bits sum, bits x, bits w) {
  __m256i even_x = (__m256i)(x & 0x00FF00FFu), odd_x = _mm256_srli_epi16((__m256i)x, 8);
  __m256i even_w = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)w, 8), 8), odd_w = _mm256_srai_epi16((__m256i)w, 8);
  return sum + (bits)_mm256_madd_epi16(even_x, even_w) + (bits)_mm256_madd_epi16(odd_x, odd_w);
}
#elif defined(__ARM_FEATURE_DOTPROD)
enum { X_OFFSET = 128 };
/* The instruction can select a lane of w by itself, which compilers do not use. */
INLINE bits dot_row(bits sum, bits x, vector w, int r) {
  switch (r) {
    case 0:
      return (bits)vdotq_laneq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w, 0);
    case 1:
      return (bits)vdotq_laneq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w, 1);
    case 2:
      return (bits)vdotq_laneq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w, 2);
    default:
      return (bits)vdotq_laneq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w, 3);
  }
}
#elif defined(__aarch64__)
enum { X_OFFSET = 128 };
/* Two products of bytes fit in 16 bits: no weight that was packed is -128. */
INLINE bits dot(bits sum, bits x, bits w) {
  const int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)x), vget_low_s8((int8x16_t)w));
  const int16x8_t high = vmull_high_s8((int8x16_t)x, (int8x16_t)w);
  return (bits)vpadalq_s16((int32x4_t)sum, vpaddq_s16(low, high));
}
#elif defined(__wasm_relaxed_simd__)
enum { X_OFFSET = 0 };
/* Two builds: LX_WHOLE_DOT is for machines that have this dot product as one instruction, the other one for x86-64 without VNNI.
   What either does to bytes of x above 127 depends on the machine: see find_range. */
INLINE bits dot(bits sum, bits x, bits w) {
#ifdef LX_WHOLE_DOT
  return (bits)wasm_i32x4_relaxed_dot_i8x16_i7x16_add((v128_t)w, (v128_t)x, (v128_t)sum);
#else
  return sum + (bits)wasm_i32x4_dot_i16x8(wasm_i16x8_relaxed_dot_i8x16_i7x16((v128_t)w, (v128_t)x), wasm_i16x8_const_splat(1));
#endif
}
#elif defined(__SSE2__) || defined(__wasm_simd128__)
enum { X_OFFSET = 0 };
typedef int16_t pairs __attribute__((vector_size(16)));
#if defined(__SSE2__)
INLINE bits dot_pairs(pairs x, pairs w) { return (bits)_mm_madd_epi16((__m128i)x, (__m128i)w); }
#else
INLINE bits dot_pairs(pairs x, pairs w) { return (bits)wasm_i32x4_dot_i16x8((v128_t)x, (v128_t)w); }
#endif
INLINE bits dot(bits sum, bits x, bits w) {
  typedef uint16_t loose_pairs __attribute__((vector_size(16)));
  const pairs even_x = (pairs)(x & 0x00FF00FFu), odd_x = (pairs)((loose_pairs)x >> 8);
  const pairs even_w = (pairs)((loose_pairs)w << 8) >> 8, odd_w = (pairs)w >> 8;
  return sum + dot_pairs(even_x, even_w) + dot_pairs(odd_x, odd_w);
}
#else
enum { X_OFFSET = 0 };
INLINE bits dot(bits sum, bits x, bits w) {
  for (int n = 0; n < 4; n++) {
    bits byte = (bits)((whole)(w << (24 - 8 * n)) >> 24);
    sum += (x >> (8 * n) & 0xFFu) * byte;
  }
  return sum;
}
#endif

/* The bytes that x is quantised to: 0..most, and `offset` less than that as signed bytes. */
typedef struct {
  float most;
  uint32_t offset;
} byte_range;

INLINE byte_range find_range(void) {
#ifdef __wasm_relaxed_simd__
  /* A machine may take bytes of x as unsigned or as signed; then all 8 bits are used, and sums are exact. On others, pairs of
     products saturate, and x has 7 bits. */
  enum { UNSIGNED = 4 * 255 * 127, SIGNED = 4 * -1 * 127 };
  volatile uint32_t x = 0xFFFFFFFFu; /* or a compiler would compute what its own machine does */
  const int32_t sum = (int32_t)dot((bits){0}, (bits){0} + x, (bits){0} + 0x7F7F7F7Fu)[0];
  return (byte_range){sum == UNSIGNED || sum == SIGNED ? 255.0f : 127.0f, sum == SIGNED ? 128 : 0};
#else
  return (byte_range){255.0f, X_OFFSET};
#endif
}

/* Where rows share an index: four bytes of weights repeated over a vector as they are read, or, on processors whose
   instructions name a lane of the weights, all weights of an entry read at once. */
#if defined(__aarch64__)
enum { REPEATS_READ = 0 };
#else
enum { REPEATS_READ = 1 };
#endif
INLINE vector repeat(const void *from) {
  uint32_t value;
  memcpy(&value, from, sizeof value);
  return (vector)((bits){0} + value); /* as bits: a sum of floats would change the bytes of some blocks */
}
#ifdef __ARM_FEATURE_DOTPROD
INLINE bits dot_repeated(bits sum, bits x, bits w) { return dot_row(sum, x, (vector)w, 0); }
#else
INLINE bits dot_repeated(bits sum, bits x, bits w) { return dot(sum, x, w); }
#endif

#ifndef __ARM_FEATURE_DOTPROD
INLINE bits dot_row(bits sum, bits x, vector w, int r) { return dot(sum, x, (bits)pick(w, r)); }
#endif

/* What a tile of a panel is computed from. */
typedef struct {
  const lx_group *groups; /* NULL: every unit of the tile, in order */
  const uint8_t *indices;
  const void *values;
  uint32_t many, units;   /* groups, and units of a dense tile */
  int is_first;           /* sums start at zero, not at what y holds */
  const float *x;
  float *y;
  size_t x_stride, y_stride;
} walk;

/* Adds all groups of a tile, for `vectors` vectors of columns; returns the number of entries. With few vectors, entries
   are added to two sums in turn, because one sum alone would wait for its last addition. `shared` rows of an entry have one index, or 0 for a
   dense tile: all of its rows read the same unit.

   Where each row has its own index, the reads of activations limit the loop (two in a cycle), so indices and weights are
   read for several entries at once. Where rows share an index, multiply-adds limit it, and a weight is repeated over a
   vector as it is read. */
INLINE size_t walk_tile(const walk *at, const int vectors, const int shared, const int is_blocks, const int type,
                        const int is_tight) {
  const int is_sparse = shared > 0, is_repeated = shared > 1 && REPEATS_READ && (is_blocks || type == LX_F32);
  const size_t each_index = is_sparse ? (size_t)(LX_GROUP / shared) : 0;
  const int turns = vectors <= TWO_SUMS ? 2 : 1;
  /* Where a weight is read anyway, an entry at a time leaves no rest, whose number a processor predicts wrongly. */
  const int at_once = is_repeated && turns == 1 ? 1 : AT_ONCE;
  const size_t x_stride = is_tight ? (size_t)(vectors * LANES) : at->x_stride, y_stride = at->y_stride;
  const size_t bytes = entry_bytes(is_blocks, type);
  const uint8_t *index = at->indices, *value = at->values, *const first = value;
  const float *const x = at->x;
  float *const all = at->y;
  for (uint32_t g = 0; g < at->many; g++) {
    float *y[LX_GROUP];
    vector sum[2][LX_GROUP][MOST_VECTORS];
    const uint32_t count = is_sparse ? at->groups[g].count : at->units;
    UNROLL for (int r = 0; r < LX_GROUP; r++) {
      y[r] = all + (is_sparse ? at->groups[g].rows[r] : LX_GROUP * g + (uint32_t)r) * y_stride;
      UNROLL for (int v = 0; v < vectors; v++) {
        sum[0][r][v] = at->is_first ? splat(0.0f) : load(y[r] + v * LANES);
        if (turns == 2) sum[1][r][v] = splat(0.0f);
      }
    }
/* Adds one entry: `n` units into a dense tile, or at the units of `places`, whose bytes from the first on are indices. */
#define ADD(turn, entry, at_value, places, first_index, n)                                                        \
  do {                                                                                                           \
    const vector w = entry;                                                                                      \
    vector in[MOST_VECTORS];                                                                                     \
    UNROLL for (int r = 0; r < LX_GROUP; r++) {                                                                  \
      if (!is_sparse || r % shared == 0) {                                                                       \
        const size_t k = is_sparse ? (first_index) + (size_t)(r / shared) : 0;                                   \
        const float *from =                                                                                      \
            is_sparse ? x + (size_t)((places)[k / 8] >> 8 * (k % 8) & 255) * x_stride : dense + (n)*x_stride;    \
        UNROLL for (int v = 0; v < vectors; v++) in[v] = load(from + v * LANES);                                 \
      }                                                                                                          \
      const vector weight = is_repeated ? repeat((at_value) + 4 * r) : is_blocks ? w : pick(w, r);               \
      UNROLL for (int v = 0; v < vectors; v++) {                                                                 \
        if (is_blocks && is_repeated)                                                                            \
          sum[turn][r][v] = (vector)dot_repeated((bits)sum[turn][r][v], (bits)in[v], (bits)weight);              \
        else if (is_blocks)                                                                                      \
          sum[turn][r][v] = (vector)dot_row((bits)sum[turn][r][v], (bits)in[v], weight, r);                      \
        else                                                                                                     \
          sum[turn][r][v] = add_product(sum[turn][r][v], weight, in[v]);                                         \
      }                                                                                                          \
    }                                                                                                            \
  } while (0)
    const float *dense = x;
    uint32_t n = 0;
    for (; n + (uint32_t)at_once <= count; n += (uint32_t)at_once) {
      uint64_t places[AT_ONCE / 2] = {0};
      if (is_sparse) memcpy(places, index, (size_t)at_once * each_index);
      const vector some = LANES > 4 && !is_repeated ? read_entries(value, type, is_blocks) : splat(0.0f);
      UNROLL for (int e = 0; e < at_once; e++)
        ADD(e % turns,
            is_repeated ? some : LANES > 4 ? take_entry(some, e) : read_entry(value + (size_t)e * bytes, type, is_blocks),
            value + (size_t)e * bytes, places, (size_t)e * each_index, (size_t)e);
      __builtin_prefetch(value + AHEAD, 0, 2);
      if (is_sparse) __builtin_prefetch(index + AHEAD / LX_GROUP, 0, 2);
      value += (size_t)at_once * bytes, index += (size_t)at_once * each_index, dense += (size_t)at_once * x_stride;
    }
    for (; at_once > 1 && n < count; n++) {
      uint64_t places[1] = {0};
      if (is_sparse) memcpy(places, index, each_index);
      ADD(0, is_repeated ? splat(0.0f) : read_entry(value, type, is_blocks), value, places, 0, 0);
      value += bytes, index += each_index, dense += x_stride;
    }
#undef ADD
    UNROLL for (int r = 0; r < LX_GROUP; r++) {
      UNROLL for (int v = 0; v < vectors; v++) {
        if (turns == 2)
          sum[0][r][v] = is_blocks ? (vector)((bits)sum[0][r][v] + (bits)sum[1][r][v]) : sum[0][r][v] + sum[1][r][v];
        store(y[r] + v * LANES, sum[0][r][v]);
      }
    }
  }
  return (size_t)(value - first) / bytes;
}

INLINE size_t walk_kind(const walk *at, const int vectors, const lx_weight *weight, const int is_tight) {
#define FLOATS(shared)                                                                         \
  (weight->type == LX_F32    ? walk_tile(at, vectors, shared, 0, LX_F32, is_tight)             \
   : weight->type == LX_BF16 ? walk_tile(at, vectors, shared, 0, LX_BF16, is_tight)            \
                             : walk_tile(at, vectors, (shared) < 2 ? (shared) : 1, 0, LX_I8, is_tight))
  switch (weight->layout) {
    case LX_DENSE:
      return FLOATS(0);
    case LX_SPARSE:
      return FLOATS(1);
    case LX_SHARED_SPARSE:
      return weight->shared == 2 ? FLOATS(2) : FLOATS(4);
    case LX_QUANTISED:
      return walk_tile(at, vectors, 0, 1, LX_I8, is_tight);
    case LX_BLOCKS:
      return walk_tile(at, vectors, 1, 1, LX_I8, is_tight);
    default:
      return weight->shared == 2 ? walk_tile(at, vectors, 2, 1, LX_I8, is_tight)
                                 : walk_tile(at, vectors, 4, 1, LX_I8, is_tight);
  }
#undef FLOATS
}

/* Rows of activations start at multiples of LX_COLUMNS, so only some counts of vectors can fill them. */
#define WALK(count)                                                                                            \
  static __attribute__((noinline)) size_t walk_##count(const walk *at, const lx_weight *weight) {               \
    const int is_tight = count * LANES % LX_COLUMNS == 0 && at->x_stride == count * LANES;                      \
    return is_tight ? walk_kind(at, count, weight, 1) : walk_kind(at, count, weight, 0);                        \
  }
WALK(1)
WALK(2)
#if REGISTERS_FOR >= 3
WALK(3)
#endif
#if REGISTERS_FOR >= 4
WALK(4)
#endif
#if REGISTERS_FOR >= 5
WALK(5)
#endif

static size_t walk_vectors(const walk *at, const lx_weight *weight, uint32_t vectors) {
  switch (vectors) {
    case 1:
      return walk_1(at, weight);
#if REGISTERS_FOR >= 3
    case 3:
      return walk_3(at, weight);
#endif
#if REGISTERS_FOR >= 4
    case 4:
      return walk_4(at, weight);
#endif
#if REGISTERS_FOR >= 5
    case 5:
      return walk_5(at, weight);
#endif
    default:
      return walk_2(at, weight);
  }
}

/* Scales, bias, residual and activation of some vectors of columns: what is left once all tiles of a panel are summed.
   Returns the lanes that are not finite. All that the loop reads of `job` is copied first: its stores may alias anything. */
INLINE void end_vectors(const lx_product *job, uint32_t first, uint32_t rows, uint32_t column, const int vectors,
                        const int is_blocks, const int is_scaled, const int has_residual, const uint32_t activation,
                        bits *wrong_lanes) {
  const lx_weight *weight = job->weight;
  const float *const scales = (const float *)(job->data + weight->scales), *const bias = job->bias;
  const uint32_t *const sums = (const uint32_t *)(job->data + weight->sums);
  const size_t y_stride = job->y_stride, residual_stride = job->residual_stride;
  const float *residual = has_residual ? job->residual + first * residual_stride + column : NULL;
  float *y = job->y + first * y_stride + column;
  vector x_scale[PAIR], wrong[PAIR];
  bits x_zero[PAIR];
  UNROLL for (int v = 0; v < vectors; v++) {
    x_scale[v] = is_blocks ? load(job->x_scale + column + v * LANES) : splat(0.0f);
    x_zero[v] = is_blocks ? load_bits(job->x_zero + column + v * LANES) : (bits){0};
    wrong[v] = splat(0.0f); /* NaN from the first value on that is not finite; else +0, to which -0 adds nothing */
  }
  for (uint32_t row = first; row < first + rows; row++, y += y_stride) {
    const float scale = is_scaled ? scales[row] : 1.0f, offset = bias ? bias[row] : 0.0f;
    const uint32_t sum = is_blocks ? sums[row] : 0;
    UNROLL for (int v = 0; v < vectors; v++) {
      vector value = load(y + v * LANES);
      if (is_blocks) {
        const bits exact = (bits)value - x_zero[v] * sum;
        /* integer products are the same to the bit everywhere */
        value = rounded(__builtin_convertvector((whole)exact, vector) * (x_scale[v] * scale));
      } else if (is_scaled) {
        value *= scale;
      }
      value += offset;
      if (has_residual) value += load(residual + v * LANES);
      wrong[v] += value * 0.0f;
      store(y + v * LANES, activate(value, activation, is_blocks));
    }
    if (has_residual) residual += residual_stride;
  }
  UNROLL for (int v = 0; v < vectors; v++) wrong_lanes[v] = (bits)wrong[v];
}

/* The rows of a panel, of which those after the weight's last are zeros that nothing reads. */
INLINE uint32_t end_kind(const lx_product *job, uint32_t first, uint32_t rows, const int is_blocks, const int is_scaled) {
  bits found = {0};
  rows = smaller(rows, job->weight->rows - first);
  for (uint32_t column = 0; column < job->columns; column += PAIR * LANES) {
    bits here[PAIR] = {{0}};
    const int is_one = job->columns - column <= LANES;
#define END(residual, activation)                                                                               \
  (is_one ? end_vectors(job, first, rows, column, 1, is_blocks, is_scaled, residual, activation, here)          \
          : end_vectors(job, first, rows, column, PAIR, is_blocks, is_scaled, residual, activation, here))
    if (job->residual)
      END(1, job->activation);
    else if (job->activation == LX_GELU)
      END(0, LX_GELU);
    else if (job->activation == LX_LINEAR_ONLY)
      END(0, LX_LINEAR_ONLY);
    else if (!IS_SMALL && job->activation == LX_RELU6)
      END(0, LX_RELU6);
    else
      END(0, job->activation);
#undef END
    UNROLL for (uint32_t v = 0; v < PAIR; v++) {
      const uint32_t start = column + v * LANES;
      if (start < job->columns) found |= here[v] & first_lanes(job->columns - start);
    }
  }
  return any(found);
}

static uint32_t end_panel(const lx_product *job, uint32_t first, uint32_t rows) {
  if (lx_is_quantised(job->weight)) return end_kind(job, first, rows, 1, 1);
  return job->weight->type == LX_I8 ? end_kind(job, first, rows, 0, 1) : end_kind(job, first, rows, 0, 0);
}

static uint32_t product(const lx_product *job) {
  const lx_weight *weight = job->weight;
  const uint32_t rows = lx_rounded(weight->rows, LX_GROUP), units = lx_units(weight);
  const uint32_t first = job->panel * weight->panel, many = smaller(weight->panel, rows - first);
  const int is_sparse = lx_is_sparse(weight);
  const uint32_t tiles = (units + weight->tile - 1) / weight->tile;
  size_t entry = is_sparse ? ((const uint64_t *)(job->data + weight->starts))[job->panel]
                           : (size_t)(first / LX_GROUP) * units;
  const lx_group *groups = (const lx_group *)(job->data + weight->groups) + (size_t)(first / LX_GROUP) * tiles;
  for (uint32_t tile = 0; tile < tiles; tile++) {
    walk at = {.groups = is_sparse ? groups + (size_t)tile * (many / LX_GROUP) : NULL,
               .indices = is_sparse ? job->data + weight->indices + entry * lx_indices(weight) : NULL,
               .values = job->data + weight->values + entry * entry_bytes(lx_is_quantised(weight), (int)weight->type),
               .many = many / LX_GROUP,
               .is_first = tile == 0,
               .units = smaller(weight->tile, units - tile * weight->tile),
               .x_stride = job->x_stride,
               .y_stride = job->y_stride};
    size_t walked = 0;
    for (uint32_t column = 0; column < job->columns; column += MOST_VECTORS * LANES) {
      uint32_t vectors = (smaller(job->columns - column, MOST_VECTORS * LANES) + LANES - 1) / LANES;
      at.x = (const float *)job->x + (size_t)tile * weight->tile * job->x_stride + column;
      at.y = job->y + first * job->y_stride + column;
      walked = walk_vectors(&at, weight, vectors);
    }
    entry += walked;
  }
  return end_panel(job, first, many);
}

/* Computes one head for `vectors` vectors of queries: scores with all keys, their softmax, and the weighted sum of values. */
INLINE uint32_t attend_vectors(const lx_attention *job, uint32_t column, const int vectors) {
  const float *query = job->query + column;
  const size_t stride = lx_rounded(job->queries, LX_COLUMNS);
  float *scores = job->scores;
  bits found[MOST_VECTORS], live[MOST_VECTORS];
  UNROLL for (int v = 0; v < vectors; v++) {
    found[v] = (bits){0};
    live[v] = first_lanes(job->queries - column - (uint32_t)v * LANES);
  }
  for (uint32_t key = 0; key < job->keys; key += LX_GROUP) {
    vector sum[LX_GROUP][MOST_VECTORS];
    UNROLL for (int r = 0; r < LX_GROUP; r++) UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = splat(0.0f);
    for (uint32_t d = 0; d < job->size; d++) {
      const vector w = read_entry(job->key + d * job->key_stride + key, LX_F32, 0);
      const float *x = query + d * job->query_stride;
      UNROLL for (int r = 0; r < LX_GROUP; r++) {
        const vector each = pick(w, r);
        UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = add_product(sum[r][v], each, load(x + v * LANES));
      }
    }
    UNROLL for (int r = 0; r < LX_GROUP; r++)
      UNROLL for (int v = 0; v < vectors; v++) store(scores + (key + (uint32_t)r) * stride + v * LANES, sum[r][v] * job->scale);
  }
  vector total[MOST_VECTORS];
  UNROLL for (int v = 0; v < vectors; v++) {
    vector top = load(scores + v * LANES), all = splat(0.0f);
    found[v] |= not_finite(top);
    for (uint32_t key = 1; key < job->keys; key++) {
      const vector score = load(scores + key * stride + v * LANES);
      found[v] |= not_finite(score);
      top = most(top, score);
    }
    for (uint32_t key = 0; key < job->keys; key++) {
      vector share = exponential(load(scores + key * stride + v * LANES) - top);
      store(scores + key * stride + v * LANES, share);
      all += share;
    }
    total[v] = 1.0f / all;
  }
  for (uint32_t d = 0; d < job->size; d += LX_GROUP) {
    vector sum[LX_GROUP][MOST_VECTORS];
    const float *value[LX_GROUP];
    UNROLL for (int r = 0; r < LX_GROUP; r++) {
      value[r] = job->value + smaller(d + (uint32_t)r, job->size - 1) * job->value_stride;
      UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = splat(0.0f);
    }
    for (uint32_t key = 0; key < job->keys; key++) {
      UNROLL for (int r = 0; r < LX_GROUP; r++) {
        const vector each = splat(value[r][key]);
        UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = add_product(sum[r][v], each, load(scores + key * stride + v * LANES));
      }
    }
    for (uint32_t r = 0; r < smaller(LX_GROUP, job->size - d); r++)
      UNROLL for (int v = 0; v < vectors; v++) {
        const vector value = sum[r][v] * total[v];
        found[v] |= not_finite(value);
        store(job->out + (d + r) * job->out_stride + column + v * LANES, value);
      }
  }
  bits all = {0};
  UNROLL for (int v = 0; v < vectors; v++) all |= found[v] & live[v];
  return any(all);
}

static uint32_t attend(const lx_attention *job) {
  uint32_t column = 0, found = 0;
  while (column < job->queries) {
    const uint32_t vectors = smaller((job->queries - column + LANES - 1) / LANES, MOST_VECTORS);
    switch (vectors) {
      case 1:
        found |= attend_vectors(job, column, 1);
        break;
#if REGISTERS_FOR >= 3
      case 3:
        found |= attend_vectors(job, column, 3);
        break;
#endif
#if REGISTERS_FOR >= 4
      case 4:
        found |= attend_vectors(job, column, 4);
        break;
#endif
#if REGISTERS_FOR >= 5
      case 5:
        found |= attend_vectors(job, column, 5);
        break;
#endif
      default:
        found |= attend_vectors(job, column, 2);
    }
    column += vectors * LANES;
  }
  return found;
}

/* Normalises some vectors of columns. */
INLINE uint32_t norm_vectors(const lx_norm *job, uint32_t column, const int vectors) {
  const uint32_t channels = job->channels;
  const size_t x_stride = job->x_stride, y_stride = job->y_stride, add_stride = job->add_stride;
  const float *const x = job->x + column, *const add = job->add ? job->add + column : NULL;
  const float *const gain = job->gain, *const bias = job->bias;
  float *const y = job->y + column;
  vector sum[4][PAIR], square[4][PAIR], mean[PAIR], scale[PAIR];
  bits found[PAIR];
  UNROLL for (int n = 0; n < 4; n++) UNROLL for (int v = 0; v < vectors; v++) sum[n][v] = square[n][v] = splat(0.0f);
  uint32_t c = 0;
  for (; c + 4 <= channels; c += 4)
    UNROLL for (uint32_t n = 0; n < 4; n++)
      UNROLL for (int v = 0; v < vectors; v++) sum[n][v] += load(x + (c + n) * x_stride + v * LANES);
  for (; c < channels; c++) UNROLL for (int v = 0; v < vectors; v++) sum[0][v] += load(x + c * x_stride + v * LANES);
  UNROLL for (int v = 0; v < vectors; v++)
    mean[v] = ((sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v])) / (float)channels;
  for (c = 0; c + 4 <= channels; c += 4) {
    UNROLL for (uint32_t n = 0; n < 4; n++) {
      UNROLL for (int v = 0; v < vectors; v++) {
        const vector off = load(x + (c + n) * x_stride + v * LANES) - mean[v];
        square[n][v] += off * off;
      }
    }
  }
  for (; c < channels; c++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      const vector off = load(x + c * x_stride + v * LANES) - mean[v];
      square[0][v] += off * off;
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    vector spread_of =
        ((square[0][v] + square[1][v]) + (square[2][v] + square[3][v])) / (float)channels + job->epsilon;
    for (int n = 0; n < LANES; n++) spread_of[n] = sqrtf(spread_of[n]);
    scale[v] = 1.0f / spread_of; /* 0 where squares overflow */
    found[v] = not_finite(spread_of);
  }
  for (c = 0; c < channels; c++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      vector value = (load(x + c * x_stride + v * LANES) - mean[v]) * scale[v] * gain[c] + bias[c];
      if (add) value += load(add + c * add_stride + v * LANES);
      found[v] |= not_finite(value);
      store(y + c * y_stride + v * LANES, value);
    }
  }
  bits all = {0};
  UNROLL for (int v = 0; v < vectors; v++) all |= found[v] & first_lanes(job->columns - column - (uint32_t)v * LANES);
  return any(all);
}

/* Apart from norm_vectors, because few models have an activation after a norm. */
static __attribute__((noinline)) void activate_norm(const lx_norm *job) {
  for (uint32_t channel = 0; channel < job->channels; channel++) {
    for (uint32_t column = 0; column < job->columns; column += LANES) {
      float *y = job->y + channel * job->y_stride + column;
      store(y, activate(load(y), job->activation, 0));
    }
  }
}

static uint32_t norm(const lx_norm *job) {
  uint32_t column = 0, found = 0;
  for (; column + LANES < job->columns; column += PAIR * LANES) found |= norm_vectors(job, column, PAIR);
  for (; column < job->columns; column += LANES) found |= norm_vectors(job, column, 1);
  if (job->activation != LX_LINEAR_ONLY) activate_norm(job);
  return found;
}

/* Four channels as the bytes of one value each, the first lowest. */
#if defined(__AVX2__)
/* The instructions that narrow numbers also limit them to 0..255, four channels at once. */
INLINE bits pack_bytes(const float *x, size_t stride, uint32_t channels, vector inverse, vector offset, byte_range range) {
  (void)range;
  vector value[4];
  UNROLL for (uint32_t n = 0; n < 4; n++) value[n] = load(x + smaller(n, channels - 1) * stride) * inverse + offset;
#if defined(WIDE)
#define ROUND(n) _mm512_cvtps_epi32((__m512)value[n])
  const __m512i pairs = _mm512_packus_epi16(_mm512_packs_epi32(ROUND(0), ROUND(1)), _mm512_packs_epi32(ROUND(2), ROUND(3)));
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  return (bits)_mm512_shuffle_epi8(pairs, order);
#else
#define ROUND(n) _mm256_cvtps_epi32((__m256)value[n])
  const __m256i pairs = _mm256_packus_epi16(_mm256_packs_epi32(ROUND(0), ROUND(1)), _mm256_packs_epi32(ROUND(2), ROUND(3)));
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return (bits)_mm256_shuffle_epi8(pairs, _mm256_broadcastsi128_si256(order));
#endif
#undef ROUND
}
#else
INLINE bits pack_bytes(const float *x, size_t stride, uint32_t channels, vector inverse, vector offset, byte_range range) {
  bits packed = {0};
  UNROLL for (uint32_t n = 0; n < 4; n++) {
    vector value = load(x + smaller(n, channels - 1) * stride) * inverse + offset;
    value = most(least(value, splat(range.most)), splat(0.0f)) + MAGIC;
    packed |= ((bits)value & 0xFFu) << (8 * n);
  }
  return packed ^ (range.offset ? 0x80808080u : 0u);
}
#endif

/* Quantises some vectors of columns. */
INLINE uint32_t quantise_vectors(const lx_quantise *job, uint32_t column, const int vectors) {
  const uint32_t channels = job->channels, units = channels / 4;
  const size_t x_stride = job->x_stride, bytes_stride = job->bytes_stride;
  const float *const x = job->x + column;
  uint32_t *const bytes = job->bytes + column;
  vector low[2][PAIR], high[2][PAIR], inverse[PAIR], offset[PAIR];
  const byte_range range = find_range();
  bits found = {0};
  UNROLL for (int n = 0; n < 2; n++) UNROLL for (int v = 0; v < vectors; v++) low[n][v] = high[n][v] = splat(0.0f);
  for (uint32_t c = 0; c < channels; c += 2) {
    UNROLL for (uint32_t n = 0; n < 2; n++) {
      UNROLL for (int v = 0; v < vectors; v++) {
        const vector value = load(x + smaller(c + n, channels - 1) * x_stride + v * LANES);
        low[n][v] = least(value, low[n][v]), high[n][v] = most(value, high[n][v]);
      }
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    const vector bottom = least(low[0][v], low[1][v]), top = most(high[0][v], high[1][v]);
    const vector step = most((top - bottom) / range.most, splat(1e-30f));
    inverse[v] = 1.0f / step;
    offset[v] = most(least(-bottom * inverse[v] + MAGIC, splat(MAGIC + range.most)), splat(MAGIC)) - MAGIC;
    store(job->scale + column + v * LANES, step);
    store_bits(job->zero + column + v * LANES, (bits)__builtin_convertvector(offset[v], whole) - range.offset);
    /* x was checked when it was written */
    found |= not_finite(step) & first_lanes(job->columns - column - (uint32_t)v * LANES);
  }
  for (uint32_t unit = 0; unit < units; unit++)
    UNROLL for (int v = 0; v < vectors; v++)
      store_bits(bytes + unit * bytes_stride + v * LANES,
                 pack_bytes(x + 4 * unit * x_stride + v * LANES, x_stride, 4, inverse[v], offset[v], range));
  if (channels % 4)
    UNROLL for (int v = 0; v < vectors; v++)
      store_bits(bytes + units * bytes_stride + v * LANES,
                 pack_bytes(x + 4 * units * x_stride + v * LANES, x_stride, channels % 4, inverse[v], offset[v], range));
  return any(found);
}

static uint32_t quantise(const lx_quantise *job) {
  uint32_t column = 0, found = 0;
  for (; column + LANES < job->columns; column += PAIR * LANES) found |= quantise_vectors(job, column, PAIR);
  for (; column < job->columns; column += LANES) found |= quantise_vectors(job, column, 1);
  return found;
}

/* The pixels under one weight of the kernel, for a vector of y. Those beside the picture are not `inside`, and become zeros. */
INLINE vector take_pixels(const float *from, const uint32_t stride, bits inside) {
  const vector value = stride == 1 ? load(from) : evens(load(from), load(from + LANES));
  return (vector)((bits)value & inside);
}

/* A kernel of `side` x `side` weights. FILTER_ROWS rows of y are computed at once, because they share rows of x. The last vector of a
   row also writes the start of the next row. That row is stored later, or its first vector is: vectors go from right to left. */
INLINE uint32_t filter_rows(const lx_filter *job, const uint32_t side, const uint32_t stride, const uint32_t activation) {
  enum { MOST_SIDE = 5, MOST_ROWS = (FILTER_ROWS - 1) * 2 + MOST_SIDE };
  const lx_filter local = *job;
  const uint32_t width = local.width, pixels = width * local.height;
  vector weights[MOST_SIDE * MOST_SIDE];
  bits found = {0}, lane = {0};
  UNROLL for (uint32_t n = 0; n < side * side; n++) weights[n] = splat(local.weights[n]);
  UNROLL for (int n = 0; n < LANES; n++) lane[n] = (uint32_t)n;
  for (uint32_t row = 0; row < local.height; row += FILTER_ROWS) {
    const float *rows[MOST_ROWS];
    UNROLL for (uint32_t i = 0; i < (FILTER_ROWS - 1) * stride + side; i++) {
      const uint32_t y = row * stride + i - local.padding; /* above the picture: a huge number */
      rows[i] = y < local.x_height ? local.x + (size_t)y * local.x_width : local.zeros;
    }
    for (uint32_t vectors = (width + LANES - 1) / LANES; vectors-- > 0;) {
      const uint32_t column = vectors * LANES, first = column * stride - local.padding;
      /* In a damaged file, a kernel may lie right of the whole picture: what it would read is not in memory. */
      const int32_t start = (int32_t)first < (int32_t)local.x_width ? (int32_t)first : (int32_t)local.x_width;
      bits inside[MOST_SIDE];
      UNROLL for (uint32_t j = 0; j < side; j++) inside[j] = (bits)(lane * stride + (first + j) < local.x_width);
      vector sum[FILTER_ROWS];
      UNROLL for (uint32_t r = 0; r < FILTER_ROWS; r++) sum[r] = splat(local.bias);
      UNROLL for (uint32_t i = 0; i < (FILTER_ROWS - 1) * stride + side; i++) {
        UNROLL for (uint32_t j = 0; j < side; j++) {
          const vector x = take_pixels(rows[i] + start + (int32_t)j, stride, inside[j]);
          UNROLL for (uint32_t r = 0; r < FILTER_ROWS; r++)
            if (i >= r * stride && i - r * stride < side) sum[r] = add_product(sum[r], weights[(i - r * stride) * side + j], x);
        }
      }
      const bits live = first_lanes(width - column);
      UNROLL for (uint32_t r = 0; r < FILTER_ROWS; r++) {
        if (row + r >= local.height) break;
        const uint32_t to = (row + r) * width + column;
        found |= not_finite(sum[r]) & live;
        const vector active = activate(sum[r], activation, 0);
        if (to + LANES <= pixels)
          store(local.y + to, active);
        else
          memcpy(local.y + to, &active, (pixels - to) * sizeof(float));
      }
    }
  }
  return any(found);
}

/* Any kernel and stride, one pixel at a time. */
static uint32_t filter_any(const lx_filter *job) {
  uint32_t found = 0;
  for (uint32_t row = 0; row < job->height; row++) {
    for (uint32_t column = 0; column < job->width; column++) {
      float sum = job->bias;
      for (uint32_t n = 0; n < job->kernel * job->kernel; n++) {
        const uint32_t y = row * job->stride + n / job->kernel - job->padding;
        const uint32_t x = column * job->stride + n % job->kernel - job->padding;
        if (y < job->x_height && x < job->x_width) sum += job->weights[n] * job->x[(size_t)y * job->x_width + x];
      }
      found |= sum - sum != 0.0f;
      job->y[(size_t)row * job->width + column] = activate(splat(sum), job->activation, 0)[0];
    }
  }
  return found;
}

static uint32_t filter(const lx_filter *job) {
#define FILTER(side, stride)                                                           \
  (!IS_SMALL && job->activation == LX_RELU6 ? filter_rows(job, side, stride, LX_RELU6) \
                                            : filter_rows(job, side, stride, job->activation))
  if (job->kernel == 3 && job->stride == 1) return FILTER(3, 1);
  if (job->kernel == 3 && job->stride == 2) return FILTER(3, 2);
  if (job->kernel == 5 && job->stride == 1) return FILTER(5, 1);
  if (job->kernel == 5 && job->stride == 2) return FILTER(5, 2);
  return filter_any(job);
#undef FILTER
}

/* A multiple of LX_COLUMNS that fills all vectors of a product. */
enum { STEP = MOST_VECTORS * LANES, BLOCK = STEP % LX_COLUMNS ? (STEP % 8 ? 4 : 2) * STEP : STEP * (STEP < 32 ? 4 : 1) };
_Static_assert(BLOCK % (int)LX_COLUMNS == 0 && BLOCK <= (int)LX_MOST_BLOCK, "block");

const lx_kernels PASTE(lx_kernels_, LX_SET) = {
    .name = TEXT(LX_SET), .block = BLOCK, .filter = filter, .product = product, .attend = attend, .norm = norm, .quantise = quantise};
