#include <algorithm>

#include "base/str.h"
#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {
namespace {

// Windows from some layer on, where they are switched on at all.
Status ReadQwenWindows(const json::object& root, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const auto stated, OptionalInt(root, "sliding_window", 1, kMaxPositions));
  SW_ASSIGN_OR_RETURN(const bool wanted, BoolOr(root, "use_sliding_window", false));
  SW_ASSIGN_OR_RETURN(const auto first, OptionalInt(root, "max_window_layers", 0, kMaxPositions));
  const int64_t window = !wanted ? 0 : stated.value_or(root.contains("sliding_window") ? 0 : 4096);
  return ReadWindows(
      root, window, [&](int layer) { return layer >= first.value_or(28); }, config);
}

}  // namespace

Status ReadQwen2(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {.kv_heads = 32}, config));
  config->qkv_bias = true;
  return ReadQwenWindows(root, config);
}

Status ReadQwen3(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {.kv_heads = 32, .head_dim = 128}, config));
  SW_ASSIGN_OR_RETURN(const bool attention_bias, BoolOr(root, "attention_bias", false));
  config->qkv_bias = config->output_bias = attention_bias;
  config->qk_norm = QkNorm::kHead;
  return ReadQwenWindows(root, config);
}

Status ReadQwen3Moe(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {.kv_heads = 4}, config));
  SW_ASSIGN_OR_RETURN(const bool attention_bias, BoolOr(root, "attention_bias", false));
  config->qkv_bias = config->output_bias = attention_bias;
  config->qk_norm = QkNorm::kHead;
  SW_ASSIGN_OR_RETURN(const auto stated, OptionalInt(root, "sliding_window", 1, kMaxPositions));
  SW_ASSIGN_OR_RETURN(const bool windows, BoolOr(root, "use_sliding_window", false));
  SW_RETURN_IF_ERROR(ReadWindows(
      root, windows ? stated.value_or(0) : 0, [](int) { return true; }, config));

  SW_ASSIGN_OR_RETURN(const auto n_experts, OptionalInt(root, "num_experts", 1, kMaxExperts));
  SW_ASSIGN_OR_RETURN(const auto n_active, OptionalInt(root, "num_experts_per_tok", 1, n_experts.value_or(128)));
  SW_ASSIGN_OR_RETURN(const auto ffn_dim, OptionalInt(root, "moe_intermediate_size", 1, kMaxDim));
  SW_ASSIGN_OR_RETURN(const bool normalise, BoolOr(root, "norm_topk_prob", false));
  config->experts = {.n_experts = static_cast<int>(n_experts.value_or(128)),
                     .n_active = static_cast<int>(n_active.value_or(8)),
                     .ffn_dim = static_cast<int>(ffn_dim.value_or(768)),
                     .normalise = normalise};
  SW_ASSIGN_OR_RETURN(const auto step, OptionalInt(root, "decoder_sparse_step", 1, kMaxLayers));
  SW_ASSIGN_OR_RETURN(const json::array* const dense, GetArray(root, "mlp_only_layers"));
  for (size_t i = 0; i < config->layer_experts.size(); ++i)
    config->layer_experts[i] = (i + 1) % static_cast<size_t>(step.value_or(1)) == 0;
  if (dense) {
    for (const json::value& layer : *dense) {
      if (!layer.is_int64() || layer.get_int64() < 0 || layer.get_int64() >= config->n_layers)
        return OutOfRange("mlp_only_layers", Quoted(json::serialize(layer), 40),
                          StrFormat("layers from 0 to {}", config->n_layers - 1));
      config->layer_experts[static_cast<size_t>(layer.get_int64())] = false;
    }
  }
  config->names.router = "mlp.gate";
  config->names.expert_gate = "mlp.experts.{}.gate_proj";
  config->names.expert_up = "mlp.experts.{}.up_proj";
  config->names.expert_down = "mlp.experts.{}.down_proj";
  return Status::Ok();
}

}  // namespace spanwise
