#include "cli/output.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <string>
#include <system_error>

namespace spanwise::cli {
namespace {

constexpr size_t kMostGathered = size_t{1} << 16;

struct Output {
  std::mutex mutex;
  std::string text;  // guarded by mutex; not written yet
  int failure = 0;   // guarded by mutex; an errno
  const bool at_once = isatty(STDOUT_FILENO) != 0;
};

Output& Out() {
  static Output* const output = new Output();
  return *output;
}

// An errno, or 0.
int Write(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n >= 0) {
      text.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd ready{fd, POLLOUT, 0};
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

Status ToStatus(int failure) {
  if (failure == 0) return Status::Ok();
  const std::string message = fmt::format("standard output: {}: what was to be printed is not there",
                                          failure == EBADF ? "it is closed" : std::generic_category().message(failure));
  return failure == ENOSPC || failure == EDQUOT || failure == EFBIG ? ResourceExhausted(message) : Unavailable(message);
}

// REQUIRES: its mutex is held.
void WriteGathered(Output& out) {
  if (out.failure == 0) out.failure = Write(STDOUT_FILENO, out.text);
  out.text.clear();
}

}  // namespace

void PrintText(std::string_view text) {
  Output& out = Out();
  const std::lock_guard lock(out.mutex);
  if (out.failure != 0) return;
  out.text += text;
  if (out.at_once || out.text.size() >= kMostGathered) WriteGathered(out);
}

Status Flush() {
  Output& out = Out();
  const std::lock_guard lock(out.mutex);
  WriteGathered(out);
  return ToStatus(out.failure);
}

Status TryPrint(std::string_view text) { return ToStatus(Write(STDOUT_FILENO, text)); }

void NoteText(std::string_view text) { Write(STDERR_FILENO, text); }

void PrepareStandardStreams() {
  signal(SIGXFSZ, SIG_IGN);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    // The lowest number that is free, opened the way in which nobody uses it.
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

}  // namespace spanwise::cli
