// Reading and writing single elements of typed arrays that may be aligned to nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

namespace spanwise {

inline float LoadElement(const std::byte* data, DType dtype, size_t index) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, data + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + index * 2, 2);
  return dtype == DType::kBf16 ? Bf16ToFloat(bits) : F16ToFloat(bits);
}

// REQUIRES: dtype is one that KV may have, kF32 or kBf16.
inline void StoreElement(std::byte* data, DType dtype, size_t index, float value) {
  if (dtype == DType::kF32) {
    std::memcpy(data + index * 4, &value, 4);
  } else {
    const uint16_t bits = FloatToBf16(value);
    std::memcpy(data + index * 2, &bits, 2);
  }
}

}  // namespace spanwise
