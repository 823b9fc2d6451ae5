// How often keys were used of late: a count-min sketch whose counts decay.
#pragma once

#include <cstdint>
#include <vector>

#include "base/hash.h"

namespace spanwise::evict {

// Counts in fixed memory, of what has left the cache too; a count may be too high, by what other keys share with it,
// and never too low. Time is counted in uses. Thread-compatible.
class DecayingSketch {
 public:
  // For a cache of about n_entries entries; counts halve every `half_life` cachefuls of uses.
  DecayingSketch(uint64_t n_entries, double half_life);

  // Counts a use; the key's count with it, at least about 1.
  double Add(const Hash256& key);

  double half_life_uses() const { return half_life_; }

 private:
  float& Count(const Hash256& key, size_t row);

  const uint64_t mask_;
  const double half_life_;
  std::vector<float> counts_;  // rows one after another; in units that grow with time, so that old counts need no visit
  double unit_ = 1;
};

}  // namespace spanwise::evict
