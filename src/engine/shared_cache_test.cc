// Answers of engines that share KV through a server.
#include <gmock/gmock.h>

#include <mutex>
#include <random>
#include <thread>

#include "engine/test_engines.h"
#include "kv/tiers/redis_fixture.h"

namespace spanwise {
namespace {

std::string Text(unsigned seed, int n) {
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < n; ++i) text += static_cast<char>('a' + random() % 26);
  return text;
}

Request Question(ComposeMode mode, unsigned seed = 0, int document_bytes = 66) {
  Request request;
  for (unsigned i = 0; i < 5; ++i)
    request.documents.push_back(
        {std::to_string(i + 1), "", Text(100 * seed + i, document_bytes + static_cast<int>(i))});
  request.messages = {{"user", "Which?"}};
  request.compose.mode = mode;
  request.compose.force = true;
  request.sampling.max_tokens = 8;
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 2;
  return request;
}

Answer Answered(Engine& engine, Request request) {
  auto answer = engine.Run(std::move(request));
  if (answer.ok()) return std::move(*answer);
  ADD_FAILURE() << answer.status().message();
  return {};
}

Answer Fresh(Request request) {
  request.use_cache = false;
  static const auto engine = OpenTiny();
  return Answered(*engine, std::move(request));
}

class SharedCache : public testing::Test {
 protected:
  // Everything that is kept is used, however fast the tiny model is.
  EngineOptions Options(const std::string& address) {
    return {.model = TinyModel(),
            .threads = 2,
            .kv_memory_bytes = size_t{16} << 20,
            .cache_remote = {.address = address},
            .plan_loads = false,
            .step_tokens = 100,
            .on_warning = [this](const std::string& message) {
              const std::lock_guard lock(mutex_);
              warnings_.push_back(message);
            }};
  }
  std::unique_ptr<Engine> Open(const std::string& address) { return Engine::Open(Options(address)).value(); }

  std::mutex mutex_;
  std::vector<std::string> warnings_;
};

TEST_F(SharedCache, OneEngineReadsWhatAnotherRead) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair}) {
    const auto seed = static_cast<unsigned>(mode);
    const Answer expected = Fresh(Question(mode, seed));
    {
      const auto first = Open(server.address());
      ExpectSame(Answered(*first, Question(mode, seed)).tokens, expected.tokens);
    }
    const auto second = Open(server.address());
    const Answer warm = Answered(*second, Question(mode, seed));
    ExpectSame(warm.tokens, expected.tokens);
    // All but the end of the prompt, of which whole blocks are found.
    EXPECT_GT(warm.usage.cached_tokens, warm.usage.prompt_tokens * 3 / 4);
    if (mode == ComposeMode::kSet || mode == ComposeMode::kApe) {
      for (size_t i = 1; i <= 5; ++i) EXPECT_EQ(warm.compose.spans[i].source, KvSource::kRemote) << i;
    }
    const Answer again = Answered(*second, Question(mode, seed));
    for (const PieceReport& piece : again.compose.spans) EXPECT_NE(piece.source, KvSource::kRemote);
    ExpectSame(again.tokens, expected.tokens);
    const EngineStats stats = second->stats();
    EXPECT_GT(stats.kv_remote_tokens, 400u);
    EXPECT_GT(stats.kv_remote_found_spans, 5u);
    EXPECT_EQ(stats.kv_remote_damaged_spans + stats.kv_remote_lost_spans + stats.kv_disk_tokens, 0u);
  }
  EXPECT_THAT(warnings_, testing::IsEmpty());
}

TEST_F(SharedCache, NothingCrossesTenantsFormatsOrRequestsWithoutCache) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  { (void)Answered(*Open(server.address()), Question(ComposeMode::kSet)); }
  const auto engine = Open(server.address());
  Request other = Question(ComposeMode::kSet);
  other.cache_salt = "tenant";
  // The template's text is nobody's.
  const auto shared = static_cast<uint64_t>(Answered(*engine, other).compose.spans[0].tokens);
  other.cache_salt.clear();
  other.use_cache = false;
  EXPECT_EQ(Answered(*engine, other).usage.cached_tokens, 0);
  EngineOptions options = Options(server.address());
  options.kv_dtype = "f32";
  const auto precise = Engine::Open(options).value();
  (void)Answered(*precise, Question(ComposeMode::kSet));
  EXPECT_EQ(engine->stats().kv_remote_tokens, shared);
  EXPECT_EQ(precise->stats().kv_remote_tokens, 0u);
}

TEST_F(SharedCache, TwoEnginesAtOnceUnderLoad) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  const std::unique_ptr<Engine> engines[] = {Open(server.address()), Open(server.address())};
  std::vector<std::thread> clients;
  for (unsigned c = 0; c < 6; ++c)
    clients.emplace_back([&, c] {
      for (unsigned i = 0; i < 8; ++i) {
        const auto mode = i % 2 ? ComposeMode::kSet : ComposeMode::kExact;
        ExpectSame(Answered(*engines[c % 2], Question(mode, (c + i) % 5)).tokens,
                   Fresh(Question(mode, (c + i) % 5)).tokens);
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_GT(engines[0]->stats().kv_remote_written_spans + engines[1]->stats().kv_remote_written_spans, 20u);
  EXPECT_EQ(engines[0]->stats().failed + engines[1]->stats().failed, 0u);
}

TEST_F(SharedCache, AServerKilledInTheMiddleOfALoadLosesNoRequest) {
  SW_NEEDS_REDIS();
  RedisServer server;
  const auto question = [](unsigned seed) { return Question(ComposeMode::kSet, seed, 350); };
  std::vector<Answer> expected;
  for (unsigned seed = 0; seed < 4; ++seed) expected.push_back(Fresh(question(seed)));
  std::mt19937 random(1);
  for (int round = 0; round < 4; ++round) {
    {
      const auto first = Open(server.address());
      for (unsigned seed = 0; seed < 4; ++seed) (void)Answered(*first, question(seed));
    }
    warnings_.clear();
    const auto second = Open(server.address());
    std::vector<std::thread> clients;
    for (unsigned seed = 0; seed < 4; ++seed)
      clients.emplace_back([&, seed] { ExpectSame(Answered(*second, question(seed)).tokens, expected[seed].tokens); });
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 30));
    server.Kill();
    for (std::thread& client : clients) client.join();
    ExpectSame(Answered(*second, question(0)).tokens, expected[0].tokens);
    EXPECT_EQ(second->stats().failed, 0u);
    (void)Answered(*second, Question(ComposeMode::kSet, 9));
    EXPECT_TRUE(Eventually([&] {
      const std::lock_guard lock(mutex_);
      return warnings_.size() == 1;
    }));
    server.Start();
  }
}

TEST_F(SharedCache, NoServerIsOneWarningAndNoFailure) {
  const std::string nowhere = "127.0.0.1:" + std::to_string(RedisServer::FreePort());
  const auto engine = Open(nowhere);
  for (int i = 0; i < 3; ++i)
    ExpectSame(Answered(*engine, Question(ComposeMode::kSet)).tokens, Fresh(Question(ComposeMode::kSet)).tokens);
  EXPECT_TRUE(Eventually([&] {
    const std::lock_guard lock(mutex_);
    return !warnings_.empty();
  }));
  EXPECT_THAT(warnings_, testing::ElementsAre(testing::HasSubstr(nowhere)));
  EXPECT_EQ(Engine::Open(Options("nowhere")).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(SharedCache, AHangingServerDelaysNobodyForLong) {
  SW_NEEDS_REDIS();
  const RedisServer server;
  { (void)Answered(*Open(server.address()), Question(ComposeMode::kSet)); }
  server.Stop(true);
  EngineOptions options = Options(server.address());
  options.plan_loads = true;
  const auto engine = Engine::Open(options).value();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i)
    ExpectSame(Answered(*engine, Question(ComposeMode::kSet)).tokens, Fresh(Question(ComposeMode::kSet)).tokens);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  const auto cancel = std::make_shared<CancelFlag>();
  cancel->Cancel();
  EXPECT_EQ(engine->Run(Question(ComposeMode::kSet), {}, cancel).status().code(), StatusCode::kCancelled);
  server.Stop(false);
}

// What came from the server is on disk afterwards.
TEST_F(SharedCache, ADiskBesideKeepsWhatCame) {
  SW_NEEDS_REDIS();
  RedisServer server;
  std::string folder = (std::filesystem::temp_directory_path() / "kept.XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  EngineOptions options = Options(server.address());
  options.cache_dir = folder;
  options.cache_dir_bytes = uint64_t{64} << 20;
  const Answer expected = Fresh(Question(ComposeMode::kSet));
  { (void)Answered(*Open(server.address()), Question(ComposeMode::kSet)); }
  for (const KvSource source : {KvSource::kRemote, KvSource::kDisk}) {
    const auto engine = Engine::Open(options).value();
    const Answer warm = Answered(*engine, Question(ComposeMode::kSet));
    ExpectSame(warm.tokens, expected.tokens);
    for (size_t i = 1; i <= 5; ++i) EXPECT_EQ(warm.compose.spans[i].source, source) << i;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace spanwise
