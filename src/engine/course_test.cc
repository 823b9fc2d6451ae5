// Answers in steps, and subtasks that are cut out of the context once they are done. A random model with bytes as
// tokens, whose letters are made the only ones it can say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "decode/subtask_pruner.h"
#include "engine/test_engines.h"
#include "spanwise/engine.h"

namespace spanwise {
namespace {

using ::testing::HasSubstr;

// Only tokens that are one of these characters can be sampled.
void Allow(const Engine& engine, std::string_view characters, Request* request) {
  request->sampling.logit_bias.clear();
  for (int32_t id = 0; id < engine.model().vocab_size; ++id) {
    const std::string text = engine.TokenText(id);
    if (text.size() == 1 && characters.find(text[0]) != std::string_view::npos) request->sampling.logit_bias[id] = 100;
  }
}

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";

// A task of n subtasks, each of some text that is given and some that is generated, then a question.
Request LongTask(const Engine& engine, int n, std::optional<int> keep, int generated = 20) {
  Request request;
  request.prompt = "Do it step by step.";
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 1;
  request.sampling.max_tokens = 9;
  Allow(engine, kLetters, &request);
  request.steps = {{R"({"reasoning":[{"thought":")", 3}};
  for (int i = 0; i < n; ++i) {
    request.steps.push_back({R"(","subtasks":[{"thought":"number )" + std::to_string(i) + " ", generated});
    request.steps.push_back({R"("}],"conclusion":")", 2});
    request.steps.push_back({R"("},{"thought":")", 2});
  }
  request.steps.push_back({R"("}],"answer":")", std::nullopt});
  request.keep_subtasks = keep;
  return request;
}

// What the context holds in the end, before the last step's generation, by the token.
std::vector<int32_t> Survivors(const Engine& engine, const Request& request, const Answer& answer) {
  std::vector<int32_t> tokens;
  decode::SubtaskPruner pruner(static_cast<size_t>(request.keep_subtasks.value_or(1'000'000)));
  const auto add = [&](int32_t token) {
    tokens.push_back(token);
    pruner.Push(engine.TokenText(token));
    while (const auto cut = pruner.Next())
      tokens.erase(tokens.begin() + static_cast<ptrdiff_t>(cut->begin),
                   tokens.begin() + static_cast<ptrdiff_t>(cut->end));
  };
  for (size_t i = 0; i < answer.steps.size(); ++i) {
    const std::vector<int32_t> given = engine.Tokenize(request.steps[i].prompt, true).value();
    for (const int32_t token : given) add(token);
    if (i + 1 < answer.steps.size())
      for (const TokenReport& token : answer.steps[i].tokens) add(token.id);
  }
  std::vector<int32_t> all = engine.TokenizePrompt(*request.prompt).value();
  all.insert(all.end(), tokens.begin(), tokens.end());
  return all;
}

void ExpectSame(const Answer& got, const Answer& expected) {
  EXPECT_EQ(got.text, expected.text);
  ExpectSame(got.tokens, expected.tokens);
  ASSERT_EQ(got.steps.size(), expected.steps.size());
  for (size_t i = 0; i < got.steps.size(); ++i) ExpectSame(got.steps[i].tokens, expected.steps[i].tokens);
  EXPECT_EQ(got.usage.prompt_tokens, expected.usage.prompt_tokens);
  EXPECT_EQ(got.usage.completion_tokens, expected.usage.completion_tokens);
}

// The answer of a context that never held anything else.
void ExpectAnswersAsFreshly(Engine& engine, const Request& request, const Answer& answer) {
  Request fresh;
  fresh.prompt_tokens = Survivors(engine, request, answer);
  fresh.sampling = request.sampling;
  fresh.use_cache = false;
  const Answer expected = engine.Run(fresh).value();
  EXPECT_EQ(answer.text, expected.text);
  ExpectSame(answer.tokens, expected.tokens);
}

TEST(Steps, AreTheSameAsOnePromptOfAllOfIt) {
  const auto engine = OpenTiny();
  for (const bool use_cache : {true, false}) {
    for (const std::optional<int> keep : {std::optional<int>(), std::optional<int>(1000)}) {
      Request request = LongTask(*engine, 3, keep);
      request.use_cache = use_cache;
      const Answer answer = engine->Run(request).value();
      ASSERT_EQ(answer.steps.size(), request.steps.size());
      EXPECT_EQ(answer.steps.back().text, answer.text);
      EXPECT_EQ(answer.text.size(), 9u);
      EXPECT_EQ(answer.usage.completion_tokens, 3 + 3 * 24 + 9);
      const std::vector<int32_t> all = Survivors(*engine, request, answer);
      EXPECT_EQ(answer.usage.prompt_tokens + answer.usage.completion_tokens, static_cast<int>(all.size()) + 9);
      EXPECT_EQ(answer.pruning.has_value(), keep.has_value());
      if (keep) {
        EXPECT_EQ(answer.pruning->lists + answer.pruning->tokens + answer.pruning->reencoded_tokens, 0);
      }
      ExpectAnswersAsFreshly(*engine, request, answer);
    }
  }
}

TEST(Steps, OfWhichNoneIsCutEqualAPlainAnswer) {
  const auto engine = OpenTiny();
  Request request;
  request.prompt = "Say something.";
  request.sampling.max_tokens = 40;
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 1;
  request.sampling.temperature = 1;
  request.sampling.seed = 3;
  const Answer plain = engine->Run(request).value();
  request.keep_subtasks = 1000;
  ExpectSame(engine->Run(request).value().tokens, plain.tokens);
  request.steps = {{"", std::nullopt}};
  const Answer step = engine->Run(request).value();
  ExpectSame(step.tokens, plain.tokens);
  EXPECT_EQ(step.usage.completion_tokens, 40);
}

Request OverDocuments(ComposeMode mode) {
  Request request;
  request.messages = {{"user", "Which of these lifts water from a deep well in winter?"}};
  request.documents = {{"a", "Pumps", "A pump lifts water by suction or by force, and freezes where nobody drains it."},
                       {"b", "", "A bucket lifts it."},
                       {"c", "Screws", "The screw of Archimedes lifts it up a slope, but not from a well."}};
  request.compose = {.mode = mode, .repair_fraction = 0.2};
  request.sampling.max_tokens = 20;
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 1;
  return request;
}

TEST(Steps, GoWithEveryMode) {
  for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair}) {
    const auto engine = OpenTiny();
    Request request = OverDocuments(mode);
    const Answer plain = engine->Run(request).value();
    request.steps = {{"", std::nullopt}};
    const Answer step = engine->Run(request).value();
    ExpectSame(step.tokens, plain.tokens);
    EXPECT_EQ(step.compose.exactness, plain.compose.exactness);
    request.keep_subtasks = 0;
    request.steps = {{R"({"reasoning":[{"subtasks":[{"thought":"a"}]},)", 0}, {R"({"thought":")", std::nullopt}};
    const Answer cut = engine->Run(request).value();
    EXPECT_EQ(cut.pruning->lists, 1);
    // What the first step says changes nothing of the documents, and so nothing that is kept of them.
    ExpectSame(OpenTiny()->Run(request).value().tokens, cut.tokens);
  }
}

TEST(Steps, DrawTheirOwnNoise) {
  const auto engine = OpenTiny();
  Request request = LongTask(*engine, 1, {});
  request.sampling.temperature = 5;
  request.sampling.seed = 1;
  request.steps = {{"a", 30}, {"a", 30}};
  const Answer answer = engine->Run(request).value();
  EXPECT_NE(answer.steps[0].text, answer.steps[1].text);
  ExpectSame(engine->Run(request).value(), answer);
  EXPECT_EQ(answer.seed, 1u);
}

TEST(Subtasks, LeaveAContextThatNeverHeldThem) {
  const auto engine = OpenTiny();
  for (const int keep : {0, 1, 2}) {
    for (const bool use_cache : {true, false}) {
      Request request = LongTask(*engine, 5, keep);
      request.use_cache = use_cache;
      const Answer answer = engine->Run(request).value();
      EXPECT_EQ(answer.pruning->lists, 5 - keep);
      EXPECT_GT(answer.pruning->tokens, (5 - keep) * 30);
      if (keep > 0) {
        EXPECT_GT(answer.pruning->reencoded_tokens, 0);
      }
      ExpectAnswersAsFreshly(*engine, request, answer);
    }
  }
}

// Fifty subtasks in five groups, each of which is a subtask itself.
Request FiftySubtasks(const Engine& engine) {
  Request request = LongTask(engine, 0, 0);
  request.steps = {{R"({"reasoning":[)", 0}};
  for (int group = 0; group < 5; ++group) {
    request.steps.push_back({R"({"subtasks":[)", 0});
    for (int i = 0; i < 10; ++i) {
      request.steps.push_back({R"({"subtasks":[{"thought":")", 40});
      request.steps.push_back({i < 9 ? R"("}]},)" : R"("}]}],"conclusion":")", i < 9 ? 0 : 2});
    }
    request.steps.push_back({R"("},)", 0});
  }
  request.steps.push_back({R"({"thought":"done"}],"answer":")", std::nullopt});
  return request;
}

TEST(Subtasks, KeepALongTaskSmall) {
  const auto engine = OpenTiny(9);  // blocks: a whole context of 512 positions, and one for copies
  const Request request = FiftySubtasks(*engine);
  const Answer answer = engine->Run(request).value();
  ASSERT_EQ(answer.steps.size(), request.steps.size());
  EXPECT_EQ(answer.pruning->lists, 50);  // the last one of a group goes with the group
  const int n_all = answer.usage.prompt_tokens + answer.usage.completion_tokens;
  EXPECT_GT(n_all, 6 * engine->model().context_tokens);
  EXPECT_LT(answer.pruning->peak_position, engine->model().context_tokens);
  ExpectAnswersAsFreshly(*engine, request, answer);

  Request whole = request;  // which the context cannot hold
  whole.keep_subtasks.reset();
  const Answer cut_short = engine->Run(whole).value();
  EXPECT_LT(cut_short.steps.size(), request.steps.size());
  EXPECT_EQ(cut_short.finish_reason, FinishReason::kLength);
  EXPECT_EQ(cut_short.text, "");
  EXPECT_LE(cut_short.usage.prompt_tokens + cut_short.usage.completion_tokens, engine->model().context_tokens);
}

// The model itself ends the lists: the cut comes within an answer.
TEST(Subtasks, GoAlsoWhereTheModelEndsThem) {
  const auto engine = OpenTiny();
  for (const int keep : {0, 1}) {
    Request request = LongTask(*engine, 0, keep);
    Allow(*engine, "]", &request);
    request.steps = {{R"({"reasoning":[{"subtasks":[{"thought":"this one is of some length"}],"conclusion":"a"},)"
                      R"({"subtasks":[{"thought":"and this one, too"})",
                      1},
                     {R"(,"conclusion":"b"},{"subtasks":[{"thought":"the last"})", 4}};
    const Answer answer = engine->Run(request).value();
    EXPECT_EQ(answer.text, "]]]]");
    EXPECT_EQ(answer.pruning->lists, 3 - keep);
    // The rest of the answer is that of a context in which the list is gone, too.
    std::vector<int32_t> left = Survivors(*engine, request, answer);
    decode::SubtaskPruner pruner(static_cast<size_t>(keep));
    Request fresh;
    const std::string text = engine->Detokenize(left, true) + "]";
    const size_t n_prompt = engine->Detokenize(engine->TokenizePrompt(*request.prompt).value(), true).size();
    for (size_t i = n_prompt; i < text.size(); ++i) pruner.Push(text.substr(i, 1));
    std::string rest = text;
    while (const auto cut = pruner.Next()) rest.erase(n_prompt + cut->begin, cut->end - cut->begin);
    EXPECT_NE(text, rest);
    fresh.prompt_tokens = engine->Tokenize(rest, true).value();
    fresh.sampling = request.sampling;
    fresh.sampling.max_tokens = 3;
    const Answer expected = engine->Run(fresh).value();
    ExpectSame({answer.tokens.begin() + 1, answer.tokens.end()}, expected.tokens);
  }
}

TEST(Subtasks, GoOnAfterASuspension) {
  const auto calm = OpenTiny();
  for (const bool use_cache : {true, false}) {
    Request request = LongTask(*calm, 5, 1);
    request.use_cache = use_cache;
    const Answer expected = calm->Run(request).value();
    for (const int at : {1, 4, 9}) {
      const auto engine = OpenTiny(12);
      std::promise<Result<Answer>> low, other;
      Request high;
      high.prompt = std::string(480, 'x');
      high.priority = 1;
      high.sampling.max_tokens = 3;
      int n_read = 0;
      RequestObserver observer;
      observer.on_prefill = [&](int done, int total) {
        if (done < total || ++n_read != at) return;
        const Status status =
            engine->Submit(high, {}, nullptr, [&](Result<Answer> a) { other.set_value(std::move(a)); });
        if (!status.ok()) other.set_value(status);
      };
      ASSERT_TRUE(
          engine->Submit(request, observer, nullptr, [&](Result<Answer> a) { low.set_value(std::move(a)); }).ok());
      EXPECT_TRUE(other.get_future().get().ok());
      ExpectSame(low.get_future().get().value(), expected);
      EXPECT_EQ(engine->stats().suspensions, 1u);
    }
  }
}

TEST(Subtasks, FreeEverythingWhenTheyAreCancelled) {
  const auto engine = OpenTiny();
  for (const int at : {1, 8}) {
    auto cancel = std::make_shared<CancelFlag>();
    Request request = LongTask(*engine, 5, 0);
    request.use_cache = false;
    RequestObserver observer;
    int n_read = 0;
    observer.on_prefill = [&](int, int) {
      if (++n_read == at) cancel->Cancel();
    };
    EXPECT_EQ(engine->Run(request, observer, cancel).status().code(), StatusCode::kCancelled);
    EXPECT_EQ(engine->stats().kv_blocks, 0u);
    EXPECT_EQ(engine->stats().kv_blocks_reserved, 0u);
  }
}

TEST(Steps, SayWhatIsWrong) {
  const auto engine = OpenTiny(16);
  const auto message = [&](auto change, StatusCode code = StatusCode::kInvalidArgument) {
    Request request = LongTask(*engine, 1, 0);
    change(request);
    const Status status = engine->Run(request).status();
    EXPECT_EQ(status.code(), code);
    return status.message();
  };
  EXPECT_THAT(message([](Request& r) { r.keep_subtasks = -1; }), HasSubstr("'keep_subtasks' is -1"));
  EXPECT_THAT(message([](Request& r) { r.steps[1].prompt.clear(); }), HasSubstr("'steps[1].prompt'"));
  EXPECT_THAT(message([](Request& r) { r.steps[2].max_tokens = -1; }), HasSubstr("'steps[2].max_tokens'"));
  EXPECT_THAT(message([](Request& r) { r.steps.resize(2000, {"a", 1}); }), HasSubstr("at most 1024"));
  EXPECT_THAT(message([](Request& r) { r.echo = true; }), HasSubstr("'echo'"));
  EXPECT_THAT(message([](Request& r) { r.branches = {{"a", 1}}; }), HasSubstr("'branches'"));
  EXPECT_THAT(message([](Request& r) { r.steps[0].prompt = std::string(600, 'x'); }, StatusCode::kContextExceeded),
              HasSubstr("512"));
}

}  // namespace
}  // namespace spanwise
