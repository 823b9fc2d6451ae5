#include <array>
#include <unordered_map>
#include <unordered_set>

#include "kv/evict/keyed_list.h"
#include "kv/evict/policies.h"

namespace spanwise::evict {
namespace {

constexpr double kTolerance = 1.02;

// A cache of keys alone that follows one policy faithfully, and which of the real cache's entries it does not have.
struct Shadow {
  PolicyPtr policy;
  std::unordered_map<Hash256, uint64_t> entries = {};  // bytes of each
  uint64_t bytes = 0;
  uint64_t missed_bytes = 0;
  KeyedList surplus = {};  // entries of the real cache that this one has dropped, earliest first

  void Drop(const Hash256& key) {
    const auto it = entries.find(key);
    bytes -= it->second;
    entries.erase(it);
    policy->Remove(key);
  }
};

class CombinePolicy final : public EvictionPolicy {
 public:
  CombinePolicy(uint64_t capacity, PolicyPtr first, PolicyPtr second)
      : capacity_(capacity), shadows_{Shadow{std::move(first)}, Shadow{std::move(second)}} {}

  void Use(const EntryUse& use) override {
    real_.insert(use.key);
    for (Shadow& shadow : shadows_) {
      if (!shadow.entries.contains(use.key)) {
        shadow.missed_bytes += use.bytes;
        while (!shadow.entries.empty() && shadow.bytes + use.bytes > capacity_) {
          const auto victim = shadow.policy->Victim([](const Hash256&) { return true; });
          Drop(shadow, *victim);
        }
        shadow.entries.emplace(use.key, use.bytes);
        shadow.bytes += use.bytes;
        shadow.surplus.Erase(use.key);
      }
      shadow.policy->Use(use);
    }
    const Shadow& other = shadows_[1 - followed_];
    if (static_cast<double>(shadows_[followed_].missed_bytes) >
        kTolerance * static_cast<double>(other.missed_bytes) + static_cast<double>(capacity_))
      followed_ = 1 - followed_;
  }

  void Expect(const Hash256& key) override {
    for (Shadow& shadow : shadows_) shadow.policy->Expect(key);
  }

  // The shadows keep their own entries.
  void Remove(const Hash256& key) override {
    real_.erase(key);
    for (Shadow& shadow : shadows_) shadow.surplus.Erase(key);
  }

  std::optional<Hash256> Victim(const MayLeave& may_leave) override {
    Shadow& shadow = shadows_[followed_];
    for (const KeyedList::Entry& entry : shadow.surplus)
      if (may_leave(entry.key)) return entry.key;
    // Nothing that the shadow dropped may leave: it makes the room now that it would make for the entry to come.
    while (const auto victim =
               shadow.policy->Victim([&](const Hash256& key) { return !real_.contains(key) || may_leave(key); })) {
      Drop(shadow, *victim);
      if (real_.contains(*victim)) return victim;
    }
    return std::nullopt;
  }

 private:
  void Drop(Shadow& shadow, const Hash256& key) {
    const uint64_t bytes = shadow.entries.at(key);
    shadow.Drop(key);
    if (real_.contains(key)) shadow.surplus.PushBack(key, bytes);
  }

  const uint64_t capacity_;
  std::array<Shadow, 2> shadows_;
  size_t followed_ = 0;
  std::unordered_set<Hash256> real_;
};

}  // namespace

PolicyPtr Combine(const EvictionOptions& options, PolicyPtr first, PolicyPtr second) {
  return std::make_unique<CombinePolicy>(options.capacity_bytes, std::move(first), std::move(second));
}

}  // namespace spanwise::evict
