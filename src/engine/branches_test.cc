// Requests whose context forks: what branches give alone, in company, in other orders, in little memory, interrupted.
#include "prompt/branches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>

#include "decode/sampler.h"
#include "engine/executor.h"
#include "engine/test_engines.h"

namespace spanwise {
namespace {

using ::testing::HasSubstr;

// Without a mode a plain prompt.
Request Forked(std::optional<ComposeMode> documents, float temperature = 0) {
  Request request;
  const std::string text = "Three ways to lift water, and which of them is the best one for a deep well in winter?";
  if (documents) {
    request.compose.mode = *documents;
    request.compose.repair_fraction = 0.3;
    request.messages = {{"user", text}};
    request.documents = {{"a", "Pumps", "A pump lifts water by suction or by force."}, {"b", "", "A bucket lifts it."}};
  } else {
    request.prompt = text;
  }
  request.branches = {
      {"First: the pump", 20}, {"Second: a bucket", 33}, {"Third", 0}, {"First: the pump", 20}, {"4", 7}};
  request.join = "Together:";
  request.sampling.max_tokens = 12;
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 2;
  request.sampling.temperature = temperature;
  request.sampling.seed = 5;
  return request;
}

void ExpectSame(const Answer& got, const Answer& expected) {
  ExpectSame(got.tokens, expected.tokens);
  EXPECT_EQ(got.text, expected.text);
  EXPECT_EQ(got.usage.prompt_tokens, expected.usage.prompt_tokens);
  EXPECT_EQ(got.usage.completion_tokens, expected.usage.completion_tokens);
  ASSERT_EQ(got.branches.size(), expected.branches.size());
  for (size_t i = 0; i < got.branches.size(); ++i) {
    ExpectSame(got.branches[i].tokens, expected.branches[i].tokens);
    EXPECT_EQ(got.branches[i].text, expected.branches[i].text);
  }
}

class Branches : public ::testing::TestWithParam<std::tuple<std::optional<ComposeMode>, float>> {
 protected:
  Request Given() const { return Forked(std::get<0>(GetParam()), std::get<1>(GetParam())); }
};

TEST_P(Branches, GiveWhatEachGivesAlone) {
  const auto engine = OpenTiny();
  const Request request = Given();
  const Answer answer = engine->Run(request).value();
  ASSERT_EQ(answer.branches.size(), 5u);
  for (size_t i = 0; i < answer.branches.size(); ++i) {
    EXPECT_EQ(answer.branches[i].usage.completion_tokens, *request.branches[i].max_tokens);
    EXPECT_EQ(answer.branches[i].finish_reason, FinishReason::kLength);
    if (i == 3) continue;  // the second one of its kind draws other noise
    Request alone = request;
    alone.branches = {request.branches[i]};
    alone.join.clear();
    const Answer one = OpenTiny()->Run(alone).value();
    ExpectSame(one.branches[0].tokens, answer.branches[i].tokens);
    EXPECT_EQ(one.text, "");
    EXPECT_EQ(one.branches[0].recomputed_tokens, 0);
  }
  EXPECT_EQ(answer.branches[3].text == answer.branches[0].text, request.sampling.temperature == 0);
}

TEST_P(Branches, GiveTheSameOneByOneAndInLittleMemoryAndWithoutCache) {
  const Answer expected = OpenTiny()->Run(Given()).value();
  ExpectSame(OpenTiny(256, 1)->Run(Given()).value(), expected);
  ExpectSame(OpenTiny(256, 2)->Run(Given()).value(), expected);
  // Too few blocks for all of them at once by what they may come to need, enough for what they are.
  const int n_context = expected.usage.prompt_tokens / 64;
  const auto small = OpenTiny(n_context + 12);
  ExpectSame(small->Run(Given()).value(), expected);
  Request request = Given();
  request.use_cache = false;
  ExpectSame(small->Run(request).value(), expected);
  EXPECT_EQ(small->stats().kv_blocks_reserved, 0u);
}

TEST_P(Branches, AreJoinedWithoutRecomputing) {
  const auto engine = OpenTiny();
  for (const bool use_cache : {true, false}) {
    Request request = Given();
    request.use_cache = use_cache;
    const Answer answer = engine->Run(request).value();
    int completion_tokens = 12;
    for (size_t i = 0; i < answer.branches.size(); ++i) {
      EXPECT_EQ(answer.branches[i].recomputed_tokens, i == 2 ? 0 : 1) << i;  // a last token that nobody read
      completion_tokens += answer.branches[i].usage.completion_tokens;
    }
    EXPECT_EQ(answer.usage.completion_tokens, completion_tokens);
    const ComposeMode mode = request.compose.mode;
    EXPECT_EQ(answer.compose.exactness, mode == ComposeMode::kApe      ? "operator-exact"
                                        : mode == ComposeMode::kRepair ? "convergent"
                                                                       : "set-exact");
    EXPECT_EQ(answer.compose.repaired_tokens > 0, mode == ComposeMode::kRepair);
    int n = 0;
    for (const PieceReport& piece : answer.compose.spans) n += piece.tokens;
    EXPECT_EQ(answer.usage.prompt_tokens, n);
    EXPECT_EQ(answer.usage.cached_tokens, 0);
  }
  const Answer warm = engine->Run(Given()).value();
  EXPECT_GE(warm.usage.cached_tokens, warm.usage.prompt_tokens - 2 - static_cast<int>(warm.branches.size()));
}

TEST_P(Branches, GiveTheSameInEveryOrder) {
  const auto engine = OpenTiny();
  Request request = Given();
  const Answer expected = engine->Run(request).value();
  std::rotate(request.branches.begin(), request.branches.begin() + 2, request.branches.end());
  std::swap(request.branches[0], request.branches[2]);
  const Answer answer = engine->Run(request).value();
  ExpectSame(answer.tokens, expected.tokens);
  EXPECT_EQ(answer.branches[2].text, expected.branches[2].text);
}

TEST_P(Branches, GoOnAfterASuspension) {
  const Answer expected = OpenTiny()->Run(Given()).value();
  for (const bool use_cache : {true, false}) {
    const auto engine = OpenTiny(expected.usage.prompt_tokens / 64 + 10);
    std::promise<Result<Answer>> forked, other;
    Request high;
    high.prompt = std::string(480, 'x');  // most of the memory: what the branches left is evicted
    high.priority = 1;
    high.sampling.max_tokens = 3;
    Request low = Given();
    low.use_cache = use_cache;
    // Comes when the context has been read, so that it finds the branches under way.
    RequestObserver observer;
    bool sent = false;
    observer.on_prefill = [&](int done, int total) {
      if (done < total || std::exchange(sent, true)) return;
      const Status status = engine->Submit(high, {}, nullptr, [&](Result<Answer> a) { other.set_value(std::move(a)); });
      if (!status.ok()) other.set_value(status);
    };
    ASSERT_TRUE(engine->Submit(low, observer, nullptr, [&](Result<Answer> a) { forked.set_value(std::move(a)); }).ok());
    EXPECT_TRUE(other.get_future().get().ok());
    ExpectSame(forked.get_future().get().value(), expected);
    EXPECT_EQ(engine->stats().suspensions, 1u);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Branches,
                         ::testing::Combine(::testing::Values(std::nullopt, ComposeMode::kSet, ComposeMode::kApe,
                                                              ComposeMode::kRepair),
                                            ::testing::Values(0.0f, 1.0f)),
                         [](const auto& p) {
                           const auto mode = std::get<0>(p.param);
                           return std::string(mode ? ComposeModeName(*mode) : "plain") +
                                  (std::get<1>(p.param) > 0 ? "_sampled" : "_greedy");
                         });

TEST(BranchedRequest, JoinsAsASetModePlanDoes) {
  const auto engine = OpenTiny();
  Request request = Forked({});
  request.branches = {{"one branch", 0},
                      {"and a second, longer one of more than sixty-four tokens, so that it has blocks", 0}};
  request.sampling.max_tokens = 1;
  const Answer answer = engine->Run(request).value();

  const auto node = [&](const std::string& text) { return PromptNode::Text(engine->Tokenize(text, true).value()); };
  const PromptNode tree = PromptNode::Sequence(
      {PromptNode::Text(engine->TokenizePrompt(*request.prompt).value()),
       PromptNode::Set({node(request.branches[1].prompt), node(request.branches[0].prompt)}), node(request.join)});
  ThreadPool pool(1);
  Executor executor(ModelWeights::Load(TinyModel(), std::nullopt, pool).value(), DType::kBf16, size_t{16} << 20, 1);
  Sequence sequence = executor.Begin(MakePlan(tree, {ComposeMode::kSet}, {Sha256("test"), ""}).value(), false);
  Executor::Turn turn;
  while (!sequence.prompt_is_ready()) {
    turn = {.sequence = &sequence};
    executor.Step({&turn, 1}, 512);
  }
  const auto expected = decode::LogprobsOf(turn.logits, answer.tokens[0].id, 2).value();
  EXPECT_EQ(answer.tokens[0].logprob, expected.logprob);
  ASSERT_EQ(answer.tokens[0].alternatives.size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(answer.tokens[0].alternatives[i].logprob, expected.alternatives[i].logprob);
}

TEST(BranchedRequest, WithOneBranchIsSequentialDecoding) {
  const auto engine = OpenTiny();
  Request request = Forked({});
  request.branches.resize(1);
  const Answer answer = engine->Run(request).value();

  const PlanKeys keys{Sha256("test"), ""};
  const auto tokens = [&](const std::string& text) { return engine->Tokenize(text, true).value(); };
  const Plan context = MakePlan(PromptNode::Text(engine->TokenizePrompt(*request.prompt).value()), {}, keys).value();
  ThreadPool pool(1);
  Executor executor(ModelWeights::Load(TinyModel(), std::nullopt, pool).value(), DType::kBf16, size_t{16} << 20, 1);
  const auto decode = [&](Plan plan, const std::vector<TokenReport>& expected) {
    Sequence sequence = executor.Begin(std::move(plan), false);
    std::optional<int32_t> token;
    for (const TokenReport& report : expected) {
      Executor::Turn turn;
      do {
        turn = {.sequence = &sequence, .token = token};
        executor.Step({&turn, 1}, 512);
      } while (!sequence.prompt_is_ready());
      const auto best = decode::LogprobsOf(turn.logits, report.id, 1).value();
      EXPECT_EQ(best.alternatives[0].id, report.id);
      EXPECT_EQ(best.logprob, report.logprob);
      token = report.id;
    }
  };
  std::vector<int32_t> branch = tokens(request.branches[0].prompt);
  decode(ForkPlan(context, branch, keys), answer.branches[0].tokens);
  for (const TokenReport& token : answer.branches[0].tokens) branch.push_back(token.id);
  const Plan join = JoinPlan(context, {branch}, tokens(request.join), keys);
  // A single branch leaves no gap and hides nothing: positions are those of the flat prompt.
  EXPECT_EQ(join.end_position(), join.n_tokens());
  decode(join, answer.tokens);
}

TEST(BranchedRequest, StreamsWhatFollowsTheJoin) {
  std::string streamed;
  RequestObserver observer;
  observer.on_text = [&](const std::string& text, const std::vector<TokenReport>&) { streamed += text; };
  const Answer answer = OpenTiny()->Run(Forked({}), observer).value();
  EXPECT_EQ(streamed, answer.text);
  EXPECT_EQ(answer.tokens.size(), 12u);
}

TEST(BranchedRequest, JoinsBranchesThatStopThemselves) {
  Request request = Forked({});
  const Answer whole = OpenTiny()->Run(request).value();
  const std::string& text = whole.branches[1].text;
  const auto ascii = std::ranges::find_if(text.begin() + 3, text.end(), [](char c) { return c > ' '; });
  ASSERT_NE(ascii, text.end());
  request.sampling.stop = {std::string(1, *ascii)};
  const Answer answer = OpenTiny()->Run(request).value();
  EXPECT_EQ(answer.branches[1].finish_reason, FinishReason::kStop);
  EXPECT_EQ(answer.branches[1].text, text.substr(0, text.find(*ascii)));
  EXPECT_LE(answer.branches[1].recomputed_tokens, 1);
}

TEST(BranchedRequest, FreesEverythingWhenItIsCancelled) {
  for (const bool in_join : {false, true}) {
    const auto engine = OpenTiny();
    auto cancel = std::make_shared<CancelFlag>();
    Request request = Forked(ComposeMode::kSet);
    request.use_cache = false;
    for (Continuation& branch : request.branches) branch.max_tokens = in_join ? 5 : 300;
    RequestObserver observer;
    std::atomic<int> n_read = 0;
    observer.on_prefill = [&](int done, int total) { n_read += done == total; };
    observer.on_text = [&](const std::string&, const std::vector<TokenReport>&) { cancel->Cancel(); };
    std::promise<Status> ended;
    ASSERT_TRUE(
        engine->Submit(request, observer, cancel, [&](const Result<Answer>& a) { ended.set_value(a.status()); }).ok());
    if (!in_join) {
      while (n_read == 0) std::this_thread::yield();
      cancel->Cancel();
    }
    EXPECT_EQ(ended.get_future().get().code(), StatusCode::kCancelled);
    const EngineStats stats = engine->stats();
    EXPECT_EQ(stats.kv_blocks, 0u);
    EXPECT_EQ(stats.kv_blocks_reserved, 0u);
    EXPECT_EQ(stats.cancelled, 1u);
    EXPECT_EQ(stats.running, 0);
  }
}

TEST(BranchedRequest, SaysWhatIsWrong) {
  const auto engine = OpenTiny(16);
  const auto status = [&](auto change) {
    Request request = Forked({});
    change(request);
    return engine->Run(request).status();
  };
  const auto expect = [&](const Status& got, StatusCode code, const std::string& message) {
    EXPECT_EQ(got.code(), code);
    EXPECT_THAT(got.message(), HasSubstr(message));
  };
  expect(status([](Request& r) { r.branches.resize(65, {"a", 1}); }), StatusCode::kInvalidArgument, "at most 64");
  expect(status([](Request& r) { r.branches[1].prompt.clear(); }), StatusCode::kInvalidArgument, "branches[1].prompt");
  expect(status([](Request& r) { r.branches[1].max_tokens = -1; }), StatusCode::kInvalidArgument,
         "branches[1].max_tokens");
  expect(status([](Request& r) { r.branches.clear(); }), StatusCode::kInvalidArgument, "'join'");
  expect(status([](Request& r) { r.echo = true; }), StatusCode::kInvalidArgument, "'echo'");
  expect(status([](Request& r) { r.branches[0].prompt = std::string(6000, 'x'); }), StatusCode::kContextExceeded,
         "'branches[0]'");
  expect(status([](Request& r) {
           r.branches.resize(64, {"a", 60});
         }),
         StatusCode::kContextExceeded, "16 blocks of 64 tokens");
  Request alone = Forked({});  // without a join they need not be there together
  alone.join.clear();
  alone.branches.resize(64, {"a", 60});
  EXPECT_EQ(engine->Run(alone).value().branches.size(), 64u);
}

}  // namespace
}  // namespace spanwise
