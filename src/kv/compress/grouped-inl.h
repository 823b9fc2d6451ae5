// What codecs share that round groups of elements to codes (kernels/kv_code.h). Rows: for each layer the keys of each
// KV head, then the values of each; for each of these the groups' scales, their offsets if the code has any, the lines.
#pragma once

#include "kernels/ops.h"
#include "kv/compress/codec.h"

namespace spanwise::grouped {

inline size_t Parts(int whole, int part) { return static_cast<size_t>((whole + part - 1) / part); }

// One head's keys or values.
template <KvCode kCode>
struct Layout {
  size_t n_groups, n_lines;

  static Layout OfKeys(const KvGeometry& kv, int n_tokens) {
    const auto dim = static_cast<size_t>(kv.head_dim);
    return {dim, Parts(n_tokens, kPanelRows) * dim};
  }
  static Layout OfValues(const KvGeometry& kv, int n_tokens) {
    const auto n = static_cast<size_t>(n_tokens);
    return {n * Parts(kv.head_dim, kValuesPerGroup), n * Parts(kv.head_dim, kCodesPerLine)};
  }
  size_t head_bytes() const { return (HasOffsets(kCode) ? 4 : 2) * n_groups; }
  size_t bytes() const { return head_bytes() + n_lines * CodeLineBytes(kCode); }

  template <class Byte>
  CodedHeadOf<Byte> At(Byte* rows) const {
    return {.code = kCode,
            .scales = rows,
            .offsets = HasOffsets(kCode) ? rows + 2 * n_groups : nullptr,
            .lines = rows + head_bytes()};
  }
};

template <KvCode kCode>
size_t RowsBytes(const KvGeometry& kv, int n_tokens) {
  return static_cast<size_t>(kv.n_layers) * static_cast<size_t>(kv.n_kv_heads) *
         (Layout<kCode>::OfKeys(kv, n_tokens).bytes() + Layout<kCode>::OfValues(kv, n_tokens).bytes());
}

template <KvCode kCode>
void Encode(const KvGeometry& kv, const std::byte* block, int n_tokens, std::byte* rows) {
  const auto keys = Layout<kCode>::OfKeys(kv, n_tokens), values = Layout<kCode>::OfValues(kv, n_tokens);
  for (int layer = 0; layer < kv.n_layers; ++layer) {
    for (int head = 0; head < kv.n_kv_heads; ++head, rows += keys.bytes())
      ops::EncodeKeys(kv, block + kv.KeyOffset(layer, head), n_tokens, keys.At(rows));
    for (int head = 0; head < kv.n_kv_heads; ++head, rows += values.bytes())
      ops::EncodeValues(kv, block + kv.ValueOffset(layer, head), n_tokens, values.At(rows));
  }
}

template <KvCode kCode>
void Decode(const KvGeometry& kv, const std::byte* rows, int n_tokens, std::byte* block) {
  const auto keys = Layout<kCode>::OfKeys(kv, n_tokens), values = Layout<kCode>::OfValues(kv, n_tokens);
  for (int layer = 0; layer < kv.n_layers; ++layer) {
    for (int head = 0; head < kv.n_kv_heads; ++head, rows += keys.bytes())
      ops::DecodeKeys(kv, keys.At(rows), n_tokens, block + kv.KeyOffset(layer, head));
    for (int head = 0; head < kv.n_kv_heads; ++head, rows += values.bytes())
      ops::DecodeValues(kv, values.At(rows), n_tokens, block + kv.ValueOffset(layer, head));
  }
}

}  // namespace spanwise::grouped
