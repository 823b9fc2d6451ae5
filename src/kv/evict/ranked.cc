// Policies that give every entry a number at its use, and drop the lowest.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "kv/evict/policies.h"
#include "kv/evict/sketch.h"

namespace spanwise::evict {
namespace {

struct Rank {
  double value = 0;
  uint64_t time = 0;  // of equals the one used longest ago goes first
  Hash256 key;
  auto operator<=>(const Rank&) const = default;
};

class RankedPolicy : public EvictionPolicy {
 public:
  void Use(const EntryUse& use) final {
    const auto [it, fresh] = entries_.try_emplace(use.key);
    Entry& entry = it->second;
    if (!fresh) order_.erase(entry.rank);
    ++entry.n_uses;
    entry.worth = Worth(use, entry.n_uses);
    entry.rank = {age_ + entry.worth, ++now_, use.key};
    order_.insert(entry.rank);
  }
  void Expect(const Hash256& key) final {
    const auto it = entries_.find(key);
    if (it == entries_.end() || expected_uses_ == 0) return;
    Entry& entry = it->second;
    order_.erase(entry.rank);
    entry.rank.value = std::max(entry.rank.value, age_ + expected_uses_ * entry.worth);
    order_.insert(entry.rank);
  }
  void Remove(const Hash256& key) final {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return;
    order_.erase(it->second.rank);
    entries_.erase(it);
  }
  std::optional<Hash256> Victim(const MayLeave& may_leave) final {
    for (const Rank& rank : order_) {
      if (!may_leave(rank.key)) continue;
      if (ages_) age_ = std::max(age_, rank.value);
      return rank.key;
    }
    return std::nullopt;
  }

 protected:
  // With `ages`, worth counts from the rank of the last victim, so that what was once worth much grows old; an entry
  // that is expected then counts for at least expected_uses times its worth.
  explicit RankedPolicy(bool ages = false, double expected_uses = 0) : ages_(ages), expected_uses_(expected_uses) {}

 private:
  // The entry worth least leaves first. `n_uses` counts from its arrival, this use included.
  virtual double Worth(const EntryUse& use, uint64_t n_uses) = 0;

  struct Entry {
    Rank rank;
    double worth = 0;
    uint64_t n_uses = 0;
  };
  const bool ages_;
  const double expected_uses_;
  double age_ = 0;
  uint64_t now_ = 0;
  std::unordered_map<Hash256, Entry> entries_;
  std::set<Rank> order_;
};

double CostPerByte(const EntryUse& use) { return use.cost / static_cast<double>(use.bytes); }

class LfuPolicy final : public RankedPolicy {
  double Worth(const EntryUse&, uint64_t n_uses) override { return static_cast<double>(n_uses); }
};

class GdsfPolicy final : public RankedPolicy {
 public:
  GdsfPolicy() : RankedPolicy(true) {}

 private:
  double Worth(const EntryUse& use, uint64_t n_uses) override { return static_cast<double>(n_uses) * CostPerByte(use); }
};

class GdsfDecayPolicy final : public RankedPolicy {
 public:
  explicit GdsfDecayPolicy(const EvictionOptions& options)
      : RankedPolicy(true, kExpectedUses), uses_(options.n_entries(), kHalfLife) {}

 private:
  static constexpr double kHalfLife = 8, kExpectedUses = 16;
  double Worth(const EntryUse& use, uint64_t) override { return uses_.Add(use.key) * CostPerByte(use); }
  DecayingSketch uses_;
};

class BeladyPolicy final : public RankedPolicy {
  double Worth(const EntryUse& use, uint64_t) override { return -static_cast<double>(use.next_use); }
};

}  // namespace

PolicyPtr Lfu(const EvictionOptions&) { return std::make_unique<LfuPolicy>(); }
PolicyPtr Gdsf(const EvictionOptions&) { return std::make_unique<GdsfPolicy>(); }
PolicyPtr GdsfDecay(const EvictionOptions& options) { return std::make_unique<GdsfDecayPolicy>(options); }
PolicyPtr Belady(const EvictionOptions&) { return std::make_unique<BeladyPolicy>(); }

}  // namespace spanwise::evict
