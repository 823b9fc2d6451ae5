#include "formats/model_config.h"

#include <algorithm>

#include "base/json.h"
#include "base/str.h"
#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {
namespace {

struct Family {
  std::string_view model_type;
  Status (*read)(const json::object& root, ModelConfig* config);
};

constexpr Family kFamilies[] = {
    {"gemma2", ReadGemma2},   {"gemma3", ReadGemma3}, {"gemma3_text", ReadGemma3Text},
    {"granite", ReadGranite}, {"llama", ReadLlama},   {"mistral", ReadMistral},
    {"mixtral", ReadMixtral}, {"olmo2", ReadOlmo2},   {"phi3", ReadPhi3},
    {"qwen2", ReadQwen2},     {"qwen3", ReadQwen3},   {"qwen3_moe", ReadQwen3Moe},
    {"smollm3", ReadSmolLm3},
};

std::string FamilyNames() {
  std::string names;
  for (const Family& family : kFamilies) names += StrFormat("{}{}", names.empty() ? "" : ", ", family.model_type);
  return names;
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

// Files of one model often name different ends, each of which ends a text: none replaces another.
Status AddEnds(const json::object& root, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const std::vector<int> ids, ParseIds(root, "eos_token_id"));
  for (const int id : ids)
    if (std::ranges::find(config->eos_ids, id) == config->eos_ids.end()) config->eos_ids.push_back(id);
  return Status::Ok();
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

Result<ModelConfig> ParseConfig(const json::object& root) {
  ModelConfig config;
  SW_ASSIGN_OR_RETURN(const auto model_type, GetString(root, "model_type"));
  if (!model_type) return InvalidArgument(StrFormat("'model_type' is missing, expected one of {}", FamilyNames()));
  config.model_type = *model_type;
  const Family* family = nullptr;
  for (const Family& known : kFamilies)
    if (known.model_type == *model_type) family = &known;
  if (!family)
    return Unimplemented(StrFormat("'model_type' is {}, expected one of {}", Quoted(*model_type), FamilyNames()));
  SW_RETURN_IF_ERROR(family->read(root, &config));
  SW_RETURN_IF_ERROR(AddEnds(root, &config));
  SW_ASSIGN_OR_RETURN(const json::object* const inner, GetObject(root, "text_config"));
  if (inner) SW_RETURN_IF_ERROR(AddEnds(*inner, &config).WithContext("'text_config'"));
  SW_ASSIGN_OR_RETURN(const auto bos, OptionalInt(root, "bos_token_id", 0, kMaxVocab - 1));
  if (bos) config.bos_id = static_cast<int>(*bos);
  config.stored_dtype = StoredDType(root);
  return config;
}

Result<json::value> ParseObject(std::string_view text, std::string_view where) {
  SW_ASSIGN_OR_RETURN(json::value value, ParsePythonJson(text, where));
  if (!value.is_object())
    return InvalidArgument(StrFormat("{}: holds {}, expected an object", where, JsonKindName(value)));
  return value;
}

}  // namespace

Result<ModelConfig> ParseModelConfig(std::string_view config_json, std::string_view where) {
  SW_ASSIGN_OR_RETURN(const json::value root, ParseObject(config_json, where));
  auto config = ParseConfig(root.get_object());
  if (!config.ok()) return config.status().WithContext(where);
  return config;
}

std::optional<float> RecommendedNumber(const Result<std::optional<double>>& value, std::string_view where,
                                       std::vector<std::string>* warnings) {
  if (!value.ok()) {
    warnings->push_back(StrFormat("{}: {}; it is ignored", where, value.status().message()));
    return std::nullopt;
  }
  return value->has_value() ? std::optional(static_cast<float>(**value)) : std::nullopt;
}

Status AddGenerationConfig(std::string_view text, std::string_view where, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const json::value value, ParseObject(text, where));
  const json::object& root = value.get_object();
  SW_RETURN_IF_ERROR(AddEnds(root, config).WithContext(where));
  const auto read = [&](std::string_view key, double low, double high) {
    return RecommendedNumber(OptionalNumber(root, key, low, high), where, &config->warnings);
  };
  SamplingDefaults& sampling = config->sampling;
  sampling.temperature = read("temperature", 0, 100);
  sampling.top_p = read("top_p", 0, 1);
  sampling.min_p = read("min_p", 0, 1);
  sampling.repetition_penalty = read("repetition_penalty", 0.01, 100);
  if (const auto top_k = read("top_k", -1, kMaxVocab)) sampling.top_k = std::max(0, static_cast<int>(*top_k));
  const auto sample = GetBool(root, "do_sample");
  if (!sample.ok()) config->warnings.push_back(StrFormat("{}: {}; it is ignored", where, sample.status().message()));
  if (sample.ok() && *sample == false) sampling.temperature = 0.0f;
  return Status::Ok();
}

}  // namespace spanwise
