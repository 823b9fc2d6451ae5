#include "kernels/rope.h"

#include <cmath>
#include <utility>

#include "base/check.h"

namespace spanwise {

Rotation::Rotation(int head_dim, std::vector<double> inverse_frequencies, double attention_scale)
    : inverse_frequencies_(std::move(inverse_frequencies)), attention_scale_(attention_scale) {
  SW_CHECK(head_dim % 2 == 0 && inverse_frequencies_.size() == static_cast<size_t>(head_dim) / 2);
}

void Rotation::Fill(std::span<const int32_t> positions, float* cos, float* sin) const {
  for (const int32_t position : positions) {
    for (const double frequency : inverse_frequencies_) {
      const double angle = position * frequency, scale = frequency == 0 ? 1 : attention_scale_;
      *cos++ = static_cast<float>(std::cos(angle) * scale);
      *sin++ = static_cast<float>(std::sin(angle) * scale);
    }
  }
}

}  // namespace spanwise
