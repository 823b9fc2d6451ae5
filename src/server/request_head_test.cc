#include "server/request_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spanwise::server {
namespace {

using Fields = std::vector<std::pair<std::string_view, std::string_view>>;

int StatusOf(const RawHead& head, CheckedHead* checked = nullptr) {
  CheckedHead unused;
  const auto error = CheckHead(head, checked ? checked : &unused);
  return error ? error->http_status : 0;
}
// A POST of HTTP/1.1 with a host and these fields.
int Framing(Fields fields, int version = 11) {
  fields.insert(fields.begin(), {"Host", "localhost"});
  return StatusOf({.method = "POST", .target = "/tokenize", .version = version, .fields = std::move(fields)});
}

TEST(ScanHead, FindsTheEndHoweverBytesArrive) {
  const std::string_view head = "GET / HTTP/1.1\r\nHost: x\t y\r\n\r\nGET";
  for (size_t cut = 0; cut <= head.size(); ++cut) {
    const HeadScan first = ScanHead(head.substr(0, cut));
    EXPECT_EQ(first.state, cut >= head.size() - 3 ? HeadScan::State::kEnd : HeadScan::State::kMore) << cut;
    const HeadScan second = ScanHead(head, cut >= head.size() - 3 ? 0 : cut);
    EXPECT_EQ(second.state, HeadScan::State::kEnd) << cut;
    EXPECT_EQ(second.size, head.size() - 3);
  }
  EXPECT_EQ(ScanHead("\r\n\r\nGET / HTTP/1.1\r\n\r\n").size, 22u);  // empty lines in front are a client's habit
  EXPECT_EQ(ScanHead("\r\n\r\n").state, HeadScan::State::kMore);
}

TEST(ScanHead, RefusesWhatLinesMayNotHold) {
  using namespace std::string_view_literals;
  for (const std::string_view bad :
       {"GET / HTTP/1.1\nHost: x\n\n"sv, "GET / HTTP/1.1\r\nHost: x\n\r\n"sv, "GET / HTTP/1.1\rHost: x\r\n\r\n"sv,
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"sv, "GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n"sv,
        "GET / HTTP/1.1\r\nA: \0\r\n\r\n"sv, "GET / HTTP/1.1\r\nA: \x0b\r\n\r\n"sv,
        "GET / HTTP/1.1\r\nA: \x7f\r\n\r\n"sv, "\x16\x03\x01"sv, "GET / HTTP/1.1\r\n\rX: y\r\n\r\n"sv,
        "\r\n\r\n\r\n\r\n\r\n\n"sv}) {
    EXPECT_EQ(ScanHead(bad).state, HeadScan::State::kInvalid) << bad;
    HeadScan::State last = HeadScan::State::kMore;
    for (size_t n = 1; n <= bad.size() && last == HeadScan::State::kMore; ++n)
      last = ScanHead(bad.substr(0, n), n - 1).state;
    EXPECT_EQ(last, HeadScan::State::kInvalid) << bad;
  }
}

TEST(CheckHead, OneClearFramingIsAccepted) {
  EXPECT_EQ(Framing({}), 0);
  for (const char* length : {"0", "5", "00005", "999999999999999999"})
    EXPECT_EQ(Framing({{"Content-Length", length}}), 0);
  for (const char* coding : {"chunked", "Chunked", "CHUNKED"}) EXPECT_EQ(Framing({{"transfer-ENCODING", coding}}), 0);
}

TEST(CheckHead, CodingsOtherThanChunkedOnceAreRefused) {
  for (const char* unknown : {"xchunked", "gzip", "identity", "gzip, chunked", "gzip,chunked", "identity, chunked",
                              "chunkedx", "chunked-", "deflate;q=1, chunked", "br ;q=1,chunked", "trailers"})
    EXPECT_EQ(Framing({{"Transfer-Encoding", unknown}}), 501) << unknown;
  for (const char* bad : {"", ",", ", chunked", "chunked,", "chunked, chunked", "chunked,gzip", "chunked, identity",
                          "chunked;q=1", "chunked ; x", "chunked gzip", "gzip chunked", "\"chunked\"", "chunked\"",
                          "(c)chunked", "chunked, ,chunked", "chu nked", "=chunked"})
    EXPECT_EQ(Framing({{"Transfer-Encoding", bad}}), 400) << bad;
  EXPECT_EQ(Framing({{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}}), 400);
  EXPECT_EQ(Framing({{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "identity"}}), 400);
  EXPECT_EQ(Framing({{"Transfer-Encoding", "gzip"}, {"Transfer-Encoding", "chunked"}}), 501);
  EXPECT_EQ(Framing({{"Transfer-Encoding", "chunked"}, {"Content-Length", "5"}}), 400);
  EXPECT_EQ(Framing({{"Content-Length", "0"}, {"Transfer-Encoding", "chunked"}}), 400);
  EXPECT_EQ(Framing({{"Transfer-Encoding", "chunked"}}, 10), 400);
}

TEST(CheckHead, LengthsOtherThanOneNumberAreRefused) {
  for (const char* bad : {"", "+5", "-5", "0x5", "5 5", "5,5", "5, 6", "5.0", "5e1", "five", "\"5\"", "5;", ",5",
                          "9999999999999999999", "18446744073709551617", "00000000000000000005"})
    EXPECT_EQ(Framing({{"Content-Length", bad}}), 400) << bad;
  EXPECT_EQ(Framing({{"Content-Length", "5"}, {"Content-Length", "5"}}), 400);
  EXPECT_EQ(Framing({{"Content-Length", "5"}, {"content-length", "6"}}), 400);
  EXPECT_EQ(Framing({{"", "x"}}), 400);
  EXPECT_EQ(Framing({{"Content-Length ", "5"}}), 400);
}

TEST(CheckHead, KnowsWhomARequestIsFor) {
  struct Row {
    const char *method, *target, *host;
    int status;
    const char *path, *authority;
  };
  for (const Row& row : std::initializer_list<Row>{{"GET", "/a?b", "localhost:80", 0, "/a?b", "localhost:80"},
                                                   {"GET", "/", "", 0, "/", ""},
                                                   {"GET", "http://other:81/a?b", "localhost", 0, "/a?b", "other:81"},
                                                   {"GET", "HTTPS://[::1]/", "localhost", 0, "/", "[::1]"},
                                                   {"GET", "http://other", "localhost", 0, "/", "other"},
                                                   {"GET", "http://other?x", "localhost", 0, "/?x", "other"},
                                                   {"OPTIONS", "*", "localhost", 0, "*", "localhost"},
                                                   {"GET", "*", "localhost", 400, "", ""},
                                                   {"GET", "localhost:80", "localhost", 400, "", ""},
                                                   {"GET", "http:///a", "localhost", 400, "", ""},
                                                   {"GET", "http://user@other/", "localhost", 400, "", ""},
                                                   {"GET", "http://other:x/", "localhost", 400, "", ""},
                                                   {"GET", "ftp://other/", "localhost", 400, "", ""},
                                                   {"GET", "a", "localhost", 400, "", ""},
                                                   {"GET", "", "localhost", 400, "", ""},
                                                   {"CONNECT", "localhost:80", "localhost", 501, "", ""},
                                                   {"GET", "/", "a b", 400, "", ""},
                                                   {"GET", "/", "a,b", 400, "", ""},
                                                   {"GET", "/", "a/b", 400, "", ""},
                                                   {"GET", "/", "user@a", 400, "", ""},
                                                   {"GET", "/", "a:b", 400, "", ""},
                                                   {"GET", "/", "a:1:2", 400, "", ""},
                                                   {"GET", "/", "[::1", 400, "", ""},
                                                   {"GET", "/", "[::1]x", 400, "", ""},
                                                   {"GET", "/", ":80", 400, "", ""},
                                                   {"GET", "/", "a:123456", 400, "", ""},
                                                   {"GET", "/", "a_b.example:", 0, "/", "a_b.example:"}}) {
    CheckedHead head;
    EXPECT_EQ(
        StatusOf({.method = row.method, .target = row.target, .version = 11, .fields = {{"Host", row.host}}}, &head),
        row.status)
        << row.target << " " << row.host;
    if (row.status != 0) continue;
    EXPECT_EQ(head.target, row.path);
    EXPECT_EQ(head.host, row.authority);
  }
  EXPECT_EQ(StatusOf({.method = "GET", .target = "/", .version = 11, .fields = {}}), 400);
  EXPECT_EQ(StatusOf({.method = "GET", .target = "/", .version = 10, .fields = {}}), 0);
  EXPECT_EQ(StatusOf({.method = "GET", .target = "/", .version = 11, .fields = {{"Host", "a"}, {"host", "a"}}}), 400);
}

TEST(CheckHead, KnowsWhatABodyNeeds) {
  EXPECT_EQ(Framing({{"Content-Length", "5"}, {"Content-Encoding", "gzip"}}), 415);
  EXPECT_EQ(Framing({{"Transfer-Encoding", "chunked"}, {"content-encoding", "br, identity"}}), 415);
  EXPECT_EQ(Framing({{"Content-Length", "5"}, {"Content-Encoding", "Identity"}}), 0);
  EXPECT_EQ(Framing({{"Content-Encoding", "gzip"}}), 0);  // no body
  EXPECT_EQ(Framing({{"Content-Length", "5"}, {"Expect", "magic"}}), 417);
  EXPECT_EQ(Framing({{"Content-Length", "5"}, {"Expect", "magic"}}, 10), 0);
  CheckedHead head;
  for (const bool body : {false, true}) {
    EXPECT_EQ(StatusOf({.method = "POST",
                        .target = "/",
                        .version = 11,
                        .fields = {{"Host", "a"}, {"Expect", "100-Continue"}, {"Content-Length", body ? "5" : "000"}}},
                       &head),
              0);
    EXPECT_EQ(head.has_body, body);
    EXPECT_EQ(head.expects_continue, body);
  }
}

}  // namespace
}  // namespace spanwise::server
