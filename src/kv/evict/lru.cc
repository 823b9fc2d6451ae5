#include "kv/evict/keyed_list.h"
#include "kv/evict/policies.h"

namespace spanwise::evict {
namespace {

class LruPolicy final : public EvictionPolicy {
 public:
  void Use(const EntryUse& use) override {
    if (!ages_.MoveToBack(use.key)) ages_.PushBack(use.key, use.bytes);
  }
  void Remove(const Hash256& key) override { ages_.Erase(key); }
  std::optional<Hash256> Victim(const MayLeave& may_leave) override {
    for (const KeyedList::Entry& entry : ages_)
      if (may_leave(entry.key)) return entry.key;
    return std::nullopt;
  }

 private:
  KeyedList ages_;
};

}  // namespace

PolicyPtr Lru(const EvictionOptions&) { return std::make_unique<LruPolicy>(); }

}  // namespace spanwise::evict
