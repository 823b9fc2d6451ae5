// Cosines and sines of rotary position embeddings, from plain frequencies.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spanwise {

// Rotates pair (i, i + head_dim / 2) at position p by the angle p * inverse_frequencies[i]. attention_scale multiplies
// cosine and sine alike (YaRN's magnitude factor), except where the frequency is 0 and nothing turns. Angles are
// reduced in double, so a table is good to float32's precision at every int32 position, negative ones included.
// Immutable, thread-safe.
class Rotation {
 public:
  // REQUIRES: inverse_frequencies.size() == head_dim / 2, head_dim even.
  Rotation(int head_dim, std::vector<double> inverse_frequencies, double attention_scale = 1);

  int head_dim() const { return 2 * static_cast<int>(inverse_frequencies_.size()); }
  std::span<const double> inverse_frequencies() const { return inverse_frequencies_; }
  double attention_scale() const { return attention_scale_; }

  // Fills row r of both tables, [positions.size(), head_dim / 2], for positions[r]: what RotationTable points at.
  void Fill(std::span<const int32_t> positions, float* cos, float* sin) const;

 private:
  std::vector<double> inverse_frequencies_;
  double attention_scale_;
};

}  // namespace spanwise
