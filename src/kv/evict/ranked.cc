// Policies that give every entry a number at its use, and drop the lowest.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "kv/evict/policies.h"

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
    entry.rank = {Value(use, entry.n_uses), ++now_, use.key};
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
      Chosen(rank.value);
      return rank.key;
    }
    return std::nullopt;
  }

 private:
  // The entry with the lowest value leaves first. `n_uses` counts from its arrival, this use included.
  virtual double Value(const EntryUse& use, uint64_t n_uses) const = 0;
  virtual void Chosen(double value) { static_cast<void>(value); }

  struct Entry {
    Rank rank;
    uint64_t n_uses = 0;
  };
  std::unordered_map<Hash256, Entry> entries_;
  std::set<Rank> order_;
  uint64_t now_ = 0;
};

class LfuPolicy final : public RankedPolicy {
  double Value(const EntryUse&, uint64_t n_uses) const override { return static_cast<double>(n_uses); }
};

class GdsfPolicy final : public RankedPolicy {
  double Value(const EntryUse& use, uint64_t n_uses) const override {
    return age_ + static_cast<double>(n_uses) * use.cost / static_cast<double>(use.bytes);
  }
  void Chosen(double value) override { age_ = std::max(age_, value); }
  double age_ = 0;
};

class BeladyPolicy final : public RankedPolicy {
  double Value(const EntryUse& use, uint64_t) const override { return -static_cast<double>(use.next_use); }
};

}  // namespace

PolicyPtr Lfu(const EvictionOptions&) { return std::make_unique<LfuPolicy>(); }
PolicyPtr Gdsf(const EvictionOptions&) { return std::make_unique<GdsfPolicy>(); }
PolicyPtr Belady(const EvictionOptions&) { return std::make_unique<BeladyPolicy>(); }

}  // namespace spanwise::evict
