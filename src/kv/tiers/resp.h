// A connection to a Valkey or Redis server, over TCP or TLS: commands out, replies in.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "spanwise/status.h"

namespace spanwise {

struct RespOptions {
  std::string address = {};              // "host:port", "[::1]:6379"
  std::string user = {}, password = {};  // empty: the server's default user; none
  bool tls = false;
  std::string ca_file = {};  // whom to believe that a server is who it says; empty: the system's authorities
  std::chrono::milliseconds patience{2000};  // with a server from which nothing comes, or that takes nothing
  size_t most_reply_bytes = size_t{1} << 20;
};

struct RespReply {
  enum class Kind { kText, kBytes, kNil, kInteger, kError };
  Kind kind = Kind::kNil;
  std::span<const std::byte> bytes;  // of all but kNil and kInteger
  int64_t integer = 0;
  std::shared_ptr<const void> hold;  // the bytes stay as long as it lives

  std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
};

// Thread-compatible, but for the flag that stops it.
class RespConnection {
 public:
  virtual ~RespConnection() = default;

  // Adds a command to those that Send sends.
  virtual void Append(std::initializer_list<std::string_view> command) = 0;
  virtual Status Send() = 0;
  // The next reply, in the order of commands. Corruption where there is no such thing in what came.
  virtual Result<RespReply> Receive() = 0;
};

// Immutable.
class RespServer {
 public:
  // InvalidArgument and NotFound: the address, or the file of authorities, is none. Nothing is connected.
  static Result<std::shared_ptr<const RespServer>> Create(const RespOptions& options);

  // Connects, says who we are, and gets a first answer. Gives up when `stop` gets true. Every message of a failure here
  // or later begins with the address. Unavailable, DeadlineExceeded, Cancelled, Corruption.
  Result<std::unique_ptr<RespConnection>> Connect(const std::atomic<bool>& stop) const;

  const std::string& address() const { return options_.address; }

 private:
  explicit RespServer(const RespOptions& options) : options_(options) {}

  RespOptions options_;
  std::string host_, port_;
  std::shared_ptr<void> tls_;
};

}  // namespace spanwise
