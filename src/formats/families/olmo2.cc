#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {

// Norms stand after attention and feed-forward only; q and k are normed over their whole width.
Status ReadOlmo2(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {}, config));
  SW_ASSIGN_OR_RETURN(const bool attention_bias, BoolOr(root, "attention_bias", false));
  config->qkv_bias = config->output_bias = attention_bias;
  config->qk_norm = QkNorm::kWidth;
  config->names.attention_norm = "";
  config->names.attention_post_norm = "post_attention_layernorm";
  config->names.ffn_norm = "";
  config->names.ffn_post_norm = "post_feedforward_layernorm";
  return Status::Ok();
}

}  // namespace spanwise
