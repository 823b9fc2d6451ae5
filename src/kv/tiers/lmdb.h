// LMDB with owners for its handles and Status for its errors. Only disk.cc and its tests need it.
#pragma once

#include <lmdb.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "spanwise/status.h"

namespace spanwise::lmdb {

// ResourceExhausted (disk, map or readers full), Corruption, NotFound, InvalidArgument (no path to a folder), or
// Unavailable, naming the path.
Status ToStatus(int code, const std::string& path);

inline MDB_val Val(std::string_view bytes) {
  return {bytes.size(), const_cast<char*>(bytes.data())};  // LMDB does not write to keys and values that it is given
}
// Asks the system to read these pages of a map, without waiting for them.
void WillNeed(std::span<const std::byte> bytes);

inline std::string_view Bytes(const MDB_val& v) { return {static_cast<const char*>(v.mv_data), v.mv_size}; }

// A folder with one environment and its tables. Thread-safe. A process opens an environment once: whoever opens it
// again shares it.
class Env {
 public:
  // A writable one is made where there is none. NotFound: there is none; Corruption: its file is damaged or cut;
  // InvalidArgument: of another format, or already open here in the other way.
  static Result<std::shared_ptr<Env>> Open(const std::string& folder, bool read_only, uint64_t map_bytes);
  ~Env();
  Env(const Env&) = delete;
  Env& operator=(const Env&) = delete;

  MDB_env* get() const { return env_; }
  const std::string& folder() const { return folder_; }
  // Of the last transaction that was committed, by whomever.
  size_t LastTxnId() const;
  bool read_only() const { return read_only_; }
  // How what is read is kept from being written over. With kHeld by LMDB's locks. There are none for a folder that is
  // only read and whose lock file cannot be written: with kUnwritable because it lies where the process may not write,
  // with kNoRoom because its disk is full.
  enum class Locks { kHeld, kUnwritable, kNoRoom };
  Locks locks() const { return locks_; }
  // Without locks: whether somebody had the folder open when it was opened here.
  bool in_use() const { return in_use_; }
  // The reason of a failure, which LMDB calls EIO where a disk had room for a part of a write.
  int Cause(int code) const;

  MDB_dbi spans = 0;  // parent, tokens -> record
  MDB_dbi uses = 0;   // the same key -> when it was last used
  MDB_dbi ages = 0;   // when -> the key

 private:
  Env(std::string folder, bool read_only) : folder_(std::move(folder)), read_only_(read_only) {}
  Status Init(uint64_t map_bytes);
  Status OpenTables();

  const std::string folder_;
  const bool read_only_;
  MDB_env* env_ = nullptr;
  Locks locks_ = Locks::kHeld;
  bool in_use_ = false;
  std::optional<std::pair<dev_t, ino_t>> id_;  // of the folder, once others may share this
};

// Ends without effect unless it is committed. Thread-compatible.
class Txn {
 public:
  static Result<std::shared_ptr<Txn>> Begin(std::shared_ptr<Env> env, bool read_only);
  ~Txn();
  Txn(const Txn&) = delete;
  Txn& operator=(const Txn&) = delete;

  MDB_txn* get() const { return txn_; }
  size_t id() const { return mdb_txn_id(txn_); }  // one that reads: of the last one before it that was committed
  Status Commit();
  Status Check(int code) const { return ToStatus(env_->Cause(code), env_->folder()); }
  // Of all tables, in whole pages.
  uint64_t BytesInUse() const;
  uint64_t Entries(MDB_dbi table) const;

 private:
  explicit Txn(std::shared_ptr<Env> env) : env_(std::move(env)) {}
  std::shared_ptr<Env> env_;
  MDB_txn* txn_ = nullptr;
};

// A place in a table. Thread-compatible; must not outlive the transaction, nor its commit.
class Cursor {
 public:
  Cursor(const Txn& txn, MDB_dbi table);
  ~Cursor();
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  // Moves as MDB_cursor_op says; with MDB_SET_RANGE to `at` or what follows it. False when there is nothing, or an
  // error: see status().
  bool Go(MDB_cursor_op op, std::string_view at = {});
  std::string_view key() const { return Bytes(key_); }
  std::string_view value() const { return Bytes(value_); }
  const Status& status() const { return status_; }

 private:
  const Txn& txn_;
  MDB_cursor* cursor_ = nullptr;
  MDB_val key_{}, value_{};
  Status status_;
};

}  // namespace spanwise::lmdb
