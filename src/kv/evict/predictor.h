// Predicts EntryUse::discard from how often an entry was used of late, and for how long the cache keeps what it drops.
#pragma once

#include <cstdint>

#include "base/hash.h"
#include "kv/evict/policies.h"
#include "kv/evict/sketch.h"

namespace spanwise::evict {

// Time is counted in uses. Thread-compatible.
class DiscardPredictor {
 public:
  // For a cache of about n_entries entries, at least 1.
  explicit DiscardPredictor(uint64_t n_entries);

  // Counts a use. Whether the entry is expected to be used again only after the cache would have dropped it.
  bool Use(const Hash256& key);

  // An entry whose last use was at `used` (now() then) was dropped.
  void Dropped(uint64_t used);

  uint64_t now() const { return now_; }
  double age_of_victims() const { return age_; }  // about the median

 private:
  DecayingSketch uses_;
  uint64_t now_ = 0;
  double age_;
};

// The policy with EntryUse::discard also set where the predictor says so.
PolicyPtr WithPredictedBits(const EvictionOptions& options, PolicyPtr policy);

}  // namespace spanwise::evict
