#include "base/str.h"
#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {
namespace {

// Windows in all layers or in none.
Status ReadMistralWindows(const json::object& root, ModelConfig* config) {
  SW_ASSIGN_OR_RETURN(const auto stated, OptionalInt(root, "sliding_window", 1, kMaxPositions));
  const int64_t window = stated.value_or(root.contains("sliding_window") ? 0 : 4096);  // an explicit null means none
  SW_RETURN_IF_ERROR(ReadWindows(
      root, window, [](int) { return true; }, config));
  for (size_t i = 0; i < config->windows.size(); ++i)
    if (config->windows[i] != window)
      return Unimplemented(StrFormat(
          "'layer_types' member {} is full_attention: model_type {} with windows in some layers only is not done", i,
          config->model_type));
  return Status::Ok();
}

}  // namespace

Status ReadMistral(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {.kv_heads = 8}, config));
  return ReadMistralWindows(root, config);
}

Status ReadMixtral(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {.kv_heads = 8, .rope_theta = 1e6}, config));
  if (root.contains("sliding_window")) {  // transformers assumes none here
    SW_RETURN_IF_ERROR(ReadMistralWindows(root, config));
  }
  SW_ASSIGN_OR_RETURN(const auto n_experts, OptionalInt(root, "num_local_experts", 1, kMaxExperts));
  SW_ASSIGN_OR_RETURN(const auto n_active, OptionalInt(root, "num_experts_per_tok", 1, n_experts.value_or(8)));
  config->experts = {.n_experts = static_cast<int>(n_experts.value_or(8)),
                     .n_active = static_cast<int>(n_active.value_or(2)),
                     .ffn_dim = config->ffn_dim,
                     .normalise = true};
  config->layer_experts.assign(config->layer_experts.size(), true);
  config->names.router = "block_sparse_moe.gate";
  config->names.expert_gate = "block_sparse_moe.experts.{}.w1";
  config->names.expert_up = "block_sparse_moe.experts.{}.w3";
  config->names.expert_down = "block_sparse_moe.experts.{}.w2";
  return Status::Ok();
}

}  // namespace spanwise
