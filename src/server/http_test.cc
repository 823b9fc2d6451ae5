#include "server/http.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "base/str.h"
#include "server/fake_backend.h"

namespace spanwise::server {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
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
  // Sends no more, but reads.
  void EndSending() { ::shutdown(fd_, SHUT_WR); }
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
  for (const char* bad : {"nonsense\r\n\r\n", "GET / HTTP/1.1\nHost: localhost\n\n", "GET / HTTP/9.9\r\n\r\n",
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

TEST_F(HttpTest, AnIdleConnectionMakesRoomForANewOne) {
  HttpOptions http;
  http.max_connections = 20;
  Serve(http);
  Client kept(port());
  kept.Exchange(kHealth);
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 300; ++i) {
    silent.push_back(std::make_unique<Client>(port()));
    if (i % 3 == 0) silent.back()->Send("GET /health HT");
    if (i % 10 != 0) continue;
    // A new one is served, and with it all before it have been accepted; one that is used now and then is never the one
    // that has waited longest.
    ASSERT_THAT(Client(port()).Exchange(kHealth), StartsWith("HTTP/1.1 200")) << i;
    ASSERT_THAT(kept.Exchange(kHealth), StartsWith("HTTP/1.1 200")) << i;
  }
  EXPECT_TRUE(Soon([&] { return server_->n_connections() <= 20; }));
  EXPECT_EQ(silent[0]->ReadAll(), "");
}

TEST_F(HttpTest, ConnectionsWithRequestsMakeNoRoom) {
  HttpOptions http;
  http.max_connections = 2;
  Serve(http, {.max_queued = 4, .per_token = milliseconds(20)});
  Client a(port()), b(port());
  a.Send(Chat(std::string(2000, 'x'), R"(,"stream":true)"));
  a.ReadUntil("data:");
  const std::string request = Post("/tokenize", R"({"text":"ab"})");
  b.Send(request.substr(0, request.size() - 3));
  ASSERT_TRUE(Soon([&] {  // until the server has read the second one's head, it makes room
    Client c(port());
    const std::string answer = c.Exchange(kHealth);
    return answer.starts_with("HTTP/1.1 429") && answer.find("Retry-After: 1") != std::string::npos;
  }));
  a.Leave();
  EXPECT_TRUE(Soon([&] { return Client(port()).Exchange(kHealth).starts_with("HTTP/1.1 200"); }));
}

TEST_F(HttpTest, WhenFilesRunOutIdleConnectionsMakeRoom) {
  Serve();
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(std::make_unique<Client>(port()));
  ASSERT_TRUE(Soon([&] { return server_->n_connections() == 20; }));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // Every file but one is taken; the client's socket takes that.
  std::vector<int> fill;
  const int next = ::dup(0);
  ::close(next);
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(next) + 4;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  for (int fd; (fd = ::dup(0)) >= 0;) fill.push_back(fd);
  ASSERT_FALSE(fill.empty());
  ::close(fill.back());
  fill.pop_back();
  const std::string answer = Client(port()).Exchange(kHealth);
  for (const int fd : fill) ::close(fd);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpTest, NothingSmallWaitsForLargeBodies) {
  Serve({}, {.per_text = milliseconds(400)});
  const std::string large = Post("/tokenize", R"({"text":")" + std::string(500'000, 'x') + R"("})");
  Client a(port()), b(port()), chat(port());
  a.Send(large), b.Send(large);
  std::this_thread::sleep_for(milliseconds(100));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(Client(port()).Exchange(kHealth), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(chat.Exchange(Chat("Hi")), HasSubstr("You said: Hi"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(300));
  EXPECT_THAT(a.ReadUntil("\"count\":500000"), HasSubstr("\"count\":500000"));
  EXPECT_THAT(b.ReadUntil("\"count\":500000"), HasSubstr("\"count\":500000"));
}

TEST_F(HttpTest, BodiesTogetherAreLimited) {
  HttpOptions http;
  http.max_total_body_bytes = 100'000;
  Serve(http);
  const std::string request = Post("/tokenize", R"({"text":")" + std::string(80'000, 'x') + R"("})");
  std::unique_ptr<Client> first;
  std::string answer;
  ASSERT_TRUE(Soon([&] {  // until the server has read so much of it before the second comes
    first = std::make_unique<Client>(port());
    first->Send(request.substr(0, 60'000));
    std::this_thread::sleep_for(milliseconds(50));
    answer = Client(port()).Exchange(request);
    return answer.starts_with("HTTP/1.1 429");
  }));
  EXPECT_THAT(answer, HasSubstr("Retry-After: 1"));
  EXPECT_THAT(Client(port()).Exchange(Post("/tokenize", R"({"text":"ab"})")), HasSubstr("97,98"));
  first->Send(request.substr(60'000));
  EXPECT_THAT(first->ReadUntil("\"count\":80000"), HasSubstr("\"count\":80000"));
  EXPECT_TRUE(Soon([&] { return Client(port()).Exchange(request).starts_with("HTTP/1.1 200"); }));
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

TEST_F(HttpTest, AClientThatLeavesCancelsWhateverItSentBehind) {
  Serve({}, {.max_queued = 4, .per_token = milliseconds(20)});
  const std::string text(2000, 'x');
  uint64_t n = 0;
  for (const std::string& behind :
       {std::string(kHealth), Chat("b"), std::string("GET /hea"), std::string(20'000, 'x')}) {
    Client client(port());
    client.Send(Chat(text) + behind);
    ASSERT_TRUE(Soon([&] { return backend_->stats().running == 1; }));
    client.Leave();
    ++n;
    EXPECT_TRUE(Soon([&] { return backend_->stats().cancelled == n; })) << behind.substr(0, 20);
  }
  EXPECT_TRUE(Soon([&] { return server_->n_connections() == 0; }));
}

TEST_F(HttpTest, AClientThatEndsItsSideIsAnswered) {
  HttpOptions http;
  http.watch_interval = milliseconds(10);
  Serve(http, {.max_queued = 4, .per_token = milliseconds(10)});
  std::string old = Chat("old");
  old.replace(old.find("HTTP/1.1"), 8, "HTTP/1.0");
  for (const std::string& request :
       {Chat("whole"), Chat("streamed", R"(,"stream":true)"), old, Chat("one") + Chat("two") + std::string(kHealth)}) {
    Client client(port());
    client.Send(request);
    client.EndSending();
    const std::string all = client.ReadAll();
    EXPECT_THAT(all, HasSubstr("HTTP/1.1 200 OK")) << request;
    if (request.find("streamed") != std::string::npos) {
      EXPECT_THAT(all, HasSubstr("data: [DONE]"));
    } else if (request == old) {
      EXPECT_THAT(all, AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("You said: old")));  // that has no interim answers
    } else {
      EXPECT_THAT(all, StartsWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"));
      EXPECT_THAT(all, HasSubstr(request.find("whole") == std::string::npos ? "You said: two" : "You said: whole"));
      EXPECT_EQ(all.find("\"status\":\"ok\"") != std::string::npos, request.ends_with(kHealth));
    }
  }
  EXPECT_EQ(backend_->stats().cancelled, 0u);
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
  EXPECT_THAT(busy.ReadAll(),
              testing::AllOf(HasSubstr("the server is shutting down"), HasSubstr(R"("type":"server_error")")));
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

TEST_F(HttpTest, PagesMayReadAnswersAndErrors) {
  ApiOptions api;
  api.cors = CorsPolicy::Parse({"http://app.example"}).value();
  api.keys = ApiKeys::FromList({"secret"});
  Serve({}, {}, std::move(api));
  const auto get = [&](std::string_view target, std::string_view origin, std::string_view more) {
    return Client(port()).Exchange(
        StrFormat("{} HTTP/1.1\r\nHost: localhost\r\nOrigin: {}\r\n{}\r\n", target, origin, more));
  };
  const auto readable = AllOf(HasSubstr("Access-Control-Allow-Origin: http://app.example\r\n"),
                              HasSubstr("Access-Control-Expose-Headers: "), HasSubstr("Vary: Origin\r\n"));
  EXPECT_THAT(get("GET /health", "http://app.example", ""), AllOf(StartsWith("HTTP/1.1 200"), readable));
  EXPECT_THAT(get("GET /nope", "http://app.example", ""), AllOf(StartsWith("HTTP/1.1 401"), readable));
  EXPECT_THAT(get("GET /nope", "http://app.example", "Authorization: Bearer secret\r\n"),
              AllOf(StartsWith("HTTP/1.1 404"), readable));
  EXPECT_THAT(
      get("OPTIONS /v1/chat/completions", "http://app.example",
          "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,x-stainless-os\r\n"),
      AllOf(StartsWith("HTTP/1.1 204"), readable,
            HasSubstr("Access-Control-Allow-Headers: authorization,x-stainless-os\r\n")));
  EXPECT_THAT(get("OPTIONS /nope", "http://other.example", "Access-Control-Request-Method: POST\r\n"),
              AllOf(StartsWith("HTTP/1.1 403"), Not(HasSubstr("Access-Control-Allow-Origin"))));
}

TEST_F(HttpTest, ReadsTargetsOfEveryForm) {
  Serve();
  EXPECT_THAT(Client(port()).Exchange("GET http://127.0.0.1/health HTTP/1.1\r\nHost: x\r\n\r\n"),
              StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Client(port()).Exchange("GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
              StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(Client(port()).Exchange("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 204"), HasSubstr("Allow: GET")));
  EXPECT_THAT(Client(port()).Exchange("GET /health HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(
      Client(port()).Exchange("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                              "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
      StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Client(port()).Exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Client(port()).Exchange("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n"),
              StartsWith("HTTP/1.1 501"));
  EXPECT_THAT(Client(port()).Exchange(Post("/tokenize", "\x1f\x8b", "Content-Encoding: gzip\r\n")),
              AllOf(StartsWith("HTTP/1.1 415"), HasSubstr("gzip")));
}

// First requests that two readers could frame differently, each followed by bytes that one of them would take for a
// second request. That one is never served.
TEST_F(HttpTest, ServesNothingBehindARequestOfUnclearLength) {
  using namespace std::string_literals;
  Serve();
  const std::string second = "GET /v1/models/SMUGGLED HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const std::string post = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\n";
  std::vector<std::string> shapes;
  for (const std::string& coding : {"xchunked"s,
                                    "gzip"s,
                                    "identity"s,
                                    "gzip, chunked"s,
                                    "gzip,chunked"s,
                                    "identity, chunked"s,
                                    "chunked, identity"s,
                                    "chunked, chunked"s,
                                    "chunked,chunked"s,
                                    "chunked, gzip"s,
                                    "chunked;q=1"s,
                                    "chunked; a=b"s,
                                    "chunked, "s,
                                    ", chunked"s,
                                    ""s,
                                    ","s,
                                    "\"chunked\""s,
                                    "'chunked'"s,
                                    "chunked\x0b"s,
                                    "\x0b"s + "chunked",
                                    "chunked\x0c"s,
                                    "\0chunked"s,
                                    "chunked\0"s,
                                    "chu nked"s,
                                    "chun\tked"s,
                                    "chunked chunked"s,
                                    "chunked\r\n gzip"s,
                                    "\r\n chunked"s,
                                    "chun\r\n ked"s,
                                    "chunked\n"s,
                                    "chunked\r"s,
                                    "x\nTransfer-Encoding: chunked"s,
                                    "x\rTransfer-Encoding: chunked"s,
                                    "CHUNKED, x"s,
                                    "deflate"s,
                                    "compress"s,
                                    "br"s,
                                    "trailers"s,
                                    "chunk"s,
                                    "hunked"s,
                                    "chunked-"s,
                                    "\xa0"s + "chunked",
                                    "chunked\x7f"s,
                                    "chunked\r\nTransfer-Encoding: chunked"s,
                                    "chunked\r\nTransfer-Encoding: identity"s,
                                    "identity\r\nTransfer-Encoding: chunked"s,
                                    "chunked\r\nContent-Length: 0"s,
                                    "chunked\r\nContent-Length: 5"s,
                                    "chunked\r\ncontent-length: 5, 5"s,
                                    "xchunked\r\nContent-Length: 3"s})
    for (const std::string& body : {""s, "0\r\n\r\n"s, "1\r\nZ\r\n0\r\n\r\n"s})
      shapes.push_back(post + "Transfer-Encoding: " + coding + "\r\n\r\n" + body + second);
  for (const std::string& field : {"Transfer-Encoding : chunked"s,
                                   "Transfer-Encoding\t: chunked"s,
                                   " Transfer-Encoding: chunked"s,
                                   "\tTransfer-Encoding: chunked"s,
                                   "Transfer-Encoding\0: chunked"s,
                                   "Transfer-Encoding\r\n : chunked"s,
                                   "Transfer-Encoding"s,
                                   ": chunked"s,
                                   "X: y\r\n Transfer-Encoding: chunked"s,
                                   "X: y\nTransfer-Encoding: chunked"s,
                                   "X: y\rTransfer-Encoding: chunked"s,
                                   "X\r\nTransfer-Encoding: chunked"s,
                                   "Transfer Encoding: chunked"s,
                                   "Transfer-Encoding;: chunked"s,
                                   "\"Transfer-Encoding\": chunked"s,
                                   "Content-Length : 5"s,
                                   "Content-Length\t: 5"s,
                                   " Content-Length: 5"s,
                                   "Content-Length"s,
                                   "Content-Length\0: 5"s,
                                   "X: y\nContent-Length: 5"s,
                                   "X: y\rContent-Length: 5"s,
                                   "Content Length: 5"s,
                                   "Content-Length: 0\r\n Content-Length: 5"s,
                                   "Host: other.example"s,
                                   "Host: localhost"s})
    for (const std::string& body : {""s, "0\r\n\r\n"s}) shapes.push_back(post + field + "\r\n\r\n" + body + second);
  for (const std::string& length : {"+5"s,
                                    "-5"s,
                                    "-0"s,
                                    "5,5"s,
                                    "5, 5"s,
                                    "0, 5"s,
                                    "5,0"s,
                                    "5 5"s,
                                    "0x5"s,
                                    "0x0"s,
                                    "5.0"s,
                                    "5e0"s,
                                    "five"s,
                                    ""s,
                                    ","s,
                                    "5,"s,
                                    ",5"s,
                                    "\"5\""s,
                                    "5;"s,
                                    "5\0"s,
                                    "\0"s + "5",
                                    "5\x0b"s,
                                    "18446744073709551616"s,
                                    "18446744073709551621"s,
                                    "99999999999999999999"s,
                                    "4294967296, 0"s,
                                    "5\r\n 0"s,
                                    "\r\n 5"s,
                                    "5\r\nContent-Length: 5"s,
                                    "5\r\nContent-Length: 0"s,
                                    "0\r\nContent-Length: 5"s,
                                    "0\r\ncontent-length: 0"s,
                                    "5\nContent-Length: 0"s,
                                    "\xef\xbc\x95"s})
    for (const std::string& body : {""s, "{\"a\":"s})
      shapes.push_back(post + "Content-Length: " + length + "\r\n\r\n" + body + second);
  for (const std::string& chunks : {"0x0\r\n\r\n"s,
                                    "-0\r\n\r\n"s,
                                    "+0\r\n\r\n"s,
                                    " 0\r\n\r\n"s,
                                    "\r\n0\r\n\r\n"s,
                                    "\r\n"s,
                                    "g\r\n"s,
                                    ";\r\n\r\n"s,
                                    "10000000000000000\r\n\r\n"s,
                                    "fffffffffffffffff\r\n"s,
                                    "-1\r\n"s,
                                    "1\r\nZZ\r\n0\r\n\r\n"s,
                                    "1\r\nZ0\r\n\r\n"s,
                                    "1\nZ\n0\n\n"s,
                                    "1\r\nZ\n0\r\n\r\n"s,
                                    "1\r\nZ\r0\r\n\r\n"s,
                                    "0\n\n"s,
                                    "0\n\r\n"s,
                                    "0\r\n\n"s,
                                    "0\r\r\n"s,
                                    "0\r\n\r"s,
                                    "0\r\nX : y\r\n\r\n"s,
                                    "0\r\n X: y\r\n\r\n"s,
                                    "0\r\nX: y\r\n GET /x HTTP/1.1\r\n\r\n"s,
                                    "0\r\nX: y\n\r\n"s,
                                    "0\r\nX\r\n\r\n"s,
                                    "0\r\n: y\r\n\r\n"s,
                                    "0;a\nb\r\n\r\n"s,
                                    "0;a\rb\r\n\r\n"s,
                                    "0;\0\r\n\r\n"s,
                                    "0,1\r\n\r\n"s,
                                    "0.0\r\n\r\n"s,
                                    "0_\r\n\r\n"s,
                                    "1;\nZ\r\n0\r\n\r\n"s,
                                    "\0"s + "0\r\n\r\n",
                                    "0\0\r\n\r\n"s})
    shapes.push_back(post + "Transfer-Encoding: chunked\r\n\r\n" + chunks + second);
  for (const std::string& line : {"POST /tokenize\r\n"s,           "POST  /tokenize HTTP/1.1\r\n"s,
                                  "POST /tokenize  HTTP/1.1\r\n"s, "POST /tokenize HTTP/1.1 \r\n"s,
                                  "POST\t/tokenize HTTP/1.1\r\n"s, " POST /tokenize HTTP/1.1\r\n"s,
                                  "POST /tokenize HTTP/1.1\n"s,    "POST /tokenize HTTP/1.2\r\n"s,
                                  "POST /tokenize HTTP/2.0\r\n"s,  "POST /tokenize HTTP/0.9\r\n"s,
                                  "POST /tokenize http/1.1\r\n"s,  "POST /tokenize HTTP/11\r\n"s,
                                  "POST /tokenize HTTP/1.1x\r\n"s, "P(ST /tokenize HTTP/1.1\r\n"s,
                                  "POST tokenize HTTP/1.1\r\n"s,   "POST /a b HTTP/1.1\r\n"s,
                                  "POST /\0 HTTP/1.1\r\n"s,        "GET localhost:80 HTTP/1.1\r\n"s,
                                  "GET * HTTP/1.1\r\n"s,           "CONNECT localhost:80 HTTP/1.1\r\n"s,
                                  "GET http:///x HTTP/1.1\r\n"s,   "HTTP/1.1 200 OK\r\n"s})
    shapes.push_back(line + "Host: localhost\r\n\r\n" + second);
  for (const std::string& coding : {"chunked"s, "gzip, chunked"s, "identity"s})
    shapes.push_back("POST /tokenize HTTP/1.0\r\nTransfer-Encoding: " + coding +
                     "\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n" + second);
  shapes.push_back("POST /tokenize HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + second);  // no host
  shapes.push_back(post + "Content-Length: " + std::to_string(second.size()) + "\r\nContent-Encoding: gzip\r\n\r\n" +
                   second);
  shapes.push_back(post + "Content-Length: " + std::to_string(second.size()) + "\r\nExpect: magic\r\n\r\n" + second);
  // Trailers are read, and nothing behind them.
  shapes.push_back(post + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Y: z\r\n\r\n" + second);
  for (const std::string& first : {"keep-alive"s, "x"s})
    shapes.push_back(post + "Content-Length: 0\r\nConnection: " + first + "\r\nConnection: close\r\n\r\n" + second);
  EXPECT_GE(shapes.size(), 300u);
  for (const std::string& shape : shapes) {
    Client client(port());
    client.Send(shape);
    client.EndSending();
    const std::string all = client.ReadAll();
    EXPECT_THAT(all, Not(HasSubstr("SMUGGLED"))) << Quoted(shape, 400);
    // Refused, or cut off where it ends within what it began.
    EXPECT_TRUE(all.empty() || all.starts_with("HTTP/1.1 4") || all.starts_with("HTTP/1.1 501"))
        << Quoted(shape, 400) << "\n"
        << all;
    EXPECT_EQ(all.find("HTTP/1.1 ", 1), std::string::npos) << Quoted(shape, 400) << "\n" << all;
  }
}

// What the rule above must not refuse: one clear length, however it is written.
TEST_F(HttpTest, ServesWhatStandsBehindARequestOfClearLength) {
  Serve();
  const std::string second = "GET /v1/models/SECOND HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  const std::string post = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\n";
  for (const std::string& first :
       {std::string(kHealth), "\r\n" + std::string(kHealth), post + "Content-Length: 13\r\n\r\n{\"text\":\"ab\"}",
        post + "CONTENT-LENGTH:\t0013 \r\n\r\n{\"text\":\"ab\"}", post + "Content-Length: 0\r\n\r\n",
        post + "Content-Length: 13\r\n\r\n{\"text\":\"ab\"}\r\n", post + "\r\n",
        post + "Transfer-Encoding: chunked\r\n\r\nd\r\n{\"text\":\"ab\"}\r\n0\r\n\r\n",
        post + "transfer-encoding:Chunked\r\n\r\n1\r\n{\r\nC\r\n\"text\":\"ab\"}\r\n0\r\n\r\n",
        post + "Transfer-Encoding: chunked\r\n\r\n000d;name=value\r\n{\"text\":\"ab\"}\r\n0;x\r\n\r\n",
        post + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + std::string(),
        post + "X-Content-Length: 5\r\n\r\n"}) {
    Client client(port());
    client.Send(first + second);
    const std::string all = client.ReadAll();
    EXPECT_THAT(all, HasSubstr("SECOND")) << Quoted(first, 400);
  }
  // A body that looks like a request is a body.
  const std::string inner = "GET /v1/models/INNER HTTP/1.1\r\nHost: localhost\r\n\r\n";
  Client client(port());
  client.Send(post + StrFormat("Content-Length: {}\r\n\r\n", inner.size()) + inner + second);
  EXPECT_THAT(client.ReadAll(), AllOf(HasSubstr("SECOND"), Not(HasSubstr("INNER"))));
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
