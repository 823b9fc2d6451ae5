// Element types of weights and KV, and their conversion to float32.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace spanwise {

enum class DType : uint8_t { kF32, kBf16, kF16 };

constexpr size_t DTypeBytes(DType t) { return t == DType::kF32 ? 4 : 2; }
std::string_view DTypeName(DType t);                     // "f32", "bf16", "f16"
std::optional<DType> ParseDType(std::string_view name);  // the same names

constexpr float Bf16ToFloat(uint16_t b) { return std::bit_cast<float>(static_cast<uint32_t>(b) << 16); }

// Round to nearest, ties to even; NaN stays NaN.
constexpr uint16_t FloatToBf16(float f) {
  const auto bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float F16ToFloat(uint16_t h);

// Round to nearest, ties to even; beyond the largest value infinity, NaN stays NaN.
uint16_t FloatToF16(float f);

}  // namespace spanwise
