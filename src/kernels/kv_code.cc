#include "kernels/kv_code.h"

#include <algorithm>
#include <bit>

#include "tensor/dtype.h"

namespace spanwise {
namespace {

// The least bf16 that is not below x, or infinity; NaN for NaN.
float Bf16AtLeast(float x) {
  const float nearest = Bf16ToFloat(FloatToBf16(x));
  if (!(nearest < x)) return nearest;
  const auto bits = std::bit_cast<uint32_t>(nearest);
  return std::bit_cast<float>(nearest < 0 ? bits - 0x10000u : bits + 0x10000u);
}

}  // namespace

CodeScale FitCodes(KvCode code, float least, float greatest) {
  CodeScale fit;
  if (HasOffsets(code)) {
    fit.offset = -Bf16AtLeast(-least);
    fit.scale = Bf16AtLeast((greatest - fit.offset) / static_cast<float>(LastCode(code)));
  } else {
    fit.scale = Bf16AtLeast(std::max(-least, greatest) / kMostE4m3);
  }
  fit.inverse = fit.scale > 0 ? 1 / fit.scale : 0;
  return fit;
}

}  // namespace spanwise
