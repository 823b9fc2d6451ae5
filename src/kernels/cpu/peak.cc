#include "kernels/cpu/peak.h"

#if defined(__x86_64__)

#include <immintrin.h>

namespace spanwise::cpu {
namespace {

// Independent chains of a loop: enough to hide the latency of two units, and few enough for the registers.
constexpr int kChains = 12, kAddChains = 6;

// Keeps the compiler from moving work on `v` out of a loop.
#define SW_OPAQUE(v) asm volatile("" : "+x"(v))
#define SW_OPAQUE_512(v) asm volatile("" : "+v"(v))

__attribute__((target("avx2,fma"))) void FloatAvx2(int64_t n_rounds) {
  __m256 a = _mm256_set1_ps(0.5f), sums[kChains];
  for (__m256& s : sums) s = _mm256_set1_ps(1.0f);
  for (int64_t i = 0; i < n_rounds; ++i) {
    SW_OPAQUE(a);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm256_fmadd_ps(a, a, sums[c]);
  }
  for (__m256& s : sums) SW_OPAQUE(s);
}

// Sums of pairs of products are added up in 16 bits, as the products of short integers are.
__attribute__((target("avx2"))) void Int8Avx2(int64_t n_rounds) {
  __m256i a = _mm256_set1_epi8(1), sums[kAddChains];
  for (__m256i& s : sums) s = _mm256_setzero_si256();
  for (int64_t i = 0; i < n_rounds; ++i) {
#pragma GCC unroll 6
    for (int c = 0; c < kAddChains; ++c) {
      SW_OPAQUE(a);
      sums[c] = _mm256_add_epi16(sums[c], _mm256_maddubs_epi16(a, a));
    }
  }
  for (__m256i& s : sums) SW_OPAQUE(s);
}

__attribute__((target("avx512f"))) void FloatAvx512(int64_t n_rounds) {
  __m512 a = _mm512_set1_ps(0.5f), sums[kChains];
  for (__m512& s : sums) s = _mm512_set1_ps(1.0f);
  for (int64_t i = 0; i < n_rounds; ++i) {
    SW_OPAQUE_512(a);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_fmadd_ps(a, a, sums[c]);
  }
  for (__m512& s : sums) SW_OPAQUE_512(s);
}

__attribute__((target("avx512f,avx512vnni"))) void Int8Vnni(int64_t n_rounds) {
  __m512i a = _mm512_set1_epi8(1), sums[kChains];
  for (__m512i& s : sums) s = _mm512_setzero_si512();
  for (int64_t i = 0; i < n_rounds; ++i) {
    SW_OPAQUE_512(a);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], a, a);
  }
  for (__m512i& s : sums) SW_OPAQUE_512(s);
}

__attribute__((target("avx512f,avx512bf16"))) void Bf16Avx512(int64_t n_rounds) {
  __m512i ones = _mm512_set1_epi16(0x3F80);
  __m512 sums[kChains];
  for (__m512& s : sums) s = _mm512_setzero_ps();
  for (int64_t i = 0; i < n_rounds; ++i) {
    SW_OPAQUE_512(ones);
    const auto a = (__m512bh)ones;
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], a, a);
  }
  for (__m512& s : sums) SW_OPAQUE_512(s);
}

#undef SW_OPAQUE
#undef SW_OPAQUE_512

}  // namespace

PeakLoop WidestPeakLoop(Arithmetic arithmetic) {
  const bool avx512 = __builtin_cpu_supports("avx512f"), avx2 = __builtin_cpu_supports("avx2");
  switch (arithmetic) {
    case Arithmetic::kFloat:
      if (avx512) return {FloatAvx512, 32 * kChains};
      if (avx2 && __builtin_cpu_supports("fma")) return {FloatAvx2, 16 * kChains};
      break;
    case Arithmetic::kBf16:
      if (avx512 && __builtin_cpu_supports("avx512bf16")) return {Bf16Avx512, 64 * kChains};
      break;
    case Arithmetic::kInt8:
      if (avx512 && __builtin_cpu_supports("avx512vnni")) return {Int8Vnni, 128 * kChains};
      if (avx2) return {Int8Avx2, 64 * kAddChains};
      break;
  }
  return {};
}

}  // namespace spanwise::cpu

#else

namespace spanwise::cpu {

PeakLoop WidestPeakLoop(Arithmetic) { return {}; }

}  // namespace spanwise::cpu

#endif
