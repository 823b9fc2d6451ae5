// Inverse frequencies of rotary positions for each scaling a model may ask for.
#pragma once

#include <vector>

#include "formats/model_config.h"

namespace spanwise {

struct RopeFrequencies {
  std::vector<double> inverse;   // [head_dim / 2]: the angle of pair i at position p is p * inverse[i]; 0: never turns
  double attention_scale = 1.0;  // multiplies cosines and sines of the pairs that turn, in queries and keys alike
};

// Formulas: RoFormer (plain), position interpolation (linear), the Llama 3.1 release (llama3), the YaRN paper (yarn),
// in the form transformers' modeling_rope_utils.py gives them. The first rotary_dim / 2 pairs of a head turn.
RopeFrequencies MakeRopeFrequencies(const RopeConfig& rope, int rotary_dim, int head_dim, int max_positions);

// Every dimension of a head, in the order in which they are kept: pairs are (i, i + head_dim / 2) for all heads, so a
// head of which only a part turns has its dimensions reordered, the same for queries and keys.
std::vector<int> HeadOrder(int rotary_dim, int head_dim);

}  // namespace spanwise
