// Whether kept KV is worth loading, or computed sooner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace spanwise {

// Compares what loading spans would take with what computing their tokens would, by what both took lately. What loses
// is left alone, but for a single span now and then, so that it is noticed when it would win again: that costs at most
// kProbeShare of the time spent computing instead. Pure: it is told all times. Thread-compatible.
class LoadPlanner {
 public:
  enum Tier { kDisk, kRemote };
  enum class Choice { kLoad, kProbe, kCompute };  // all of it; one span, to measure; nothing
  static constexpr double kProbeShare = 0.02;

  // Until something was measured, computing a unit of work is taken to last this long.
  explicit LoadPlanner(double seconds_per_work = 1e-3) : compute_(seconds_per_work) {}

  // `work` as in RecomputeCost (evict/policy.h). Steps of few tokens tell little and are ignored.
  void RecordCompute(double work, double seconds);
  // `latency_s`, of `seconds` in all, passed before the first byte. With no bytes only that is learnt. What was
  // `given_up` had at most so many bytes to show for its time: it is taken to need twice as long.
  void RecordLoad(Tier tier, uint64_t bytes, double latency_s, double seconds, bool given_up = false);

  double ComputeSeconds(double work) const { return work * compute_.value; }
  double LoadSeconds(Tier tier, uint64_t bytes) const;

  // How long loading may go on, against what it was expected to take: what turns out slower costs little more than
  // computing, and what is a little late is not given up.
  double PatienceSeconds(Tier tier, uint64_t bytes, double work) const;

  // About so many bytes that would save so much work, `n_spans` of them.
  Choice Choose(Tier tier, uint64_t bytes, double work, size_t n_spans);

 private:
  // A mean of times whose newest value counts for `share`, by their logarithm: what became ten times as fast or slow
  // is learnt as soon, and one outlier moves it little.
  struct Mean {
    explicit Mean(double prior) : value(prior) {}
    void Learn(double newest, double share);
    double value;
    bool measured = false;
  };
  struct Path {
    Mean latency_s, seconds_per_byte;
    double computed_s = 0;  // instead of loading, since the last load
  };
  Mean compute_;  // seconds a unit of work
  std::array<Path, 2> paths_{Path{Mean(0), Mean(1 / 500e6)}, Path{Mean(1e-3), Mean(1 / 100e6)}};
};

}  // namespace spanwise
