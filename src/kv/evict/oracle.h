// What is known of a trace in hindsight: when each entry is used next, and the bits that the best policy implies.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spanwise::evict {

// For each place of a trace the place where the same id comes next, EntryUse::kNever when it does not.
// REQUIRES: ids below n_ids.
std::vector<uint64_t> NextUses(std::span<const uint32_t> trace, uint32_t n_ids);

// For each place of a trace whether the best policy (Belady's), with room for `n_entries` entries of one size, drops
// the entry before its next use. One that is not used again is dropped. *n_misses, if given, is how often that policy
// misses. REQUIRES: n_entries > 0.
std::vector<bool> DiscardBits(std::span<const uint32_t> trace, uint32_t n_ids, uint32_t n_entries,
                              uint64_t* n_misses = nullptr);

// For each place whether the id is not used in the next phase, phases being cut greedily so that each has uses of
// n_entries ids: the bits of Mark&Predict.
std::vector<bool> PhaseBits(std::span<const uint32_t> trace, uint32_t n_ids, uint32_t n_entries);

}  // namespace spanwise::evict
