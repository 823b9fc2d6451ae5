#include "eval/calibrate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace spanwise::eval {

Result<ApeSearch> SearchApe(Engine& engine, const std::vector<QaRecord>& records,
                            const std::function<void(size_t pass, size_t done)>& progress) {
  constexpr std::array kValues = {0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4};
  double temperature = 1, factor = 1;
  ApeSearch best;
  const auto scale = [](double f, double t) { return std::round(f / t * 1000) / 1000; };
  for (size_t pass = 0; pass < kApeSearchPasses; ++pass) {
    double* at = pass % 2 == 0 ? &factor : &temperature;
    const double before = *at;
    FidelityOptions options{.composed = {}, .documents = {}, .answers = false};
    for (const double value : kValues) {
      *at = value;
      options.composed.push_back({.mode = ComposeMode::kApe,
                                  .documents_temperature = temperature,
                                  .documents_scale = scale(factor, temperature)});
    }
    SW_ASSIGN_OR_RETURN(const auto samples, MeasureFidelity(engine, records, options, [&](size_t done) {
                          if (progress) progress(pass, done);
                        }));
    best.n_tried += static_cast<int>(kValues.size()) - (pass > 0);
    size_t least = 0;
    std::array<double, kValues.size()> kl;
    for (size_t i = 0; i < kValues.size(); ++i) {
      kl[i] = Score(samples[i + 1]).divergence.kl;
      if (kl[i] < kl[least]) least = i;
      if (pass == 0 && kValues[i] == 1) best.set_kl = kl[i];
    }
    *at = kValues[least];
    best.temperature = temperature;
    best.scale = scale(factor, temperature);
    best.kl = kl[least];
    if (pass > 0 && *at == before) break;
  }
  return best;
}

ThresholdSearch FindThreshold(const std::vector<FidelitySample>& always, const std::vector<FidelitySample>& never) {
  constexpr double kNearlyBest = 1.25;
  const auto sum = [](const FidelitySample& s) {
    double kl = 0;
    for (const TokenDivergence& token : s.answer) kl += token.kl;
    return kl;
  };
  struct Point {
    double change, gain;  // what keeping the repair saves of the divergence
  };
  std::vector<Point> points;
  double all = 0, none = 0;
  size_t n_tokens = 0;
  for (size_t i = 0; i < always.size(); ++i) {
    points.push_back({always[i].repair_change.value_or(0), sum(never[i]) - sum(always[i])});
    all += sum(always[i]);
    none += sum(never[i]);
    n_tokens += always[i].answer.size();
  }
  std::ranges::sort(points, {}, &Point::change);
  // totals[i]: with a threshold that the changes from points[i] on are above.
  std::vector<double> totals(points.size() + 1, none);
  for (size_t i = points.size(); i-- > 0;) totals[i] = totals[i + 1] - points[i].gain;
  const auto can_be = [&](size_t i) { return i == 0 || i == points.size() || points[i - 1].change < points[i].change; };
  size_t best = points.size();  // of equals the highest threshold, which repairs least
  for (size_t i = points.size(); i-- > 0;)
    if (can_be(i) && totals[i] < totals[best]) best = i;
  size_t high = best;
  for (size_t i = best + 1; i < totals.size() && totals[i] <= kNearlyBest * totals[best]; ++i)
    if (can_be(i)) high = i;
  const double from = high == 0 ? 0 : points[high - 1].change;
  const double to = high == points.size() ? from : points[high].change;
  const auto mean = [&](double kl) { return n_tokens == 0 ? 0 : kl / static_cast<double>(n_tokens); };
  return {.threshold = high == 0 ? 0 : std::round((from + to) / 2 * 1000) / 1000,
          .kl = mean(totals[high]),
          .always_kl = mean(all),
          .never_kl = mean(none)};
}

Result<ThresholdSearch> SearchThreshold(Engine& engine, const std::vector<QaRecord>& records, ComposeOptions repair,
                                        const std::function<void(size_t done)>& progress) {
  repair.repair_threshold =
      std::numeric_limits<double>::min();  // whatever changes at all is kept, and how much is said
  ComposeOptions never = repair;
  never.repair_fraction = 0;
  SW_ASSIGN_OR_RETURN(
      const auto samples,
      MeasureFidelity(engine, records, {.composed = {repair, never}, .documents = {}, .answers = false}, progress));
  return FindThreshold(samples[1], samples[2]);
}

Result<Calibration> Calibrate(Engine& engine, const std::vector<QaRecord>& records,
                              const std::vector<ComposeOptions>& modes, const CalibrationLimits& limits,
                              const std::function<void(size_t done)>& progress) {
  for (const ComposeOptions& mode : modes)
    if (mode.mode == ComposeMode::kExact)
      return InvalidArgument("exact is what the other modes are measured against; name composed modes");
  SW_ASSIGN_OR_RETURN(const auto samples,
                      MeasureFidelity(engine, records, {.composed = modes, .documents = {}}, progress));
  Calibration calibration{.model = engine.model().digest, .limits = limits, .modes = {}};
  const double exact_accuracy = Score(samples[0]).accuracy;
  for (size_t i = 0; i < modes.size(); ++i) {
    const FidelityScore score = Score(samples[i + 1]);
    calibration.modes.push_back({.compose = modes[i],
                                 .n = score.n,
                                 .kl = score.divergence.kl,
                                 .agreement = score.as_exact,
                                 .accuracy = score.accuracy,
                                 .exact_accuracy = exact_accuracy});
  }
  return calibration;
}

}  // namespace spanwise::eval
