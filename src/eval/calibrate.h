// Measures a model's composed modes for the gate that the engine keeps.
#pragma once

#include <functional>
#include <vector>

#include "engine/calibration.h"
#include "eval/fidelity.h"

namespace spanwise::eval {

// Where ape is nearest to the flat prompt.
struct ApeSearch {
  double temperature = 1, scale = 1;
  double kl = 0;      // mean over the records, there
  double set_kl = 0;  // with 1 and 1, which is mode set
  int n_tried = 0;    // pairs of temperature and scale
};

// Searches ape's temperature T and its factor S T, one after the other along a line of values, until one
// changes nothing or kApeSearchPasses lines were searched. Deterministic. Each line reads every record once for each of
// its values and once more; progress counts the lines and the records of one.
inline constexpr size_t kApeSearchPasses = 4;
Result<ApeSearch> SearchApe(Engine& engine, const std::vector<QaRecord>& records,
                            const std::function<void(size_t pass, size_t done)>& progress);

// Above which change repair comes nearest to the flat prompt.
struct ThresholdSearch {
  double threshold = 0;
  double kl = 0;         // mean over the records' tokens, with it
  double always_kl = 0;  // with whatever is recomputed kept
  double never_kl = 0;   // with nothing recomputed
};

// Reads every record twice, with what `repair` recomputes kept and with nothing recomputed, and takes the highest
// threshold whose divergence is at most a quarter more than the least: documents that gain little stay as they were
// kept. Deterministic.
Result<ThresholdSearch> SearchThreshold(Engine& engine, const std::vector<QaRecord>& records, ComposeOptions repair,
                                        const std::function<void(size_t done)>& progress);

// The same for samples measured already, in the same order.
ThresholdSearch FindThreshold(const std::vector<FidelitySample>& always, const std::vector<FidelitySample>& never);

// The engine's model over the records, each mode against the flat prompt.
Result<Calibration> Calibrate(Engine& engine, const std::vector<QaRecord>& records,
                              const std::vector<ComposeOptions>& modes, const CalibrationLimits& limits,
                              const std::function<void(size_t done)>& progress);

}  // namespace spanwise::eval
