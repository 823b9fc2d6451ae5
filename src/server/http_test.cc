#include "server/http.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "base/str.h"
#include "server/fake_backend.h"

namespace spanwise::server {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A blocking client that speaks bytes.
class Client {
 public:
  explicit Client(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    timeval timeout{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { Leave(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void Leave() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // Reads until the text holds `mark`, or to the end.
  std::string ReadUntil(std::string_view mark) {
    while (mark.empty() || read_.find(mark) == std::string::npos) {
      char bytes[4096];
      const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
      if (n <= 0) break;
      read_.append(bytes, static_cast<size_t>(n));
    }
    return std::exchange(read_, {});
  }
  std::string ReadAll() { return ReadUntil(""); }

  // One request, one answer of known length; the connection stays.
  std::string Exchange(std::string_view request) {
    Send(request);
    std::string head = ReadUntil("\r\n\r\n");
    const size_t body = head.find("\r\n\r\n") + 4, length = head.find("Content-Length: ");
    if (length == std::string::npos) return head;
    const size_t wanted = body + std::stoul(head.substr(length + 16));
    while (head.size() < wanted) {
      char bytes[4096];
      const ssize_t n = ::recv(fd_, bytes, std::min(sizeof bytes, wanted - head.size()), 0);
      if (n <= 0) break;
      head.append(bytes, static_cast<size_t>(n));
    }
    return head;
  }
  bool connected() const { return connected_; }

 private:
  int fd_;
  bool connected_;
  std::string read_;
};

std::string Post(std::string_view path, std::string_view body, std::string_view headers = "") {
  return StrFormat("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{}\r\n{}", path, body.size(), headers,
                   body);
}
std::string Chat(std::string_view text, std::string_view members = "") {
  return Post("/v1/chat/completions",
              StrFormat(R"({{"messages":[{{"role":"user","content":"{}"}}]{}}})", text, members));
}
constexpr std::string_view kHealth = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

class HttpTest : public testing::Test {
 protected:
  void Serve(const HttpOptions& http = {}, FakeOptions fake = {}, ApiOptions api = {}) {
    backend_ = NewFakeBackend(fake);
    api_ = std::make_unique<Api>(std::move(api), *backend_);
    auto server = HttpServer::Listen(http, *api_);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
    server_->Start();
  }
  uint16_t port() const { return server_->port(); }
  // Waits for something that happens on other threads.
  template <typename Condition>
  bool Soon(Condition condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Api> api_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTest, KeepsConnectionsAndReadsPipelines) {
  Serve();
  Client client(port());
  for (int i = 0; i < 3; ++i) EXPECT_THAT(client.Exchange(kHealth), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(client.Exchange(Chat("Hi")), HasSubstr("You said: Hi"));
  client.Send(std::string(kHealth) + Chat("two") + std::string(kHealth));
  std::string all = client.ReadUntil("You said: two");
  while (all.find("\"status\":\"ok\"", all.find("You said: two")) == std::string::npos) {
    const std::string more = client.ReadUntil("\"status\":\"ok\"");
    if (more.empty()) break;
    all += more;
  }
  EXPECT_THAT(all, HasSubstr("You said: two"));
  EXPECT_THAT(client.Exchange("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
              HasSubstr("Connection: close"));
  EXPECT_EQ(client.ReadAll(), "");
}

TEST_F(HttpTest, StreamsInChunksAndGoesOn) {
  Serve();
  Client client(port());
  client.Send(Chat("Hi", R"(,"stream":true)"));
  const std::string text = client.ReadUntil("0\r\n\r\n");
  EXPECT_THAT(text, HasSubstr("Transfer-Encoding: chunked"));
  EXPECT_THAT(text, HasSubstr("data: [DONE]\n\n"));
  EXPECT_THAT(client.Exchange(kHealth), StartsWith("HTTP/1.1 200"));
  Client old(port());
  std::string request = Chat("Hi", R"(,"stream":true)");
  request.replace(request.find("HTTP/1.1"), 8, "HTTP/1.0");
  old.Send(request);
  const std::string plain = old.ReadAll();
  EXPECT_THAT(plain, testing::Not(HasSubstr("chunked")));
  EXPECT_THAT(plain, testing::EndsWith("data: [DONE]\n\n"));
}

TEST_F(HttpTest, ReadsBodiesHoweverTheyArrive) {
  Serve();
  Client bytewise(port());
  const std::string request = Chat("slow");
  for (const char c : request) bytewise.Send({&c, 1});
  EXPECT_THAT(bytewise.ReadUntil("You said: slow"), HasSubstr("You said: slow"));
  Client chunked(port());
  chunked.Send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
      "chunked\r\n\r\n5\r\n{\"tex\r\n8\r\nt\":\"ab\"}\r\n0\r\n\r\n");
  EXPECT_THAT(chunked.ReadUntil("97,98"), HasSubstr("97,98"));
  Client expecting(port());
  const std::string body = R"({"text":"ab"})";
  expecting.Send(StrFormat(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.size()));
  EXPECT_THAT(expecting.ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 100 Continue"));
  EXPECT_THAT(expecting.Exchange(body), HasSubstr("97,98"));
  EXPECT_THAT(Client(port()).Exchange("HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpTest, RefusesWhatIsTooLargeOrMalformed) {
  HttpOptions http;
  http.max_body_bytes = 1000;
  http.max_header_bytes = 2000;
  Serve(http);
  EXPECT_THAT(Client(port()).Exchange(Post("/tokenize", std::string(1001, 'x'))), StartsWith("HTTP/1.1 413"));
  Client large(port());
  large.Send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" +
             StrFormat("{:x}\r\n", 1001) + std::string(1001, 'x'));
  EXPECT_THAT(large.ReadAll(), StartsWith("HTTP/1.1 413"));
  Client promised(port());
  promised.Send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_THAT(promised.ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(Client(port()).Exchange("GET / HTTP/1.1\r\nX: " + std::string(3000, 'x') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431"));
  for (const char* bad : {"nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
                          "POST /tokenize HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "\x16\x03\x01\r\n\r\n"})
    EXPECT_THAT(Client(port()).Exchange(bad), StartsWith("HTTP/1.1 400")) << bad;
  EXPECT_THAT(Client(port()).Exchange(Post("/tokenize", "{", "Expect: magic\r\n")), StartsWith("HTTP/1.1 417"));
  EXPECT_THAT(Client(port()).Exchange(Post("/nope", "{}")), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Client(port()).Exchange("GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
              StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(Client(port()).Exchange(kHealth), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpTest, ClosesConnectionsThatDoNothing) {
  HttpOptions http;
  http.idle_timeout = http.io_timeout = milliseconds(100);
  Serve(http);
  Client silent(port()), halfway(port()), body(port());
  halfway.Send("GET /health HT");
  body.Send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{");
  EXPECT_EQ(silent.ReadAll(), "");
  EXPECT_EQ(halfway.ReadAll(), "");
  EXPECT_EQ(body.ReadAll(), "");
  EXPECT_TRUE(Soon([&] { return server_->n_connections() == 0; }));
}

TEST_F(HttpTest, AGeneratingRequestIsNotIdle) {
  HttpOptions http;
  http.idle_timeout = http.io_timeout = milliseconds(100);
  Serve(http, {.max_queued = 4, .per_token = milliseconds(30)});
  EXPECT_THAT(Client(port()).Exchange(Chat("Hi")), HasSubstr("You said: Hi"));
}

TEST_F(HttpTest, LimitsConnections) {
  HttpOptions http;
  http.max_connections = 2;
  Serve(http);
  Client a(port()), b(port());
  a.Exchange(kHealth), b.Exchange(kHealth);
  Client c(port());
  EXPECT_THAT(c.ReadAll(), testing::AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("Retry-After")));
  a.Leave();
  EXPECT_TRUE(Soon([&] { return server_->n_connections() < 2; }));
  EXPECT_THAT(Client(port()).Exchange(kHealth), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpTest, AFullQueueIs429) {
  Serve({}, {.max_queued = 1, .per_token = milliseconds(50)});
  Client running(port()), waiting(port()), refused(port());
  running.Send(Chat(std::string(2000, 'x'), R"(,"stream":true)"));
  running.ReadUntil("data:");
  waiting.Send(Chat("b"));
  ASSERT_TRUE(Soon([&] { return backend_->stats().queued == 1; }));
  EXPECT_THAT(refused.Exchange(Chat("c")), testing::AllOf(StartsWith("HTTP/1.1 429"), HasSubstr("Retry-After: 1"),
                                                          HasSubstr("rate_limit_exceeded")));
  running.Leave();
  EXPECT_THAT(waiting.ReadUntil("You said: b"), HasSubstr("You said: b"));
}

TEST_F(HttpTest, AClientThatLeavesCancels) {
  Serve({}, {.max_queued = 4, .per_token = milliseconds(20)});
  const std::string text(2000, 'x');  // would take 40 seconds each
  Client streaming(port()), whole(port());
  streaming.Send(Chat(text, R"(,"stream":true)"));
  streaming.ReadUntil("data:");
  whole.Send(Chat(text));
  ASSERT_TRUE(Soon([&] { return backend_->stats().queued == 1; }));
  streaming.Leave();
  EXPECT_TRUE(Soon([&] { return backend_->stats().cancelled == 1; }));
  whole.Leave();
  EXPECT_TRUE(Soon([&] { return backend_->stats().cancelled == 2; }));
  EXPECT_TRUE(Soon([&] { return server_->n_connections() == 0; }));
}

TEST_F(HttpTest, AClientThatDoesNotReadIsDropped) {
  HttpOptions http;
  http.max_unsent_bytes = 1'000'000;
  // 150 MB of events, far more than sockets buffer, over so long a time that the answer cannot end before its client is
  // dropped, however slow the machine.
  Serve(http, {.max_queued = 4, .per_token = std::chrono::microseconds(100)});
  Client client(port());
  client.Send(Chat(std::string(60'000, 'x'), R"(,"stream":true,"max_tokens":60000,"logprobs":true,"top_logprobs":20)"));
  EXPECT_TRUE(Soon([&] { return backend_->stats().cancelled == 1; }));
}

TEST_F(HttpTest, StopLetsAnswersFinish) {
  Serve({}, {.max_queued = 4, .per_token = milliseconds(30)});
  Client idle(port()), busy(port());
  idle.Exchange(kHealth);
  busy.Send(Chat("Hi", R"(,"stream":true)"));
  busy.ReadUntil("data:");
  server_->Stop(std::chrono::seconds(20));
  EXPECT_EQ(server_->n_connections(), 0);
  EXPECT_THAT(busy.ReadAll(), HasSubstr("[DONE]"));
  EXPECT_EQ(idle.ReadAll(), "");
  EXPECT_FALSE(Client(port()).connected());
}

TEST_F(HttpTest, StopCancelsWhatTakesTooLong) {
  Serve({}, {.max_queued = 4, .per_token = milliseconds(20)});
  Client busy(port());
  busy.Send(Chat(std::string(2000, 'x'), R"(,"stream":true)"));
  busy.ReadUntil("data:");
  server_->Stop(milliseconds(50));
  EXPECT_EQ(backend_->stats().cancelled, 1u);
  EXPECT_THAT(busy.ReadAll(), HasSubstr("the request was cancelled"));
}

TEST_F(HttpTest, ManyClientsAtOnce) {
  Serve({}, {.max_queued = 1000, .per_token = milliseconds(0)});
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        Client client(port());
        const std::string text = StrFormat("t{}i{}", t, i);
        if (i % 3 == 2) {
          client.Send(Chat(text, R"(,"stream":true)"));
          if (i % 2 == 0) client.ReadUntil("data:");
          continue;  // leaves at once
        }
        good += client.Exchange(Chat(text)).find("You said: " + text) != std::string::npos ? 1 : 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 8 * 14);
  EXPECT_TRUE(Soon([&] { return server_->n_connections() == 0; }));
}

TEST_F(HttpTest, ListensOnlyWhereItMay) {
  Serve();
  HttpOptions http;
  http.port = port();
  EXPECT_EQ(HttpServer::Listen(http, *api_).status().code(), StatusCode::kUnavailable);
  http.port = 0;
  http.host = "0.0.0.0";
  const Status status = HttpServer::Listen(http, *api_).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("API key"));
  http.loopback_only = false;
  EXPECT_TRUE(HttpServer::Listen(http, *api_).ok());
  http.host = "no such host";
  EXPECT_EQ(HttpServer::Listen(http, *api_).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace spanwise::server
