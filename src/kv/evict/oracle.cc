#include "kv/evict/oracle.h"

#include <set>
#include <utility>

#include "base/check.h"
#include "kv/evict/policy.h"

namespace spanwise::evict {

std::vector<uint64_t> NextUses(std::span<const uint32_t> trace, uint32_t n_ids) {
  std::vector<uint64_t> next(trace.size()), seen(n_ids, EntryUse::kNever);
  for (size_t i = trace.size(); i-- > 0;) next[i] = std::exchange(seen[trace[i]], i);
  return next;
}

std::vector<bool> DiscardBits(std::span<const uint32_t> trace, uint32_t n_ids, uint32_t n_entries, uint64_t* n_misses) {
  SW_CHECK(n_entries > 0);
  const std::vector<uint64_t> next = NextUses(trace, n_ids);
  std::vector<bool> discard(trace.size(), false);
  std::vector<uint64_t> last(n_ids);                // place of an id's last use
  std::set<std::pair<uint64_t, uint32_t>> entries;  // by next use
  uint64_t misses = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    const uint32_t id = trace[i];
    if (!entries.erase({i, id})) {
      ++misses;
      if (entries.size() == n_entries) {
        const auto farthest = std::prev(entries.end());
        discard[last[farthest->second]] = true;
        entries.erase(farthest);
      }
    }
    if (next[i] == EntryUse::kNever) discard[i] = true;
    entries.insert({next[i], id});
    last[id] = i;
  }
  if (n_misses) *n_misses = misses;
  return discard;
}

std::vector<bool> PhaseBits(std::span<const uint32_t> trace, uint32_t n_ids, uint32_t n_entries) {
  SW_CHECK(n_entries > 0);
  std::vector<uint64_t> phase(trace.size());
  std::vector<uint64_t> seen(n_ids, EntryUse::kNever);
  uint64_t current = 0;
  uint32_t n_distinct = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    if (seen[trace[i]] != current) {
      if (n_distinct == n_entries) {
        ++current;
        n_distinct = 0;
      }
      ++n_distinct;
      seen[trace[i]] = current;
    }
    phase[i] = current;
  }
  // Backwards: the first phase after this place's own in which the id is used.
  std::vector<bool> bits(trace.size(), true);
  std::vector<uint64_t> latest(n_ids, EntryUse::kNever), after(n_ids, EntryUse::kNever);
  for (size_t i = trace.size(); i-- > 0;) {
    const uint32_t id = trace[i];
    if (latest[id] != phase[i]) after[id] = std::exchange(latest[id], phase[i]);
    bits[i] = after[id] != phase[i] + 1;
  }
  return bits;
}

}  // namespace spanwise::evict
