// Measures a model's composed modes for the gate that the engine keeps.
#pragma once

#include <functional>
#include <vector>

#include "engine/calibration.h"
#include "eval/fidelity.h"

namespace spanwise::eval {

// The engine's model over the records, each mode against the flat prompt.
Result<Calibration> Calibrate(Engine& engine, const std::vector<QaRecord>& records,
                              const std::vector<ComposeOptions>& modes, const CalibrationLimits& limits,
                              const std::function<void(size_t done)>& progress);

}  // namespace spanwise::eval
