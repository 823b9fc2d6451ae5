#include "kv/evict/sketch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace spanwise::evict {
namespace {

constexpr size_t kRows = 4;
constexpr uint64_t kMinColumns = 1 << 10, kMaxColumns = 1 << 22;

}  // namespace

DecayingSketch::DecayingSketch(uint64_t n_entries, double half_life)
    : mask_(std::bit_ceil(std::clamp(8 * std::min(n_entries, kMaxColumns), kMinColumns, kMaxColumns)) - 1),
      half_life_(half_life * static_cast<double>(std::max<uint64_t>(n_entries, 1))),
      counts_(kRows * (mask_ + 1)) {}

float& DecayingSketch::Count(const Hash256& key, size_t row) {
  uint64_t bits;
  std::memcpy(&bits, key.bytes.data() + 8 * row, sizeof bits);
  return counts_[row * (mask_ + 1) + (bits & mask_)];
}

double DecayingSketch::Add(const Hash256& key) {
  unit_ *= std::exp2(1 / half_life_);
  if (unit_ > 1e18) {
    for (float& count : counts_) count = static_cast<float>(count / unit_);
    unit_ = 1;
  }
  float least = Count(key, 0);
  for (size_t row = 1; row < kRows; ++row) least = std::min(least, Count(key, row));
  const float count = least + static_cast<float>(unit_);
  for (size_t row = 0; row < kRows; ++row) Count(key, row) = std::max(Count(key, row), count);
  return count / unit_;
}

}  // namespace spanwise::evict
