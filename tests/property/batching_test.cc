// Sequences that share steps: each gets the bits it gets alone, and what two need is encoded once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <list>
#include <random>

#include "engine/executor.h"

namespace spanwise {
namespace {

constexpr size_t kMemory = size_t{64} << 20;

std::shared_ptr<const ModelWeights> Weights(const std::string& name) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  ThreadPool pool(1);
  return ModelWeights::Load(std::string(root ? root : ".") + "/tests/golden/models/" + name, std::nullopt, pool)
      .value();
}

std::vector<int32_t> RandomTokens(int n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % 200);
  return tokens;
}

PromptNode Document(int i) {
  return PromptNode::Text(RandomTokens(30 + 37 * i, 100 + static_cast<uint32_t>(i)), std::to_string(i));
}

// A question over the given documents.
Plan QuestionPlan(const std::vector<int>& documents, int question, ComposeMode mode = ComposeMode::kSet) {
  std::vector<PromptNode> members;
  for (const int i : documents) members.push_back(Document(i));
  const PromptNode tree =
      PromptNode::Sequence({PromptNode::Text(RandomTokens(5, 1)), PromptNode::Set(std::move(members)),
                            PromptNode::Text(RandomTokens(4 + question, 500 + static_cast<uint32_t>(question)))});
  return MakePlan(tree, {mode, DocumentOrder::kGiven}, {Sha256("test"), ""}).value();
}

int32_t Best(std::span<const float> logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

// A request that decodes greedily.
struct Request {
  Sequence sequence;
  std::optional<int32_t> token;
  std::vector<float> logits;  // all on the way
  int left = 6;               // tokens to decode

  Executor::Turn Turn() { return {.sequence = &sequence, .token = sequence.prompt_is_ready() ? token : std::nullopt}; }
  // Takes what a step made; false at the end.
  bool Advance(const Executor::Turn& turn) {
    EXPECT_TRUE(turn.status.ok()) << turn.status.message();
    if (token && !turn.token) return true;  // what was known before it was suspended
    logits.insert(logits.end(), turn.logits.begin(), turn.logits.end());
    if (!sequence.prompt_is_ready()) return true;
    token = Best(turn.logits);
    return left-- > 0;
  }
};

std::vector<float> Alone(Executor& executor, Plan plan, int n_tokens = 6) {
  Request request{.sequence = executor.Begin(std::move(plan), false), .token = {}, .logits = {}};
  request.left = n_tokens;
  while (true) {
    Executor::Turn turn = request.Turn();
    executor.Step({&turn, 1}, 512);
    if (!request.Advance(turn)) return request.logits;
  }
}

class Batching : public ::testing::TestWithParam<const char*> {};

TEST_P(Batching, NeverChangesABit) {
  const auto weights = Weights(GetParam());
  Executor alone(weights, DType::kBf16, kMemory, 1);
  std::mt19937 random(7);
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  for (const bool use_cache : {false, true}) {
    Executor executor(weights, DType::kBf16, kMemory, 2);
    std::list<std::pair<Request, std::vector<float>>> running;  // with what it must give
    int begun = 0, ended = 0;
    while (ended < 14) {
      while (begun < 14 && (running.empty() || draw(3) == 0)) {
        const std::vector<int> documents = {draw(3), 3 + draw(2)};
        const auto plan = [&] {
          return QuestionPlan(documents, begun, begun % 2 ? ComposeMode::kSet : ComposeMode::kExact);
        };
        running.emplace_back(Request{.sequence = executor.Begin(plan(), use_cache), .token = {}, .logits = {}},
                             Alone(alone, plan()));
        ++begun;
      }
      std::vector<Executor::Turn> turns;
      for (auto& [request, expected] : running) turns.push_back(request.Turn());
      executor.Step(turns, 1 + draw(90));
      size_t i = 0;
      for (auto at = running.begin(); at != running.end(); ++i) {
        if (at->first.Advance(turns[i])) {
          ++at;
          continue;
        }
        EXPECT_EQ(at->first.logits, at->second);
        executor.Seal(at->first.sequence);
        at = running.erase(at);
        ++ended;
      }
    }
    if (!use_cache) {
      EXPECT_EQ(executor.store().stats().n_blocks, 0u);
    }
  }
}

TEST_P(Batching, EncodesOnceWhatTwoNeed) {
  const auto weights = Weights(GetParam());
  for (const ComposeMode mode : {ComposeMode::kSet, ComposeMode::kExact}) {
    for (const int room : {7, 64, 1000}) {
      Executor executor(weights, DType::kBf16, kMemory, 2), alone(weights, DType::kBf16, kMemory, 1);
      std::vector<Request> requests;
      for (const int question : {1, 2, 3})
        requests.push_back(
            {.sequence = executor.Begin(QuestionPlan({0, 1, 2, 3}, question, mode), true), .token = {}, .logits = {}});
      int n_encoded = 0, n_all = 0;
      const auto done = [](const Request& r) { return r.sequence.prompt_is_ready(); };
      while (!std::ranges::all_of(requests, done)) {
        std::vector<Executor::Turn> turns;
        for (Request& r : requests)
          if (!done(r)) turns.push_back({.sequence = &r.sequence});
        const int n = executor.Step(turns, room);
        ASSERT_GT(n, 0);
        n_encoded += n;
        for (const Executor::Turn& turn : turns)
          for (Request& r : requests)
            if (&r.sequence == turn.sequence) r.logits.insert(r.logits.end(), turn.logits.begin(), turn.logits.end());
      }
      for (Request& r : requests) n_all += r.sequence.n_prompt_tokens();
      const int shared = n_all - (5 + 6 + 7);  // three times the same documents and their beginning
      // While it is under way only whole blocks of a run can be taken over.
      EXPECT_LE(n_encoded, shared / 3 + 5 + 6 + 7 + (mode == ComposeMode::kExact ? 3 * kKvBlockTokens : 0));
      for (size_t i = 0; i < requests.size(); ++i) {
        const auto expected = Alone(alone, QuestionPlan({0, 1, 2, 3}, static_cast<int>(i) + 1, mode));
        EXPECT_TRUE(std::equal(requests[i].logits.begin(), requests[i].logits.end(), expected.begin())) << i;
      }
    }
  }
}

TEST_P(Batching, GoesOnWhenAnEncoderIsDropped) {
  const auto weights = Weights(GetParam());
  Executor executor(weights, DType::kBf16, kMemory, 2), alone(weights, DType::kBf16, kMemory, 1);
  auto first = std::make_unique<Sequence>(executor.Begin(QuestionPlan({4}, 1), true));
  Request second{.sequence = executor.Begin(QuestionPlan({4}, 2), true), .token = {}, .logits = {}};
  std::vector<Executor::Turn> turns = {{.sequence = first.get()}, second.Turn()};
  executor.Step(turns, 20);
  EXPECT_EQ(turns[1].n_encoded, 0);  // waits
  first.reset();
  while (true) {
    Executor::Turn turn = second.Turn();
    ASSERT_GT(executor.Step({&turn, 1}, 20), 0);
    if (!second.Advance(turn)) break;
  }
  EXPECT_EQ(second.logits, Alone(alone, QuestionPlan({4}, 2)));
}

TEST_P(Batching, SuspendedSequencesGoOnWithTheSameBits) {
  const auto weights = Weights(GetParam());
  Executor alone(weights, DType::kBf16, kMemory, 1);
  std::mt19937 random(5);
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  for (const bool use_cache : {true, false}) {
    for (const bool evict : {false, true}) {
      Executor executor(weights, DType::kBf16, kMemory, 2);
      std::vector<Request> requests;
      std::vector<std::vector<float>> expected;
      for (int i = 0; i < 5; ++i) {
        const auto plan = [&] { return QuestionPlan({i, 4 - i}, i, i % 2 ? ComposeMode::kSet : ComposeMode::kExact); };
        requests.push_back({.sequence = executor.Begin(plan(), use_cache), .token = {}, .logits = {}});
        requests.back().left = 70;  // past the end of a block
        expected.push_back(Alone(alone, plan(), 70));
      }
      std::vector<bool> suspended(requests.size()), ended(requests.size());
      int n_suspended = 0;
      while (!std::ranges::all_of(ended, [](bool e) { return e; })) {
        for (size_t i = 0; i < requests.size(); ++i) {
          if (ended[i] || draw(6) > 0) continue;
          Sequence& s = requests[i].sequence;
          if (suspended[i]) {
            if (evict) executor.store().Clear();
            executor.Resume(s);
            if (use_cache && !evict && requests[i].token) {
              EXPECT_TRUE(s.prompt_is_ready());  // nothing is lost
            }
          } else {
            executor.Suspend(s);
            ++n_suspended;
          }
          suspended[i] = !suspended[i];
        }
        std::vector<Executor::Turn> turns;
        std::vector<size_t> whose;
        for (size_t i = 0; i < requests.size(); ++i)
          if (!ended[i] && !suspended[i]) {
            turns.push_back(requests[i].Turn());
            whose.push_back(i);
          }
        executor.Step(turns, 1 + draw(90));
        for (size_t k = 0; k < turns.size(); ++k)
          if (!requests[whose[k]].Advance(turns[k])) {
            ended[whose[k]] = true;
            requests[whose[k]].sequence = {};
          }
      }
      EXPECT_GT(n_suspended, 10);
      for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(requests[i].logits, expected[i]) << i;
      executor.store().Clear();
      EXPECT_EQ(executor.store().stats().n_blocks, 0u);
    }
  }
}

TEST_P(Batching, SuspensionKeepsWhatWasFoundApartFromWhatWasMade) {
  const auto weights = Weights(GetParam());
  Executor executor(weights, DType::kBf16, kMemory, 1);
  const auto read = [&](Sequence& s, int n) {
    while (n > 0 && !s.prompt_is_ready()) {
      Executor::Turn turn{.sequence = &s};
      n -= executor.Step({&turn, 1}, n);
    }
  };
  Sequence first = executor.Begin(QuestionPlan({1, 2}, 1, ComposeMode::kExact), true);
  read(first, 1000);
  executor.Seal(first);
  Sequence second = executor.Begin(QuestionPlan({1, 2, 3}, 2, ComposeMode::kExact), true);
  const int cached = second.n_cached(0);
  EXPECT_GT(cached, 100);
  read(second, 40);
  executor.Suspend(second);
  executor.Resume(second);
  EXPECT_EQ(second.reused[0], cached + 40);
  EXPECT_EQ(second.n_cached(0), cached);
  executor.Suspend(second);
  first = {};
  executor.store().Clear();
  executor.Resume(second);
  EXPECT_EQ(second.n_cached(0), 0);
}

TEST_P(Batching, LackOfMemoryFailsOneTurnAlone) {
  const auto weights = Weights(GetParam());
  Executor alone(weights, DType::kBf16, kMemory, 1);
  const size_t block = alone.transformer().kv_geometry().BlockBytes();
  Executor executor(weights, DType::kBf16, 8 * block, 2);
  Sequence large = executor.Begin(QuestionPlan({4, 4, 4}, 1, ComposeMode::kExact), false);
  Request small{.sequence = executor.Begin(QuestionPlan({0}, 2), false), .token = {}, .logits = {}};
  std::vector<Executor::Turn> turns = {small.Turn(), {.sequence = &large}};
  executor.Step(turns, 1000);
  EXPECT_EQ(turns[1].status.code(), StatusCode::kResourceExhausted);
  large = {};
  while (small.Advance(turns[0])) {
    turns = {small.Turn()};
    executor.Step(turns, 1000);
  }
  EXPECT_EQ(small.logits, Alone(alone, QuestionPlan({0}, 2)));
}

INSTANTIATE_TEST_SUITE_P(Models, Batching, ::testing::Values("llama3", "gemma2", "qwen3_moe"));

}  // namespace
}  // namespace spanwise
