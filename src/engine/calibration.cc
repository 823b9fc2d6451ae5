#include "engine/calibration.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <system_error>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "formats/model_file.h"

namespace spanwise {
namespace {

constexpr int64_t kVersion = 1;
constexpr size_t kMaxBytes = size_t{1} << 20, kMaxModes = 1000;
constexpr double kAnyDivergence = std::numeric_limits<double>::max();

// Numbers have nine digits.
std::string Figure(double value) { return StrFormat("{:.9g}", value); }

// A number as it is written, so that two that are written alike are one; -0 is 0.
double AsWritten(double value) {
  const std::string figure = Figure(value);
  std::from_chars(figure.data(), figure.data() + figure.size(), value);
  return value + 0.0;
}

// Members of one object of the file, each required. The first that is wrong becomes the status.
class Members {
 public:
  Members(const json::object& object, std::string where) : object_(object), where_(std::move(where)) {}

  std::string String(std::string_view key) { return Take(GetString(object_, key), key); }
  int64_t Int(std::string_view key, int64_t least, int64_t most) {
    return InRange(Take(GetInt(object_, key), key), key, least, most);
  }
  double Number(std::string_view key, double least, double most) {
    return AsWritten(InRange(Take(GetNumber(object_, key), key), key, least, most));
  }
  // Of a member that may be missing.
  std::optional<double> MaybeNumber(std::string_view key, double least, double most) {
    return object_.contains(key) ? std::optional(Number(key, least, most)) : std::nullopt;
  }
  const Status& status() const { return status_; }

 private:
  void Fail(const Status& status) {
    if (status_.ok()) status_ = status.WithContext(where_);
  }
  template <typename T>
  T Take(const Result<std::optional<T>>& member, std::string_view key) {
    if (!member.ok()) {
      Fail(member.status());
    } else if (!*member) {
      Fail(InvalidArgument(StrFormat("'{}' is missing", key)));
    } else {
      return **member;
    }
    return T();
  }
  template <typename T>
  T InRange(T value, std::string_view key, T least, T most) {
    if (!(value >= least && value <= most))
      Fail(InvalidArgument(StrFormat("'{}' is {}, expected {} to {}", key, value, least, most)));
    return value;
  }

  const json::object& object_;
  const std::string where_;
  Status status_;
};

Result<CalibratedMode> ParseMode(const json::value& value, const std::string& where) {
  if (!value.is_object())
    return InvalidArgument(where + ": is " + std::string(JsonKindName(value)) + ", expected an object");
  Members members(value.get_object(), where);
  CalibratedMode mode;
  const std::string name = members.String("mode");
  SW_RETURN_IF_ERROR(members.status());
  auto parsed = ParseComposeMode(name);
  if (!parsed.ok()) return parsed.status().WithContext(where);
  mode.compose.mode = *parsed;
  if (*parsed == ComposeMode::kRepair) {
    mode.compose.repair_fraction = members.Number("repair_fraction", 0, 1);
    mode.compose.repair_policy = members.String("repair_policy");
    mode.compose.repair_threshold = members.MaybeNumber("repair_threshold", 0, kAnyDivergence);
  }
  if (*parsed == ComposeMode::kApe) {
    mode.compose.documents_temperature = members.Number("documents_temperature", 0, 100);
    mode.compose.documents_scale = members.Number("documents_scale", 0, 100);
  }
  mode.n = static_cast<int>(members.Int("n", 1, std::numeric_limits<int>::max()));
  mode.kl = members.Number("kl", 0, kAnyDivergence);
  mode.agreement = members.Number("agreement", 0, 1);
  mode.accuracy = members.Number("accuracy", 0, 1);
  mode.exact_accuracy = members.Number("exact_accuracy", 0, 1);
  SW_RETURN_IF_ERROR(members.status());
  return mode;
}

// What a number in a message is rounded to.
std::string Percent(double share) { return StrFormat("{:.1f} %", 100 * share); }

}  // namespace

namespace {

double TemperatureOf(const ComposeOptions& compose) {
  return compose.documents_temperature.value_or(ComposeOptions::kDocumentsTemperature);
}

double ScaleOf(const ComposeOptions& compose) {
  return compose.documents_scale.value_or(ComposeOptions::kDocumentsScale);
}

double ThresholdOf(const ComposeOptions& compose) { return compose.repair_threshold.value_or(0); }

}  // namespace

bool SameComposition(const ComposeOptions& a, const ComposeOptions& b) {
  if (a.mode != b.mode) return false;
  if (a.mode == ComposeMode::kApe) return TemperatureOf(a) == TemperatureOf(b) && ScaleOf(a) == ScaleOf(b);
  return a.mode != ComposeMode::kRepair || (a.repair_fraction == b.repair_fraction &&
                                            a.repair_policy == b.repair_policy && ThresholdOf(a) == ThresholdOf(b));
}

std::string CompositionName(const ComposeOptions& compose) {
  std::string name(ComposeModeName(compose.mode));
  if (compose.mode == ComposeMode::kApe)
    return name + StrFormat(" temperature={} scale={}", TemperatureOf(compose), ScaleOf(compose));
  if (compose.mode != ComposeMode::kRepair) return name;
  name += StrFormat(" fraction={} policy={}", compose.repair_fraction, compose.repair_policy);
  return ThresholdOf(compose) > 0 ? name + StrFormat(" threshold={}", ThresholdOf(compose)) : name;
}

Result<Calibration> Calibration::Parse(std::string_view text, const std::string& where) {
  SW_ASSIGN_OR_RETURN(const json::value value, ParseJson(text, where));
  if (!value.is_object())
    return InvalidArgument(where + ": is " + std::string(JsonKindName(value)) + ", expected an object");
  Members members(value.get_object(), where);
  const int64_t version = members.Int("version", 1, std::numeric_limits<int64_t>::max());
  SW_RETURN_IF_ERROR(members.status());
  if (version != kVersion)
    return Unimplemented(StrFormat("{}: 'version' is {}, this engine reads {}", where, version, kVersion));
  Calibration calibration;
  calibration.model = members.String("model");
  SW_RETURN_IF_ERROR(members.status());

  auto defaults = GetObject(value.get_object(), "defaults");
  if (!defaults.ok()) return defaults.status().WithContext(where);
  if (*defaults) {
    Members of(**defaults, where + ": defaults");
    calibration.defaults = {.documents_temperature = of.MaybeNumber("documents_temperature", 0.01, 100),
                            .documents_scale = of.MaybeNumber("documents_scale", 0, 100),
                            .repair_threshold = of.MaybeNumber("repair_threshold", 0, kAnyDivergence)};
    SW_RETURN_IF_ERROR(of.status());
  }
  auto limits = GetObject(value.get_object(), "limits");
  auto modes = GetArray(value.get_object(), "modes");
  if (!limits.ok()) return limits.status().WithContext(where);
  if (!modes.ok()) return modes.status().WithContext(where);
  if (!*limits || !*modes)
    return InvalidArgument(StrFormat("{}: '{}' is missing", where, *limits ? "modes" : "limits"));
  Members limit(**limits, where + ": limits");
  calibration.limits = {.kl = limit.Number("kl", 0, kAnyDivergence),
                        .accuracy_loss = limit.Number("accuracy_loss", 0, 1)};
  SW_RETURN_IF_ERROR(limit.status());
  if ((*modes)->size() > kMaxModes)
    return InvalidArgument(
        StrFormat("{}: 'modes' has {} entries, at most {} are read", where, (*modes)->size(), kMaxModes));
  for (size_t i = 0; i < (*modes)->size(); ++i) {
    SW_ASSIGN_OR_RETURN(CalibratedMode mode, ParseMode((**modes)[i], StrFormat("{}: modes[{}]", where, i)));
    for (const CalibratedMode& before : calibration.modes)
      if (SameComposition(before.compose, mode.compose))
        return InvalidArgument(
            StrFormat("{}: modes[{}]: {} is there twice", where, i, Quoted(CompositionName(mode.compose))));
    calibration.modes.push_back(std::move(mode));
  }
  return calibration;
}

std::string Calibration::ToJson() const {
  // One mode a line, so that a change reads well.
  std::string out =
      StrFormat("{{\n  \"version\": {},\n  \"model\": {},\n", kVersion, json::serialize(json::value(model)));
  std::string open;
  for (const auto& [name, value] : {std::pair{"documents_temperature", defaults.documents_temperature},
                                    {"documents_scale", defaults.documents_scale},
                                    {"repair_threshold", defaults.repair_threshold}})
    if (value) open += StrFormat("{}\"{}\": {}", open.empty() ? "" : ", ", name, Figure(*value));
  if (!open.empty()) out += StrFormat("  \"defaults\": {{{}}},\n", open);
  out += StrFormat("  \"limits\": {{\"kl\": {}, \"accuracy_loss\": {}}},\n  \"modes\": [", Figure(limits.kl),
                   Figure(limits.accuracy_loss));
  for (size_t i = 0; i < modes.size(); ++i) {
    const CalibratedMode& m = modes[i];
    out += StrFormat("{}\n    {{\"mode\": \"{}\"", i ? "," : "", ComposeModeName(m.compose.mode));
    if (m.compose.mode == ComposeMode::kRepair)
      out += StrFormat(", \"repair_fraction\": {}, \"repair_policy\": {}", Figure(m.compose.repair_fraction),
                       json::serialize(json::value(m.compose.repair_policy)));
    if (m.compose.mode == ComposeMode::kRepair && ThresholdOf(m.compose) > 0)
      out += StrFormat(", \"repair_threshold\": {}", Figure(ThresholdOf(m.compose)));
    if (m.compose.mode == ComposeMode::kApe)
      out += StrFormat(", \"documents_temperature\": {}, \"documents_scale\": {}", Figure(TemperatureOf(m.compose)),
                       Figure(ScaleOf(m.compose)));
    out += StrFormat(", \"n\": {}", m.n);
    for (const auto& [name, number] : {std::pair{"kl", m.kl},
                                       {"agreement", m.agreement},
                                       {"accuracy", m.accuracy},
                                       {"exact_accuracy", m.exact_accuracy}})
      out += StrFormat(", \"{}\": {}", name, Figure(number));
    out += "}";
  }
  return out + "\n  ]\n}\n";
}

ComposeOptions Calibration::Resolve(ComposeOptions compose) const {
  if (!compose.documents_temperature) compose.documents_temperature = defaults.documents_temperature;
  if (!compose.documents_scale) compose.documents_scale = defaults.documents_scale;
  if (!compose.repair_threshold) compose.repair_threshold = defaults.repair_threshold;
  return compose;
}

bool Calibration::Passes(const CalibratedMode& mode) const {
  return mode.kl <= limits.kl && mode.exact_accuracy - mode.accuracy <= limits.accuracy_loss;
}

Result<bool> Calibration::Check(const ComposeOptions& compose) const {
  const auto mode =
      std::ranges::find_if(modes, [&](const CalibratedMode& m) { return SameComposition(m.compose, compose); });
  if (mode == modes.end()) return false;
  if (Passes(*mode)) return true;
  return InvalidArgument(StrFormat(
      "compose mode '{}' is outside this model's calibration: mean KL to the flat prompt {:.4f} nats (at most "
      "{}), {} of the answers right against {} (at most {} fewer), over {} prompts; use exact, or force it",
      CompositionName(compose), mode->kl, limits.kl, Percent(mode->accuracy), Percent(mode->exact_accuracy),
      Percent(limits.accuracy_loss), mode->n));
}

std::string CalibrationPath(const std::string& model) {
  std::error_code ignored;
  constexpr std::string_view kSuffix = ".gguf";
  if (model.ends_with(kSuffix) && IsGgufPath(model))
    return model.substr(0, model.size() - kSuffix.size()) + ".spanwise.json";
  return std::filesystem::is_regular_file(model, ignored) ? model + ".spanwise.json" : model + "/spanwise.json";
}

Result<Calibration> LoadCalibration(const std::string& model, const std::string& digest, std::string* note) {
  const std::string path = CalibrationPath(model);
  if (!FileExists(path)) return Calibration();
  SW_ASSIGN_OR_RETURN(const std::string text, ReadModelText(path, kMaxBytes));
  SW_ASSIGN_OR_RETURN(Calibration calibration, Calibration::Parse(text, path));
  if (calibration.model == digest) return calibration;
  *note = path +
          ": was measured with other weights, another tokenizer or another --dtype, and is not used; "
          "'spanwise calibrate' measures again";
  return Calibration();
}

}  // namespace spanwise
