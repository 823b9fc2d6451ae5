#include <cmath>

#include "base/str.h"
#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {
namespace {

// What Gemma 2 and 3 share: norms on both sides of each block with gains less 1, scaled embeddings, GELU.
Status ReadGemma(const json::object& root, double rope_theta, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root,
                                 {.kv_heads = 4,
                                  .head_dim = 256,
                                  .tie_embeddings = true,
                                  .rope_theta = rope_theta,
                                  .activation_key = "hidden_activation",
                                  .activation = "gelu_pytorch_tanh"},
                                 config));
  SW_ASSIGN_OR_RETURN(const bool attention_bias, BoolOr(root, "attention_bias", false));
  config->qkv_bias = config->output_bias = attention_bias;
  config->norm_adds_one = true;
  config->embedding_scale = std::sqrt(static_cast<float>(config->hidden_dim));
  SW_ASSIGN_OR_RETURN(const auto scalar, OptionalNumber(root, "query_pre_attn_scalar", 1e-6, 1e9));
  config->attention_scale = static_cast<float>(1 / std::sqrt(scalar.value_or(256)));
  SW_ASSIGN_OR_RETURN(const auto attention_cap, OptionalNumber(root, "attn_logit_softcapping", 1e-3, 1e6));
  SW_ASSIGN_OR_RETURN(const auto logit_cap, OptionalNumber(root, "final_logit_softcapping", 1e-3, 1e6));
  const bool capped =
      config->model_type == "gemma2";  // and absent members mean these caps there, an explicit null none
  const auto cap = [&](std::string_view key, std::optional<double> stated, double fallback) {
    return static_cast<float>(stated.value_or(capped && !root.contains(key) ? fallback : 0));
  };
  config->attention_softcap = cap("attn_logit_softcapping", attention_cap, 50);
  config->logit_softcap = cap("final_logit_softcapping", logit_cap, 30);
  config->names.attention_post_norm = "post_attention_layernorm";
  config->names.ffn_norm = "pre_feedforward_layernorm";
  config->names.ffn_post_norm = "post_feedforward_layernorm";
  return Status::Ok();
}

Result<int64_t> Window(const json::object& root) {
  SW_ASSIGN_OR_RETURN(const auto stated, OptionalInt(root, "sliding_window", 1, kMaxPositions));
  return stated.value_or(root.contains("sliding_window") ? 0 : 4096);
}

}  // namespace

Status ReadGemma2(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadGemma(root, 10000, config));
  SW_ASSIGN_OR_RETURN(const int64_t window, Window(root));
  return ReadWindows(
      root, window, [](int layer) { return layer % 2 == 0; }, config);
}

Status ReadGemma3Text(const json::object& root, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const bool bidirectional, BoolOr(root, "use_bidirectional_attention", false));
  if (bidirectional) return Unimplemented("'use_bidirectional_attention' is true, expected false");
  // Layers with a window turn at a base of their own, without scaling. Newer files give both in "rope_parameters".
  SW_ASSIGN_OR_RETURN(const json::object* const by_type, GetObject(root, "rope_parameters"));
  const json::object *full = nullptr, *sliding = nullptr;
  if (by_type) {
    SW_ASSIGN_OR_RETURN(full, GetObject(*by_type, "full_attention"));
    SW_ASSIGN_OR_RETURN(sliding, GetObject(*by_type, "sliding_attention"));
  }
  json::object flat;
  if (full || sliding) {
    flat = root;
    flat.erase("rope_parameters");
  }
  SW_RETURN_IF_ERROR(ReadGemma(full || sliding ? flat : root, 1e6, config));
  config->qk_norm = QkNorm::kHead;
  SW_ASSIGN_OR_RETURN(const int64_t window, Window(root));
  SW_ASSIGN_OR_RETURN(const auto pattern, OptionalInt(root, "sliding_window_pattern", 1, kMaxLayers));
  SW_RETURN_IF_ERROR(ReadWindows(
      root, window, [&](int layer) { return (layer + 1) % pattern.value_or(6) != 0; }, config));

  SW_ASSIGN_OR_RETURN(const auto local, OptionalNumber(root, "rope_local_base_freq", 1.0 + 1e-6, 1e12));
  RopeConfig local_rope{.theta = local.value_or(10000)};
  const auto read = [&](const json::object* from, std::string_view key, RopeConfig* rope) {
    return from ? ReadRotation(*from, config->max_positions, rope).WithContext(StrFormat("'{}'", key)) : Status::Ok();
  };
  SW_RETURN_IF_ERROR(read(full, "full_attention", config->ropes.data()));
  SW_RETURN_IF_ERROR(read(sliding, "sliding_attention", &local_rope));
  config->ropes.push_back(std::move(local_rope));
  for (size_t i = 0; i < config->windows.size(); ++i) config->layer_ropes[i] = config->windows[i] > 0 ? 1 : 0;
  return Status::Ok();
}

Status ReadGemma3(const json::object& root, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const json::object* const text, GetObject(root, "text_config"));
  if (!text) return InvalidArgument("'text_config' is missing, expected an object");
  SW_RETURN_IF_ERROR(ReadGemma3Text(*text, config).WithContext("'text_config'"));
  config->tensor_prefix = "language_model.";
  config->note = "pictures are not read: the vision tower is left out";
  return Status::Ok();
}

}  // namespace spanwise
