#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {

// A Llama whose embeddings, residual sums, scores and logits are scaled by stated factors.
Status ReadGranite(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadLlama(root, config));
  constexpr double kLow = 1e-9, kHigh = 1e9;
  SW_ASSIGN_OR_RETURN(config->embedding_scale, NumberOr(root, "embedding_multiplier", kLow, kHigh, 1));
  SW_ASSIGN_OR_RETURN(config->residual_scale, NumberOr(root, "residual_multiplier", kLow, kHigh, 1));
  SW_ASSIGN_OR_RETURN(config->attention_scale, NumberOr(root, "attention_multiplier", kLow, kHigh, 1));
  SW_ASSIGN_OR_RETURN(const float divisor, NumberOr(root, "logits_scaling", kLow, kHigh, 1));
  config->logit_scale = 1 / divisor;
  return Status::Ok();
}

}  // namespace spanwise
