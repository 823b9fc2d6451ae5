// Files: whole reads, read-only maps, atomic writes. Every failure names the path.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "spanwise/status.h"

namespace spanwise {

// The whole file as bytes. NotFound, InvalidArgument (a directory), or ResourceExhausted past max_bytes.
Result<std::string> ReadFile(const std::string& path, size_t max_bytes = size_t{1} << 30);

// The same as text: without a byte order mark. InvalidArgument for UTF-16.
Result<std::string> ReadTextFile(const std::string& path, size_t max_bytes = size_t{1} << 30);

// A regular file, read in order. Opening never waits: what is no regular file (a pipe, a device) is InvalidArgument.
// Thread-compatible.
class FileReader {
 public:
  static Result<FileReader> Open(const std::string& path);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&&) = delete;

  // In bytes, when it was opened.
  size_t size() const { return size_; }

  // Fills the buffer as far as the file goes: how many bytes, 0 at its end.
  Result<size_t> Read(std::span<char> buffer);

 private:
  FileReader(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;  // -1 when moved from
  size_t size_ = 0;
};

// Writes to a temporary file beside `path`, syncs it, renames it over `path`: readers see the old bytes or the new.
Status WriteFileAtomic(const std::string& path, std::string_view bytes);

// A new file, written in order. What was written stays when this is destroyed before Finish; removing it is the
// caller's. Thread-compatible.
class FileWriter {
 public:
  // InvalidArgument when the file exists already.
  static Result<FileWriter> Create(const std::string& path);
  ~FileWriter();
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;

  Status Append(std::span<const std::byte> bytes);
  // Hands the bytes to the disk; nothing may be appended afterwards.
  Status Finish();

 private:
  FileWriter(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;  // -1 when finished or moved from
};

bool FileExists(const std::string& path);

// Whether there is nothing at a path, or only a link to nothing. False where that cannot be told: a folder that may not
// be looked into, a disk that fails.
bool FileIsGone(const std::string& path);

// A read-only memory map of a whole file. Immutable, thread-safe; the bytes live as long as the object.
class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, const std::byte* data, size_t size) : path_(std::move(path)), data_(data), size_(size) {}
  std::string path_;
  const std::byte* data_;
  size_t size_;
};

}  // namespace spanwise
