// SQLite with our errors: a connection, prepared statements, transactions. Included by sources of this module only.
#pragma once

#include <sqlite3.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "spanwise/status.h"

namespace spanwise::retrieval {

// A row-returning or executing statement. Thread-compatible; must not outlive its Database. Bound text is not copied:
// it must live until Reset or destruction. The first failing bind is remembered and reported by Step or Run.
class Statement {
 public:
  Statement() = default;

  // Parameters count from 1, columns from 0, as in SQLite.
  Statement& Bind(int parameter, int64_t value);
  Statement& Bind(int parameter, double value);
  Statement& Bind(int parameter, std::string_view text);  // UTF-8
  Statement& BindBlob(int parameter, std::string_view bytes);
  Statement& BindNull(int parameter);
  Statement& BindPointer(int parameter, void* pointer, const char* type);

  // True: a row is there. After false or an error the statement is reset.
  Result<bool> Step();
  // Steps to the end and resets.
  Status Run();
  void Reset();

  int64_t Int(int column) const { return sqlite3_column_int64(statement_.get(), column); }
  double Real(int column) const { return sqlite3_column_double(statement_.get(), column); }
  bool IsNull(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }
  // Valid until the next Step, Reset or destruction.
  std::string_view Text(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  const std::string* path_ = nullptr;
  int bind_error_ = SQLITE_OK;
};

// One connection. Thread-compatible: its owner serialises the calls.
class Database {
 public:
  // `flags` as in sqlite3_open_v2; `uri` may differ from the `path` that messages name.
  static Result<Database> Open(const std::string& path, const std::string& uri, int flags);

  Result<Statement> Prepare(std::string_view sql);
  Status Execute(const std::string& sql);  // one or more statements without results
  Result<int64_t> QueryInt(std::string_view sql);

  // While another connection writes, this one waits: it looks again every now and then, each time if `wait` returns
  // true for how long it has waited so far. False gives up: Unavailable.
  void WaitForOthers(std::function<bool(std::chrono::milliseconds)> wait);
  // Executes what SQLite itself would not wait for, in the same way.
  Status ExecuteInTurn(const std::string& sql);
  // How often it has looked since the call.
  int waits() const { return busy_ ? busy_->waits : 0; }

  int64_t last_insert_id() const { return sqlite3_last_insert_rowid(handle_.get()); }
  sqlite3* handle() const { return handle_.get(); }
  const std::string& path() const { return *path_; }

 private:
  struct Close {
    void operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }
  };
  struct Busy {
    std::function<bool(std::chrono::milliseconds)> wait;
    std::chrono::steady_clock::time_point since;
    int waits = 0;
  };
  std::unique_ptr<Busy> busy_;         // apart, as SQLite points to it
  std::unique_ptr<std::string> path_;  // apart, so that statements may point to it when the Database moves
  std::unique_ptr<sqlite3, Close> handle_;
};

// A transaction that is rolled back unless it is committed.
class Transaction {
 public:
  enum Kind { kRead, kWrite };
  static Result<Transaction> Begin(Database* database, Kind kind);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Status Commit();

 private:
  explicit Transaction(Database* database) : database_(database) {}
  Database* database_;
};

// The last failure of a connection as one line: "docs/meta.db: the disk is full". ResourceExhausted (full, too big,
// memory), Corruption (damaged, no database), Unavailable (another process writes; the disk fails), NotFound (cannot be
// opened), InvalidArgument (read-only, not permitted), Internal (our bug).
Status SqliteError(sqlite3* handle, int code, const std::string& path);

}  // namespace spanwise::retrieval
