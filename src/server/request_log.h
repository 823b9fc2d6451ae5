// What is logged: one line a request, without a word of what it says.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "spanwise/engine.h"

namespace spanwise::server {

enum class LogLevel { kDebug, kInfo, kWarning };
std::string_view LogLevelName(LogLevel level);  // "debug", "info", "warning"

// Takes a line, without its end, from any thread; must not wait. Empty: nothing is logged.
using LogFunction = std::function<void(LogLevel level, std::string_view line)>;

// A request as its line tells it.
struct RequestRecord {
  std::string id = {}, method = {}, path = {}, peer = {};  // path: without the query, which may hold keys
  std::chrono::steady_clock::time_point received = std::chrono::steady_clock::now();
  bool routine = false;  // asked over and over by machines, and told at debug
  bool stream = false;
  int status = 0;
  std::string code = {}, param = {};  // of the error
  std::optional<Usage> usage = {};
  std::optional<double> first_token_ms = {};  // since it was received
};

// key=value pairs in one line of printable characters and bounded length:
// id=req-5f… method=POST path=/v1/completions status=200 prompt_tokens=12 cached_tokens=8 completion_tokens=3
// first_token_ms=41.0 total_ms=97.3 peer=127.0.0.1
std::string LogLine(const RequestRecord& record, std::chrono::steady_clock::time_point now);

// `given`, the header X-Request-Id, where it is fit for headers and logs: 1 to 128 letters, digits, and -_.:/+=@. Else
// a new one.
std::string RequestId(std::string_view given);

// Lines to a file, a terminal or a pipe. What the reader of a pipe is too slow for is left out, and counted in the next
// line that there is room for: whoever writes never waits. Thread-safe.
class LineWriter {
 public:
  // `fd` stays the caller's. SIGPIPE should be ignored.
  explicit LineWriter(int fd) : fd_(fd) {}
  void Write(std::string_view line);

 private:
  const int fd_;
  std::mutex mutex_;
  uint64_t lost_ = 0;  // guarded by mutex_
};

}  // namespace spanwise::server
