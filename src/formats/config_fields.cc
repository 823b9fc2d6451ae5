#include "formats/config_fields.h"

#include <cmath>

#include "base/str.h"

namespace spanwise {

Status OutOfRange(std::string_view key, const std::string& found, const std::string& expected) {
  return InvalidArgument(StrFormat("'{}' is {}, expected {}", key, found, expected));
}

Result<std::optional<int64_t>> OptionalInt(const json::object& object, std::string_view key, int64_t low,
                                           int64_t high) {
  const json::value* value = object.if_contains(key);
  const std::string range = StrFormat("an integer from {} to {}", low, high);
  if (value && value->is_uint64()) return OutOfRange(key, StrFormat("{}", value->get_uint64()), range);
  SW_ASSIGN_OR_RETURN(const auto number, GetInt(object, key));
  if (number && (*number < low || *number > high)) return OutOfRange(key, StrFormat("{}", *number), range);
  return number;
}

Result<int> RequiredInt(const json::object& object, std::string_view key, int64_t high) {
  SW_ASSIGN_OR_RETURN(const auto number, OptionalInt(object, key, 1, high));
  if (!number) return InvalidArgument(StrFormat("'{}' is missing, expected an integer from 1 to {}", key, high));
  return static_cast<int>(*number);
}

Result<std::optional<double>> OptionalNumber(const json::object& object, std::string_view key, double low,
                                             double high) {
  SW_ASSIGN_OR_RETURN(const auto number, GetNumber(object, key));
  if (number && !(*number >= low && *number <= high))
    return OutOfRange(key, StrFormat("{}", *number), StrFormat("a number from {} to {}", low, high));
  return number;
}

Result<float> NumberOr(const json::object& object, std::string_view key, double low, double high, double fallback) {
  SW_ASSIGN_OR_RETURN(const auto number, OptionalNumber(object, key, low, high));
  return static_cast<float>(number.value_or(fallback));
}

Result<bool> BoolOr(const json::object& object, std::string_view key, bool fallback) {
  SW_ASSIGN_OR_RETURN(const auto flag, GetBool(object, key));
  return flag.value_or(fallback);
}

namespace {

constexpr double kLowTheta = 1.0 + 1e-6, kHighTheta = 1e12;  // yarn divides by log(theta)

Status ParseYarn(const json::object& scaling, RopeConfig* rope) {
  SW_ASSIGN_OR_RETURN(const auto fast, OptionalNumber(scaling, "beta_fast", 0, 1e6));
  SW_ASSIGN_OR_RETURN(const auto slow, OptionalNumber(scaling, "beta_slow", 0, 1e6));
  if (fast && *fast != 0) rope->beta_fast = *fast;  // transformers reads 0 as unset
  if (slow && *slow != 0) rope->beta_slow = *slow;
  if (rope->beta_fast < rope->beta_slow)
    return InvalidArgument(
        StrFormat("'beta_fast' is {}, expected at least 'beta_slow', which is {}", rope->beta_fast, rope->beta_slow));
  SW_ASSIGN_OR_RETURN(rope->attention_factor, OptionalNumber(scaling, "attention_factor", 1e-6, 1e6));
  SW_ASSIGN_OR_RETURN(rope->mscale, OptionalNumber(scaling, "mscale", 0, 1e6));
  SW_ASSIGN_OR_RETURN(rope->mscale_all_dim, OptionalNumber(scaling, "mscale_all_dim", 0, 1e6));
  SW_ASSIGN_OR_RETURN(rope->truncate, BoolOr(scaling, "truncate", true));
  return Status::Ok();
}

Status ParseLlama3(const json::object& scaling, RopeConfig* rope) {
  for (const auto& [key, target] :
       {std::pair{"low_freq_factor", &rope->low_freq_factor}, std::pair{"high_freq_factor", &rope->high_freq_factor}}) {
    SW_ASSIGN_OR_RETURN(const auto number, OptionalNumber(scaling, key, 1e-6, 1e6));
    if (!number) return InvalidArgument(StrFormat("'{}' is missing, expected a number", key));
    *target = *number;
  }
  if (rope->low_freq_factor < rope->high_freq_factor) return Status::Ok();
  return InvalidArgument(StrFormat("'low_freq_factor' is {}, expected less than 'high_freq_factor', which is {}",
                                   rope->low_freq_factor, rope->high_freq_factor));
}

// Frequencies divided one by one, by factors that differ for prompts up to the original length and beyond it. Keys that
// are kept must not depend on what comes later, so the model is used up to that length only.
Status ParseLongRope(const json::object& scaling, int max_positions, RopeConfig* rope) {
  SW_ASSIGN_OR_RETURN(const json::array* const factors, GetArray(scaling, "short_factor"));
  if (!factors) return InvalidArgument("'short_factor' is missing, expected a list of numbers");
  if (static_cast<int64_t>(factors->size()) > kMaxDim)
    return OutOfRange("short_factor", StrFormat("a list of {}", factors->size()), "one number a rotated pair");
  for (const json::value& value : *factors) {
    const double factor = value.is_number() ? value.to_number<double>() : 0;
    if (!(factor >= 1e-6 && factor <= 1e6))
      return OutOfRange("short_factor", Quoted(json::serialize(value), 40), "numbers from 1e-6 to 1e6");
    rope->divisors.push_back(factor);
  }
  SW_ASSIGN_OR_RETURN(rope->attention_factor, OptionalNumber(scaling, "attention_factor", 1e-6, 1e6));
  const double stretch = static_cast<double>(max_positions) / rope->original_max_positions;
  if (!rope->attention_factor && stretch > 1)
    rope->attention_factor = std::sqrt(1 + std::log(stretch) / std::log(std::max(2, rope->original_max_positions)));
  return Status::Ok();
}

}  // namespace

Status ReadRotation(const json::object& parameters, int max_positions, RopeConfig* rope) {
  for (const auto& item : parameters)
    if (item.value().is_object())
      return Unimplemented(StrFormat("member {} is an object: rotations that differ by layer type are not done here",
                                     Quoted(item.key())));
  SW_ASSIGN_OR_RETURN(const auto theta, OptionalNumber(parameters, "rope_theta", kLowTheta, kHighTheta));
  if (theta) rope->theta = *theta;
  SW_ASSIGN_OR_RETURN(auto type, GetString(parameters, "rope_type"));
  if (!type) {
    SW_ASSIGN_OR_RETURN(type, GetString(parameters, "type"));
  }
  using Scaling = RopeConfig::Scaling;
  const std::string name = type.value_or("default");
  if (name == "default") return Status::Ok();
  rope->scaling = name == "linear"                     ? Scaling::kLinear
                  : name == "llama3"                   ? Scaling::kLlama3
                  : name == "yarn"                     ? Scaling::kYarn
                  : name == "longrope" || name == "su" ? Scaling::kDivided
                                                       : Scaling::kNone;
  if (rope->scaling == Scaling::kNone)
    return Unimplemented(
        StrFormat("'rope_type' is {}, expected default, linear, llama3, yarn or longrope", Quoted(name)));

  SW_ASSIGN_OR_RETURN(const auto factor, OptionalNumber(parameters, "factor", 1.0, 1e6));
  SW_ASSIGN_OR_RETURN(const auto original,
                      OptionalInt(parameters, "original_max_position_embeddings", 1, kMaxPositions));
  if (rope->scaling != Scaling::kLinear)
    rope->original_max_positions = static_cast<int>(
        original.value_or(rope->original_max_positions > 0 ? rope->original_max_positions : max_positions));
  if (rope->scaling == Scaling::kDivided) return ParseLongRope(parameters, max_positions, rope);
  const bool yarn = rope->scaling == Scaling::kYarn;
  if (!factor && !(yarn && original)) return InvalidArgument("'factor' is missing, expected a number of at least 1");
  rope->factor = factor ? *factor : static_cast<double>(max_positions) / static_cast<double>(*original);
  if (yarn) return ParseYarn(parameters, rope);
  if (rope->scaling == Scaling::kLlama3) return ParseLlama3(parameters, rope);
  return Status::Ok();
}

namespace {

// The share of a head's dimensions that turn.
Status ReadRotaryDim(const json::object& root, const FamilyDefaults& defaults, const json::object* parameters,
                     ModelConfig* config) {
  config->rotary_dim = config->head_dim;
  for (const json::object* place : {&root, parameters}) {
    if (!place) continue;
    SW_ASSIGN_OR_RETURN(const auto share, OptionalNumber(*place, "partial_rotary_factor", 1e-6, 1.0));
    if (!share || *share == 1.0) continue;
    if (!defaults.partial_rotary)
      return Unimplemented(StrFormat("'partial_rotary_factor' is {}, only 1 is done for this model_type", *share));
    config->rotary_dim = static_cast<int>(config->head_dim * *share);
  }
  if (config->rotary_dim > 0 && config->rotary_dim % 2 == 0) return Status::Ok();
  return InvalidArgument(
      StrFormat("'partial_rotary_factor' leaves {} dimensions, expected an even number", config->rotary_dim));
}

Status ReadRope(const json::object& root, const FamilyDefaults& defaults, ModelConfig* config) {
  RopeConfig rope{.theta = defaults.rope_theta};
  SW_ASSIGN_OR_RETURN(const auto theta, OptionalNumber(root, "rope_theta", kLowTheta, kHighTheta));
  if (theta) rope.theta = *theta;
  SW_ASSIGN_OR_RETURN(const auto original,
                      OptionalInt(root, "original_max_position_embeddings", 1, kMaxPositions));  // Phi-3's place
  rope.original_max_positions = static_cast<int>(original.value_or(0));
  const json::object* parameters = nullptr;
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    SW_ASSIGN_OR_RETURN(const json::object* const found, GetObject(root, key));
    if (!found || found->empty()) continue;
    SW_RETURN_IF_ERROR(ReadRotation(*found, config->max_positions, &rope).WithContext(StrFormat("'{}'", key)));
    parameters = found;
    break;
  }
  SW_RETURN_IF_ERROR(ReadRotaryDim(root, defaults, parameters, config));
  if (rope.scaling == RopeConfig::Scaling::kDivided) {
    if (rope.divisors.size() != static_cast<size_t>(config->rotary_dim / 2))
      return InvalidArgument(StrFormat("'short_factor' has {} members, expected {}, one a rotated pair",
                                       rope.divisors.size(), config->rotary_dim / 2));
    if (rope.original_max_positions < config->max_positions) {
      config->note = StrFormat("longrope: used up to {} of {} positions, where its factors stay the same",
                               rope.original_max_positions, config->max_positions);
      config->max_positions = rope.original_max_positions;
    }
  }
  config->ropes = {std::move(rope)};
  config->layer_ropes.assign(static_cast<size_t>(config->n_layers), 0);
  return Status::Ok();
}

Status ParseShape(const json::object& root, const FamilyDefaults& defaults, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(config->n_layers, RequiredInt(root, "num_hidden_layers", kMaxLayers));
  SW_ASSIGN_OR_RETURN(config->hidden_dim, RequiredInt(root, "hidden_size", kMaxDim));
  SW_ASSIGN_OR_RETURN(config->ffn_dim, RequiredInt(root, "intermediate_size", kMaxDim));
  SW_ASSIGN_OR_RETURN(config->n_heads, RequiredInt(root, "num_attention_heads", kMaxDim));
  SW_ASSIGN_OR_RETURN(config->vocab_size, RequiredInt(root, "vocab_size", kMaxVocab));
  SW_ASSIGN_OR_RETURN(config->max_positions, RequiredInt(root, "max_position_embeddings", kMaxPositions));

  SW_ASSIGN_OR_RETURN(const auto kv_heads, OptionalInt(root, "num_key_value_heads", 1, kMaxDim));
  const bool stated = root.contains("num_key_value_heads");  // an explicit null means as many as query heads
  config->n_kv_heads =
      static_cast<int>(kv_heads.value_or(!stated && defaults.kv_heads ? defaults.kv_heads : int64_t{config->n_heads}));
  if (config->n_kv_heads > config->n_heads || config->n_heads % config->n_kv_heads != 0)
    return InvalidArgument(
        StrFormat("'num_key_value_heads' is {}, expected a divisor of 'num_attention_heads', which is {}",
                  config->n_kv_heads, config->n_heads));

  SW_ASSIGN_OR_RETURN(const auto head_dim, OptionalInt(root, "head_dim", 1, kMaxDim));
  if (head_dim) {
    config->head_dim = static_cast<int>(*head_dim);
  } else if (defaults.head_dim) {
    config->head_dim = static_cast<int>(defaults.head_dim);
  } else if (config->hidden_dim % config->n_heads == 0) {
    config->head_dim = config->hidden_dim / config->n_heads;
  } else {
    return InvalidArgument(StrFormat("'hidden_size' is {}, expected a multiple of 'num_attention_heads', which is {}",
                                     config->hidden_dim, config->n_heads));
  }
  if (config->head_dim % 2 != 0)
    return InvalidArgument(
        StrFormat("'head_dim' is {}, expected an even number (it is rotated in pairs)", config->head_dim));
  if (const int64_t width = int64_t{config->n_heads} * config->head_dim; width > kMaxDim)
    return InvalidArgument(StrFormat("'num_attention_heads' x 'head_dim' is {}, expected at most {}", width, kMaxDim));
  return Status::Ok();
}

Status ReadActivation(const json::object& root, const FamilyDefaults& defaults, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const auto stated, GetString(root, defaults.activation_key));
  const std::string name = stated.value_or(std::string(defaults.activation));
  if (name == "silu" || name == "swish") {
    config->activation = Activation::kSilu;
  } else if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    config->activation = Activation::kGeluTanh;
  } else {
    return Unimplemented(
        StrFormat("'{}' is {}, expected \"silu\" or \"gelu_pytorch_tanh\"", defaults.activation_key, Quoted(name)));
  }
  return Status::Ok();
}

}  // namespace

Status ReadDecoder(const json::object& root, const FamilyDefaults& defaults, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ParseShape(root, defaults, config));
  SW_RETURN_IF_ERROR(ReadActivation(root, defaults, config));
  SW_RETURN_IF_ERROR(ReadRope(root, defaults, config));
  SW_ASSIGN_OR_RETURN(config->norm_eps, NumberOr(root, "rms_norm_eps", 1e-20, 1.0, 1e-6));
  SW_ASSIGN_OR_RETURN(config->tie_embeddings, BoolOr(root, "tie_word_embeddings", defaults.tie_embeddings));
  config->attention_scale = 1.0f / std::sqrt(static_cast<float>(config->head_dim));
  config->windows.assign(static_cast<size_t>(config->n_layers), 0);
  config->layer_experts.assign(static_cast<size_t>(config->n_layers), false);
  return Status::Ok();
}

Status ReadWindows(const json::object& root, int64_t window, const std::function<bool(int)>& slides,
                   ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const json::array* const types, GetArray(root, "layer_types"));
  if (types && types->size() != config->windows.size())
    return InvalidArgument(StrFormat("'layer_types' has {} members, expected {} (num_hidden_layers)", types->size(),
                                     config->windows.size()));
  for (size_t i = 0; i < config->windows.size(); ++i) {
    bool sliding = window > 0 && slides(static_cast<int>(i));
    if (types) {
      const json::value& type = (*types)[i];
      const std::string_view name = type.is_string() ? std::string_view(type.get_string()) : JsonKindName(type);
      if (name != "sliding_attention" && name != "full_attention")
        return Unimplemented(StrFormat(
            "'layer_types' member {} is {}, expected \"full_attention\" or \"sliding_attention\"", i, Quoted(name)));
      sliding = name == "sliding_attention";
      if (sliding && window == 0)
        return InvalidArgument(
            StrFormat("'layer_types' member {} is sliding_attention, but no 'sliding_window' is in use", i));
    }
    config->windows[i] = sliding ? static_cast<int>(window) : 0;
  }
  return Status::Ok();
}

}  // namespace spanwise
