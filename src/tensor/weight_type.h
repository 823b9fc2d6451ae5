// How weights are stored: plain floats, or blocks of small integers with scales as GGUF files hold them.
#pragma once

#include <cstddef>
#include <cstdint>
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
//   kQ4K   256 elements, 144 bytes: d, m, packed[12], b[128]            8 groups of 32 with a scale s and a minimum t
//   kQ5K   256 elements, 176 bytes: d, m, packed[12], h[32], b[128]     the same, with a fifth bit of each quant in h
//   kQ6K   256 elements, 210 bytes: b[128], h[64], s[16] int8, d        16 groups of 16 with a scale s
//
// kQ4K: x[32 g + i] = d s[g] q - m t[g], where q is lo (g even) or hi (g odd) of b[32 (g / 2) + i].
// kQ5K: the same with 16 added to q where bit g of h[i] is set.
//   Both: for g < 4, s[g] and t[g] are the low six bits of packed[g] and packed[4 + g]; for g >= 4 their low four bits
//   are lo (s) and hi (t) of packed[4 + g], and their high two bits the top two of packed[g - 4] (s) and packed[g] (t).
// kQ6K: with k = 0, 1 (halves), r = 0 ... 3 (quarters of a half) and i < 32,
//   x[128 k + 32 r + i] = d s[8 k + 2 r + i / 16] (q - 32), where q's low four bits are lo (r < 2) or hi (r >= 2) of
//   b[64 k + 32 (r % 2) + i] and its high two bits are bits 2 r and 2 r + 1 of h[32 k + i].
//
// Source: the definitions of ggml (ggml-common.h) and the `gguf` Python package (quants.py).
enum class WeightType : uint8_t { kF32, kBf16, kF16, kQ8_0, kQ4_0, kQ4K, kQ5K, kQ6K };

struct WeightBlock {
  size_t elements, bytes;
};

WeightBlock BlockOf(WeightType type);              // {1, element size} for plain floats
std::string_view WeightTypeName(WeightType type);  // "f32", "bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"
std::optional<DType> PlainDType(WeightType type);  // of plain floats
WeightType StoredAs(DType dtype);                  // the same, backwards

// The bytes of n elements. REQUIRES: n is a multiple of the block's elements, and n x 4 fits in size_t.
size_t WeightBytes(WeightType type, size_t n);

// How the elements of a block type follow from integers: x = d s (q - offset) - m t, where s is 1 without scales and t
// is 0 without minima. REQUIRES: a block type.
struct BlockKind {
  int bits;         // of q; 8 bits are signed, fewer are not
  int offset;       // 0 for signed and for types with minima
  int scale_group;  // elements that share a scale s, 0 for types without
  bool minima;      // whether there are m and t; groups of scale_group elements share t
};
BlockKind KindOf(WeightType type);

// The integers of one block.
struct BlockFields {
  uint16_t d = 0, m = 0;  // f16 bits
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
