#include "tensor/weight_type.h"

#include <cstring>

namespace spanwise {
namespace {

struct TypeRow {
  std::string_view name;
  WeightBlock block;
};

// In the order of the enumeration.
constexpr TypeRow kTypes[] = {
    {"f32", {1, 4}},    {"bf16", {1, 2}},     {"f16", {1, 2}},      {"q8_0", {32, 34}},
    {"q4_0", {32, 18}}, {"q4_k", {256, 144}}, {"q5_k", {256, 176}}, {"q6_k", {256, 210}},
};

const TypeRow& RowOf(WeightType type) { return kTypes[static_cast<size_t>(type)]; }

uint16_t Load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

void WidenQ8_0(const uint8_t* block, float* out) {
  const float d = F16ToFloat(Load16(block));
  for (size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

void WidenQ4_0(const uint8_t* block, float* out) {
  const float d = F16ToFloat(Load16(block));
  for (size_t i = 0; i < 16; ++i) {
    const int b = block[2 + i];
    out[i] = d * static_cast<float>((b & 15) - 8);
    out[16 + i] = d * static_cast<float>((b >> 4) - 8);
  }
}

// The 6-bit scale and minimum of group g of 8.
struct ScaleAndMin {
  int scale, min;
};

ScaleAndMin UnpackScale(const uint8_t* packed, size_t g) {
  if (g < 4) return {packed[g] & 63, packed[4 + g] & 63};
  return {(packed[4 + g] & 15) | (packed[g - 4] >> 6) << 4, packed[4 + g] >> 4 | (packed[g] >> 6) << 4};
}

// kQ4K where `high` is null, kQ5K otherwise.
void WidenGroups(const uint8_t* block, const uint8_t* high, const uint8_t* low, float* out) {
  const float d = F16ToFloat(Load16(block)), m = F16ToFloat(Load16(block + 2));
  for (size_t g = 0; g < 8; ++g) {
    const ScaleAndMin s = UnpackScale(block + 4, g);
    const float scale = d * static_cast<float>(s.scale), min = m * static_cast<float>(s.min);
    for (size_t i = 0; i < 32; ++i) {
      const int b = low[32 * (g / 2) + i];
      int q = g % 2 == 0 ? b & 15 : b >> 4;
      if (high) q += (high[i] >> g & 1) << 4;
      out[32 * g + i] = scale * static_cast<float>(q) - min;
    }
  }
}

void WidenQ6K(const uint8_t* block, float* out) {
  const uint8_t *low = block, *high = block + 128, *scales = block + 192;
  const float d = F16ToFloat(Load16(block + 208));
  for (size_t k = 0; k < 2; ++k)
    for (size_t r = 0; r < 4; ++r)
      for (size_t i = 0; i < 32; ++i) {
        const int b = low[64 * k + 32 * (r % 2) + i];
        const int q = (r < 2 ? b & 15 : b >> 4) | (high[32 * k + i] >> 2 * r & 3) << 4;
        const float scale = d * static_cast<float>(static_cast<int8_t>(scales[8 * k + 2 * r + i / 16]));
        out[128 * k + 32 * r + i] = scale * static_cast<float>(q - 32);
      }
}

void WidenBlock(WeightType type, const uint8_t* block, float* out) {
  switch (type) {
    case WeightType::kF32:
      std::memcpy(out, block, sizeof(float));
      return;
    case WeightType::kBf16:
      *out = Bf16ToFloat(Load16(block));
      return;
    case WeightType::kF16:
      *out = F16ToFloat(Load16(block));
      return;
    case WeightType::kQ8_0:
      return WidenQ8_0(block, out);
    case WeightType::kQ4_0:
      return WidenQ4_0(block, out);
    case WeightType::kQ4K:
      return WidenGroups(block, nullptr, block + 16, out);
    case WeightType::kQ5K:
      return WidenGroups(block, block + 16, block + 48, out);
    case WeightType::kQ6K:
      return WidenQ6K(block, out);
  }
}

}  // namespace

WeightBlock BlockOf(WeightType type) { return RowOf(type).block; }
std::string_view WeightTypeName(WeightType type) { return RowOf(type).name; }

std::optional<DType> PlainDType(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return DType::kF32;
    case WeightType::kBf16:
      return DType::kBf16;
    case WeightType::kF16:
      return DType::kF16;
    default:
      return std::nullopt;
  }
}

WeightType StoredAs(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return WeightType::kF32;
    case DType::kBf16:
      return WeightType::kBf16;
    case DType::kF16:
      return WeightType::kF16;
  }
  return WeightType::kF32;
}

size_t WeightBytes(WeightType type, size_t n) {
  const WeightBlock block = BlockOf(type);
  return n / block.elements * block.bytes;
}

void Widen(WeightType type, const std::byte* data, size_t n, float* out) {
  const WeightBlock block = BlockOf(type);
  const auto* at = reinterpret_cast<const uint8_t*>(data);
  for (size_t i = 0; i < n; i += block.elements, at += block.bytes) WidenBlock(type, at, out + i);
}

}  // namespace spanwise
