#include "base/str.h"
#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {

// A Llama in which some layers have no positions.
Status ReadSmolLm3(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {.kv_heads = 4, .tie_embeddings = true, .rope_theta = 2e6}, config));
  SW_ASSIGN_OR_RETURN(const bool attention_bias, BoolOr(root, "attention_bias", false));
  config->qkv_bias = config->output_bias = attention_bias;
  SW_ASSIGN_OR_RETURN(config->mlp_bias, BoolOr(root, "mlp_bias", false));
  SW_ASSIGN_OR_RETURN(const auto interval, OptionalInt(root, "no_rope_layer_interval", 1, kMaxLayers));
  SW_ASSIGN_OR_RETURN(const json::array* const rotated,
                      GetArray(root, "no_rope_layers"));  // 1: the layer has positions
  if (rotated && rotated->size() != config->layer_ropes.size())
    return InvalidArgument(StrFormat("'no_rope_layers' has {} members, expected {} (num_hidden_layers)",
                                     rotated->size(), config->layer_ropes.size()));
  for (size_t i = 0; i < config->layer_ropes.size(); ++i) {
    bool turns = (i + 1) % static_cast<size_t>(interval.value_or(4)) != 0;
    if (rotated) {
      const json::value& flag = (*rotated)[i];
      if (!flag.is_int64() || (flag.get_int64() != 0 && flag.get_int64() != 1))
        return OutOfRange("no_rope_layers", Quoted(json::serialize(flag), 40), "a list of 0 and 1");
      turns = flag.get_int64() == 1;
    }
    config->layer_ropes[i] = turns ? 0 : ModelConfig::kNoRope;
  }
  SW_ASSIGN_OR_RETURN(const auto window, OptionalInt(root, "sliding_window", 1, kMaxPositions));
  SW_ASSIGN_OR_RETURN(const bool windows, BoolOr(root, "use_sliding_window", false));
  const int64_t width = windows ? window.value_or(0) : 0;
  return ReadWindows(
      root, width, [&](int layer) { return config->layer_ropes[static_cast<size_t>(layer)] < 0; }, config);
}

}  // namespace spanwise
