// What a folder of spans holds, inside one transaction: records, and when each was last used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kv/span.h"
#include "kv/tiers/lmdb.h"
#include "spanwise/status.h"

namespace spanwise {

// What a folder may grow to: of addresses, not of memory or disk. One for all, so that processes that share it agree.
inline constexpr uint64_t kSpanMapBytes = uint64_t{256} << 30;

// The key of a record: its parent's address, then its tokens, each as four bytes, the highest first. So what follows
// one span stands together, in the order of its tokens, and the longest common beginning is beside where one looks.
struct TableKey {
  SpanKey parent;
  std::vector<int32_t> tokens;
};
std::string EncodeKey(const SpanKey& parent, std::span<const int32_t> tokens);
Result<TableKey> DecodeKey(std::string_view key);  // Corruption

// Thread-compatible; must not outlive the transaction. Those that change something need one that writes. All three
// tables name the same spans: `uses` says when each was last used, by a clock that counts, and `ages` the reverse.
class SpanTables {
 public:
  SpanTables(const lmdb::Env& env, const lmdb::Txn& txn) : env_(env), txn_(txn) {}

  // Adds a record, as used now; one with the same key that differs is damaged, and replaced. Nothing where a longer one
  // of the same parent begins with the same tokens: that one counts as used instead; a shorter one with which it begins
  // is removed. Whether it was added.
  Result<bool> Put(std::string_view key, std::span<const std::byte> record);
  // Whether it was there.
  Result<bool> Remove(std::string_view key);
  // Nothing where it is not there.
  Status Touch(std::string_view key);
  // Removes the span used longest ago, or the end of its chain: nothing can be found behind a span that is gone. False
  // when there is none.
  Result<bool> EvictOne();

  // When the span used last was used; 0: there is none.
  Result<uint64_t> LastUse() const;
  // Removes what was not used after then. Returns how many.
  Result<uint64_t> RemoveUnusedSince(uint64_t use);

 private:
  Status SetUse(std::string_view key, uint64_t use);
  Result<uint64_t> NextUse();

  const lmdb::Env& env_;
  const lmdb::Txn& txn_;
  uint64_t last_use_ = 0;  // 0: not read yet
};

}  // namespace spanwise
