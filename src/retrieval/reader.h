// A connection that only reads, and does so where nothing can be written as well: on a disk that is full or mounted
// read-only, in another user's folder. Included by sources of this module only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "retrieval/sqlite.h"
#include "spanwise/status.h"

namespace spanwise::retrieval {

// SQLite lets readers and writers of a database in WAL mode know of each other through a file beside it, NAME-shm.
// Where that cannot be made, nobody can write either for the time being, and this reads *alone*: without that file,
// holding the lock that every reader holds. A writer that comes nevertheless (the disk has room again, or is mounted
// elsewhere) must make NAME-shm first and, because of the lock, cannot remove it. So what was read is good when there
// still is none afterwards; else it is read once more, no longer alone.
//
// Thread-compatible.
class Reader {
 public:
  // Called with every connection that is opened; what it prepared for the one before is void.
  using Prepare = std::function<Status(Database*)>;

  // Corruption, InvalidArgument and so on as SqliteError says, and what `prepare` returns.
  static Result<Reader> Open(const std::string& path, Prepare prepare);

  // What `read` makes of the connection: a Result or Status. It may be called more than once; what it saw may be torn
  // unless its result is returned.
  template <typename Read>
  auto Run(Read read) -> decltype(read(std::declval<Database&>())) {
    if (!database_) SW_RETURN_IF_ERROR(Connect());
    while (true) {
      auto result = read(*database_);
      if (!alone_ || !IsShared(path_)) return result;
      SW_RETURN_IF_ERROR(Connect());
    }
  }

  bool alone() const { return alone_ != nullptr; }

 private:
  // The lock that readers of an SQLite database share, held until destruction.
  class SharedLock;
  struct DeleteLock {
    void operator()(SharedLock* lock) const;
  };

  Reader() = default;
  // Whether some process has made the file through which connections know of each other.
  static bool IsShared(const std::string& path);
  Status Connect();
  Status ConnectShared();
  Status ConnectAlone();  // Unavailable: the next try may find it shared

  std::string path_;
  Prepare prepare_;
  std::unique_ptr<SharedLock, DeleteLock> alone_;  // absent unless it reads alone
  std::unique_ptr<Database> database_;             // absent after a failure to connect
};

}  // namespace spanwise::retrieval
