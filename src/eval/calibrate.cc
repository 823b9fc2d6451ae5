#include "eval/calibrate.h"

namespace spanwise::eval {

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
