// Loops that do nothing but arithmetic, as fast as this processor can: what kernels are measured against.
#pragma once

#include <cstdint>

namespace spanwise {

// Multiply-adds of float32; dot products of bf16 with sums in float32; dot products of bytes with sums in integers.
enum class Arithmetic { kFloat, kBf16, kInt8 };

namespace cpu {

struct PeakLoop {
  void (*run)(int64_t n_rounds) = nullptr;
  int ops = 0;  // of a round, two for each multiply-add
};

// The loop in the widest instructions this processor has; none where it has none.
PeakLoop WidestPeakLoop(Arithmetic arithmetic);

}  // namespace cpu
}  // namespace spanwise
