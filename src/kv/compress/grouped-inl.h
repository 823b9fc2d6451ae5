// What codecs share that round groups of elements to codes (kernels/kv_code.h). A codec gives a class:
//
//   static constexpr KvCode kCode;
//   static constexpr bool kOffsets;                      // a group is scale and offset, else a scale alone
//   static Group Fit(float least, float greatest);       // of the elements of a group
//   static uint8_t Round(const Group&, float x);         // any x, NaN included
//
// Rows: for each layer the keys of each KV head, then the values of each; for each of these the groups' scales, their
// offsets if there are any, the lines. Codes past the last token or element are zero.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/element.h"
#include "kernels/ops.h"
#include "kv/compress/codec.h"

namespace spanwise::grouped {

struct Group {
  float scale, offset;  // as they are written: bf16
  float inverse;        // of the scale; 0 where that is 0
};

// The nearest bf16 that is not below x; what has none is infinite.
inline float Bf16AtLeast(float x) {
  const float nearest = Bf16ToFloat(FloatToBf16(x));
  if (!(nearest < x)) return nearest;
  const auto bits = std::bit_cast<uint32_t>(nearest);
  return std::bit_cast<float>(nearest < 0 ? bits - 0x10000u : bits + 0x10000u);
}

inline Group MakeGroup(float scale, float offset) { return {scale, offset, scale > 0 ? 1 / scale : 0}; }

// Steps of equal size from the least element to the greatest.
inline Group EvenSteps(float least, float greatest, int n_steps) {
  const float offset = -Bf16AtLeast(-least);
  return MakeGroup(Bf16AtLeast((greatest - offset) / static_cast<float>(n_steps)), offset);
}

inline uint8_t RoundToStep(const Group& group, float x, int n_steps) {
  const float most = static_cast<float>(n_steps);
  float step = (x - group.offset) * group.inverse + 0.5f;
  step = step > 0 ? step : 0;  // NaN, too
  step = step < most ? step : most;
  return static_cast<uint8_t>(step);
}

// Where the parts of one head's keys or values stand.
struct HeadLayout {
  size_t n_groups, n_lines;
  size_t group_bytes, bytes;  // of all scales; of all
};

template <class Codec>
HeadLayout LayoutOf(size_t n_groups, size_t n_lines) {
  const size_t group_bytes = 2 * n_groups;
  return {n_groups, n_lines, group_bytes,
          (Codec::kOffsets ? 2 : 1) * group_bytes + n_lines * CodeLineBytes(Codec::kCode)};
}

inline size_t Parts(int whole, int part) { return static_cast<size_t>((whole + part - 1) / part); }

template <class Codec>
HeadLayout KeyLayout(const KvGeometry& kv, int n_tokens) {
  const auto dim = static_cast<size_t>(kv.head_dim);
  return LayoutOf<Codec>(dim, Parts(n_tokens, kPanelRows) * dim);
}

template <class Codec>
HeadLayout ValueLayout(const KvGeometry& kv, int n_tokens) {
  const auto n = static_cast<size_t>(n_tokens);
  return LayoutOf<Codec>(n * Parts(kv.head_dim, kValuesPerGroup), n * Parts(kv.head_dim, kCodesPerLine));
}

template <class Codec>
size_t RowsBytes(const KvGeometry& kv, int n_tokens) {
  return static_cast<size_t>(kv.n_layers) * static_cast<size_t>(kv.n_kv_heads) *
         (KeyLayout<Codec>(kv, n_tokens).bytes + ValueLayout<Codec>(kv, n_tokens).bytes);
}

// Writes the groups and lines of one head, one group after another.
template <class Codec>
class HeadWriter {
 public:
  HeadWriter(std::byte* rows, const HeadLayout& layout)
      : scales_(rows),
        offsets_(rows + layout.group_bytes),
        lines_(Codec::kOffsets ? offsets_ + layout.group_bytes : offsets_) {}

  // The group of n elements at x, which stand in lines `stride` lines apart; x has room for whole lines.
  void Write(float* x, int n, size_t first_line, size_t stride) {
    const int n_lines = static_cast<int>(Parts(n, kCodesPerLine));
    std::fill(x + n, x + n_lines * kCodesPerLine, x[0]);
    float least[kCodesPerLine], greatest[kCodesPerLine];
    std::copy(x, x + kCodesPerLine, least);
    std::copy(x, x + kCodesPerLine, greatest);
    for (int line = 1; line < n_lines; ++line)
      for (int i = 0; i < kCodesPerLine; ++i) {
        const float v = x[line * kCodesPerLine + i];
        least[i] = v < least[i] ? v : least[i];
        greatest[i] = v > greatest[i] ? v : greatest[i];
      }
    const Group group = Codec::Fit(*std::min_element(least, least + kCodesPerLine),
                                   *std::max_element(greatest, greatest + kCodesPerLine));
    StoreElement(scales_, DType::kBf16, n_groups_, group.scale);
    if constexpr (Codec::kOffsets) StoreElement(offsets_, DType::kBf16, n_groups_, group.offset);
    ++n_groups_;
    for (int line = 0; line < n_lines; ++line) {
      uint8_t codes[kCodesPerLine];
      for (int i = 0; i < kCodesPerLine; ++i) codes[i] = Codec::Round(group, x[line * kCodesPerLine + i]);
      for (int i = n - line * kCodesPerLine; i < kCodesPerLine; ++i) codes[i] = 0;
      if constexpr (Codec::kCode == KvCode::kU4)
        for (int i = 0; i < 8; ++i) codes[i] = static_cast<uint8_t>(codes[i] | codes[i + 8] << 4);
      constexpr size_t kBytes = CodeLineBytes(Codec::kCode);
      std::memcpy(lines_ + (first_line + static_cast<size_t>(line) * stride) * kBytes, codes, kBytes);
    }
  }

 private:
  std::byte *scales_, *offsets_, *lines_;
  size_t n_groups_ = 0;
};

template <class Codec>
void Encode(const KvGeometry& kv, const std::byte* block, int n_tokens, std::byte* rows) {
  static_assert(kValuesPerGroup <= kKvBlockTokens);
  const HeadLayout of_keys = KeyLayout<Codec>(kv, n_tokens), of_values = ValueLayout<Codec>(kv, n_tokens);
  const auto dim = static_cast<size_t>(kv.head_dim);
  const int n_panels = static_cast<int>(Parts(n_tokens, kPanelRows));
  float x[kKvBlockTokens];
  for (int layer = 0; layer < kv.n_layers; ++layer) {
    for (int head = 0; head < kv.n_kv_heads; ++head, rows += of_keys.bytes) {
      HeadWriter<Codec> writer(rows, of_keys);
      const std::byte* keys = block + kv.KeyOffset(layer, head);
      for (int i = 0; i < kv.head_dim; ++i) {
        for (int panel = 0; panel < n_panels; ++panel) {
          const std::byte* from = keys + kv.KeyElementOffset(panel * kPanelRows, i);
          float* to = x + panel * kPanelRows;
          // The tokens of a panel stand 4 bytes apart.
          if (kv.dtype == DType::kBf16) {
            for (int t = 0; t < kPanelRows; ++t) to[t] = LoadElement(from + 4 * t, DType::kBf16, 0);
          } else {
            std::memcpy(to, from, 4 * kPanelRows);
          }
        }
        writer.Write(x, n_tokens, static_cast<size_t>(i), dim);
      }
    }
    for (int head = 0; head < kv.n_kv_heads; ++head, rows += of_values.bytes) {
      HeadWriter<Codec> writer(rows, of_values);
      const std::byte* value = block + kv.ValueOffset(layer, head);
      size_t line = 0;
      for (int token = 0; token < n_tokens; ++token, value += dim * DTypeBytes(kv.dtype))
        for (int begin = 0; begin < kv.head_dim; begin += kValuesPerGroup) {
          const int n = std::min(kValuesPerGroup, kv.head_dim - begin);
          for (int i = 0; i < n; ++i) x[i] = LoadElement(value, kv.dtype, static_cast<size_t>(begin + i));
          writer.Write(x, n, line, 1);
          line += Parts(n, kCodesPerLine);
        }
    }
  }
}

template <class Codec>
CodedHead HeadAt(const std::byte* rows, const HeadLayout& layout) {
  const std::byte* after = rows + layout.group_bytes;
  return {.code = Codec::kCode,
          .scales = rows,
          .offsets = Codec::kOffsets ? after : nullptr,
          .lines = Codec::kOffsets ? after + layout.group_bytes : after};
}

template <class Codec>
void Decode(const KvGeometry& kv, const std::byte* rows, int n_tokens, std::byte* block) {
  const HeadLayout of_keys = KeyLayout<Codec>(kv, n_tokens), of_values = ValueLayout<Codec>(kv, n_tokens);
  for (int layer = 0; layer < kv.n_layers; ++layer) {
    for (int head = 0; head < kv.n_kv_heads; ++head, rows += of_keys.bytes)
      ops::DecodeKeys(kv, HeadAt<Codec>(rows, of_keys), n_tokens, block + kv.KeyOffset(layer, head));
    for (int head = 0; head < kv.n_kv_heads; ++head, rows += of_values.bytes)
      ops::DecodeValues(kv, HeadAt<Codec>(rows, of_values), n_tokens, block + kv.ValueOffset(layer, head));
  }
}

}  // namespace spanwise::grouped
