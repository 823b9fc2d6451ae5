// The policies behind MakeEvictionPolicy (policy.h): one function each. `capacity` in bytes.
#pragma once

#include <memory>

#include "kv/evict/policy.h"

namespace spanwise::evict {

using PolicyPtr = std::unique_ptr<EvictionPolicy>;

// Least recently used first.
PolicyPtr Lru(const EvictionOptions& options);

// Least often used since it came first; of equals the least recently used.
PolicyPtr Lfu(const EvictionOptions& options);

// Greedy-Dual-Size-Frequency (Cherkasova 1998): least uses times cost per byte first, counted from the rank of the last
// victim, so that what was once popular grows old.
PolicyPtr Gdsf(const EvictionOptions& options);

// The same with uses counted in a sketch whose counts decay, so that an entry that comes back is known, and with
// entries that waiting requests will use kept.
PolicyPtr GdsfDecay(const EvictionOptions& options);

// The oracle: used again last first (Belady 1966). Optimal for entries of one size and cost.
PolicyPtr Belady(const EvictionOptions& options);

// Adaptive replacement cache (Megiddo and Modha, FAST 2003): entries used once and entries used again, and a target for
// the share of the first, moved by what is missed among those that have left.
PolicyPtr Arc(const EvictionOptions& options);

// Two first-in-first-out queues (Yang et al., SOSP 2023): new entries pass a small one, of a tenth of the capacity, and
// stay when they were used there or had left not long ago.
PolicyPtr S3Fifo(const EvictionOptions& options);

// Paging with succinct predictions (Antoniadis et al., ICML 2023). With eta0 and eta1 the wrong 0 and 1 bits of
// EntryUse::discard, entries of one size, k to the cache, and misses counted:

// Any entry whose last bit is 1; when there is none, all entries count as such. At most OPT + (k-1) eta0 + eta1.
PolicyPtr Discard(const EvictionOptions& options);

// A random entry whose last bit is 1; when there is none, marking among the others. In expectation at most
// OPT + 2 H_k eta0 + eta1.
PolicyPtr Mark0(const EvictionOptions& options);

// Marking that drops unmarked entries whose last bit is 1 first. Its bits mean "not used in the next phase": with eta0
// and eta1 the wrong ones of those, in expectation at most 2 OPT + H_k eta0 + eta1, and O(log k) OPT in any case.
PolicyPtr MarkPredict(const EvictionOptions& options);

// Follows one of two policies, simulated on keys alone, and changes over when its misses exceed the other's by more
// than 2 % and a cacheful, which may cost another cacheful of misses. So hardly worse than the better one, whatever the
// bits, unless they take the lead by turns.
PolicyPtr Combine(const EvictionOptions& options, PolicyPtr first, PolicyPtr second);

}  // namespace spanwise::evict
