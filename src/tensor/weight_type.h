// How weights are stored: plain floats, or blocks of small integers with scales as GGUF files hold them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string_view>

#include "tensor/dtype.h"

namespace spanwise {

// A row of a matrix is a whole number of blocks, one after another without gaps. Little-endian; d and m are f16; lo and
// hi are the low and the high four bits of a byte.
//
//   kQ8_0   32 elements,  34 bytes: d, q[32] int8                       x[i] = d q[i]
//   kQ4_0   32 elements,  18 bytes: d, b[16]                            x[i] = d (lo b[i] - 8)
//                                                                       x[16 + i] = d (hi b[i] - 8)
//   kQ4_1   32 elements,  20 bytes: d, m, b[16]                         x[i] = d lo b[i] + m
//                                                                       x[16 + i] = d hi b[i] + m
//   kQ5_0   32 elements,  22 bytes: d, h, b[16]                         x[i] = d (q[i] - 16)
//   kQ5_1   32 elements,  24 bytes: d, m, h, b[16]                      x[i] = d q[i] + m
//   kQ4K   256 elements, 144 bytes: d, m, packed[12], b[128]            8 groups of 32 with a scale s and a minimum t
//   kQ5K   256 elements, 176 bytes: d, m, packed[12], h[32], b[128]     the same, with a fifth bit of each quant in h
//   kQ6K   256 elements, 210 bytes: b[128], h[64], s[16] int8, d        16 groups of 16 with a scale s
//
// kQ5_0, kQ5_1: q[i] is lo b[i] and q[16 + i] is hi b[i], with 16 added where bit i (16 + i) of h is set, a uint32.
// kQ4K: x[32 g + i] = d s[g] q - m t[g], where q is lo (g even) or hi (g odd) of b[32 (g / 2) + i].
// kQ5K: the same with 16 added to q where bit g of h[i] is set.
//   Both: for g < 4, s[g] and t[g] are the low six bits of packed[g] and packed[4 + g]; for g >= 4 their low four bits
//   are lo (s) and hi (t) of packed[4 + g], and their high two bits the top two of packed[g - 4] (s) and packed[g] (t).
// kQ6K: with k = 0, 1 (halves), r = 0 ... 3 (quarters of a half) and i < 32,
//   x[128 k + 32 r + i] = d s[8 k + 2 r + i / 16] (q - 32), where q's low four bits are lo (r < 2) or hi (r >= 2) of
//   b[64 k + 32 (r % 2) + i] and its high two bits are bits 2 r and 2 r + 1 of h[32 k + i].
//
// Source: the definitions of ggml (ggml-common.h) and the `gguf` Python package (quants.py).
enum class WeightType : uint8_t { kF32, kBf16, kF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4K, kQ5K, kQ6K };

struct WeightBlock {
  size_t elements, bytes;
};

// How the elements of a block type follow from integers: x = d s (q - offset) - m t, where s and t are 1 without scales
// and m is 0 without minima.
struct BlockKind {
  int bits;         // of q; 8 bits are signed, fewer are not
  int offset;       // 0 for signed and for types with minima
  int scale_group;  // elements that share a scale s, 0 for types without
  bool minima;      // whether there is m; groups of scale_group elements share t
};

// What a type is. Together with how ReadBlock takes its block apart, that is all that panels and kernels need of it.
struct WeightTypeRow {
  std::string_view name;
  WeightBlock block;
  std::optional<DType> plain;  // plain floats
  BlockKind kind = {};         // block types
};

// In the order of the enumeration; plain floats first.
inline constexpr WeightTypeRow kWeightTypes[] = {
    {"f32", {1, 4}, DType::kF32, {}},
    {"bf16", {1, 2}, DType::kBf16, {}},
    {"f16", {1, 2}, DType::kF16, {}},
    {"q8_0", {32, 34}, {}, {.bits = 8, .offset = 0, .scale_group = 0, .minima = false}},
    {"q4_0", {32, 18}, {}, {.bits = 4, .offset = 8, .scale_group = 0, .minima = false}},
    {"q4_1", {32, 20}, {}, {.bits = 4, .offset = 0, .scale_group = 0, .minima = true}},
    {"q5_0", {32, 22}, {}, {.bits = 5, .offset = 16, .scale_group = 0, .minima = false}},
    {"q5_1", {32, 24}, {}, {.bits = 5, .offset = 0, .scale_group = 0, .minima = true}},
    {"q4_k", {256, 144}, {}, {.bits = 4, .offset = 0, .scale_group = 32, .minima = true}},
    {"q5_k", {256, 176}, {}, {.bits = 5, .offset = 0, .scale_group = 32, .minima = true}},
    {"q6_k", {256, 210}, {}, {.bits = 6, .offset = 32, .scale_group = 16, .minima = false}},
};

inline constexpr size_t kPlainTypes = 3;
inline constexpr auto kBlockTypes = [] {
  std::array<WeightType, std::size(kWeightTypes) - kPlainTypes> types{};
  for (size_t i = 0; i < types.size(); ++i) types[i] = static_cast<WeightType>(kPlainTypes + i);
  return types;
}();

constexpr const WeightTypeRow& RowOf(WeightType type) { return kWeightTypes[static_cast<size_t>(type)]; }
constexpr WeightBlock BlockOf(WeightType type) { return RowOf(type).block; }  // {1, element size} for plain floats
constexpr std::string_view WeightTypeName(WeightType type) { return RowOf(type).name; }
constexpr std::optional<DType> PlainDType(WeightType type) { return RowOf(type).plain; }
constexpr BlockKind KindOf(WeightType type) { return RowOf(type).kind; }  // REQUIRES: a block type
WeightType StoredAs(DType dtype);                                         // of plain floats: PlainDType backwards

// The bytes of n elements. REQUIRES: n is a multiple of the block's elements, and n x 4 fits in size_t.
size_t WeightBytes(WeightType type, size_t n);

// The integers of one block.
struct BlockFields {
  uint16_t d = 0, m = 0;  // f16 bits, as BlockKind has them: kQ4_1 and kQ5_1 store -m
  int8_t scale[16] = {};
  uint8_t min[8] = {};
  int8_t q[256] = {};
};
void ReadBlock(WeightType type, const std::byte* block, BlockFields* fields);
// The block's elements; each product and difference of BlockKind is rounded once, from left to right.
void WidenFields(WeightType type, const BlockFields& fields, float* out);

// Widens n elements to float32, exactly for plain floats; for blocks each product and difference above is rounded once,
// from left to right, as the `gguf` package does. `data` may be unaligned. REQUIRES: as WeightBytes.
void Widen(WeightType type, const std::byte* data, size_t n, float* out);

// Whether Narrow makes this type.
bool CanNarrow(WeightType type);

// The opposite of Widen, for plain floats (rounded to nearest), kQ8_0 and kQ4_0. Of a block, kQ8_0 takes the scale that
// reaches its largest value; kQ4_0 the one, among some near that, whose sum of squared errors is least.
// REQUIRES: as WeightBytes; CanNarrow(type); finite values.
void Narrow(WeightType type, const float* in, size_t n, std::byte* out);

}  // namespace spanwise
