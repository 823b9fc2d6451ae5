// The nonlinearity of a gated feed-forward layer: out = activation(gate) * up.
#pragma once

#include <cstdint>

namespace spanwise {

enum class Activation : uint8_t {
  kSilu,      // x / (1 + e^-x)
  kGeluTanh,  // x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: "gelu_pytorch_tanh" in config.json
};

}  // namespace spanwise
