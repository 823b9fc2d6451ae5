#include <cstring>

#include "kv/compress/codec.h"
#include "tensor/panels.h"

namespace spanwise {
namespace {

size_t Heads(const KvGeometry& kv) { return kv.BlockBytes() / kv.HeadBytes(); }

size_t RowsBytes(const KvGeometry& kv, int n_tokens) { return kv.BlockBytes(KvGeometry::CutRows(n_tokens)); }

// Past the last token: memory that other spans may have used before.
void ClearUnused(const KvGeometry& kv, int n_tokens, std::byte* rows) {
  const int end = KvGeometry::CutRows(n_tokens);
  const size_t head = kv.HeadBytes(end), row = kv.HeadBytes(1);
  for (int layer = 0; layer < kv.n_layers; ++layer)
    for (int h = 0; h < 2 * kv.n_kv_heads; ++h, rows += head) {
      if (h >= kv.n_kv_heads) {
        std::memset(rows + static_cast<size_t>(n_tokens) * row, 0, static_cast<size_t>(end - n_tokens) * row);
        continue;
      }
      for (int token = n_tokens; token < end; ++token)
        for (int i = 0; i < kv.head_dim; ++i)
          std::memset(rows + kv.KeyElementOffset(token, i), 0, DTypeBytes(kv.dtype));
    }
}

void Encode(const KvGeometry& kv, const std::byte* block, int n_tokens, std::byte* rows) {
  const size_t head = kv.HeadBytes(KvGeometry::CutRows(n_tokens));
  for (size_t i = 0; i < Heads(kv); ++i) std::memcpy(rows + i * head, block + i * kv.HeadBytes(), head);
  if (n_tokens % kPanelRows != 0) ClearUnused(kv, n_tokens, rows);
}

void Decode(const KvGeometry& kv, const std::byte* rows, int n_tokens, std::byte* block) {
  const size_t head = kv.HeadBytes(KvGeometry::CutRows(n_tokens));
  for (size_t i = 0; i < Heads(kv); ++i) std::memcpy(block + i * kv.HeadBytes(), rows + i * head, head);
}

}  // namespace

constinit const SpanCodec kAsIs = {"none", /*exact=*/true, RowsBytes, Encode, Decode};

}  // namespace spanwise
