#include "eval/calibrate.h"

#include <array>
#include <cmath>

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
