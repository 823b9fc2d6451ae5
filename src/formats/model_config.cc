#include "formats/model_config.h"

#include <cmath>

#include "base/json.h"
#include "base/str.h"

namespace spanwise {
namespace {

constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxDim = int64_t{1} << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxPositions = int64_t{1} << 30;

// What transformers' configuration class of each family assumes when config.json is silent.
struct Family {
  std::string_view model_type;
  int64_t kv_heads;  // 0: as many as query heads
  int64_t head_dim;  // 0: hidden_size / num_attention_heads
  bool has_window;
  bool window_is_opt_in;  // use_sliding_window must be true
};

constexpr Family kFamilies[] = {
    {"llama", 0, 0, false, false},
    {"mistral", 8, 0, true, false},
    {"qwen2", 32, 0, true, true},
    {"qwen3", 32, 128, true, true},
};

Status OutOfRange(std::string_view key, const std::string& found, const std::string& expected) {
  return InvalidArgument(StrFormat("'{}' is {}, expected {}", key, found, expected));
}

// The integer member `key` within [low, high]; nullopt when absent or null.
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

Result<bool> BoolOr(const json::object& object, std::string_view key, bool fallback) {
  SW_ASSIGN_OR_RETURN(const auto flag, GetBool(object, key));
  return flag.value_or(fallback);
}

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

// `scaling` is rope_scaling or rope_parameters: the members that say how positions are stretched.
Status ParseScaling(const json::object& scaling, int max_positions, RopeConfig* rope) {
  for (const auto& item : scaling)
    if (item.value().is_object())
      return Unimplemented(
          StrFormat("member {} is an object: rotations that differ by layer type are not done", Quoted(item.key())));
  SW_ASSIGN_OR_RETURN(const auto partial, GetNumber(scaling, "partial_rotary_factor"));
  if (partial && *partial != 1.0)
    return Unimplemented(StrFormat("'partial_rotary_factor' is {}, only 1 is done", *partial));
  SW_ASSIGN_OR_RETURN(auto type, GetString(scaling, "rope_type"));
  if (!type) {
    SW_ASSIGN_OR_RETURN(type, GetString(scaling, "type"));
  }
  const std::string name = type.value_or("default");
  if (name == "default") return Status::Ok();
  if (name == "linear") {
    rope->scaling = RopeConfig::Scaling::kLinear;
  } else if (name == "llama3") {
    rope->scaling = RopeConfig::Scaling::kLlama3;
  } else if (name == "yarn") {
    rope->scaling = RopeConfig::Scaling::kYarn;
  } else {
    return Unimplemented(StrFormat("'rope_type' is {}, expected default, linear, llama3 or yarn", Quoted(name)));
  }

  SW_ASSIGN_OR_RETURN(const auto factor, OptionalNumber(scaling, "factor", 1.0, 1e6));
  SW_ASSIGN_OR_RETURN(const auto original, OptionalInt(scaling, "original_max_position_embeddings", 1, kMaxPositions));
  const bool yarn = rope->scaling == RopeConfig::Scaling::kYarn;
  if (!factor && !(yarn && original)) return InvalidArgument("'factor' is missing, expected a number of at least 1");
  if (rope->scaling != RopeConfig::Scaling::kLinear)
    rope->original_max_positions = static_cast<int>(original.value_or(max_positions));
  rope->factor = factor ? *factor : static_cast<double>(max_positions) / static_cast<double>(*original);
  if (yarn) return ParseYarn(scaling, rope);
  if (rope->scaling == RopeConfig::Scaling::kLlama3) return ParseLlama3(scaling, rope);
  return Status::Ok();
}

Status ParseRope(const json::object& root, int max_positions, RopeConfig* rope) {
  SW_ASSIGN_OR_RETURN(const auto partial, GetNumber(root, "partial_rotary_factor"));
  if (partial && *partial != 1.0)
    return Unimplemented(StrFormat("'partial_rotary_factor' is {}, only 1 is done", *partial));
  constexpr double kLowTheta = 1.0 + 1e-6, kHighTheta = 1e12;  // yarn divides by log(theta)
  SW_ASSIGN_OR_RETURN(auto theta, OptionalNumber(root, "rope_theta", kLowTheta, kHighTheta));
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    SW_ASSIGN_OR_RETURN(const json::object* const scaling, GetObject(root, key));
    if (!scaling || scaling->empty()) continue;
    SW_RETURN_IF_ERROR(ParseScaling(*scaling, max_positions, rope).WithContext(StrFormat("'{}'", key)));
    auto inner = OptionalNumber(*scaling, "rope_theta", kLowTheta, kHighTheta);
    if (!inner.ok()) return inner.status().WithContext(StrFormat("'{}'", key));
    if (*inner) theta = *inner;
    break;
  }
  rope->theta = theta.value_or(10000.0);
  return Status::Ok();
}

Status ParseWindows(const json::object& root, const Family& family, ModelConfig* config) {
  config->windows.assign(static_cast<size_t>(config->n_layers), 0);
  if (!family.has_window) return Status::Ok();
  SW_ASSIGN_OR_RETURN(const auto stated, OptionalInt(root, "sliding_window", 1, kMaxPositions));
  int64_t window = stated.value_or(root.contains("sliding_window") ? 0 : 4096);  // an explicit null means none
  if (family.window_is_opt_in) {
    SW_ASSIGN_OR_RETURN(const bool wanted, BoolOr(root, "use_sliding_window", false));
    if (!wanted) window = 0;
  }
  SW_ASSIGN_OR_RETURN(const json::array* const types, GetArray(root, "layer_types"));
  SW_ASSIGN_OR_RETURN(const auto first, OptionalInt(root, "max_window_layers", 0, kMaxPositions));
  if (types && types->size() != config->windows.size())
    return InvalidArgument(StrFormat("'layer_types' has {} members, expected {} (num_hidden_layers)", types->size(),
                                     config->windows.size()));
  for (size_t i = 0; i < config->windows.size(); ++i) {
    bool slides = !family.window_is_opt_in || i >= static_cast<size_t>(first.value_or(28));
    if (types) {
      const json::value& type = (*types)[i];
      const std::string_view name = type.is_string() ? std::string_view(type.get_string()) : JsonKindName(type);
      if (name != "sliding_attention" && name != "full_attention")
        return Unimplemented(StrFormat(
            "'layer_types' member {} is {}, expected \"full_attention\" or \"sliding_attention\"", i, Quoted(name)));
      slides = name == "sliding_attention";
      if (slides && !window)
        return InvalidArgument(
            StrFormat("'layer_types' member {} is sliding_attention, but no 'sliding_window' is in use", i));
      if (!family.window_is_opt_in && window && !slides)
        return Unimplemented(
            StrFormat("'layer_types' member {} is full_attention: model_type {} with windows in some layers "
                      "only is not done",
                      i, family.model_type));
    }
    if (slides) config->windows[i] = static_cast<int>(window);
  }
  return Status::Ok();
}

// A token id or a list of them; absent and null give none.
Result<std::vector<int>> ParseIds(const json::object& root, std::string_view key) {
  std::vector<int> ids;
  const json::value* value = root.if_contains(key);
  if (!value || value->is_null()) return ids;
  const auto add = [&](const json::value& id) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= kMaxVocab) return false;
    ids.push_back(static_cast<int>(id.get_int64()));
    return true;
  };
  bool good = true;
  if (value->is_array()) {
    if (value->get_array().size() > 1024)
      return OutOfRange(key, StrFormat("a list of {}", value->get_array().size()), "at most 1024 token ids");
    for (const json::value& id : value->get_array()) good = good && add(id);
  } else {
    good = add(*value);
  }
  if (good) return ids;
  return OutOfRange(key, Quoted(json::serialize(*value), 40),
                    StrFormat("a token id or a list of them, each from 0 to {}", kMaxVocab - 1));
}

std::optional<DType> StoredDType(const json::object& root) {
  for (const std::string_view key : {"dtype", "torch_dtype"}) {
    const json::value* value = root.if_contains(key);
    if (!value || !value->is_string()) continue;
    const std::string_view name = value->get_string();
    if (name == "float32") return DType::kF32;
    if (name == "bfloat16") return DType::kBf16;
    if (name == "float16") return DType::kF16;
  }
  return std::nullopt;
}

Status ParseShape(const json::object& root, const Family& family, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(config->n_layers, RequiredInt(root, "num_hidden_layers", kMaxLayers));
  SW_ASSIGN_OR_RETURN(config->hidden_dim, RequiredInt(root, "hidden_size", kMaxDim));
  SW_ASSIGN_OR_RETURN(config->ffn_dim, RequiredInt(root, "intermediate_size", kMaxDim));
  SW_ASSIGN_OR_RETURN(config->n_heads, RequiredInt(root, "num_attention_heads", kMaxDim));
  SW_ASSIGN_OR_RETURN(config->vocab_size, RequiredInt(root, "vocab_size", kMaxVocab));
  SW_ASSIGN_OR_RETURN(config->max_positions, RequiredInt(root, "max_position_embeddings", kMaxPositions));

  SW_ASSIGN_OR_RETURN(const auto kv_heads, OptionalInt(root, "num_key_value_heads", 1, kMaxDim));
  const bool stated = root.contains("num_key_value_heads");  // an explicit null means as many as query heads
  config->n_kv_heads =
      static_cast<int>(kv_heads.value_or(!stated && family.kv_heads ? family.kv_heads : int64_t{config->n_heads}));
  if (config->n_kv_heads > config->n_heads || config->n_heads % config->n_kv_heads != 0)
    return InvalidArgument(
        StrFormat("'num_key_value_heads' is {}, expected a divisor of 'num_attention_heads', which is {}",
                  config->n_kv_heads, config->n_heads));

  SW_ASSIGN_OR_RETURN(const auto head_dim, OptionalInt(root, "head_dim", 1, kMaxDim));
  if (head_dim) {
    config->head_dim = static_cast<int>(*head_dim);
  } else if (family.head_dim) {
    config->head_dim = static_cast<int>(family.head_dim);
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

Status ParseBiases(const json::object& root, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const bool attention_bias, BoolOr(root, "attention_bias", false));
  SW_ASSIGN_OR_RETURN(const bool mlp_bias, BoolOr(root, "mlp_bias", false));
  config->qk_norm = config->model_type == "qwen3";
  if (config->model_type == "qwen2") config->qkv_bias = true;
  if (config->model_type == "llama" || config->model_type == "qwen3")
    config->qkv_bias = config->output_bias = attention_bias;
  if (config->model_type == "llama") config->mlp_bias = mlp_bias;
  return Status::Ok();
}

Result<ModelConfig> ParseConfig(const json::object& root) {
  ModelConfig config;
  SW_ASSIGN_OR_RETURN(const auto model_type, GetString(root, "model_type"));
  if (!model_type) return InvalidArgument("'model_type' is missing, expected llama, mistral, qwen2 or qwen3");
  config.model_type = *model_type;
  const Family* family = nullptr;
  for (const Family& known : kFamilies)
    if (known.model_type == *model_type) family = &known;
  if (!family)
    return Unimplemented(StrFormat("'model_type' is {}, expected llama, mistral, qwen2 or qwen3", Quoted(*model_type)));
  SW_ASSIGN_OR_RETURN(const auto activation, GetString(root, "hidden_act"));
  if (activation && *activation != "silu" && *activation != "swish")
    return Unimplemented(StrFormat("'hidden_act' is {}, expected \"silu\"", Quoted(*activation)));
  SW_ASSIGN_OR_RETURN(const json::object* const quantised, GetObject(root, "quantization_config"));
  if (quantised) return Unimplemented("'quantization_config' is set, expected unquantised weights");

  SW_RETURN_IF_ERROR(ParseShape(root, *family, &config));
  SW_RETURN_IF_ERROR(ParseBiases(root, &config));
  SW_RETURN_IF_ERROR(ParseRope(root, config.max_positions, &config.rope));
  SW_RETURN_IF_ERROR(ParseWindows(root, *family, &config));
  SW_ASSIGN_OR_RETURN(const auto norm_eps, OptionalNumber(root, "rms_norm_eps", 1e-20, 1.0));
  config.norm_eps = static_cast<float>(norm_eps.value_or(1e-6));
  SW_ASSIGN_OR_RETURN(config.tie_embeddings, BoolOr(root, "tie_word_embeddings", false));
  SW_ASSIGN_OR_RETURN(config.eos_ids, ParseIds(root, "eos_token_id"));
  SW_ASSIGN_OR_RETURN(const auto bos, OptionalInt(root, "bos_token_id", 0, kMaxVocab - 1));
  if (bos) config.bos_id = static_cast<int>(*bos);
  config.stored_dtype = StoredDType(root);
  return config;
}

Result<json::value> ParseObject(std::string_view text, std::string_view what) {
  SW_ASSIGN_OR_RETURN(json::value value, ParseJson(text, what));
  if (!value.is_object())
    return InvalidArgument(StrFormat("{}: holds {}, expected an object", what, JsonKindName(value)));
  return value;
}

}  // namespace

Result<ModelConfig> ParseModelConfig(std::string_view config_json, std::string_view generation_config_json,
                                     std::string_view where) {
  SW_ASSIGN_OR_RETURN(const json::value root, ParseObject(config_json, where));
  auto config = ParseConfig(root.get_object());
  if (!config.ok()) return config.status().WithContext(where);
  if (!generation_config_json.empty()) {
    const std::string name = StrFormat("{}: generation_config.json", where);
    SW_ASSIGN_OR_RETURN(const json::value generation, ParseObject(generation_config_json, name));
    auto ids = ParseIds(generation.get_object(), "eos_token_id");
    if (!ids.ok()) return ids.status().WithContext(name);
    if (!ids->empty()) config->eos_ids = std::move(*ids);
  }
  return config;
}

}  // namespace spanwise
