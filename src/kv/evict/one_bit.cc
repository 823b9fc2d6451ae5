// The policies of specs "Paging with succinct predictions": two bits an entry.
#include <array>
#include <random>
#include <unordered_map>

#include "base/check.h"
#include "kv/evict/keyed_list.h"
#include "kv/evict/policies.h"

namespace spanwise::evict {
namespace {

class DiscardBitsPolicy final : public EvictionPolicy {
 public:
  void Use(const EntryUse& use) override {
    Remove(use.key);
    (use.discard ? discard_ : keep_).PushBack(use.key, use.bytes);
  }
  void Expect(const Hash256& key) override {
    if (const uint64_t bytes = discard_.Erase(key)) keep_.PushBack(key, bytes);
  }
  void Remove(const Hash256& key) override {
    if (!discard_.Erase(key)) keep_.Erase(key);
  }
  std::optional<Hash256> Victim(const MayLeave& may_leave) override {
    if (discard_.empty()) std::swap(discard_, keep_);
    for (const KeyedList* list : {&discard_, &keep_})
      for (const KeyedList::Entry& entry : *list)
        if (may_leave(entry.key)) return entry.key;
    return std::nullopt;
  }

 private:
  KeyedList discard_, keep_;  // by the last bit, latest last
};

// Mark0 marks entries at a use with a 0 bit, Mark&Predict at every use.
class MarkPolicy final : public EvictionPolicy {
 public:
  MarkPolicy(uint64_t seed, bool marks_discarded) : random_(seed), marks_discarded_(marks_discarded) {}

  void Use(const EntryUse& use) override {
    Remove(use.key);
    Insert(use.key, use.discard, use.discard && !marks_discarded_ ? kDiscard : kMarked);
  }
  void Expect(const Hash256& key) override {
    if (!entries_.contains(key)) return;
    Remove(key);
    Insert(key, false, kMarked);
  }
  void Remove(const Hash256& key) override {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return;
    const Entry entry = it->second;
    std::vector<Hash256>& keys = classes_[entry.in];
    keys[entry.at] = keys.back();
    entries_.at(keys[entry.at]).at = entry.at;
    keys.pop_back();
    entries_.erase(it);
  }

  std::optional<Hash256> Victim(const MayLeave& may_leave) override {
    if (classes_[kDiscard].empty() && classes_[kKeep].empty()) {  // a new phase
      std::vector<Hash256> marked;
      marked.swap(classes_[kMarked]);
      for (const Hash256& key : marked) {
        const bool discard = entries_.at(key).discard;
        Insert(key, discard, discard ? kDiscard : kKeep);
      }
    }
    // Marked ones only when no other may leave.
    for (std::vector<Hash256>& keys : classes_)
      for (size_t i = 0; i < keys.size(); ++i) {
        const size_t j = i + random_() % (keys.size() - i);
        std::swap(keys[i], keys[j]);
        entries_.at(keys[i]).at = i;
        entries_.at(keys[j]).at = j;
        if (may_leave(keys[i])) return keys[i];
      }
    return std::nullopt;
  }

 private:
  enum Class { kDiscard, kKeep, kMarked };  // the order in which they leave; the first two are unmarked
  struct Entry {
    bool discard = false;
    Class in = kDiscard;
    size_t at = 0;  // in classes_[in]
  };

  void Insert(const Hash256& key, bool discard, Class in) {
    entries_[key] = {discard, in, classes_[in].size()};
    classes_[in].push_back(key);
  }

  std::mt19937_64 random_;
  const bool marks_discarded_;
  std::unordered_map<Hash256, Entry> entries_;
  std::array<std::vector<Hash256>, 3> classes_;
};

}  // namespace

PolicyPtr Discard(const EvictionOptions&) { return std::make_unique<DiscardBitsPolicy>(); }
PolicyPtr Mark0(const EvictionOptions& options) { return std::make_unique<MarkPolicy>(options.seed, false); }
PolicyPtr MarkPredict(const EvictionOptions& options) { return std::make_unique<MarkPolicy>(options.seed, true); }

}  // namespace spanwise::evict
