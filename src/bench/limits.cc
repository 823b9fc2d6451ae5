#include "bench/limits.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "base/pages.h"

namespace spanwise::bench {
namespace {

// The least time of some passes over pieces [0, n) of work.
double BestSeconds(ThreadPool& pool, int n_passes, size_t n, const std::function<void(size_t)>& piece) {
  double best = 0;
  for (int i = 0; i < n_passes; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(n, piece);
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = i == 0 ? s : std::min(best, s);
  }
  return best;
}

}  // namespace

double ReadBandwidth(ThreadPool& pool, int n_passes) {
  constexpr size_t kBytes = size_t{512} << 20, kPiece = size_t{1} << 20, kWords = kPiece / sizeof(uint64_t);
  static const Pages buffer = [] {  // written to, so that it has memory of its own
    Pages pages(kBytes);
    std::memset(pages.data(), 1, kBytes);
    return pages;
  }();
  std::vector<uint64_t> sums(kBytes / kPiece);
  const double s = BestSeconds(pool, n_passes, sums.size(), [&](size_t piece) {
    // Several streams at once, each asked for in good time: one alone does not keep the memory busy.
    constexpr size_t kStreams = 4, kStream = kWords / kStreams, kAhead = 64;
    const uint64_t* p = reinterpret_cast<const uint64_t*>(buffer.data()) + piece * kWords;
    uint64_t sum[8] = {};
    for (size_t i = 0; i < kStream; i += 8) {
      for (size_t stream = 0; stream < kStreams; ++stream) {
        const uint64_t* at = p + stream * kStream + i;
        __builtin_prefetch(at + kAhead);
        for (size_t j = 0; j < 8; ++j) sum[j] += at[j];
      }
    }
    for (const uint64_t v : sum) sums[piece] += v;
  });
  return static_cast<double>(kBytes) / s;
}

double PeakRate(ThreadPool& pool, Arithmetic arithmetic) {
  constexpr int64_t kRounds = 1'000'000;
  const cpu::PeakLoop loop = cpu::WidestPeakLoop(arithmetic);
  if (loop.run == nullptr) return 0;
  const auto n_threads = static_cast<size_t>(pool.n_threads());
  const double s = BestSeconds(pool, 5, n_threads, [&](size_t) { loop.run(kRounds); });
  return static_cast<double>(n_threads) * kRounds * loop.ops / s;
}

}  // namespace spanwise::bench
