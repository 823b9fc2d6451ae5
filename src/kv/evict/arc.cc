#include <algorithm>

#include "kv/evict/keyed_list.h"
#include "kv/evict/policies.h"

namespace spanwise::evict {
namespace {

class ArcPolicy final : public EvictionPolicy {
 public:
  explicit ArcPolicy(uint64_t capacity) : capacity_(capacity) {}

  void Use(const EntryUse& use) override {
    if (again_.MoveToBack(use.key)) return;
    if (once_.Erase(use.key)) {
      again_.PushBack(use.key, use.bytes);
    } else if (left_once_.Contains(use.key)) {
      const double step = Step(left_again_, left_once_) * static_cast<double>(use.bytes);
      target_ = std::min(target_ + step, static_cast<double>(capacity_));
      left_once_.Erase(use.key);
      again_.PushBack(use.key, use.bytes);
    } else if (left_again_.Contains(use.key)) {
      target_ = std::max(0.0, target_ - Step(left_once_, left_again_) * static_cast<double>(use.bytes));
      left_again_.Erase(use.key);
      again_.PushBack(use.key, use.bytes);
    } else {
      once_.PushBack(use.key, use.bytes);
    }
    // What is remembered of both kinds: a capacity of those used once, two of all.
    left_once_.Trim(Beyond(capacity_, once_.bytes()));
    left_again_.Trim(Beyond(2 * capacity_, once_.bytes() + again_.bytes() + left_once_.bytes()));
  }

  void Remove(const Hash256& key) override {
    if (const uint64_t bytes = once_.Erase(key)) {
      left_once_.PushBack(key, bytes);
    } else if (const uint64_t often = again_.Erase(key)) {
      left_again_.PushBack(key, often);
    }
  }

  std::optional<Hash256> Victim(const MayLeave& may_leave) override {
    const bool from_once = !once_.empty() && static_cast<double>(once_.bytes()) > target_;
    for (const KeyedList* list : {from_once ? &once_ : &again_, from_once ? &again_ : &once_})
      for (const KeyedList::Entry& entry : *list)
        if (may_leave(entry.key)) return entry.key;
    return std::nullopt;
  }

 private:
  static double Step(const KeyedList& other, const KeyedList& found_in) {
    return std::max(1.0, static_cast<double>(other.bytes()) / static_cast<double>(found_in.bytes()));
  }
  static uint64_t Beyond(uint64_t whole, uint64_t part) { return whole > part ? whole - part : 0; }

  const uint64_t capacity_;
  double target_ = 0;  // bytes that once_ should have
  // Least recently used first; left_* hold the keys of what has left, latest last.
  KeyedList once_, again_, left_once_, left_again_;
};

}  // namespace

PolicyPtr Arc(const EvictionOptions& options) { return std::make_unique<ArcPolicy>(options.capacity_bytes); }

}  // namespace spanwise::evict
