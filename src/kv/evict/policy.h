// What leaves a cache when it needs room: replacement policies behind one interface. A policy decides and returns data;
// whoever owns the entries removes them. One row of the table in policy.cc a policy.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "spanwise/status.h"

namespace spanwise {

// One use of an entry.
struct EntryUse {
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  Hash256 key;
  uint64_t bytes = 1;          // that its removal gives back, at least 1
  double cost = 1;             // of making it again, in any unit; above 0
  bool discard = false;        // predicted: the best of all policies would drop it before its next use
  uint64_t next_use = kNever;  // when that is, in any increasing count; only the oracle is told, and only it looks
};

// Ranks the entries of one cache. Deterministic: equal calls give equal answers. Thread-compatible.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  // An entry is used: one that is there, or one that is new and takes its place now.
  virtual void Use(const EntryUse& use) = 0;

  // A request that waits will use this entry, if it is there: it is no longer to be discarded.
  virtual void Expect(const Hash256& key) { static_cast<void>(key); }

  // An entry has left, as a victim or otherwise; nothing happens when it is not there.
  virtual void Remove(const Hash256& key) = 0;

  // Which entry should leave first among those that may; nullopt when none may. `may_leave` is asked about one entry
  // after another in the policy's order. The entry stays until Remove, which may as well name another one.
  using MayLeave = std::function<bool(const Hash256& key)>;
  virtual std::optional<Hash256> Victim(const MayLeave& may_leave) = 0;
};

struct EvictionOptions {
  uint64_t capacity_bytes = 0;  // of the cache; some policies remember as many bytes of entries that have left
  uint64_t entry_bytes = 1;     // of a usual entry; above 0
  uint64_t seed = 1;            // of the randomised policies
  bool knows_future = false;    // EntryUse::next_use is set: allows the oracle
  bool predict_bits = false;    // sets EntryUse::discard by DiscardPredictor too, for policies that look at it

  uint64_t n_entries() const { return std::max<uint64_t>(1, capacity_bytes / entry_bytes); }
};

// What it costs to compute `tokens` tokens of a run again after the first `position` of it, in tokens at its beginning:
// a token's attention costs as much as all its products with weights after some 32768 tokens (of an 8B Llama).
inline double RecomputeCost(double tokens, double position) { return tokens * (1 + (position + tokens / 2) / 32768); }

// What computed the fewest tokens again on traces of questions about documents (docs/replacement.md).
inline constexpr std::string_view kDefaultEvictionPolicy = "gdsf-decay";

// The policy of that name. InvalidArgument lists the names there are.
Result<std::unique_ptr<EvictionPolicy>> MakeEvictionPolicy(std::string_view name, const EvictionOptions& options);

// The names, in the order of the table.
std::vector<std::string_view> EvictionPolicyNames();

// Whether a policy decides by EntryUse::discard. REQUIRES: a name of the table.
bool UsesDiscardBits(std::string_view name);

}  // namespace spanwise
