// Traces and the simulated cache.
#include "bench/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

#include "bench/trace.h"
#include "kv/evict/policy.h"

namespace spanwise::bench {
namespace {

using ::testing::HasSubstr;

class TraceFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ =
        ::testing::TempDir() + "trace_" + ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".jsonl";
  }
  void TearDown() override { std::filesystem::remove(path_); }
  Result<Trace> Read(const std::string& text, size_t max_requests = 100) {
    std::ofstream(path_, std::ios::binary) << text;
    return ReadTrace(path_, max_requests);
  }
  void Refused(const std::string& text, const std::string& why) {
    const Result<Trace> trace = Read(text);
    ASSERT_FALSE(trace.ok()) << text;
    EXPECT_EQ(trace.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(trace.status().message()), HasSubstr(why));
  }
  std::string path_;
};

constexpr char kTwo[] =
    "{\"timestamp\":0,\"input_length\":1030,\"output_length\":5,\"hash_ids\":[7,8,9]}\n"
    "{\"timestamp\":9,\"input_length\":1024,\"output_length\":5,\"hash_ids\":[7,10]}";

TEST_F(TraceFile, ReadsChainsOfBlocks) {
  const Trace trace = Read(kTwo).value();
  ASSERT_EQ(trace.requests.size(), 2u);
  EXPECT_EQ(trace.blocks.size(), 4u);
  EXPECT_EQ(trace.requests[0].blocks, (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_EQ(trace.requests[1].blocks, (std::vector<uint32_t>{0, 3}));
  EXPECT_EQ(trace.blocks[0].parent, TraceBlock::kNone);
  EXPECT_EQ(trace.blocks[3].parent, 0u);
  EXPECT_EQ(trace.blocks[2].tokens, 6u);
  EXPECT_EQ(trace.blocks[2].position, 1024u);
  EXPECT_EQ(UsedBlocks(trace), 4u);
  EXPECT_EQ(Read(kTwo, 1).value().requests.size(), 1u);
}

TEST_F(TraceFile, ReadsGzipAndRefusesHalfOfIt) {
  const gzFile file = gzopen(path_.c_str(), "wb");
  gzputs(file, kTwo);
  gzclose(file);
  EXPECT_EQ(ReadTrace(path_, 100).value().requests.size(), 2u);
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  EXPECT_FALSE(ReadTrace(path_, 100).ok());
}

TEST_F(TraceFile, RefusesWhatIsNoTrace) {
  EXPECT_EQ(ReadTrace("/nonexistent/trace", 1).status().code(), StatusCode::kNotFound);
  Refused("", "no requests");
  Refused("[]", ":1: expected an object");
  Refused("{\"input_length\":5}", "expected input_length and hash_ids");
  Refused("{\"input_length\":5,\"hash_ids\":[\"a\"]}", "expected integers");
  Refused("{\"input_length\":513,\"hash_ids\":[1]}", "does not go with 1 hash ids");
  Refused("{\"input_length\":-5,\"hash_ids\":[]}", "does not go with");
  Refused("{\"input_length\":1024,\"hash_ids\":[1,1]}", "follows two different ids");
  Refused(std::string(kTwo) + "\n{\"input_length\":1024,\"hash_ids\":[10,7]}", ":3: hash id 10 follows");
}

Trace Generated(std::string_view kind, size_t requests = 300) {
  GenerateOptions options{.requests = requests};
  options.documents = 100;
  options.ingest = 0.02;
  return GenerateTrace(kind, options).value();
}

TEST(Trace, GeneratedOnesAreWholeAndTheSameAgain) {
  for (const std::string_view kind : {"zipf", "drift", "scan", "adversarial", "rag"}) {
    const Trace trace = Generated(kind), again = Generated(kind);
    EXPECT_GE(trace.requests.size(), 300u);
    ASSERT_EQ(trace.requests.size(), again.requests.size());
    for (size_t r = 0; r < trace.requests.size(); ++r) {
      const TraceRequest& request = trace.requests[r];
      ASSERT_EQ(request.blocks, again.requests[r].blocks);
      ASSERT_LE(request.n_shared, request.blocks.size());
      std::vector<bool> before(trace.blocks.size());
      for (const uint32_t block : request.blocks) {
        ASSERT_FALSE(before[block]) << kind << " " << r;
        before[block] = true;
        const TraceBlock& b = trace.blocks[block];
        ASSERT_TRUE(b.parent == TraceBlock::kNone || before[b.parent]);
        ASSERT_TRUE(b.tokens >= 1 && b.tokens <= trace.block_tokens);
      }
    }
  }
  EXPECT_EQ(GenerateTrace("nothing", {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(GenerateTrace("zipf", {.requests = 0}).status().code(), StatusCode::kInvalidArgument);
}

CacheResult Simulated(const Trace& trace, std::string_view policy, uint64_t capacity,
                      std::optional<double> error = std::nullopt) {
  CacheOptions options{.policy = std::string(policy), .capacity_blocks = capacity, .oracle_error = error};
  return SimulateCache(trace, options).value();
}

TEST(SimulatedCache, ComputesNothingAgainWhenAllFits) {
  const Trace trace = Generated("rag");
  for (const std::string_view policy : EvictionPolicyNames()) {
    const CacheResult result = Simulated(trace, policy, UsedBlocks(trace));
    EXPECT_EQ(result.recomputed_tokens, 0u) << policy;
    EXPECT_EQ(result.misses, UsedBlocks(trace)) << policy;
    EXPECT_EQ(result.uses, trace.n_uses()) << policy;
  }
}

TEST(SimulatedCache, ABlockIsOfNoUseWithoutTheOneBeforeIt) {
  // Room for two: of the first chain its end goes, then its beginning; what finds no room is not kept.
  Trace trace{.name = "", .block_tokens = 64, .blocks = {}, .requests = {}};
  trace.blocks = {{TraceBlock::kNone, 64, 0}, {0, 64, 64}, {1, 10, 128}, {TraceBlock::kNone, 64, 0}};
  for (const std::vector<uint32_t>& blocks : std::vector<std::vector<uint32_t>>{{0, 1}, {3}, {0, 1}, {0, 1, 2}}) {
    TraceRequest request;
    request.blocks = blocks;
    trace.requests.push_back(request);
  }
  for (const std::string_view policy : EvictionPolicyNames()) {
    CacheOptions options{.policy = std::string(policy), .capacity_blocks = 2};
    options.queue = 0;
    const CacheResult result = SimulateCache(trace, options).value();
    EXPECT_EQ(result.misses, 5u) << policy;  // 0 1, 3, 1, 2
    EXPECT_EQ(result.recomputed_tokens, 64u) << policy;
    EXPECT_EQ(result.computed_tokens, 4u * 64 + 10) << policy;
  }
}

TEST(SimulatedCache, PerfectBitsAreNearTheOracleAndCombineIsRobust) {
  const Trace trace = Generated("rag", 600);
  const uint64_t capacity = UsedBlocks(trace) / 8;
  const auto best = static_cast<double>(Simulated(trace, "belady", capacity).misses);
  for (const std::string_view policy : {"discard", "mark0", "combine"})
    EXPECT_LE(static_cast<double>(Simulated(trace, policy, capacity, 0).misses), 1.05 * best) << policy;
  const auto arc = static_cast<double>(Simulated(trace, "arc", capacity).misses);
  EXPECT_LE(static_cast<double>(Simulated(trace, "combine", capacity, 1).misses), 1.1 * arc + 2.0 * capacity);
}

TEST(SimulatedCache, TheDefaultComputesLessAgainThanLru) {
  GenerateOptions options{.requests = 1000};
  for (const uint64_t seed : {1, 2}) {
    options.seed = seed;
    const Trace trace = GenerateTrace("rag", options).value();
    const uint64_t capacity = UsedBlocks(trace) / 10;
    EXPECT_LE(static_cast<double>(Simulated(trace, kDefaultEvictionPolicy, capacity).recomputed_tokens),
              0.9 * static_cast<double>(Simulated(trace, "lru", capacity).recomputed_tokens));
  }
}

TEST(SimulatedCache, RefusesWhatItCannotDo) {
  const Trace trace = Generated("zipf");
  EXPECT_EQ(SimulateCache(trace, {.policy = "lru", .capacity_blocks = 0}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(SimulateCache(trace, {.policy = "x", .capacity_blocks = 1}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace spanwise::bench
