// Attention as a textbook has it: one flat list of keys, absolute positions, a dense mask. It knows nothing of runs,
// bases, blocks or merging, and is therefore what span attention is tested against.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spanwise::ref {

struct MaskedDenseProblem {
  int n_queries = 0, n_keys = 0;
  int n_heads = 0, n_kv_heads = 0, head_dim = 0;
  double scale = 0;
  double softcap = 0;                           // 0: none
  std::span<const double> inverse_frequencies;  // [head_dim / 2]
  std::span<const float> q;                     // [n_queries, n_heads, head_dim], not rotated
  std::span<const float> k, v;                  // [n_keys, n_kv_heads, head_dim], not rotated
  std::span<const int64_t> q_positions;         // [n_queries]
  std::span<const int64_t> k_positions;         // [n_keys]
  std::vector<bool> mask;                       // [n_queries, n_keys], true where the query sees the key
};

// [n_queries, n_heads, head_dim], computed in double with queries and keys rotated at their absolute positions, pairs
// (i, i + head_dim / 2). REQUIRES: every query sees a key.
std::vector<double> MaskedDenseAttention(const MaskedDenseProblem& problem);

}  // namespace spanwise::ref
