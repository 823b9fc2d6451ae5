// Keys in a row that can be found, moved and dropped in constant time.
#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace spanwise::evict {

// Thread-compatible.
class KeyedList {
 public:
  struct Entry {
    Hash256 key;
    uint64_t bytes;
  };

  // REQUIRES: the key is not there.
  void PushBack(const Hash256& key, uint64_t bytes) {
    SW_DCHECK(!Contains(key));
    where_.emplace(key, entries_.insert(entries_.end(), {key, bytes}));
    bytes_ += bytes;
  }
  // False when the key is not there.
  bool MoveToBack(const Hash256& key) {
    const auto it = where_.find(key);
    if (it == where_.end()) return false;
    entries_.splice(entries_.end(), entries_, it->second);
    return true;
  }
  // The bytes of what was dropped; 0 when the key is not there.
  uint64_t Erase(const Hash256& key) {
    const auto it = where_.find(key);
    if (it == where_.end()) return 0;
    const uint64_t bytes = it->second->bytes;
    bytes_ -= bytes;
    entries_.erase(it->second);
    where_.erase(it);
    return bytes;
  }
  bool Contains(const Hash256& key) const { return where_.contains(key); }
  bool empty() const { return entries_.empty(); }
  size_t size() const { return where_.size(); }
  uint64_t bytes() const { return bytes_; }
  const Entry& front() const { return entries_.front(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

  // Drops entries from the front until at most `bytes` are left.
  void Trim(uint64_t bytes) {
    while (bytes_ > bytes) Erase(Hash256(entries_.front().key));
  }

 private:
  std::list<Entry> entries_;
  std::unordered_map<Hash256, std::list<Entry>::iterator> where_;
  uint64_t bytes_ = 0;
};

}  // namespace spanwise::evict
