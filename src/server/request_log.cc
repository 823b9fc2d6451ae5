#include "server/request_log.h"

#include <limits.h>
#include <poll.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>

#include "base/str.h"

namespace spanwise::server {

namespace {

bool IsWord(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-_.:/+=@").find(c) != std::string_view::npos;
}

// As it is where it is one plain word, else in quotes and escaped; cut in either case.
std::string Value(std::string_view text, size_t max_bytes) {
  const bool plain = !text.empty() && text.size() <= max_bytes &&
                     std::ranges::all_of(text, [](char c) { return IsWord(c) || (c != '"' && c > 0x20 && c < 0x7f); });
  if (plain) return std::string(text);
  // Characters that are not ASCII may change what a terminal shows of the rest of the line.
  std::string ascii;
  for (const char c : text.substr(0, max_bytes))
    ascii += c >= 0x20 && c < 0x7f ? std::string(1, c) : StrFormat("%{:02X}", static_cast<unsigned char>(c));
  return Quoted(ascii, ascii.size()) + (text.size() > max_bytes ? "..." : "");
}

double Milliseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

}  // namespace

std::string_view LogLevelName(LogLevel level) {
  return level == LogLevel::kDebug ? "debug" : level == LogLevel::kInfo ? "info" : "warning";
}

std::string LogLine(const RequestRecord& r, std::chrono::steady_clock::time_point now) {
  std::string line = StrFormat("id={} method={} path={} status={}", Value(r.id, 128), Value(r.method, 20),
                               Value(r.path, 120), r.status);
  if (!r.code.empty()) line += StrFormat(" error={}", Value(r.code, 40));
  if (!r.param.empty()) line += StrFormat(" param={}", Value(r.param, 80));
  if (r.stream) line += " stream=true";
  if (r.usage)
    line += StrFormat(" prompt_tokens={} cached_tokens={} completion_tokens={}", r.usage->prompt_tokens,
                      r.usage->cached_tokens, r.usage->completion_tokens);
  if (r.first_token_ms) line += StrFormat(" first_token_ms={:.1f}", *r.first_token_ms);
  line += StrFormat(" total_ms={:.1f}", Milliseconds(now - r.received));
  if (!r.peer.empty()) line += StrFormat(" peer={}", Value(r.peer, 64));
  return line;
}

std::string RequestId(std::string_view given) {
  constexpr size_t kLongest = 128;
  if (!given.empty() && given.size() <= kLongest && std::ranges::all_of(given, IsWord)) return std::string(given);
  uint64_t random[2] = {};
  // Ids only have to differ; without entropy the clock sees to that.
  if (getentropy(random, sizeof random) != 0)
    random[0] = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return StrFormat("req-{:016x}{:016x}", random[0], random[1]);
}

void LineWriter::Write(std::string_view line) {
  // A pipe that can be written to takes this much at once.
  constexpr size_t kMost = PIPE_BUF;
  const std::lock_guard lock(mutex_);
  pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
  if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0 || (ready.revents & POLLERR) != 0) {
    ++lost_;
    return;
  }
  std::string bytes;
  if (lost_ > 0) bytes = StrFormat("{} lines were not written: whoever reads the log was too slow\n", lost_);
  bytes += line.substr(0, kMost - std::min(kMost, bytes.size() + 1));
  bytes += '\n';
  if (write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size())) {
    lost_ = 0;
  } else {
    ++lost_;
  }
}

}  // namespace spanwise::server
