#include "retrieval/sqlite.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/str.h"

namespace spanwise::retrieval {

Status SqliteError(sqlite3* handle, int code, const std::string& path) {
  const std::string detail = handle ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
  const int system_error = handle ? sqlite3_system_errno(handle) : 0;
  switch (code & 0xFF) {
    case SQLITE_FULL:
      return ResourceExhausted(StrFormat("{}: the disk is full, or the corpus has reached its size limit", path));
    case SQLITE_TOOBIG:
      return ResourceExhausted(StrFormat("{}: a value is too big to store", path));
    case SQLITE_NOMEM:
      return ResourceExhausted(StrFormat("{}: out of memory", path));
    case SQLITE_CORRUPT:
      return Corruption(StrFormat("{}: the database is damaged ({}); delete it and index again", path, detail));
    case SQLITE_NOTADB:
      return Corruption(StrFormat("{}: is no SQLite database, or a damaged one; delete it and index again", path));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Unavailable(StrFormat("{}: another process is writing to this corpus; try again when it is done", path));
    case SQLITE_READONLY:
      return InvalidArgument(StrFormat("{}: the corpus is read-only here ({})", path, detail));
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return InvalidArgument(StrFormat("{}: not permitted ({})", path, detail));
    case SQLITE_CANTOPEN:
      return NotFound(StrFormat("{}: cannot be opened{}{}", path, system_error ? ": " : "",
                                system_error ? std::strerror(system_error) : ""));
    case SQLITE_IOERR:
      if (system_error == ENOSPC || system_error == EDQUOT)
        return ResourceExhausted(StrFormat("{}: the disk is full", path));
      return Unavailable(StrFormat("{}: {}{}{}", path, detail, system_error ? ": " : "",
                                   system_error ? std::strerror(system_error) : ""));
    default:
      return Internal(StrFormat("{}: {} (SQLite code {})", path, detail, code));
  }
}

namespace {

// SQLite treats a null pointer as NULL, not as an empty text.
const char* NotNull(std::string_view text) { return text.data() ? text.data() : ""; }

}  // namespace

Statement& Statement::Bind(int parameter, int64_t value) {
  if (const int code = sqlite3_bind_int64(statement_.get(), parameter, value)) bind_error_ = code;
  return *this;
}

Statement& Statement::Bind(int parameter, double value) {
  if (const int code = sqlite3_bind_double(statement_.get(), parameter, value)) bind_error_ = code;
  return *this;
}

Statement& Statement::Bind(int parameter, std::string_view text) {
  if (const int code =
          sqlite3_bind_text64(statement_.get(), parameter, NotNull(text), text.size(), SQLITE_STATIC, SQLITE_UTF8))
    bind_error_ = code;
  return *this;
}

Statement& Statement::BindBlob(int parameter, std::string_view bytes) {
  if (const int code = sqlite3_bind_blob64(statement_.get(), parameter, NotNull(bytes), bytes.size(), SQLITE_STATIC))
    bind_error_ = code;
  return *this;
}

Statement& Statement::BindNull(int parameter) {
  if (const int code = sqlite3_bind_null(statement_.get(), parameter)) bind_error_ = code;
  return *this;
}

Statement& Statement::BindPointer(int parameter, void* pointer, const char* type) {
  if (const int code = sqlite3_bind_pointer(statement_.get(), parameter, pointer, type, nullptr)) bind_error_ = code;
  return *this;
}

Result<bool> Statement::Step() {
  sqlite3* const handle = sqlite3_db_handle(statement_.get());
  const int code = bind_error_ != SQLITE_OK ? bind_error_ : sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  const Status status = code == SQLITE_DONE ? Status::Ok() : SqliteError(handle, code, *path_);
  Reset();
  if (!status.ok()) return status;
  return false;
}

Status Statement::Run() {
  while (true) {
    SW_ASSIGN_OR_RETURN(const bool row, Step());
    if (!row) return Status::Ok();
  }
}

void Statement::Reset() {
  sqlite3_reset(statement_.get());
  bind_error_ = SQLITE_OK;
}

std::string_view Statement::Text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  return {static_cast<const char*>(bytes), static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

Result<Database> Database::Open(const std::string& path, const std::string& uri, int flags) {
  Database database;
  database.path_ = std::make_unique<std::string>(path);
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(uri.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  database.handle_.reset(handle);
  if (code != SQLITE_OK) return SqliteError(handle, code, path);
  sqlite3_extended_result_codes(handle, 1);
  return database;
}

void Database::WaitForOthers(std::function<bool(std::chrono::milliseconds)> wait) {
  busy_ = std::make_unique<Busy>(Busy{std::move(wait), {}, 0});
  sqlite3_busy_handler(
      handle_.get(),
      [](void* context, int count) {
        auto* busy = static_cast<Busy*>(context);
        const auto now = std::chrono::steady_clock::now();
        if (count == 0) busy->since = now;
        if (!busy->wait(std::chrono::duration_cast<std::chrono::milliseconds>(now - busy->since))) return 0;
        ++busy->waits;
        std::this_thread::sleep_for(std::chrono::milliseconds(std::min(100, 1 << std::min(count, 10))));
        return 1;
      },
      busy_.get());
}

Status Database::ExecuteInTurn(const std::string& sql) {
  const auto since = std::chrono::steady_clock::now();
  while (true) {
    const Status status = Execute(sql);
    if (!busy_ || (sqlite3_errcode(handle_.get()) & 0xFF) != SQLITE_BUSY) return status;
    if (!busy_->wait(std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - since)))
      return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

Result<Statement> Database::Prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v2(handle_.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
  Statement statement;
  statement.statement_.reset(raw);
  statement.path_ = path_.get();
  if (code != SQLITE_OK) return SqliteError(handle_.get(), code, *path_);
  return statement;
}

Status Database::Execute(const std::string& sql) {
  const int code = sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? Status::Ok() : SqliteError(handle_.get(), code, *path_);
}

Result<int64_t> Database::QueryInt(std::string_view sql) {
  SW_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  SW_ASSIGN_OR_RETURN(const bool row, statement.Step());
  return row ? statement.Int(0) : int64_t{0};
}

Result<Transaction> Transaction::Begin(Database* database, Kind kind) {
  SW_RETURN_IF_ERROR(database->Execute(kind == kWrite ? "BEGIN IMMEDIATE" : "BEGIN"));
  return Transaction(database);
}

Transaction::~Transaction() {
  // Some failures (a full disk) have already rolled back; then there is nothing to undo.
  if (database_ && !sqlite3_get_autocommit(database_->handle())) static_cast<void>(database_->Execute("ROLLBACK"));
}

Status Transaction::Commit() {
  SW_RETURN_IF_ERROR(database_->Execute("COMMIT"));
  database_ = nullptr;
  return Status::Ok();
}

}  // namespace spanwise::retrieval
