// Inverse frequencies of rotary positions for each scaling a model may ask for.
#pragma once

#include <vector>

#include "formats/model_config.h"

namespace spanwise {

struct RopeFrequencies {
  std::vector<double> inverse;   // [head_dim / 2]: the angle of pair i at position p is p * inverse[i]
  double attention_scale = 1.0;  // multiplies cosines and sines of queries and keys alike (YaRN)
};

// Formulas: RoFormer (plain), position interpolation (linear), the Llama 3.1 release (llama3), the YaRN paper (yarn),
// in the form transformers' modeling_rope_utils.py gives them.
RopeFrequencies MakeRopeFrequencies(const RopeConfig& rope, int head_dim, int max_positions);

}  // namespace spanwise
