// Answers of engines that come after one another, with kept KV on disk between them.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "engine/test_engines.h"
#include "kv/tiers/span_folder.h"

namespace spanwise {
namespace {

class Persistence : public testing::Test {
 protected:
  Persistence() : folder_((std::filesystem::temp_directory_path() / "kept.XXXXXX").string()) {
    if (!mkdtemp(folder_.data())) std::abort();
  }
  ~Persistence() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  EngineOptions Options() const {
    return {.model = TinyModel(),
            .threads = 2,
            .kv_memory_bytes = size_t{16} << 20,
            .cache_dir = folder_ + "/cache",
            .cache_dir_bytes = uint64_t{64} << 20,
            .plan_loads = false,  // all that is kept, however fast the tiny model is
            .step_tokens = 100};
  }
  std::unique_ptr<Engine> Open() const { return Engine::Open(Options()).value(); }

  std::string folder_;
};

std::string Text(unsigned seed, int n) {
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < n; ++i) text += static_cast<char>('a' + random() % 26);
  return text;
}

Request Question(ComposeMode mode, unsigned seed = 0) {
  Request request;
  for (unsigned i = 0; i < 5; ++i)
    request.documents.push_back({std::to_string(i + 1), "", Text(100 * seed + i, 20 + 15 * static_cast<int>(i))});
  request.messages = {{"user", "Which?"}};
  request.compose.mode = mode;
  request.compose.force = true;
  request.sampling.max_tokens = 12;
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

constexpr ComposeMode kModes[] = {ComposeMode::kExact, ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair};

// Before any other test has started threads: the engine runs in processes of its own.
TEST(PersistenceCrash, AKilledEngineLeavesOnlyWhatANewOneMayUse) {
  std::string folder = (std::filesystem::temp_directory_path() / "kept.XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const EngineOptions options{.model = TinyModel(),
                              .threads = 1,
                              .kv_memory_bytes = size_t{1} << 20,
                              .cache_dir = folder,
                              .cache_dir_bytes = uint64_t{2} << 20,
                              .plan_loads = false};
  const auto question = [](unsigned seed) {
    return Question(seed % 2 ? ComposeMode::kSet : ComposeMode::kExact, seed);
  };
  std::mt19937 random(1);
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      auto engine = Engine::Open(options);
      for (unsigned seed = static_cast<unsigned>(i); engine.ok(); ++seed) (void)(*engine)->Run(question(seed % 12));
      _exit(1);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200 + random() % 300));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
  }
  EXPECT_TRUE(CheckSpanFolder(folder, true)->sound());
  int cached = 0;
  const auto engine = Engine::Open(options).value();
  for (unsigned seed = 0; seed < 12; ++seed) {
    const Answer answer = Answered(*engine, question(seed));
    cached += answer.usage.cached_tokens;
    ExpectSame(answer.tokens, Fresh(question(seed)).tokens);
  }
  EXPECT_GT(cached, 0);
  std::filesystem::remove_all(folder);
}

TEST_F(Persistence, TheNextProcessReusesAllAndAnswersTheSame) {
  std::vector<Answer> cold;
  std::vector<int> n_warm;  // tokens found by the process that read them
  {
    const auto engine = Open();
    for (const ComposeMode mode : kModes) {
      cold.push_back(Answered(*engine, Question(mode)));
      n_warm.push_back(Answered(*engine, Question(mode)).usage.cached_tokens);
    }
  }
  for (const ComposeMode mode : kModes) {
    const Answer expected = Fresh(Question(mode));
    const auto engine = Open();
    for (const KvSource source : {KvSource::kDisk, KvSource::kRam}) {
      const Answer warm = Answered(*engine, Question(mode));
      EXPECT_EQ(warm.usage.cached_tokens, n_warm[static_cast<size_t>(mode)]);
      if (mode != ComposeMode::kRepair) {
        EXPECT_EQ(warm.usage.cached_tokens, warm.usage.prompt_tokens - 1);
        for (size_t i = 0; i + 1 < warm.compose.spans.size(); ++i) EXPECT_EQ(warm.compose.spans[i].source, source) << i;
      }
      ExpectSame(warm.tokens, expected.tokens);
      ExpectSame(cold[static_cast<size_t>(mode)].tokens, expected.tokens);
    }
    const EngineStats stats = engine->stats();
    EXPECT_GT(stats.kv_disk_spans, 5u);
    EXPECT_GT(stats.kv_disk_bytes, 0u);
    EXPECT_GT(stats.kv_disk_tokens, 100u);
    EXPECT_EQ(stats.kv_disk_budget_bytes, uint64_t{64} << 20);
    EXPECT_EQ(stats.kv_disk_damaged_spans + stats.kv_disk_lost_spans, 0u);
  }
}

// Each of the prompts that are tried is asked for by itself.
TEST_F(Persistence, OrdersThatAreTriedFindWhatIsKept) {
  Request request = Question(ComposeMode::kExact);
  request.compose.order = DocumentOrder::kSearch;
  request.compose.search_trials = 4;
  request.compose.search_draft = "This.";
  const Answer cold = Answered(*Open(), request), warm = Answered(*Open(), request);
  ExpectSame(warm.tokens, cold.tokens);
  ASSERT_TRUE(cold.compose.search && warm.compose.search);
  EXPECT_GT(cold.compose.search->tokens, 100);
  EXPECT_LT(warm.compose.search->tokens, cold.compose.search->tokens / 4);  // the drafts alone
  EXPECT_EQ(warm.usage.cached_tokens, warm.usage.prompt_tokens - 1);
}

TEST_F(Persistence, WhatMemoryHadNoRoomForIsFoundOnDisk) {
  EngineOptions options = Options();
  options.kv_memory_bytes = size_t{1} << 20;
  for (const bool first : {true, false}) {
    const auto engine = Engine::Open(options).value();  // the one before has written all that it had read
    const auto n_blocks = static_cast<unsigned>(engine->stats().kv_blocks_budget);
    const unsigned n_questions = n_blocks / 6 + 2;  // more than fit
    for (int round = first ? 1 : 0; round < 2; ++round)
      for (unsigned seed = 0; seed < n_questions; ++seed) {
        const Answer answer = Answered(*engine, Question(ComposeMode::kSet, seed));
        if (seed % 8 == 0) ExpectSame(answer.tokens, Fresh(Question(ComposeMode::kSet, seed)).tokens);
        if (!first) {
          EXPECT_EQ(answer.usage.cached_tokens, answer.usage.prompt_tokens - 1) << seed;
        }
      }
    if (!first) {
      EXPECT_GT(engine->stats().kv_disk_tokens, uint64_t{300} * n_questions);
    }
    EXPECT_LE(engine->stats().kv_blocks, n_blocks);
  }
}

TEST_F(Persistence, NothingCrossesTenantsFormatsOrRequestsWithoutCache) {
  int cold = 0;  // documents share their first tokens
  {
    const auto engine = Open();
    Request uncached = Question(ComposeMode::kSet, 9);
    uncached.use_cache = false;
    (void)Answered(*engine, uncached);
    EXPECT_EQ(engine->stats().kv_disk_spans, 0u);
    cold = Answered(*engine, Question(ComposeMode::kSet)).usage.cached_tokens;
  }
  {
    const auto engine = Open();
    Request other = Question(ComposeMode::kSet);
    other.cache_salt = "tenant";
    const Answer salted = Answered(*engine, other);
    EXPECT_EQ(salted.compose.spans[0].cached_tokens,
              salted.compose.spans[0].tokens);  // the template's text is nobody's
    for (size_t i = 1; i < salted.compose.spans.size(); ++i) EXPECT_LE(salted.compose.spans[i].cached_tokens, 1);
    other.cache_salt.clear();
    other.use_cache = false;
    EXPECT_EQ(Answered(*engine, other).usage.cached_tokens, 0);
  }
  EngineOptions options = Options();
  options.kv_dtype = "f32";
  EXPECT_EQ(Answered(*Engine::Open(options).value(), Question(ComposeMode::kSet)).usage.cached_tokens, cold);
}

TEST_F(Persistence, DocumentsAloneCanBeKeptForThoseWhoOnlyRead) {
  EngineOptions baker = Options();
  baker.cache_dir_waits = true;
  {
    const auto engine = Engine::Open(baker).value();
    Request documents = Question(ComposeMode::kExact);
    documents.documents_only = true;
    const Answer made = Answered(*engine, documents);
    EXPECT_EQ(made.usage.completion_tokens, 0);
    EXPECT_LT(made.usage.cached_tokens, 10);  // documents share their first tokens
    EXPECT_EQ(made.text, "");
    const Answer again = Answered(*engine, documents);
    EXPECT_EQ(again.usage.cached_tokens, again.usage.prompt_tokens);
    documents.documents.clear();
    EXPECT_EQ(engine->Run(documents).status().code(), StatusCode::kInvalidArgument);
  }
  const uint64_t n_spans = CheckSpanFolder(baker.cache_dir, true)->spans;
  for (const bool with_cache : {false, true}) {
    EngineOptions options = Options();
    options.baked_dirs = {baker.cache_dir};
    options.cache_dir = with_cache ? folder_ + "/second" : "";
    for (const ComposeMode mode : {ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair}) {
      const auto engine = Engine::Open(options).value();
      Request question = Question(mode);
      std::swap(question.documents[0], question.documents[3]);
      const Answer answer = Answered(*engine, question);
      ExpectSame(answer.tokens, Fresh(question).tokens);
      const size_t n_documents = question.documents.size();
      for (size_t i = 0; i < n_documents && mode != ComposeMode::kRepair; ++i)
        EXPECT_EQ(answer.compose.spans[1 + i].source, KvSource::kDisk) << i;
      EXPECT_GT(answer.usage.cached_tokens, 200);
    }
  }
  const auto report = CheckSpanFolder(baker.cache_dir, true);
  EXPECT_TRUE(report->sound());
  EXPECT_EQ(report->spans, n_spans);
}

// Documents of a block and an end, read where they lie in the folder.
TEST_F(Persistence, WhatIsReadInPlaceAnswersTheSameToTheBit) {
  const auto question = [](ComposeMode mode) {
    Request request = Question(mode);
    for (size_t i = 0; i < request.documents.size(); ++i)
      request.documents[i].text = Text(static_cast<unsigned>(i), 62 + static_cast<int>(i));
    return request;
  };
  EngineOptions baker = Options();
  baker.cache_dir_waits = true;
  {
    const auto engine = Engine::Open(baker).value();
    Request documents = question(ComposeMode::kExact);
    documents.documents_only = true;
    (void)Answered(*engine, documents);
  }
  for (const ComposeMode mode : {ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair}) {
    EngineOptions options = Options();
    options.baked_dirs = {baker.cache_dir};
    options.cache_dir = folder_ + "/" + std::to_string(static_cast<int>(mode));
    const Answer expected = Fresh(question(mode));
    uint64_t n_tokens = 0;  // of the documents and of what stands before them
    for (const PieceReport& piece : expected.compose.spans) n_tokens += static_cast<uint64_t>(piece.tokens);
    n_tokens -= static_cast<uint64_t>(expected.compose.spans.back().tokens);
    for (const bool again : {false, true}) {  // the second one has what was not baked from its own folder
      const auto engine = Engine::Open(options).value();
      for (uint64_t round = 1; round <= 3; ++round) {
        const Answer answer = Answered(*engine, question(mode));
        ExpectSame(answer.tokens, expected.tokens);
        // A repaired prompt has its own spans, once it was made.
        if (mode != ComposeMode::kRepair) {
          EXPECT_EQ(engine->stats().kv_disk_mapped_tokens, round * n_tokens);
        } else if (!again) {
          EXPECT_GE(engine->stats().kv_disk_mapped_tokens, n_tokens);
        }
        EXPECT_GE(engine->stats().kv_disk_tokens, engine->stats().kv_disk_mapped_tokens);
      }
    }
  }
  EXPECT_TRUE(CheckSpanFolder(baker.cache_dir, true)->sound());

  // A damaged block is computed, and a folder that goes away is read as it was.
  std::string file;
  {
    std::ifstream in(baker.cache_dir + "/data.mdb", std::ios::binary);
    file.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto n_damaged = [&](const std::string& damaged) {
    std::ofstream(baker.cache_dir + "/data.mdb", std::ios::binary) << damaged;
    EngineOptions options = Options();
    options.baked_dirs = {baker.cache_dir};
    options.cache_dir.clear();
    const auto engine = Engine::Open(options).value();
    const Request request = question(ComposeMode::kSet);
    ExpectSame(Answered(*engine, request).tokens, Fresh(request).tokens);
    std::filesystem::rename(baker.cache_dir, folder_ + "/away");
    std::filesystem::remove(folder_ + "/away/data.mdb");
    ExpectSame(Answered(*engine, request).tokens, Fresh(request).tokens);
    std::filesystem::rename(folder_ + "/away", baker.cache_dir);
    return engine->stats().kv_disk_damaged_spans;
  };
  EXPECT_EQ(n_damaged(file), 0u);
  size_t at = 0, n_records = 0;
  for (; (at = file.find("swspan\r\n", at)) != std::string::npos; ++at, ++n_records)
    if (n_records % 3 == 1) file[at + 2000] = static_cast<char>(file[at + 2000] ^ 1);
  EXPECT_GT(n_records, 5u);
  EXPECT_GT(n_damaged(file), 0u);
}

struct Rounding {
  const char* codec;
  double most;  // that a log-probability may be off
};
void PrintTo(const Rounding& r, std::ostream* out) { *out << r.codec; }

class PersistenceCodecs : public Persistence, public testing::WithParamInterface<Rounding> {
 protected:
  // A copy of the cache, so that one engine does not find what another one has added.
  EngineOptions Copied(const std::string& name) const {
    EngineOptions options = Options();
    options.cache_codec = GetParam().codec;
    options.cache_dir = folder_ + "/" + name;
    std::filesystem::create_directories(options.cache_dir);
    std::filesystem::copy_file(folder_ + "/cache/data.mdb", options.cache_dir + "/data.mdb",
                               std::filesystem::copy_options::overwrite_existing);
    return options;
  }
};
const auto kCodecOf = [](const auto& row) { return std::string(row.param.codec); };
INSTANTIATE_TEST_SUITE_P(Codecs, PersistenceCodecs,
                         testing::Values(Rounding{"fp8", 0.15}, Rounding{"int8", 0.05}, Rounding{"int4", 0.5}),
                         kCodecOf);

// What is in memory is as computed; what comes back from disk is close to it, the same for everybody, and said.
TEST_P(PersistenceCodecs, WhatComesBackIsCloseAndSaid) {
  EngineOptions options = Options();
  options.cache_codec = GetParam().codec;
  {
    const auto engine = Engine::Open(options).value();
    for (const ComposeMode mode : kModes) {
      const Answer cold = Answered(*engine, Question(mode));
      ExpectSame(cold.tokens, Fresh(Question(mode)).tokens);
      EXPECT_EQ(cold.compose.exactness, "approximate");
      EXPECT_EQ(cold.compose.kv_codec, GetParam().codec);
      Request uncached = Question(mode);
      uncached.use_cache = false;
      const Answer exact = Answered(*engine, uncached);
      ExpectSame(exact.tokens, Fresh(Question(mode)).tokens);
      EXPECT_EQ(exact.compose.exactness, Fresh(Question(mode)).compose.exactness);
      EXPECT_EQ(exact.compose.kv_codec, "none");
    }
  }
  const auto report = CheckSpanFolder(options.cache_dir, true);
  ASSERT_TRUE(report->sound());
  ASSERT_EQ(report->models.size(), 1u);
  EXPECT_EQ(report->models[0].format.codec->name, GetParam().codec);

  double greatest = 0;
  for (const ComposeMode mode : kModes) {
    Request request = Question(mode);
    const Answer expected = Fresh(request);
    for (const TokenReport& token : expected.tokens) request.forced_tokens.push_back(token.id);
    const Answer warm = Answered(*Engine::Open(Copied("warm")).value(), request);
    EngineOptions other = Copied("other");
    other.threads = 1;
    other.step_tokens = 7;
    ExpectSame(Answered(*Engine::Open(other).value(), request).tokens, warm.tokens);
    EXPECT_EQ(warm.compose.exactness, "approximate");
    if (mode != ComposeMode::kRepair) {
      EXPECT_EQ(warm.usage.cached_tokens, warm.usage.prompt_tokens - 1);
    }
    ASSERT_EQ(warm.tokens.size(), expected.tokens.size());
    for (size_t i = 0; i < warm.tokens.size(); ++i)
      greatest = std::max(greatest, std::abs(static_cast<double>(*warm.tokens[i].logprob) -
                                             static_cast<double>(*expected.tokens[i].logprob)));
  }
  EXPECT_GT(greatest, 0);
  EXPECT_LT(greatest, GetParam().most);
}

TEST_P(PersistenceCodecs, OneCodecNeverMeetsAnother) {
  EngineOptions options = Options();
  options.cache_codec = GetParam().codec;
  const int cold = Answered(*Engine::Open(options).value(), Question(ComposeMode::kSet)).usage.cached_tokens;
  for (const char* other : {"none", "fp8", "int8", "int4"}) {
    if (other == std::string(GetParam().codec)) continue;
    std::vector<std::string> warnings;
    EngineOptions reader = Options();
    reader.cache_dir.clear();
    reader.baked_dirs = {options.cache_dir};
    reader.cache_codec = other;
    reader.on_warning = [&](const std::string& message) { warnings.push_back(message); };
    const auto engine = Engine::Open(reader).value();
    const Answer answer = Answered(*engine, Question(ComposeMode::kSet));
    EXPECT_EQ(answer.usage.cached_tokens, cold);
    EXPECT_EQ(engine->stats().kv_disk_damaged_spans, 0u);
    EXPECT_THAT(warnings, testing::ElementsAre(testing::HasSubstr("codec " + std::string(GetParam().codec))));
    ExpectSame(answer.tokens, Fresh(Question(ComposeMode::kSet)).tokens);
  }
}

TEST_F(Persistence, AnUnknownCodecIsSaid) {
  EngineOptions options = Options();
  options.cache_codec = "int3";
  const auto engine = Engine::Open(options);
  EXPECT_EQ(engine.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(engine.status().message(), testing::HasSubstr("\"int3\""));
}

TEST_F(Persistence, WithoutAPlaceToKeepThemNothingIsApproximate) {
  EngineOptions options = Options();
  options.cache_dir.clear();
  options.cache_codec = "int8";
  EXPECT_EQ(Answered(*Engine::Open(options).value(), Question(ComposeMode::kExact)).compose.exactness, "causal-exact");
}

TEST_F(Persistence, ADamagedFolderIsSetAsideWithOneWarning) {
  std::filesystem::create_directories(folder_ + "/cache");
  std::ofstream(folder_ + "/cache/data.mdb") << Text(1, 10'000);
  EngineOptions options = Options();
  std::vector<std::string> warnings;
  options.on_warning = [&](const std::string& message) { warnings.push_back(message); };
  {
    const auto engine = Engine::Open(options).value();
    ExpectSame(engine->Run(Question(ComposeMode::kSet))->tokens, Fresh(Question(ComposeMode::kSet)).tokens);
  }
  EXPECT_THAT(warnings, testing::ElementsAre(testing::HasSubstr("set aside")));
  EXPECT_TRUE(CheckSpanFolder(options.cache_dir, true)->sound());
}

TEST_F(Persistence, AFolderThatCannotBeMadeIsSaid) {
  std::ofstream(folder_ + "/file") << "x";
  EngineOptions options = Options();
  options.cache_dir = folder_ + "/file/cache";
  EXPECT_FALSE(Engine::Open(options).ok());
  options.cache_dir.clear();
  options.baked_dirs = {folder_ + "/none"};
  EXPECT_EQ(Engine::Open(options).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace spanwise
