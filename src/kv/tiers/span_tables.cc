#include "kv/tiers/span_tables.h"

#include <algorithm>
#include <cstring>

#include "base/str.h"

namespace spanwise {
namespace {

constexpr size_t kParentBytes = sizeof(SpanKey);

template <typename T>
void AppendBigEndian(T number, std::string* out) {
  for (int shift = 8 * (int{sizeof(T)} - 1); shift >= 0; shift -= 8)
    *out += static_cast<char>(static_cast<unsigned char>(number >> shift));
}

template <typename T>
T BigEndian(std::string_view bytes) {
  T number = 0;
  for (const char c : bytes.substr(0, sizeof(T))) number = static_cast<T>(number << 8 | static_cast<unsigned char>(c));
  return number;
}

std::string UseKey(uint64_t use) {
  std::string key;
  AppendBigEndian(use, &key);
  return key;
}

std::string_view Chars(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool SameParent(std::string_view a, std::string_view b) {
  return a.substr(0, kParentBytes) == b.substr(0, kParentBytes);
}

}  // namespace

std::string EncodeKey(const SpanKey& parent, std::span<const int32_t> tokens) {
  std::string key;
  key.reserve(kParentBytes + 4 * tokens.size());
  key.append(reinterpret_cast<const char*>(parent.bytes.data()), parent.bytes.size());
  for (const int32_t token : tokens) AppendBigEndian(static_cast<uint32_t>(token), &key);
  return key;
}

Result<TableKey> DecodeKey(std::string_view bytes) {
  const size_t n = bytes.size() < kParentBytes ? 0 : (bytes.size() - kParentBytes) / 4;
  if (n < 1 || n > kKvBlockTokens || bytes.size() != kParentBytes + 4 * n)
    return Corruption(StrFormat("store of spans: a key of {} bytes", bytes.size()));
  TableKey key;
  key.tokens.reserve(n);
  std::memcpy(key.parent.bytes.data(), bytes.data(), kParentBytes);
  for (size_t i = 0; i < n; ++i)
    key.tokens.push_back(static_cast<int32_t>(BigEndian<uint32_t>(bytes.substr(kParentBytes + 4 * i))));
  return key;
}

Result<uint64_t> SpanTables::LastUse() const {
  lmdb::Cursor last(txn_, env_.ages);
  if (!last.Go(MDB_LAST)) {
    SW_RETURN_IF_ERROR(last.status());
    return uint64_t{0};
  }
  return BigEndian<uint64_t>(last.key());
}

Result<uint64_t> SpanTables::NextUse() {
  if (last_use_ == 0) {
    SW_ASSIGN_OR_RETURN(last_use_, LastUse());
  }
  return ++last_use_;
}

Status SpanTables::SetUse(std::string_view key, uint64_t use) {
  MDB_val k = lmdb::Val(key), v;
  const int code = mdb_get(txn_.get(), env_.uses, &k, &v);
  if (code == MDB_SUCCESS) {
    const std::string before(lmdb::Bytes(v));
    MDB_val old = lmdb::Val(before);
    if (const int gone = mdb_del(txn_.get(), env_.ages, &old, nullptr); gone != MDB_NOTFOUND)
      SW_RETURN_IF_ERROR(txn_.Check(gone));
  } else if (code != MDB_NOTFOUND) {
    return txn_.Check(code);
  }
  const std::string now = UseKey(use);
  v = lmdb::Val(now);
  SW_RETURN_IF_ERROR(txn_.Check(mdb_put(txn_.get(), env_.uses, &k, &v, 0)));
  MDB_val age = lmdb::Val(now);
  return txn_.Check(mdb_put(txn_.get(), env_.ages, &age, &k, 0));
}

Result<bool> SpanTables::Put(std::string_view key, std::span<const std::byte> record) {
  SW_ASSIGN_OR_RETURN(const uint64_t use, NextUse());
  std::string shorter;
  {
    lmdb::Cursor at(txn_, env_.spans);
    bool any = at.Go(MDB_SET_RANGE, key);
    const bool damaged = any && at.key() == key && at.value() != Chars(record);
    if (any && at.key().starts_with(key) && !damaged) {
      const std::string there(at.key());
      SW_RETURN_IF_ERROR(SetUse(there, use));
      return false;
    }
    // No record begins with another, so that one with which this begins stands right before it.
    any = any ? at.Go(MDB_PREV) : at.Go(MDB_LAST);
    SW_RETURN_IF_ERROR(at.status());
    if (any && at.key().size() > kParentBytes && key.starts_with(at.key())) shorter = at.key();
  }
  if (!shorter.empty()) SW_RETURN_IF_ERROR(Remove(shorter).status());
  MDB_val k = lmdb::Val(key), v{record.size(), const_cast<std::byte*>(record.data())};
  SW_RETURN_IF_ERROR(txn_.Check(mdb_put(txn_.get(), env_.spans, &k, &v, 0)));
  SW_RETURN_IF_ERROR(SetUse(key, use));
  return true;
}

Result<bool> SpanTables::Remove(std::string_view key) {
  MDB_val k = lmdb::Val(key), v;
  int code = mdb_get(txn_.get(), env_.uses, &k, &v);
  if (code == MDB_SUCCESS) {
    const std::string use(lmdb::Bytes(v));
    MDB_val age = lmdb::Val(use);
    if (const int gone = mdb_del(txn_.get(), env_.ages, &age, nullptr); gone != MDB_NOTFOUND)
      SW_RETURN_IF_ERROR(txn_.Check(gone));
    SW_RETURN_IF_ERROR(txn_.Check(mdb_del(txn_.get(), env_.uses, &k, nullptr)));
  } else if (code != MDB_NOTFOUND) {
    return txn_.Check(code);
  }
  code = mdb_del(txn_.get(), env_.spans, &k, nullptr);
  if (code == MDB_NOTFOUND) return false;
  SW_RETURN_IF_ERROR(txn_.Check(code));
  return true;
}

Status SpanTables::Touch(std::string_view key) {
  MDB_val k = lmdb::Val(key), v;
  const int code = mdb_get(txn_.get(), env_.spans, &k, &v);
  if (code == MDB_NOTFOUND) return Status::Ok();
  SW_RETURN_IF_ERROR(txn_.Check(code));
  SW_ASSIGN_OR_RETURN(const uint64_t use, NextUse());
  return SetUse(key, use);
}

Result<bool> SpanTables::EvictOne() {
  std::string victim;
  {
    lmdb::Cursor oldest(txn_, env_.ages);
    if (!oldest.Go(MDB_FIRST)) {
      SW_RETURN_IF_ERROR(oldest.status());
      return false;
    }
    victim = oldest.value();
  }
  lmdb::Cursor below(txn_, env_.spans);
  while (true) {
    SW_ASSIGN_OR_RETURN(const TableKey key, DecodeKey(victim));
    const SpanKey address = ChildKey(key.parent, key.tokens);
    const std::string_view prefix(reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size());
    const bool any = below.Go(MDB_SET_RANGE, prefix);
    SW_RETURN_IF_ERROR(below.status());
    if (!any || !SameParent(below.key(), prefix)) break;
    victim = below.key();
  }
  SW_ASSIGN_OR_RETURN(const bool removed, Remove(victim));
  if (!removed) return Corruption(env_.folder() + ": a span is noted that is not there");
  return true;
}

Result<uint64_t> SpanTables::RemoveUnusedSince(uint64_t use) {
  uint64_t n = 0;
  while (true) {
    std::string victim;
    {
      lmdb::Cursor oldest(txn_, env_.ages);
      const bool any = oldest.Go(MDB_FIRST);
      SW_RETURN_IF_ERROR(oldest.status());
      if (!any || BigEndian<uint64_t>(oldest.key()) > use) return n;
      victim = oldest.value();
    }
    SW_ASSIGN_OR_RETURN(const bool removed, Remove(victim));
    if (!removed) return Corruption(env_.folder() + ": a span is noted that is not there");
    ++n;
  }
}

}  // namespace spanwise
