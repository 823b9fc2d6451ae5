// The product of a matrix of a block type (tensor/weight_type.h), defined. Every path computes it to the bit, since its
// sums of integers are exact and the rest is one chain of float operations for each output:
//
//   Each group of 32 inputs of a row is rounded: with a the largest |x|, e = a / 127, x^[i] = round(x[i] * (127 / a))
//   to even; e = 0 and x^ = 0 where a < 1e-30. With N_j = sum over the inputs of scale group j of (q - offset) x^, S =
//   sum over the 32 inputs of x^ (both exact), the chain runs over the groups of 32 in ascending order, and in each
//   first over its one or two scale groups j, then over its minimum:
//       y = fma(float(N_j), (d s_j) e, y)
//       y = fma(float(S), -((m t) e), y)
//   from zero, with d and m in the place of d s_j and m t where there are no scales; the bias is added last.
//
// The rounding of x is an error of at most a / 254 for each input, that is some 0.5 % of the product's size for
// normally distributed inputs, about that of kQ8_0 and below that of the other block types.
#pragma once

#include <cmath>
#include <cstdint>

#include "tensor/weight_type.h"

namespace spanwise {

inline constexpr int kRoundedGroup = 32;
inline constexpr float kSmallestRounded = 1e-30f;

// Inputs whose rounded sum is asked for: those that share a scale of the weights, 32 at most.
inline int SumGroup(WeightType type) { return KindOf(type).scale_group == 16 ? 16 : kRoundedGroup; }

// Rounds one group: 32 integers at q; returns e.
inline float RoundGroup(const float* x, int8_t* q) {
  float a = 0;
  for (int i = 0; i < kRoundedGroup; ++i) a = std::fmax(a, std::fabs(x[i]));
  const float up = a < kSmallestRounded ? 0 : 127 / a;
  for (int i = 0; i < kRoundedGroup; ++i) {
    const float r = std::nearbyint(x[i] * up);
    q[i] = static_cast<int8_t>(r > 127 ? 127 : r > -127 ? r : -127);  // clamps what is not finite
  }
  return up == 0 ? 0 : a / 127;
}

}  // namespace spanwise
