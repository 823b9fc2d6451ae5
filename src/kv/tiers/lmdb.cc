#include "kv/tiers/lmdb.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>

#include "base/str.h"
#include "kv/tiers/lmdb_pages.h"

namespace spanwise::lmdb {
namespace {

// Of the tables and the keys in them; records have a version of their own.
constexpr std::string_view kFormat = "spanwise spans 1";
constexpr unsigned kMaxReaders = 1024;

// LMDB's locks belong to the process: a second environment over the same file would release those of the first.
struct OpenEnvs {
  std::mutex mutex;
  std::condition_variable closed;
  std::map<std::pair<dev_t, ino_t>, std::weak_ptr<Env>> by_folder;  // guarded by mutex; expired: being closed
};

OpenEnvs& Opened() {
  static OpenEnvs* const opened = new OpenEnvs();
  return *opened;
}

std::string DataFile(const std::string& folder) { return folder + "/data.mdb"; }
std::string LockFile(const std::string& folder) { return folder + "/lock.mdb"; }

// What LMDB makes of its lock file: two cache lines, and one for each reader.
constexpr off_t kLockBytes = 64 * (2 + off_t{kMaxReaders});

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Whether somebody has an environment of the folder open: all of them share a lock. Takes none: whoever opens one would
// take it for theirs.
bool IsInUse(int lock_file) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  return fcntl(lock_file, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

// LMDB stretches its lock file and writes it through a map, where a block that the disk has no room for is a signal and
// not an error. So all its blocks are taken before. An errno, or 0, also where the file system cannot tell.
// REQUIRES: this process has no environment of the folder open: closing the file would end its locks.
int AllocateLocks(const std::string& folder) {
  const Descriptor file(LockFile(folder), O_RDWR | O_CREAT);
  if (file.get() < 0) return errno;
  struct stat found {};
  if (fstat(file.get(), &found) != 0) return errno;
  const bool stretch = found.st_size < kLockBytes && !IsInUse(file.get());  // what others have mapped keeps its size
  const off_t size = stretch ? kLockBytes : found.st_size;
  if (size == 0 || (!stretch && off_t{found.st_blocks} * 512 >= size)) return 0;
  int code;
  do {
    code = fallocate(file.get(), stretch ? 0 : FALLOC_FL_KEEP_SIZE, 0, size) == 0 ? 0 : errno;
  } while (code == EINTR);
  return code == EOPNOTSUPP || code == ENOSYS ? 0 : code;
}

// Pages past the end of the file would be signals, not errors. Those that a transaction took and freed again are never
// written, so a sound file may end before them; nothing reads them until they are.
Status CheckLength(MDB_env* env, const std::string& folder) {
  // Of one state of the file, which stays as long as the transaction reads it.
  MDB_txn* txn = nullptr;
  MDB_envinfo info;
  do {
    mdb_txn_abort(txn);
    mdb_env_info(env, &info);
    if (const int code = mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn); code != MDB_SUCCESS)
      return ToStatus(code, folder);
  } while (mdb_txn_id(txn) != info.me_last_txnid);
  MDB_stat pages;
  mdb_env_stat(env, &pages);
  const size_t n_pages = info.me_last_pgno + 1;
  Status status = Status::Ok();
  struct stat file {};
  if (stat(DataFile(folder).c_str(), &file) != 0) {
    status = Unavailable(StrFormat("{}: {}", DataFile(folder), std::generic_category().message(errno)));
  } else if (const size_t n_there = static_cast<size_t>(file.st_size) / pages.ms_psize;
             n_there < n_pages && CountFreePages(env, txn, n_there, n_pages) != n_pages - n_there) {
    status = Corruption(StrFormat("{}: {} bytes, expected at least {}: it was cut", DataFile(folder), file.st_size,
                                  n_pages * pages.ms_psize));
  }
  mdb_txn_abort(txn);
  return status;
}

}  // namespace

Status ToStatus(int code, const std::string& path) {
  if (code == MDB_SUCCESS) return Status::Ok();
  const std::string message = StrFormat("{}: {}", path, mdb_strerror(code));
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return ResourceExhausted(message + "; make room there, or name another folder");
    case MDB_MAP_FULL:
    case MDB_READERS_FULL:
    case MDB_TXN_FULL:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return ResourceExhausted(message);
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
      return InvalidArgument(message);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
      return Corruption(message);
    case MDB_NOTFOUND:
    case ENOENT:
      return NotFound(message);
    default:
      return Unavailable(message);
  }
}

void WillNeed(std::span<const std::byte> bytes) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const size_t into_page = reinterpret_cast<uintptr_t>(bytes.data()) % page;
  madvise(const_cast<std::byte*>(bytes.data()) - into_page, into_page + bytes.size(),
          MADV_WILLNEED);  // where it fails, reading will tell
}

Result<std::shared_ptr<Env>> Env::Open(const std::string& folder, bool read_only, uint64_t map_bytes) {
  if (!read_only) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return ToStatus(error.value(), folder);
  }
  struct stat found {};
  if (stat(folder.c_str(), &found) != 0) return ToStatus(errno, folder);
  if (!S_ISDIR(found.st_mode)) return InvalidArgument(folder + ": is no folder");
  OpenEnvs& opened = Opened();
  const std::pair id(found.st_dev, found.st_ino);
  std::unique_lock lock(opened.mutex);
  for (auto at = opened.by_folder.find(id); at != opened.by_folder.end(); at = opened.by_folder.find(id)) {
    if (auto env = at->second.lock()) {
      if (env->read_only_ == read_only) return env;
      return InvalidArgument(
          StrFormat("{}: is open in this process for {} already", folder, env->read_only_ ? "reading" : "writing"));
    }
    opened.closed.wait(lock);
  }
  if (read_only && access(DataFile(folder).c_str(), R_OK) != 0)
    return errno == ENOENT ? NotFound(folder + ": holds no spans") : ToStatus(errno, DataFile(folder));
  auto env = std::shared_ptr<Env>(new Env(folder, read_only));
  SW_RETURN_IF_ERROR(env->Init(map_bytes));
  opened.by_folder.emplace(id, env);
  env->id_ = id;
  return env;
}

Status Env::Init(uint64_t map_bytes) {
  // Threads come and go and a reader may be passed on: readers belong to their transactions.
  unsigned flags = MDB_NOTLS | (read_only_ ? MDB_RDONLY : MDB_NOMETASYNC);
  if (const int code = AllocateLocks(folder_); code != 0) {
    const bool unwritable = code == EACCES || code == EROFS || code == EPERM;
    if (!read_only_ || (!unwritable && code != ENOSPC && code != EDQUOT)) return ToStatus(code, LockFile(folder_));
    flags |= MDB_NOLOCK;
    locks_ = unwritable ? Locks::kUnwritable : Locks::kNoRoom;
    const Descriptor lock_file(LockFile(folder_), O_RDONLY);
    in_use_ = lock_file.get() >= 0 && IsInUse(lock_file.get());
  }
  mdb_env_create(&env_);
  mdb_env_set_maxdbs(env_, 4);
  mdb_env_set_maxreaders(env_, kMaxReaders);
  if (map_bytes > 0) mdb_env_set_mapsize(env_, map_bytes);
  if (const int code = mdb_env_open(env_, folder_.c_str(), flags, 0644); code != MDB_SUCCESS) {
    mdb_env_close(env_);
    env_ = nullptr;
    return ToStatus(code, folder_);
  }
  SW_RETURN_IF_ERROR(CheckLength(env_, folder_));
  int dead = 0;
  mdb_reader_check(env_, &dead);
  return OpenTables();
}

Status Env::OpenTables() {
  MDB_txn* txn = nullptr;
  if (const int code = mdb_txn_begin(env_, nullptr, read_only_ ? MDB_RDONLY : 0, &txn); code != MDB_SUCCESS)
    return ToStatus(code, folder_);
  const auto fail = [&](Status status) {
    mdb_txn_abort(txn);
    return status;
  };
  MDB_dbi root = 0, about = 0;
  MDB_stat tables{};
  mdb_dbi_open(txn, nullptr, 0, &root);
  mdb_stat(txn, root, &tables);
  const unsigned create = !read_only_ && tables.ms_entries == 0 ? MDB_CREATE : 0;  // not beside others' tables
  for (const auto& [name, table] : {std::pair("about", &about), {"spans", &spans}, {"uses", &uses}, {"ages", &ages}}) {
    const int code = mdb_dbi_open(txn, name, create, table);
    if (code == MDB_NOTFOUND) return fail(InvalidArgument(folder_ + ": is no store of spans"));
    if (code != MDB_SUCCESS) return fail(ToStatus(code, folder_));
  }
  MDB_val key = Val("format"), value;
  int code = mdb_get(txn, about, &key, &value);
  if (code == MDB_NOTFOUND && create != 0) {
    value = Val(kFormat);
    code = mdb_put(txn, about, &key, &value, 0);
  }
  if (code != MDB_SUCCESS) return fail(ToStatus(code, folder_));
  if (Bytes(value) != kFormat)
    return fail(InvalidArgument(StrFormat("{}: holds {}, this program reads {}: name another folder", folder_,
                                          Quoted(Bytes(value)), Quoted(kFormat))));
  return ToStatus(Cause(mdb_txn_commit(txn)), folder_);
}

int Env::Cause(int code) const {
  if (code != EIO) return code;
  // A write that was cut short is this to LMDB, whatever the reason.
  constexpr uint64_t kFull = uint64_t{32} << 20;  // is less than what is written at a time
  int file = -1;
  struct stat found {};
  MDB_stat pages;
  if (mdb_env_get_fd(env_, &file) != MDB_SUCCESS || fstat(file, &found) != 0 ||
      mdb_env_stat(env_, &pages) != MDB_SUCCESS)
    return code;
  rlimit most{};
  if (getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur != RLIM_INFINITY &&
      static_cast<rlim_t>(found.st_size) + pages.ms_psize > most.rlim_cur)
    return EFBIG;
  if (struct statvfs disk{}; fstatvfs(file, &disk) == 0 && uint64_t{disk.f_bavail} * disk.f_frsize < kFull)
    return ENOSPC;
  // Takes room behind the file's end, which changes nothing that anybody reads.
  if (fallocate(file, FALLOC_FL_KEEP_SIZE, found.st_size, pages.ms_psize) == 0) return code;
  return errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR ? code : errno;
}

size_t Env::LastTxnId() const {
  MDB_envinfo info;
  mdb_env_info(env_, &info);
  return info.me_last_txnid;
}

Env::~Env() {
  if (env_) mdb_env_close(env_);
  if (!id_) return;
  OpenEnvs& opened = Opened();
  {
    const std::lock_guard lock(opened.mutex);
    opened.by_folder.erase(*id_);
  }
  opened.closed.notify_all();
}

Result<std::shared_ptr<Txn>> Txn::Begin(std::shared_ptr<Env> env, bool read_only) {
  auto txn = std::shared_ptr<Txn>(new Txn(std::move(env)));
  const auto begin = [&] { return mdb_txn_begin(txn->env_->get(), nullptr, read_only ? MDB_RDONLY : 0, &txn->txn_); };
  int code = begin();
  if (int dead = 0; code == MDB_READERS_FULL) {
    mdb_reader_check(txn->env_->get(), &dead);  // processes that were killed leave their places taken
    if (dead > 0) code = begin();
  }
  if (code == MDB_SUCCESS) return txn;
  txn->txn_ = nullptr;
  return txn->Check(code);
}

Txn::~Txn() {
  if (txn_) mdb_txn_abort(txn_);
}

Status Txn::Commit() { return Check(mdb_txn_commit(std::exchange(txn_, nullptr))); }

uint64_t Txn::BytesInUse() const {
  uint64_t bytes = 0;
  for (const MDB_dbi table : {env_->spans, env_->uses, env_->ages}) {
    MDB_stat stat;
    if (mdb_stat(txn_, table, &stat) == MDB_SUCCESS)
      bytes += uint64_t{stat.ms_psize} * (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages);
  }
  return bytes;
}

uint64_t Txn::Entries(MDB_dbi table) const {
  MDB_stat stat;
  return mdb_stat(txn_, table, &stat) == MDB_SUCCESS ? stat.ms_entries : 0;
}

Cursor::Cursor(const Txn& txn, MDB_dbi table) : txn_(txn) {
  status_ = txn.Check(mdb_cursor_open(txn.get(), table, &cursor_));
}

Cursor::~Cursor() {
  if (cursor_) mdb_cursor_close(cursor_);
}

bool Cursor::Go(MDB_cursor_op op, std::string_view at) {
  if (!status_.ok()) return false;
  key_ = Val(at);
  const int code = mdb_cursor_get(cursor_, &key_, &value_, op);
  if (code != MDB_SUCCESS && code != MDB_NOTFOUND) status_ = txn_.Check(code);
  return code == MDB_SUCCESS;
}

}  // namespace spanwise::lmdb
