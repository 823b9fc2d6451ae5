// Attention's two products by matrix tiles (Intel AMX), for bf16 KV: scores of queries and a block's keys, and the sum
// of its values by weights.
//
// Queries and weights are rounded to bf16 first. A score is one chain over blocks of 32 elements, an output one over
// blocks of 32 tokens, as tiles.cc defines chains; tokens that a query does not see have weight zero and leave no
// trace. So a query's result does not depend on those beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/ops.h"

namespace spanwise::cpu {

// Whether attention of this shape is computed so.
bool AttendsByTiles(const AttentionShape& shape);

// Rounds n floats to bf16 in place: into the first half of their memory. REQUIRES: HasTiles(), n a multiple of 32.
void RoundToBf16InPlace(float* x, int n);

// The keys and values of a KV head in a block as kept; the first n_tokens may be seen.
struct TileBlock {
  const std::byte *keys, *values;
  int64_t ahead;  // bytes from here to where the next block's are; 0: there is none
  int n_tokens;
};

// REQUIRES, of all its calls: HasTiles(), head_dim a multiple of 32. Belongs to one thread, which has no other tiles
// while it lives.
class AttentionTiles {
 public:
  explicit AttentionTiles(int head_dim) : head_dim_(head_dim) {}
  ~AttentionTiles();
  AttentionTiles(const AttentionTiles&) = delete;
  AttentionTiles& operator=(const AttentionTiles&) = delete;

  // scores [n_queries, kKvBlockTokens] of the queries q [n_queries, head_dim], rounded in place each. Those of keys
  // that do not exist may be anything.
  void Scores(const TileBlock& block, const float* q, int n_queries, float* scores);

  // Takes a block's values to `room`, kKvBlockTokens * head_dim bf16 elements, for the next calls of AddValues.
  void SetValues(const TileBlock& block, std::byte* room);

  // o [n_queries, head_dim] += the values by weights [n_queries, kKvBlockTokens], rounded in place each, which are zero
  // where a token is not seen.
  void AddValues(const float* weights, int n_queries, float* o);

 private:
  void Set(int n_rows);
  void AddUnusual(const float* weights, int n_queries, float* o) const;

  const int head_dim_;
  int n_rows_ = 0;  // that the registers are set for
  TileBlock block_ = {};
  const std::byte* values_ = nullptr;  // pairs of tokens side by side: [2 halves of a block][head_dim / 16][16][32]
  bool unusual_ = false;               // some are not finite
};

}  // namespace spanwise::cpu
