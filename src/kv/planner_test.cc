// The planner against a world whose times it does not know: tiers, models and lengths, with noise, and after a change.
#include "kv/planner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "kernels/kv_view.h"
#include "kv/evict/policy.h"

namespace spanwise {
namespace {

using Choice = LoadPlanner::Choice;

struct Model {
  const char* name;
  double params, bytes_per_token;
};
constexpr Model kModels[] = {{"30M", 3e7, 8.4e3}, {"1B", 1e9, 32e3}, {"8B", 8e9, 128e3}, {"70B", 7e10, 320e3}};
constexpr double kOperations = 50e9;  // a second

struct Place {
  const char* name;
  LoadPlanner::Tier tier;
  double latency_s, bytes_per_s;
};
constexpr Place kPlaces[] = {
    {"page cache", LoadPlanner::kDisk, 2e-6, 1.5e9}, {"SSD", LoadPlanner::kDisk, 1e-4, 4e8},
    {"hard disk", LoadPlanner::kDisk, 8e-3, 1e8},    {"SD card", LoadPlanner::kDisk, 2e-3, 4e6},
    {"10 GbE", LoadPlanner::kRemote, 2e-4, 1e9},     {"1 GbE", LoadPlanner::kRemote, 5e-4, 1.1e8},
    {"Wi-Fi", LoadPlanner::kRemote, 5e-3, 8e6},      {"modem", LoadPlanner::kRemote, 8e-2, 1e5}};
constexpr size_t kSpans[] = {1, 2, 4, 16, 64, 256};

// Requests for runs of so many spans, all of which a tier has. From the middle on, the tier's times are `later` times
// as long.
class World {
 public:
  World(const Model& model, const Place& place, size_t n_spans, double later, double noise)
      : model_(model), place_(place), n_spans_(n_spans), later_(later), noise_(noise) {}

  struct Times {
    double planned = 0, loaded = 0, computed = 0;
    double ratio() const { return planned / std::min(loaded, computed); }
  };

  Times Run(int n_requests, unsigned seed) {
    random_.seed(seed);
    Times times;
    // As in a process just started, with what the engine takes for the model's speed.
    LoadPlanner planner(2 * model_.params / 20e9);
    for (int i = 0; i < n_requests; ++i) {
      const double slower = 2 * i < n_requests ? 1 : later_;
      const double load_s = LoadSeconds(n_spans_, slower), compute_s = ComputeSeconds(0);
      times.loaded += load_s;
      times.computed += compute_s;
      times.planned += Planned(planner, slower, load_s, compute_s);
      // The question behind the documents is computed in any case.
      planner.RecordCompute(32, 32 * 2 * model_.params / kOperations * Noise());
    }
    return times;
  }

 private:
  double Noise() { return std::exp(noise_ * std::normal_distribution<>()(random_)); }
  double Bytes(size_t n_spans) const { return static_cast<double>(n_spans) * kKvBlockTokens * model_.bytes_per_token; }
  double LoadSeconds(size_t n_spans, double slower) {
    return (place_.latency_s + Bytes(n_spans) / place_.bytes_per_s) * slower * Noise();
  }
  static double Work(size_t first, size_t n_spans) {
    return RecomputeCost(static_cast<double>(n_spans * kKvBlockTokens), static_cast<double>(first * kKvBlockTokens));
  }
  // Of all spans after the first few.
  double ComputeSeconds(size_t first) {
    return Work(first, n_spans_ - first) * 2 * model_.params / kOperations * Noise();
  }

  // As SpanStore does it. load_s and compute_s: what this request would take.
  double Planned(LoadPlanner& planner, double slower, double load_s, double compute_s) {
    const auto bytes = static_cast<uint64_t>(Bytes(n_spans_));
    const double patience_s = planner.PatienceSeconds(place_.tier, bytes, Work(0, n_spans_));
    const double latency_s = place_.latency_s * slower;
    const auto compute = [&](size_t first) {
      const double share = Work(first, n_spans_ - first) / Work(0, n_spans_);
      if (share > 0) planner.RecordCompute(Work(first, n_spans_ - first), compute_s * share);
      return compute_s * share;
    };
    const bool remote = place_.tier == LoadPlanner::kRemote;
    switch (planner.Choose(place_.tier, bytes, Work(0, n_spans_), n_spans_)) {
      case Choice::kCompute:
        return compute(0);
      case Choice::kProbe: {
        const double probe_s = LoadSeconds(1, slower);
        planner.RecordLoad(place_.tier, bytes / n_spans_, remote ? latency_s : 0, probe_s);
        return remote ? compute(0) : probe_s + compute(1);  // a server's answer is not waited for
      }
      case Choice::kLoad:
        break;
    }
    // As many spans as come before patience ends; from disk, the one that exceeds it, too.
    if (load_s <= patience_s) {
      planner.RecordLoad(place_.tier, bytes, remote ? latency_s : 0, load_s);
      return load_s;
    }
    const auto span_bytes = static_cast<double>(bytes) / static_cast<double>(n_spans_);
    const double waits_s = remote ? std::min(latency_s, load_s) : 0;
    const double per_span = (load_s - waits_s) / static_cast<double>(n_spans_);
    size_t n = patience_s < waits_s ? 0 : static_cast<size_t>((patience_s - waits_s) / per_span);
    n = std::min(n + !remote, n_spans_);
    const double taken_s = remote ? patience_s : static_cast<double>(n) * per_span;
    if (!remote) {
      planner.RecordLoad(place_.tier, static_cast<uint64_t>(span_bytes * static_cast<double>(n)), 0, taken_s);
    } else if (waits_s >= patience_s) {
      planner.RecordLoad(place_.tier, 0, patience_s, patience_s, true);
    } else {
      planner.RecordLoad(place_.tier, static_cast<uint64_t>(span_bytes * static_cast<double>(n + 1)), waits_s, taken_s,
                         true);
    }
    return taken_s + (n < n_spans_ ? compute(n) : 0);
  }

  const Model model_;
  const Place place_;
  const size_t n_spans_;
  const double later_, noise_;
  std::mt19937 random_;
};

// docs/persistence.md shows what this prints.
TEST(Planner, IsNeverMuchWorseThanTheBetterOfLoadingAndComputing) {
  constexpr double kMost = 1.1;
  for (const double later : {1.0, 0.05, 20.0}) {
    std::printf("%s\n| | %s | %s | %s | %s |\n|---|---|---|---|---|\n",
                later == 1  ? "steady"
                : later < 1 ? "20 times as fast from the middle on"
                            : "20 times as slow",
                kModels[0].name, kModels[1].name, kModels[2].name, kModels[3].name);
    for (const Place& place : kPlaces) {
      std::string row = place.name;
      for (const Model& model : kModels) {
        double worst = 0;
        for (const size_t n_spans : kSpans)
          for (const double noise : {0.0, 0.2})
            for (unsigned seed = 1; seed <= 3; ++seed) {
              const double ratio = World(model, place, n_spans, later, noise).Run(1000, seed).ratio();
              worst = std::max(worst, ratio);
              EXPECT_LE(ratio, kMost) << place.name << ", " << model.name << ", " << n_spans << " spans, noise "
                                      << noise << ", later " << later << ", seed " << seed;
            }
        char cell[32];
        std::snprintf(cell, sizeof cell, " | %.3f", worst);
        row += cell;
      }
      std::printf("| %s |\n", row.c_str());
    }
  }
}

TEST(Planner, LoadsUntilSomethingIsMeasured) {
  LoadPlanner planner(1e-3);
  EXPECT_EQ(planner.Choose(LoadPlanner::kDisk, 1 << 20, 64, 1), Choice::kLoad);
  EXPECT_EQ(planner.Choose(LoadPlanner::kRemote, 1 << 20, 64, 1), Choice::kLoad);
}

TEST(Planner, LeavesWhatLosesAloneAndNoticesWhenItWins) {
  LoadPlanner planner;
  planner.RecordCompute(1000, 1);                             // 1 ms a token
  planner.RecordLoad(LoadPlanner::kDisk, 10'000'000, 0, 10);  // 1 MB/s
  int n_probes = 0;
  for (int i = 0; i < 1000; ++i) {
    const Choice choice = planner.Choose(LoadPlanner::kDisk, 1'000'000, 640, 10);
    EXPECT_NE(choice, Choice::kLoad);
    if (choice != Choice::kProbe) continue;
    ++n_probes;
    planner.RecordLoad(LoadPlanner::kDisk, 100'000, 0, 0.1);
  }
  EXPECT_GT(n_probes, 10);
  EXPECT_LE(n_probes * (0.1 - 0.064), LoadPlanner::kProbeShare * 0.64 * 1000);
  // The other tier knows nothing of that.
  EXPECT_EQ(planner.Choose(LoadPlanner::kRemote, 1'000'000, 640, 10), Choice::kLoad);
  for (int i = 0; i < 200; ++i)
    if (planner.Choose(LoadPlanner::kDisk, 1'000'000, 640, 10) == Choice::kProbe)
      planner.RecordLoad(LoadPlanner::kDisk, 100'000, 0, 0.001);
  EXPECT_EQ(planner.Choose(LoadPlanner::kDisk, 1'000'000, 640, 10), Choice::kLoad);
}

TEST(Planner, StaysFiniteWhateverItIsTold) {
  LoadPlanner planner(0);
  planner.RecordCompute(0, 1);
  planner.RecordCompute(100, 0);
  planner.RecordLoad(LoadPlanner::kRemote, 0, 0, 0);
  planner.RecordLoad(LoadPlanner::kRemote, 100, 5, 1);
  planner.RecordLoad(LoadPlanner::kDisk, 1, 0, 0);
  EXPECT_TRUE(std::isfinite(planner.LoadSeconds(LoadPlanner::kRemote, uint64_t{1} << 60)));
  EXPECT_TRUE(std::isfinite(planner.ComputeSeconds(1e9)));
  (void)planner.Choose(LoadPlanner::kDisk, 0, 0, 0);
}

}  // namespace
}  // namespace spanwise
