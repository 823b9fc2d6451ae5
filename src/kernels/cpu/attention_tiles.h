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

// REQUIRES, of all its calls: HasTiles(), head_dim a multiple of 32. Belongs to one thread, which has no other tiles
// while it lives.
class AttentionTiles {
 public:
  explicit AttentionTiles(int head_dim) : head_dim_(head_dim) {}
  ~AttentionTiles();
  AttentionTiles(const AttentionTiles&) = delete;
  AttentionTiles& operator=(const AttentionTiles&) = delete;

  // scores [n_queries, kKvBlockTokens] of the queries q [n_queries, head_dim], rounded in place each, and of the first
  // n_tokens keys of a block as kept; `next` are those of the block that follows.
  void Scores(const float* q, int n_queries, const std::byte* keys, const std::byte* next, int n_tokens, float* scores);

  // Takes the first n_tokens values of a block as kept to `room`, kKvBlockTokens * head_dim bf16 elements, for the next
  // calls of AddValues.
  void SetValues(const std::byte* values, const std::byte* next, int n_tokens, std::byte* room);

  // o [n_queries, head_dim] += the values by weights [n_queries, kKvBlockTokens], rounded in place each, which are zero
  // where a token is not seen.
  void AddValues(const float* weights, int n_queries, float* o);

 private:
  void Set(int n_rows);
  void AddUnusual(const float* weights, int n_queries, float* o) const;

  const int head_dim_;
  int n_rows_ = 0;  // that the registers are set for
  const std::byte* kept_ = nullptr;
  const std::byte* values_ = nullptr;  // pairs of tokens side by side: [2 halves of a block][head_dim / 16][16][32]
  int n_tokens_ = 0;
  bool unusual_ = false;  // some are not finite
};

}  // namespace spanwise::cpu
