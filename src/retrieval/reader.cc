#include "retrieval/reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "base/file.h"
#include "base/str.h"

namespace spanwise::retrieval {
namespace {

// https://www.sqlite.org/fileformat2.html#the_lock_byte_page: where SQLite's locks are, whatever the file's size.
constexpr off_t kSharedLockBegin = 0x40000000 + 2, kSharedLockBytes = 510;
// https://www.sqlite.org/walformat.html: the least that a NAME-shm in use holds. An attempt that failed leaves less.
constexpr off_t kLeastSharedBytes = 32768;

constexpr int kBusyMs = 5000;
constexpr std::chrono::milliseconds kTryAgainFor(1000), kTryAgainAfter(20);

// A path as an SQLite URI.
std::string UriOf(const std::string& path, std::string_view query) {
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '%' || c == '?' || c == '#') {
      uri += StrFormat("%{:02x}", static_cast<unsigned char>(c));
    } else {
      uri += c;
    }
  }
  return uri + std::string(query);
}

// Whether the last failure may be that a file beside the database could not be made. (Never where this process has the
// database open otherwise: then the file is there, and closing a file descriptor would drop SQLite's locks.)
bool IsUnwritable(const Database& database) {
  const int code = sqlite3_extended_errcode(database.handle()) & 0xFF;
  return code == SQLITE_CANTOPEN || code == SQLITE_READONLY || code == SQLITE_IOERR || code == SQLITE_FULL ||
         code == SQLITE_PERM;
}

}  // namespace

class Reader::SharedLock {
 public:
  static Result<std::unique_ptr<SharedLock, DeleteLock>> Take(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return NotFound(StrFormat("{}: cannot be opened: {}", path, std::strerror(errno)));
    std::unique_ptr<SharedLock, DeleteLock> lock(new SharedLock(fd));
    struct flock range = {};
    range.l_type = F_RDLCK;
    range.l_whence = SEEK_SET;
    range.l_start = kSharedLockBegin;
    range.l_len = kSharedLockBytes;
    // A lock of this open file alone: SQLite's own locks on the file in this process neither replace nor drop it. Where
    // locks do not work at all, SQLite cannot write.
    if (fcntl(fd, F_OFD_SETLK, &range) != 0 && (errno == EAGAIN || errno == EACCES))
      return Unavailable(path + ": another process is closing this corpus; try again");
    return lock;
  }
  ~SharedLock() { close(fd_); }
  SharedLock(const SharedLock&) = delete;
  SharedLock& operator=(const SharedLock&) = delete;

 private:
  explicit SharedLock(int fd) : fd_(fd) {}
  int fd_;
};

void Reader::DeleteLock::operator()(SharedLock* lock) const { delete lock; }

Result<Reader> Reader::Open(const std::string& path, Prepare prepare) {
  Reader reader;
  reader.path_ = path;
  reader.prepare_ = std::move(prepare);
  SW_RETURN_IF_ERROR(reader.Connect());
  return reader;
}

bool Reader::IsShared(const std::string& path) {
  struct stat info;
  return stat((path + "-shm").c_str(), &info) == 0 && info.st_size >= kLeastSharedBytes;
}

Status Reader::Connect() {
  const auto deadline = std::chrono::steady_clock::now() + kTryAgainFor;
  while (true) {
    Status shared = ConnectShared();
    if (shared.ok()) return shared;
    Status alone = database_ && IsUnwritable(*database_) ? ConnectAlone() : Internal("not tried");
    if (alone.ok()) return alone;
    database_.reset();
    alone_.reset();
    if (alone.code() != StatusCode::kUnavailable || std::chrono::steady_clock::now() > deadline) return shared;
    std::this_thread::sleep_for(kTryAgainAfter);
  }
}

Status Reader::ConnectShared() {
  database_.reset();
  alone_.reset();
  SW_ASSIGN_OR_RETURN(Database database,
                      Database::Open(path_, UriOf(path_, ""), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI));
  sqlite3_busy_timeout(database.handle(), kBusyMs);
  database_ = std::make_unique<Database>(std::move(database));
  return prepare_(database_.get());
}

Status Reader::ConnectAlone() {
  database_.reset();
  SW_ASSIGN_OR_RETURN(alone_, SharedLock::Take(path_));
  // Commits that are not in the database yet are in NAME-wal. SQLite reads it without NAME-shm only under a lock of its
  // own that it may not share; the lock above stands in for that. Without a log it needs neither.
  const bool log = FileExists(path_ + "-wal");
  SW_ASSIGN_OR_RETURN(Database database, Database::Open(path_, UriOf(path_, log ? "?vfs=unix-none" : "?immutable=1"),
                                                        SQLITE_OPEN_READONLY | SQLITE_OPEN_URI));
  sqlite3_db_config(database.handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  if (log) SW_RETURN_IF_ERROR(database.Execute("PRAGMA locking_mode = EXCLUSIVE"));
  database_ = std::make_unique<Database>(std::move(database));
  Status status = prepare_(database_.get());
  if (IsShared(path_)) return Unavailable(path_ + ": another process has just opened this corpus; try again");
  return status;
}

}  // namespace spanwise::retrieval
