#include "kv/tiers/remote.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/str.h"
#include "kv/tiers/redis_fixture.h"
#include "kv/tiers/span_fixture.h"

namespace spanwise {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const SpanKey kRoot = RootKey(kFormat.model, "causal", {});

// A tier, and what it warned of.
class Remote {
 public:
  explicit Remote(RemoteTierOptions options, const SpanFormat& format = kFormat) {
    options.warn = [this](const std::string& message) {
      const std::lock_guard lock(mutex_);
      warnings_.push_back(message);
    };
    if (options.first_pause == milliseconds(1000)) options.first_pause = milliseconds(50);
    tier_ = RemoteTier::Open(format, options).value();
  }
  RemoteTier* operator->() { return tier_.get(); }
  RemoteTier& operator*() { return *tier_; }
  std::vector<std::string> warnings() const {
    const std::lock_guard lock(mutex_);
    return warnings_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> warnings_;
  std::unique_ptr<RemoteTier> tier_;
};

RemoteTierOptions At(const std::string& address) { return {.server = {.address = address}}; }

void Keep(RemoteTier& tier, const std::vector<Span>& spans) {
  for (const Span& span : spans) EXPECT_TRUE(tier.Offer(span));
  tier.Flush();
}

// Tokens of a chain that come, each span as it must be.
int FetchedTokens(RemoteTier& tier, Spans& made, const std::vector<Span>& chain) {
  const auto fetch = Prefetch(tier, chain);
  if (!fetch) return -1;
  EXPECT_TRUE(Eventually([&] { return fetch->done(); }));
  int n = 0;
  for (const Span& span : chain) {
    const auto found = tier.Find(span.key, span.tokens, 0);
    if (!found) return n;
    EXPECT_EQ(found->tokens, span.tokens);
    EXPECT_TRUE(made.Holds(span.parent, *found));
    n += span.n_tokens();
  }
  return n;
}

std::string KeyOf(const Span& span) {
  return StrFormat("spanwise:1:{}:{}", kFormat.model.Hex().substr(0, 16), span.key.Hex());
}

TEST(Remote, WhatOneKeepsAnotherFinds) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  Spans made;
  const auto chain = made.Chain(kRoot, Iota(200)), other = made.Chain(kRoot, Iota(150, 1000));
  Remote first(At(server.address())), second(At(server.address()));
  EXPECT_EQ(FetchedTokens(*second, made, chain), 0);
  Keep(*first, chain);
  Keep(*second, chain);  // is there
  EXPECT_EQ(first->stats().written_spans, 4u);
  EXPECT_EQ(second->stats().written_spans, 0u);
  EXPECT_EQ(FetchedTokens(*second, made, chain), 200);
  EXPECT_EQ(FetchedTokens(*second, made, other), 0);
  EXPECT_EQ(second->stats().hits, 4u);
  EXPECT_FALSE(second->Find(chain[0].key, chain[0].tokens, 0)) << "nobody asked for it any more";

  // Two at once, one of which goes away.
  auto one = Prefetch(*second, chain);
  const auto two = Prefetch(*second, chain);
  one.reset();
  EXPECT_TRUE(Eventually([&] { return two->done(); }));
  EXPECT_TRUE(second->Find(chain[0].key, chain[0].tokens, 0));
  EXPECT_FALSE(second->Find(chain[0].key, chain[0].tokens, 64)) << "no more than that";
  const auto none = Prefetch(*second, other);
  EXPECT_TRUE(Eventually([&] { return none->done(); }));
  EXPECT_GT(none->progress().latency_s, 0);
  EXPECT_THAT(first.warnings(), IsEmpty());
  EXPECT_THAT(second.warnings(), IsEmpty());
}

TEST(Remote, EndsThatAreContinuedAreNotSent) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  Spans made;
  Remote remote(At(server.address()));
  for (const int n : {10, 30, 64}) EXPECT_TRUE(remote->Offer(made.Chain(kRoot, Iota(n))[0]));
  remote->Flush();
  EXPECT_EQ(remote->stats().written_spans, 1u);
  EXPECT_EQ(remote->stats().lost_spans, 0u);
}

class Remotes : public testing::TestWithParam<const SpanCodec*> {};
INSTANTIATE_TEST_SUITE_P(Codecs, Remotes, kAllCodecs, kCodecName);

TEST_P(Remotes, CountRemoveAndNeverServeDamagedSpans) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  const SpanFormat format = FormatOf(GetParam());
  Spans made(format);
  const Span span = made.Chain(kRoot, Iota(64))[0], other = made.Chain(kRoot, Iota(64, 7))[0];
  Remote remote(At(server.address()), format);
  Keep(*remote, {span});
  const RespReply kept = server.Ask({"GET", KeyOf(span)});
  const std::string good(kept.text());
  std::vector<std::string> wrong = {good.substr(0, good.size() - 1), good + "x", "x", std::string(5 << 20, 'x')};
  for (const size_t at : {size_t{0}, size_t{9}, size_t{17}, size_t{40}, size_t{70}, size_t{130}, size_t{150},
                          size_t{160}, size_t{410}, size_t{420}, size_t{440}, good.size() - 1}) {
    wrong.push_back(good);
    wrong.back()[at] = static_cast<char>(wrong.back()[at] ^ 16);
  }
  const auto foreign = made.Record(other);
  wrong.emplace_back(reinterpret_cast<const char*>(foreign.data()), foreign.size());
  uint64_t n = 0;
  for (const std::string& value : wrong) {
    server.Ask({"SET", KeyOf(span), value});
    EXPECT_EQ(FetchedTokens(*remote, made, {span}), 0);
    EXPECT_EQ(remote->stats().damaged_spans, ++n);
    remote->Flush();
    EXPECT_EQ(server.Ask({"EXISTS", KeyOf(span)}).integer, 0);
  }
  server.Ask({"LPUSH", KeyOf(span), "a", "list"});
  EXPECT_EQ(FetchedTokens(*remote, made, {span}), 0);
  EXPECT_EQ(remote->stats().damaged_spans, ++n);
  Keep(*remote, {span});
  EXPECT_EQ(FetchedTokens(*remote, made, {span}), 64);
  EXPECT_THAT(remote.warnings(), IsEmpty());
}

TEST(Remote, AServerThatDiesAndComesBackIsUsedAgain) {
  SW_NEEDS_REDIS();
  RedisServer server;
  Spans made;
  const auto chain = made.Chain(kRoot, Iota(200));
  Remote remote(At(server.address()));
  Keep(*remote, chain);
  EXPECT_EQ(FetchedTokens(*remote, made, chain), 200);
  server.Kill();
  EXPECT_LE(FetchedTokens(*remote, made, chain), 0);
  EXPECT_EQ(Prefetch(*remote, chain), nullptr);
  for (const Span& span : made.Chain(kRoot, Iota(128, 500))) remote->Offer(span);
  remote->Flush();
  EXPECT_EQ(remote->stats().lost_spans, 2u);
  EXPECT_THAT(remote.warnings(), ElementsAre(HasSubstr(server.address())));
  server.Start();
  EXPECT_TRUE(Eventually([&] { return remote->Offer(chain[0]); }));
  remote->Flush();
  EXPECT_TRUE(Eventually([&] { return Prefetch(*remote, chain) != nullptr; }));
  EXPECT_EQ(FetchedTokens(*remote, made, chain), 64);
  EXPECT_EQ(remote.warnings().size(), 1u);

  // While nobody looked.
  server.Kill();
  server.Start();
  Keep(*remote, chain);
  EXPECT_EQ(FetchedTokens(*remote, made, chain), 200);
}

TEST(Remote, AServerKilledInTheMiddleOfALoadGivesWhatItGave) {
  SW_NEEDS_REDIS();
  Spans made;
  const auto chain = made.Chain(kRoot, Iota(64 * 400));
  for (int i = 0; i < 5; ++i) {
    RedisServer server;
    Remote remote(At(server.address()));
    Keep(*remote, chain);
    const auto fetch = Prefetch(*remote, chain);
    ASSERT_TRUE(fetch);
    EXPECT_TRUE(Eventually([&] { return fetch->progress().bytes > 0; }));
    server.Kill();
    EXPECT_TRUE(Eventually([&] { return fetch->done(); }));
    for (const Span& span : chain)
      if (const auto found = remote->Find(span.key, span.tokens, 0)) {
        EXPECT_TRUE(made.Holds(span.parent, *found));
      }
  }
}

TEST(Remote, AServerThatHangsIsGivenUp) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  Spans made;
  const auto chain = made.Chain(kRoot, Iota(200));
  Remote remote({.server = {.address = server.address(), .patience = milliseconds(200)}});
  Keep(*remote, chain);
  server.Stop(true);
  EXPECT_EQ(FetchedTokens(*remote, made, chain), 0);
  EXPECT_TRUE(Eventually([&] { return Prefetch(*remote, chain) == nullptr; }));
  EXPECT_THAT(remote.warnings(), ElementsAre(HasSubstr("no answer within 0.2 s")));
  server.Stop(false);
  EXPECT_TRUE(Eventually([&] { return FetchedTokens(*remote, made, chain) == 200; }));
}

TEST(Remote, ThereIsRoomForSoMuchOnly) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  Spans made;
  const auto chain = made.Chain(kRoot, Iota(192));
  const uint64_t bytes = RecordBytes(kFormat, 64);
  Remote remote({.server = {.address = server.address()}, .arrived_bytes = 4 * bytes});
  Keep(*remote, chain);
  const auto fetch = Prefetch(*remote, chain);
  ASSERT_TRUE(fetch);
  EXPECT_EQ(Prefetch(*remote, made.Chain(kRoot, Iota(128, 7))), nullptr);
  EXPECT_NE(Prefetch(*remote, made.Chain(kRoot, Iota(64, 7))), nullptr);
  const Span one = made.Chain(kRoot, Iota(64, 9))[0];
  const Tier::Wanted later{.key = one.key, .parent = one.parent, .tokens = one.tokens};
  EXPECT_EQ(remote->Prefetch({&later, 1}, /*urgent=*/false), nullptr) << "half is for those whose turn it is";
}

TEST(Remote, SpansAreForgottenWhenNobodyUsesThem) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  Spans made;
  const Span span = made.Chain(kRoot, Iota(64))[0];
  Remote remote({.server = {.address = server.address()}, .ttl_s = 1000});
  Keep(*remote, {span});
  EXPECT_GT(server.Ask({"TTL", KeyOf(span)}).integer, 990);
  server.Ask({"EXPIRE", KeyOf(span), "5"});
  remote->Touch(kRoot, span.tokens);
  remote->Flush();
  EXPECT_GT(server.Ask({"TTL", KeyOf(span)}).integer, 990);
}

TEST(Remote, AServerThatIsFullIsWarnedOfOnce) {
  SW_NEEDS_REDIS();
  const RedisServer server({"--maxmemory", "1500000", "--maxmemory-policy", "noeviction"});
  Spans made;
  Remote remote(At(server.address()));
  for (int i = 0; i < 400; ++i) remote->Offer(made.Chain(kRoot, Iota(64, 100 * i))[0]);
  remote->Flush();
  EXPECT_GT(remote->stats().lost_spans, 100u);
  EXPECT_THAT(remote.warnings(), ElementsAre(HasSubstr("maxmemory")));
}

TEST(Remote, PasswordsAreGivenAndAskedFor) {
  SW_NEEDS_REDIS();
  const RedisServer server({"--requirepass", "se cret"});
  Spans made;
  const auto chain = made.Chain(kRoot, Iota(100));
  Remote right({.server = {.address = server.address(), .password = "se cret"}});
  Keep(*right, chain);
  EXPECT_EQ(FetchedTokens(*right, made, chain), 100);
  Remote named({.server = {.address = server.address(), .user = "default", .password = "se cret"}});
  EXPECT_EQ(FetchedTokens(*named, made, chain), 100);
  EXPECT_THAT(right.warnings(), IsEmpty());
  for (const std::string password : {"wrong", ""}) {
    Remote wrong({.server = {.address = server.address(), .password = password}});
    EXPECT_LE(FetchedTokens(*wrong, made, chain), 0);
    EXPECT_TRUE(Eventually([&] { return !wrong.warnings().empty(); }));
    EXPECT_THAT(wrong.warnings(), ElementsAre(HasSubstr(password.empty() ? "NOAUTH" : "WRONGPASS")));
  }
}

TEST(Remote, TlsServersMustProveWhoTheyAre) {
  SW_NEEDS_REDIS();
  const Folder folder, stranger;
  for (const std::string& where : {folder.path(), stranger.path()}) {
    const std::string command = StrFormat(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test -addext "
        "subjectAltName=IP:127.0.0.1 -keyout {}/key.pem -out {}/cert.pem 2>/dev/null",
        where, where);
    if (std::system(command.c_str()) != 0) GTEST_SKIP() << "openssl is not installed";
  }
  const RedisServer server({}, folder.path());
  Spans made;
  const auto chain = made.Chain(kRoot, Iota(64 * 50));
  const RespOptions options{.address = server.address(), .tls = true, .ca_file = folder.path() + "/cert.pem"};
  Remote remote({.server = options});
  Keep(*remote, chain);
  EXPECT_EQ(FetchedTokens(*remote, made, chain), 64 * 50);
  EXPECT_THAT(remote.warnings(), IsEmpty());

  RespOptions other = options;
  other.ca_file = stranger.path() + "/cert.pem";
  Remote suspicious({.server = other});
  EXPECT_LE(FetchedTokens(*suspicious, made, chain), 0);
  EXPECT_TRUE(Eventually([&] { return !suspicious.warnings().empty(); }));
  EXPECT_THAT(suspicious.warnings(), ElementsAre(HasSubstr("certificate is not accepted")));

  Remote plain(At(server.address()));
  EXPECT_LE(FetchedTokens(*plain, made, chain), 0);

  // The certificate is of an address, not of this name.
  other = options;
  other.address = "localhost" + server.address().substr(server.address().find(':'));
  Remote misnamed({.server = other});
  EXPECT_LE(FetchedTokens(*misnamed, made, chain), 0);

  other = options;
  other.ca_file = folder.path() + "/none.pem";
  EXPECT_EQ(RemoteTier::Open(kFormat, {.server = other}).status().code(), StatusCode::kNotFound);
}

TEST(Remote, AddressesAreChecked) {
  for (const std::string address : {"", "host", "host:", ":1", "host:0", "host:65536", "host:x", "a:b:1", "host:1x"})
    EXPECT_EQ(RemoteTier::Open(kFormat, {.server = {.address = address}}).status().code(), StatusCode::kInvalidArgument)
        << address;
  EXPECT_TRUE(RemoteTier::Open(kFormat, {.server = {.address = "[::1]:1"}}).ok());
}

// Says the same to everybody.
class Liar {
 public:
  explicit Liar(std::string says) : says_(std::move(says)), fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (bind(fd_, reinterpret_cast<sockaddr*>(&at), size) != 0 || listen(fd_, 8) != 0 ||
        getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size) != 0)
      std::abort();
    address_ = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    thread_ = std::thread([this] {
      for (int client = accept(fd_, nullptr, nullptr); client >= 0; client = accept(fd_, nullptr, nullptr)) {
        char command[4096];
        bool first = true;
        while (recv(client, command, sizeof command, 0) > 0) {
          const std::string_view answer = std::exchange(first, false) ? "+PONG\r\n" : std::string_view(says_);
          if (send(client, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
        }
        close(client);
      }
    });
  }
  ~Liar() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
  }
  const std::string& address() const { return address_; }

 private:
  const std::string says_;
  const int fd_;
  std::string address_;
  std::thread thread_;
};

TEST(Remote, AServerThatIsNoneDoesNoHarm) {
  Spans made;
  const auto chain = made.Chain(kRoot, Iota(64 * 3));
  const std::string pong = "+PONG\r\n", nonsense(100'000, 'x');
  const auto bulk = [&](const char* length) { return StrFormat("{}${}\r\n{}", pong, length, nonsense); };
  for (const std::string& says :
       {pong + "*1000000000\r\n", pong + "*-1\r\n", bulk("99999999999999"), pong + "$-5\r\n", pong + "$3\r\nabc\r\n",
        pong + ":99999999999999999999999\r\n", pong + "$5\r\nhel", pong + "+OK\r\n", pong + pong, pong + ":7\r\n",
        std::string("-ERR no\r\n"), std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), nonsense, std::string("\r\n"),
        bulk("4000000000"), pong + "%1\r\n+a\r\n+b\r\n", pong + "_\r\n", pong + ",1\r\n"}) {
    const Liar liar(says);
    Remote remote({.server = {.address = liar.address(), .patience = milliseconds(100)}});
    EXPECT_LE(FetchedTokens(*remote, made, chain), 0) << Quoted(says);
    remote->Offer(chain[0]);
    remote->Flush();
    EXPECT_EQ(remote->stats().hits, 0u);
    EXPECT_LE(remote.warnings().size(), 1u);
  }
}

}  // namespace
}  // namespace spanwise
