// What `spanwise calibrate` measured of a model's composed modes, kept beside the model, and the gate made of it.
// docs/formats/calibration.md describes the file.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spanwise/prompt.h"
#include "spanwise/status.h"

namespace spanwise {

// How far a mode may be from the flat prompt.
struct CalibrationLimits {
  double kl = 0.05;             // mean KL divergence of a token of the answer, nats
  double accuracy_loss = 0.03;  // share of the answers
};

struct CalibratedMode {
  ComposeOptions compose;     // its mode and that mode's parameters
  int n = 0;                  // prompts measured
  double kl = 0;              // mean over the tokens of their reference answers, to the flat prompt
  double agreement = 0;       // share of greedy answers that are the flat prompt's to the letter
  double accuracy = 0;        // share of greedy answers that are right
  double exact_accuracy = 0;  // the same of the flat prompt
};

// Whether two requests are composed in the same way: by equal modes, with equal parameters where the mode has any. The
// order of documents does not count.
bool SameComposition(const ComposeOptions& a, const ComposeOptions& b);
// "set", "repair fraction=0.15", "repair fraction=0.5 policy=NAME".
std::string CompositionName(const ComposeOptions& compose);

// What a request gets that leaves these of its options open.
struct CalibratedDefaults {
  std::optional<double> documents_temperature = {}, documents_scale = {}, repair_threshold = {};
};

struct Calibration {
  std::string model;  // ModelInfo::digest
  CalibratedDefaults defaults = {};
  CalibrationLimits limits;
  std::vector<CalibratedMode> modes;

  // Corruption or InvalidArgument names the field; `where` begins every message.
  static Result<Calibration> Parse(std::string_view text, const std::string& where);
  std::string ToJson() const;

  // The options with the model's defaults where they leave some open.
  ComposeOptions Resolve(ComposeOptions compose) const;

  bool Passes(const CalibratedMode& mode) const;
  // True: measured, and within the limits. False: not measured. InvalidArgument with the figures: measured, and outside
  // them.
  Result<bool> Check(const ComposeOptions& compose) const;
};

// Where a model's calibration stands: spanwise.json in its folder, NAME.spanwise.json beside NAME.gguf.
std::string CalibrationPath(const std::string& model);

// The calibration beside a model of that digest; without modes where there is none, or one of another model, which
// *note then says. Corruption, InvalidArgument or ResourceExhausted (over 1 MiB) when it cannot be read.
Result<Calibration> LoadCalibration(const std::string& model, const std::string& digest, std::string* note);

}  // namespace spanwise
