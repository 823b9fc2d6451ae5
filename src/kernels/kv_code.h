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
struct CodedHead {
  KvCode code = KvCode::kU8;
  const std::byte* scales = nullptr;   // bf16, aligned to nothing
  const std::byte* offsets = nullptr;  // the same; nullptr: none
  const std::byte* lines = nullptr;
};

}  // namespace spanwise
