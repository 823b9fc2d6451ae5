#include <algorithm>
#include <unordered_map>

#include "kv/evict/keyed_list.h"
#include "kv/evict/policies.h"

namespace spanwise::evict {
namespace {

class S3FifoPolicy final : public EvictionPolicy {
 public:
  explicit S3FifoPolicy(uint64_t capacity) : capacity_(capacity) {}

  void Use(const EntryUse& use) override {
    const auto [it, fresh] = uses_.try_emplace(use.key, 0);
    if (!fresh) {
      it->second = std::min(it->second + 1, 3);
      return;
    }
    (left_.Erase(use.key) ? main_ : small_).PushBack(use.key, use.bytes);
  }

  void Remove(const Hash256& key) override {
    if (!uses_.erase(key)) return;
    if (const uint64_t bytes = small_.Erase(key)) {
      left_.PushBack(key, bytes);
      left_.Trim(capacity_ - capacity_ / 10);
    } else {
      main_.Erase(key);
    }
  }

  std::optional<Hash256> Victim(const MayLeave& may_leave) override {
    // Each turn moves an entry to the back or takes a use from it: entries have at most 3, and move down once.
    for (size_t turns = 0, n = 5 * uses_.size(); turns < n; ++turns) {
      const bool small = main_.empty() || (!small_.empty() && small_.bytes() > capacity_ / 10);
      KeyedList& from = small ? small_ : main_;
      const KeyedList::Entry entry = from.front();
      int& uses = uses_.at(entry.key);
      if (small && uses > 0) {
        uses = 0;
        small_.Erase(entry.key);
        main_.PushBack(entry.key, entry.bytes);
        continue;
      }
      if (uses == 0 && may_leave(entry.key)) return entry.key;
      uses = std::max(0, uses - 1);
      from.MoveToBack(entry.key);
    }
    for (const KeyedList* list : {&small_, &main_})
      for (const KeyedList::Entry& entry : *list)
        if (may_leave(entry.key)) return entry.key;
    return std::nullopt;
  }

 private:
  const uint64_t capacity_;
  std::unordered_map<Hash256, int> uses_;  // since the entry came or was moved, at most 3
  KeyedList small_, main_, left_;          // first in first
};

}  // namespace

PolicyPtr S3Fifo(const EvictionOptions& options) { return std::make_unique<S3FifoPolicy>(options.capacity_bytes); }

}  // namespace spanwise::evict
