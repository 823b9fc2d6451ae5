#include "kv/planner.h"

#include <algorithm>
#include <cmath>

namespace spanwise {
namespace {

constexpr double kLeastWork = 16;
constexpr double kLeastSeconds = 1e-9;
// Loads are few and steps are many.
constexpr double kShareOfLoad = 0.5, kShareOfStep = 0.2;

}  // namespace

void LoadPlanner::Mean::Learn(double newest, double share) {
  newest = std::max(newest, kLeastSeconds * kLeastSeconds);
  value = measured ? std::exp((1 - share) * std::log(value) + share * std::log(newest)) : newest;
  measured = true;
}

void LoadPlanner::RecordCompute(double work, double seconds) {
  if (work >= kLeastWork) compute_.Learn(seconds / work, kShareOfStep);
}

void LoadPlanner::RecordLoad(Tier tier, uint64_t bytes, double latency_s, double seconds, bool given_up) {
  const double share = given_up ? 1 : kShareOfLoad, times = given_up ? 2 : 1;
  Path& path = paths_[tier];
  path.computed_s = 0;
  if (latency_s > 0) path.latency_s.Learn(bytes > 0 ? latency_s : times * latency_s, bytes > 0 ? kShareOfLoad : share);
  if (bytes > 0)
    path.seconds_per_byte.Learn(times * std::max(seconds - latency_s, kLeastSeconds) / static_cast<double>(bytes),
                                share);
}

double LoadPlanner::LoadSeconds(Tier tier, uint64_t bytes) const {
  const Path& path = paths_[tier];
  return path.latency_s.value + path.seconds_per_byte.value * static_cast<double>(bytes);
}

double LoadPlanner::PatienceSeconds(Tier tier, uint64_t bytes, double work) const {
  return std::max(ComputeSeconds(work), 2 * LoadSeconds(tier, bytes));
}

LoadPlanner::Choice LoadPlanner::Choose(Tier tier, uint64_t bytes, double work, size_t n_spans) {
  const double compute_s = ComputeSeconds(work);
  if (LoadSeconds(tier, bytes) <= compute_s) return Choice::kLoad;
  Path& path = paths_[tier];
  path.computed_s += compute_s;
  const auto n = static_cast<double>(std::max<size_t>(n_spans, 1));
  const double probe_s = LoadSeconds(tier, bytes / std::max<size_t>(n_spans, 1)) - compute_s / n;
  return probe_s <= kProbeShare * path.computed_s ? Choice::kProbe : Choice::kCompute;
}

}  // namespace spanwise
