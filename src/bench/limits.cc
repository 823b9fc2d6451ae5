#include "bench/limits.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace spanwise::bench {
namespace {

constexpr int kPasses = 5;

// The least time of some passes over pieces [0, n) of work.
double BestSeconds(ThreadPool& pool, size_t n, const std::function<void(size_t)>& piece) {
  double best = 0;
  for (int i = 0; i < kPasses; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(n, piece);
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = i == 0 ? s : std::min(best, s);
  }
  return best;
}

#if defined(__x86_64__)

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

struct Loop {
  void (*run)(int64_t n_rounds) = nullptr;
  int ops = 0;  // of a round
};

Loop WidestLoop(Arithmetic arithmetic) {
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

#endif

}  // namespace

double ReadBandwidth(ThreadPool& pool) {
  constexpr size_t kBytes = size_t{512} << 20, kPiece = size_t{1} << 20, kWords = kPiece / sizeof(uint64_t);
  static const std::vector<uint64_t> buffer(kBytes / sizeof(uint64_t), 1);
  std::vector<uint64_t> sums(kBytes / kPiece);
  const double s = BestSeconds(pool, sums.size(), [&](size_t piece) {
    const uint64_t* p = buffer.data() + piece * kWords;
    uint64_t sum[8] = {};
    for (size_t i = 0; i < kWords; i += 8)
      for (size_t j = 0; j < 8; ++j) sum[j] += p[i + j];
    for (const uint64_t v : sum) sums[piece] += v;
  });
  return static_cast<double>(kBytes) / s;
}

double PeakRate(ThreadPool& pool, Arithmetic arithmetic) {
#if defined(__x86_64__)
  constexpr int64_t kRounds = 1'000'000;
  const Loop loop = WidestLoop(arithmetic);
  if (!loop.run) return 0;
  const auto n_threads = static_cast<size_t>(pool.n_threads());
  const double s = BestSeconds(pool, n_threads, [&](size_t) { loop.run(kRounds); });
  return static_cast<double>(n_threads) * kRounds * loop.ops / s;
#else
  return 0;
#endif
}

}  // namespace spanwise::bench
