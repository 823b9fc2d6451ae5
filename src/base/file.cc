#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/str.h"

namespace spanwise {
namespace {

Status FromErrno(const std::string& path, const char* doing) {
  const int error = errno;
  const std::string message = StrFormat("{}: cannot {}: {}", path, doing, std::strerror(error));
  if (error == ENOENT || error == ENOTDIR) return NotFound(message);
  if (error == ENOSPC || error == EDQUOT || error == ENOMEM || error == EMFILE) return ResourceExhausted(message);
  return InvalidArgument(message);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// A pipe without a writer is not waited for; a file that another process is about to give up (a lease) is.
int OpenToRead(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  return fd < 0 && errno == EWOULDBLOCK ? open(path.c_str(), O_RDONLY | O_CLOEXEC) : fd;
}

Result<size_t> RegularFileSize(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return FromErrno(path, "read");
  if (S_ISDIR(info.st_mode)) return InvalidArgument(path + ": is a directory, expected a file");
  if (!S_ISREG(info.st_mode)) return InvalidArgument(path + ": is not a regular file");
  return static_cast<size_t>(info.st_size);
}

bool WriteAll(int fd, std::span<const std::byte> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

Result<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  SW_ASSIGN_OR_RETURN(FileReader file, FileReader::Open(path));
  const size_t size = file.size();
  if (size > max_bytes) return ResourceExhausted(StrFormat("{}: {} bytes, at most {} are read", path, size, max_bytes));
  std::string bytes(size, '\0');
  SW_ASSIGN_OR_RETURN(const size_t done, file.Read(bytes));
  if (done < size) return Corruption(StrFormat("{}: ended after {} of {} bytes while being read", path, done, size));
  return bytes;
}

Result<FileReader> FileReader::Open(const std::string& path) {
  const int fd = OpenToRead(path);
  if (fd < 0) return FromErrno(path, "open");
  FileReader reader(path, fd);
  SW_ASSIGN_OR_RETURN(reader.size_, RegularFileSize(fd, path));
  return reader;
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

FileReader::~FileReader() {
  if (fd_ >= 0) close(fd_);
}

Result<size_t> FileReader::Read(std::span<char> buffer) {
  size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t n = read(fd_, buffer.data() + done, buffer.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FromErrno(path_, "read");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

Result<std::string> ReadTextFile(const std::string& path, size_t max_bytes) {
  SW_ASSIGN_OR_RETURN(std::string bytes, ReadFile(path, max_bytes));
  if (IsUtf16(bytes)) return InvalidArgument(path + ": is UTF-16 text, expected UTF-8; save it as UTF-8");
  bytes.erase(0, bytes.size() - WithoutByteOrderMark(bytes).size());
  return bytes;
}

Status WriteFileAtomic(const std::string& path, std::string_view bytes) {
  std::string temporary = path + ".XXXXXX";
  const Descriptor file(mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0) return FromErrno(path, "create a temporary file beside it");
  const auto fail = [&](const char* doing) {
    Status status = FromErrno(path, doing);
    unlink(temporary.c_str());
    return status;
  };
  if (!WriteAll(file.get(), std::as_bytes(std::span(bytes)))) return fail("write");
  if (fchmod(file.get(), 0644) != 0 || fsync(file.get()) != 0) return fail("sync");
  if (rename(temporary.c_str(), path.c_str()) != 0) return fail("rename into place");
  return Status::Ok();
}

Result<FileWriter> FileWriter::Create(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return FromErrno(path, "create");
  return FileWriter(path, fd);
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

FileWriter::~FileWriter() {
  if (fd_ >= 0) close(fd_);
}

Status FileWriter::Append(std::span<const std::byte> bytes) {
  return WriteAll(fd_, bytes) ? Status::Ok() : FromErrno(path_, "write");
}

Status FileWriter::Finish() {
  const int fd = std::exchange(fd_, -1);
  const bool synced = fsync(fd) == 0;
  Status status = synced ? Status::Ok() : FromErrno(path_, "sync");
  if (close(fd) != 0 && synced) return FromErrno(path_, "close");
  return status;
}

bool FileExists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

bool FileIsGone(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) != 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
}

Result<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  const Descriptor file(OpenToRead(path));
  if (file.get() < 0) return FromErrno(path, "open");
  SW_ASSIGN_OR_RETURN(const size_t size, RegularFileSize(file.get(), path));
  if (size == 0) return std::shared_ptr<const MappedFile>(new MappedFile(path, nullptr, 0));
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) return FromErrno(path, "map");
  return std::shared_ptr<const MappedFile>(new MappedFile(path, static_cast<const std::byte*>(data), size));
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace spanwise
