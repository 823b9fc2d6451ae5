// Plain views of kept KV, the only thing kernels and the model know of it. `kv` fills them in; attention reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"
#include "tensor/panels.h"

namespace spanwise {

// KV is kept in blocks of this many tokens. Attention reduces keys block by block on this grid, counted from the start
// of a run, so a result never depends on how a run was filled (in one prefill, in chunks, by decoding, from a cache).
inline constexpr int kKvBlockTokens = 64;

// One layer's share of one block: keys then values, each n_kv_heads times HeadBytes() of the KV dtype. The values of a
// head are [kKvBlockTokens][head_dim]. Its keys lie as a weight matrix of kKvBlockTokens outputs and head_dim inputs
// does, in panels of 16 tokens (tensor/panels.h), so that scores are products that read them from one end to the other.
// The layer's bytes inside a block begin at KvGeometry::LayerBytes() * layer.
//
// A cut block has room for fewer tokens, whole panels of them (CutRows), and is laid out as if kKvBlockTokens were that
// many: what is kept of a run's end. `rows` is that number.
struct KvGeometry {
  int n_layers = 0;
  int n_kv_heads = 0;
  int head_dim = 0;            // even
  DType dtype = DType::kBf16;  // kF32 or kBf16

  // The least rows in which n_tokens tokens have room.
  static constexpr int CutRows(int n_tokens) { return (n_tokens + kPanelRows - 1) / kPanelRows * kPanelRows; }
  size_t HeadBytes(int rows = kKvBlockTokens) const {
    return static_cast<size_t>(rows) * static_cast<size_t>(head_dim) * DTypeBytes(dtype);
  }
  size_t LayerBytes(int rows = kKvBlockTokens) const { return 2 * static_cast<size_t>(n_kv_heads) * HeadBytes(rows); }
  size_t BlockBytes(int rows = kKvBlockTokens) const { return static_cast<size_t>(n_layers) * LayerBytes(rows); }
  // Offset of the keys (values) of one KV head of one layer inside a block.
  size_t KeyOffset(int layer, int head, int rows = kKvBlockTokens) const {
    return static_cast<size_t>(layer) * LayerBytes(rows) + static_cast<size_t>(head) * HeadBytes(rows);
  }
  size_t ValueOffset(int layer, int head, int rows = kKvBlockTokens) const {
    return KeyOffset(layer, head + n_kv_heads, rows);
  }
  // Where element i of the key of a block's token stands inside the keys of its head.
  size_t KeyElementOffset(int token, int i) const {
    const auto t = static_cast<size_t>(token), dim = static_cast<size_t>(head_dim);
    return t / kPanelRows * kPanelRows * dim * DTypeBytes(dtype) +
           PlainPanelOffset(dtype, t % kPanelRows, static_cast<size_t>(i));
  }
};

// A run: consecutive tokens that were encoded one after another. Token i stands at position base + i; its key is
// stored rotated by i (its position inside the run), so the run may be placed at any base without touching its keys.
// blocks[i / kKvBlockTokens] is the start of that block (all layers); rows past n_tokens are not initialised. The last
// block may be a cut one.
struct KvRun {
  std::span<const std::byte* const> blocks;
  int n_tokens = 0;
  int base = 0;
  int end_rows = kKvBlockTokens;  // of the last block

  int RowsOf(size_t block) const { return block + 1 == blocks.size() ? end_rows : kKvBlockTokens; }
};

}  // namespace spanwise
