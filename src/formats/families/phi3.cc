#include "formats/config_fields.h"
#include "formats/families/families.h"

namespace spanwise {

// Phi-3, 3.5 and 4: projections stored together, a window in all layers, in some models a part of each head rotated.
Status ReadPhi3(const json::object& root, ModelConfig* config) {
  SW_RETURN_IF_ERROR(ReadDecoder(root, {.partial_rotary = true}, config));
  config->names.fused_qkv = "self_attn.qkv_proj";
  config->names.fused_gate_up = "mlp.gate_up_proj";
  SW_ASSIGN_OR_RETURN(const auto window, OptionalInt(root, "sliding_window", 1, kMaxPositions));
  return ReadWindows(
      root, window.value_or(0), [](int) { return true; }, config);
}

}  // namespace spanwise
