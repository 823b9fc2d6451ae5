// Plain views of kept KV, the only thing kernels and the model know of it. `kv` fills them in; attention reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace spanwise {

// KV is kept in blocks of this many tokens. Attention reduces keys block by block on this grid, counted from the start
// of a run, so a result never depends on how a run was filled (in one prefill, in chunks, by decoding, from a cache).
inline constexpr int kKvBlockTokens = 64;

// One layer's share of one block: keys then values, each [n_kv_heads][kKvBlockTokens][head_dim] of the KV dtype.
// The layer's bytes inside a block begin at KvGeometry::LayerBytes() * layer.
struct KvGeometry {
  int n_layers = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  DType dtype = DType::kBf16;  // kF32 or kBf16

  size_t HeadBytes() const { return size_t{kKvBlockTokens} * static_cast<size_t>(head_dim) * DTypeBytes(dtype); }
  size_t LayerBytes() const { return 2 * static_cast<size_t>(n_kv_heads) * HeadBytes(); }
  size_t BlockBytes() const { return static_cast<size_t>(n_layers) * LayerBytes(); }
  // Offset of the keys (values) of one KV head of one layer inside a block.
  size_t KeyOffset(int layer, int head) const {
    return static_cast<size_t>(layer) * LayerBytes() + static_cast<size_t>(head) * HeadBytes();
  }
  size_t ValueOffset(int layer, int head) const { return KeyOffset(layer, head + n_kv_heads); }
};

// A run: consecutive tokens that were encoded one after another. Token i stands at position base + i; its key is
// stored rotated by i (its position inside the run), so the run may be placed at any base without touching its keys.
// blocks[i / kKvBlockTokens] is the start of that block (all layers); rows past n_tokens are not initialised.
struct KvRun {
  std::span<const std::byte* const> blocks;
  int n_tokens = 0;
  int base = 0;
};

}  // namespace spanwise
