// Reading config.json field by field: checked values, and the parts that families share.
//
// All functions return InvalidArgument for a field that is missing, of the wrong kind or out of range, and
// Unimplemented for a value this engine does not do; the message names field, value and expectation.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "formats/model_config.h"
#include "spanwise/status.h"

namespace spanwise {

inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxDim = int64_t{1} << 20;
inline constexpr int64_t kMaxVocab = int64_t{1} << 24;
inline constexpr int64_t kMaxPositions = int64_t{1} << 30;
inline constexpr int64_t kMaxExperts = 4096;

Status OutOfRange(std::string_view key, const std::string& found, const std::string& expected);

// The member `key` within [low, high]; nullopt when absent or null.
Result<std::optional<int64_t>> OptionalInt(const json::object& object, std::string_view key, int64_t low, int64_t high);
Result<std::optional<double>> OptionalNumber(const json::object& object, std::string_view key, double low, double high);

Result<int> RequiredInt(const json::object& object, std::string_view key, int64_t high);
Result<float> NumberOr(const json::object& object, std::string_view key, double low, double high, double fallback);
Result<bool> BoolOr(const json::object& object, std::string_view key, bool fallback);

// What transformers' configuration class of a family assumes when config.json is silent.
struct FamilyDefaults {
  int64_t kv_heads = 0;  // 0: as many as query heads
  int64_t head_dim = 0;  // 0: hidden_size / num_attention_heads
  bool tie_embeddings = false;
  double rope_theta = 10000.0;
  std::string_view activation_key = "hidden_act";
  std::string_view activation = "silu";
  bool partial_rotary = false;  // whether partial_rotary_factor means anything
};

// What every family has: shape, activation, norms, embeddings, one rotation for all layers, attention scale, no
// windows, no experts.
Status ReadDecoder(const json::object& root, const FamilyDefaults& defaults, ModelConfig* config);

// One rotation: theta and scaling from an object like rope_parameters, on top of what *rope holds.
Status ReadRotation(const json::object& parameters, int max_positions, RopeConfig* rope);

// Sets windows: `window` for the layers that slide by `layer_types`, or, when that is absent, by `slides(layer)`.
// window 0: no layer may slide.
Status ReadWindows(const json::object& root, int64_t window, const std::function<bool(int)>& slides,
                   ModelConfig* config);

}  // namespace spanwise
