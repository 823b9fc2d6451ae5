#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {

Status ReadLlama(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {}, config));
  SW_ASSIGN_OR_RETURN(const bool attention_bias, BoolOr(root, "attention_bias", false));
  config->qkv_bias = config->output_bias = attention_bias;
  SW_ASSIGN_OR_RETURN(config->mlp_bias, BoolOr(root, "mlp_bias", false));
  return Status::Ok();
}

}  // namespace spanwise
