#include "server/request_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>

namespace spanwise::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(LogLine, TellsOfARequestAndItsAnswer) {
  RequestRecord record{.id = "req-1", .method = "POST", .path = "/v1/completions", .peer = "127.0.0.1"};
  record.status = 200;
  record.stream = true;
  record.usage = {.prompt_tokens = 12, .cached_tokens = 8, .completion_tokens = 3};
  record.first_token_ms = 41.04;
  EXPECT_EQ(LogLine(record, record.received + std::chrono::microseconds(97'310)),
            "id=req-1 method=POST path=/v1/completions status=200 stream=true prompt_tokens=12 cached_tokens=8 "
            "completion_tokens=3 first_token_ms=41.0 total_ms=97.3 peer=127.0.0.1");
}

TEST(LogLine, IsOneBoundedLineOfAsciiWhateverIsSent) {
  RequestRecord record{.id = "a", .method = std::string(1000, 'M'), .path = std::string(100'000, '/'), .peer = {}};
  record.code = "x\ny";
  record.param = "\x1b[2J\xe2\x80\xae \"\\";
  const std::string line = LogLine(record, record.received);
  EXPECT_LT(line.size(), 800u);
  for (const char c : line) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << static_cast<int>(c);
  EXPECT_THAT(line, HasSubstr("error=\"x%0Ay\""));
  EXPECT_THAT(line, HasSubstr(R"(param="%1B[2J%E2%80%AE \"\\")"));
  record.path = "/a b\nstatus=200";
  EXPECT_THAT(LogLine(record, record.received), HasSubstr(R"(path="/a b%0Astatus=200" status=0)"));
}

TEST(RequestId, IsTheClientsWhereItIsFit) {
  for (const char* good : {"a", "0f1e-2d.3c_4b:5", "trace/1+2=3@host"}) EXPECT_EQ(RequestId(good), good);
  EXPECT_EQ(RequestId(std::string(128, 'x')), std::string(128, 'x'));
  for (const std::string& bad : {std::string(), std::string("a b"), std::string("a\r\nX: y"), std::string("\xc3\xbc"),
                                 std::string(129, 'x'), std::string("<b>"), std::string("a\0b", 3)})
    EXPECT_THAT(RequestId(bad), StartsWith("req-"));
  EXPECT_NE(RequestId(""), RequestId(""));
}

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0); }
  ~Pipe() {
    CloseReader();
    close(ends_[1]);
  }
  void CloseReader() {
    if (ends_[0] >= 0) close(ends_[0]);
    ends_[0] = -1;
  }
  int writer() const { return ends_[1]; }
  // All that is in it now.
  std::string Read() {
    fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    std::string text(1 << 20, '\0');
    const ssize_t n = read(ends_[0], text.data(), text.size());
    return text.substr(0, static_cast<size_t>(std::max<ssize_t>(n, 0)));
  }

 private:
  int ends_[2] = {-1, -1};
};

TEST(LineWriter, NeverWaitsForAReader) {
  Pipe pipe;
  LineWriter log(pipe.writer());
  log.Write("first");
  for (int i = 0; i < 10'000; ++i) log.Write(std::string(100, 'x'));  // far more than a pipe holds
  EXPECT_THAT(pipe.Read(), StartsWith("first\nxxx"));
  log.Write("later");
  const std::string rest = pipe.Read();
  EXPECT_THAT(rest, HasSubstr(" lines were not written"));
  EXPECT_THAT(rest, EndsWith("\nlater\n"));
  log.Write("last");
  EXPECT_EQ(pipe.Read(), "last\n");
  log.Write(std::string(100'000, 'y'));
  EXPECT_LT(pipe.Read().size(), 5000u);
}

TEST(LineWriter, OutlivesItsReader) {
  Pipe pipe;
  pipe.CloseReader();
  LineWriter log(pipe.writer());
  log.Write("nobody");  // and no SIGPIPE
  log.Write("nobody");
}

}  // namespace
}  // namespace spanwise::server
