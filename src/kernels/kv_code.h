// KV in fewer bits: codes in lines of 16, and a scale, perhaps an offset, for each group of elements.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kv_view.h"
#include "tensor/panels.h"

namespace spanwise {

// What a code says: a number that is multiplied by the scale of its group.
enum class KvCode : uint8_t {
  kU4,    // 0 to 15. A line is 8 bytes: elements 0 to 7 in their low halves, 8 to 15 in the high ones
  kU8,    // 0 to 255. A line is 16 bytes
  kE4m3,  // a float of 4 bits of exponent, biased by 7, and 3 of mantissa; all ones is NaN. A line is 16 bytes
};

inline constexpr int kCodesPerLine = kPanelRows;
constexpr size_t CodeLineBytes(KvCode code) { return code == KvCode::kU4 ? 8 : 16; }

// A group of values has at most so many elements; one of keys has those of a block.
inline constexpr int kValuesPerGroup = 64;
static_assert(kValuesPerGroup % kCodesPerLine == 0);

// Keys or values of one head of one layer. Every element is its group's offset + scale * code, rounded to the KV dtype.
//
//   keys    a group is a channel of a block: scales [head_dim]. Lines [panels in use][head_dim], each of the 16 tokens
//           of a panel
//   values  groups are kValuesPerGroup neighbours of one token: scales [n_tokens][ceil(head_dim / kValuesPerGroup)].
//           Lines [n_tokens][ceil(head_dim / 16)]
//
// Codes past the last token or element may be anything.
template <class Byte>
struct CodedHeadOf {
  KvCode code = KvCode::kU8;
  Byte* scales = nullptr;   // bf16, aligned to nothing
  Byte* offsets = nullptr;  // the same; nullptr: none
  Byte* lines = nullptr;
};
using CodedHead = CodedHeadOf<const std::byte>;
using CodedHeadOut = CodedHeadOf<std::byte>;

// Scale and offset of a group, both bf16, by its least and greatest element. kU4 and kU8, which have offsets: the
// greatest bf16 not above the least element, and the least scale with which the last code reaches the greatest. kE4m3,
// which has none: the largest code, 448, reaches the element farthest from zero.
struct CodeScale {
  float scale = 0, offset = 0;
  float inverse = 0;  // of the scale; 0 where that is 0
};
CodeScale FitCodes(KvCode code, float least, float greatest);
constexpr int LastCode(KvCode code) { return code == KvCode::kU4 ? 15 : 255; }  // of those with offsets
inline constexpr float kMostE4m3 = 448, kLeastNormalE4m3 = 0x1p-6f;
constexpr bool HasOffsets(KvCode code) { return code != KvCode::kE4m3; }

}  // namespace spanwise
