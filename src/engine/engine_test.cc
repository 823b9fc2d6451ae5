// The engine with the bundled model: requests, streaming, reuse, limits, cancellation.
#include "spanwise/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>

#include "base/file.h"
#include "base/json.h"

namespace spanwise {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string Pocket() {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/models/pocket";
}

Engine& SharedEngine() {
  static const std::unique_ptr<Engine> engine =
      Engine::Open({.model = Pocket(), .kv_memory_bytes = size_t{256} << 20}).value();
  return *engine;
}

Request Plain(const std::string& prompt, int max_tokens) {
  Request request;
  request.prompt = prompt;
  request.sampling.max_tokens = max_tokens;
  return request;
}

Request Question() {
  Request request;
  request.documents = {{"cawick", "Cawick T40", "The Cawick T40 is a pump. The Cawick T40 weighs 12 kg."},
                       {"velk", "Velk lighthouse", "The Velk lighthouse was built in 1871."}};
  request.messages = {{"user", "How much does the Cawick T40 weigh?"}};
  return request;
}

TEST(Engine, AnswersFromDocumentsAndReportsReuse) {
  auto engine = Engine::Open({.model = Pocket(), .kv_memory_bytes = size_t{64} << 20}).value();
  for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kSet}) {
    Request request = Question();
    request.compose.mode = mode;
    const Answer cold = engine->Run(request).value();
    EXPECT_THAT(cold.text, HasSubstr("12 kg"));
    EXPECT_THAT(cold.text, HasSubstr("[" + cold.document_labels[0] + "]"));
    EXPECT_EQ(cold.finish_reason, FinishReason::kStop);
    const Answer warm = engine->Run(request).value();
    EXPECT_EQ(warm.text, cold.text);
    EXPECT_EQ(warm.usage.cached_tokens, warm.usage.prompt_tokens - 1);
    EXPECT_EQ(warm.compose.spans[1].document, "cawick");
    EXPECT_EQ(warm.compose.spans[1].source, KvSource::kRam);
    request.use_cache = false;
    EXPECT_EQ(engine->Run(request)->usage.cached_tokens, 0);
  }
}

TEST(Engine, ASetsAnswerDoesNotDependOnItsOrder) {
  Request request = Question();
  request.compose.mode = ComposeMode::kSet;
  request.sampling.logprobs = 3;
  const Answer one = SharedEngine().Run(request).value();
  std::swap(request.documents[0], request.documents[1]);
  const Answer two = SharedEngine().Run(request).value();
  EXPECT_EQ(one.text, two.text);
  ASSERT_EQ(one.tokens.size(), two.tokens.size());
  for (size_t i = 0; i < one.tokens.size(); ++i) EXPECT_EQ(one.tokens[i].logprob, two.tokens[i].logprob);
  EXPECT_EQ(two.usage.cached_tokens, two.usage.prompt_tokens - 1);
}

TEST(Engine, SaltsSeparateTenants) {
  auto engine = Engine::Open({.model = Pocket(), .kv_memory_bytes = size_t{64} << 20}).value();
  Request request = Question();
  (void)engine->Run(request).value();
  request.cache_salt = "other";
  EXPECT_EQ(engine->Run(request)->usage.cached_tokens, 0);
}

TEST(Engine, StreamsWhatItReturns) {
  Request request = Question();
  request.sampling.logprobs = 0;
  std::string streamed;
  size_t n_tokens = 0;
  RequestObserver observer;
  observer.on_text = [&](const std::string& text, const std::vector<TokenReport>& tokens) {
    streamed += text;
    n_tokens += tokens.size();
  };
  const Answer answer = SharedEngine().Run(request, observer).value();
  EXPECT_EQ(streamed, answer.text);
  EXPECT_EQ(n_tokens, answer.tokens.size());
}

TEST(Engine, EchoGivesThePromptsLogProbabilities) {
  Request request = Plain("<|begin|><|user|>Hello!<|end|><|assistant|>Hello! Ask me", 4);
  request.echo = true;
  request.sampling.logprobs = 2;
  for (int i = 0; i < 2; ++i) {  // also where the prompt is already kept
    const Answer answer = SharedEngine().Run(request).value();
    ASSERT_EQ(static_cast<int>(answer.tokens.size()), answer.usage.prompt_tokens + answer.usage.completion_tokens);
    EXPECT_FALSE(answer.tokens[0].logprob.has_value());
    for (size_t t = 1; t < answer.tokens.size(); ++t) {
      ASSERT_TRUE(answer.tokens[t].logprob.has_value());
      EXPECT_LE(*answer.tokens[t].logprob, 0.0f);
      EXPECT_EQ(answer.tokens[t].alternatives.size(), 2u);
    }
    EXPECT_THAT(answer.text, HasSubstr("Hello! Ask me"));
  }
}

TEST(Engine, EchoAgreesWithGeneration) {
  Request request = Plain("<|begin|><|user|>Hello!<|end|><|assistant|>", 8);
  request.sampling.logprobs = 0;
  request.sampling.ignore_eos = true;
  const Answer generated = SharedEngine().Run(request).value();
  Request again;
  again.prompt_tokens = SharedEngine().Tokenize(*request.prompt, true).value();
  for (const TokenReport& t : generated.tokens) again.prompt_tokens->push_back(t.id);
  again.echo = true;
  again.sampling = request.sampling;
  again.sampling.max_tokens = 0;
  const Answer echoed = SharedEngine().Run(again).value();
  const size_t offset = echoed.tokens.size() - generated.tokens.size();
  for (size_t i = 0; i < generated.tokens.size(); ++i)
    EXPECT_EQ(echoed.tokens[offset + i].logprob, generated.tokens[i].logprob)
        << i;  // to the bit: prefill equals decode
}

TEST(Engine, ForcedTokensAreScoredAsIfTheModelHadChosenThem) {
  for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kSet}) {
    Request request = Question();
    request.compose.mode = mode;
    request.sampling.logprobs = 0;
    const Answer chosen = SharedEngine().Run(request).value();
    for (const TokenReport& token : chosen.tokens) request.forced_tokens.push_back(token.id);
    request.sampling.max_tokens = 1;
    request.sampling.stop = {"12"};
    std::vector<int32_t> seen;
    size_t n_logits = 0;
    RequestObserver observer;
    observer.on_logits = [&](int32_t token, std::span<const float> logits) {
      seen.push_back(token);
      n_logits += logits.size();
      EXPECT_EQ(std::ranges::max_element(logits) - logits.begin(), token);
    };
    const Answer forced = SharedEngine().Run(request, observer).value();
    EXPECT_EQ(forced.text, chosen.text);
    EXPECT_EQ(seen, request.forced_tokens);
    EXPECT_EQ(n_logits, seen.size() * static_cast<size_t>(SharedEngine().model().vocab_size));
    ASSERT_EQ(forced.tokens.size(), chosen.tokens.size());
    for (size_t i = 0; i < chosen.tokens.size(); ++i) EXPECT_EQ(forced.tokens[i].logprob, chosen.tokens[i].logprob);
  }
}

TEST(Engine, GivesTheLogitsOfAnEchoedPrompt) {
  Request request = Plain("<|begin|>The house stood on a hill above the town.", 0);
  request.echo = true;
  const std::vector<int32_t> prompt = SharedEngine().Tokenize(*request.prompt, true).value();
  std::vector<int32_t> seen;
  RequestObserver observer;
  observer.on_logits = [&](int32_t token, std::span<const float>) { seen.push_back(token); };
  const Answer answer = SharedEngine().Run(request, observer).value();
  EXPECT_EQ(seen, std::vector<int32_t>(prompt.begin() + 1, prompt.end()));
  EXPECT_EQ(answer.usage.completion_tokens, 0);
}

TEST(Engine, RefusesForcedTokensThatAreNoneOrDoNotFit) {
  Request request = Plain("<|begin|>The", 1);
  request.forced_tokens = {SharedEngine().model().vocab_size};
  const Status outside = SharedEngine().Run(request).status();
  EXPECT_EQ(outside.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(outside.message(), HasSubstr("forced token 8192"));
  request.forced_tokens.assign(static_cast<size_t>(SharedEngine().model().context_tokens), 300);
  EXPECT_EQ(SharedEngine().Run(request).status().code(), StatusCode::kContextExceeded);
}

TEST(Engine, SeededSamplingRepeats) {
  Request request = Plain("<|begin|>It was a", 20);
  request.sampling.temperature = 2.0f;
  request.sampling.seed = 7;
  const Answer one = SharedEngine().Run(request).value(), two = SharedEngine().Run(request).value();
  EXPECT_EQ(one.text, two.text);
  EXPECT_EQ(one.seed, 7u);
  request.sampling.seed = 8;
  EXPECT_NE(SharedEngine().Run(request)->text, one.text);
}

TEST(Engine, StopsAtStopStrings) {
  Request request = Question();
  request.sampling.stop = {"weighs"};
  const Answer answer = SharedEngine().Run(request).value();
  EXPECT_EQ(answer.text, "The Cawick T40 ");
  EXPECT_EQ(answer.finish_reason, FinishReason::kStop);
}

TEST(Engine, RefusesWhatCannotBeDone) {
  const auto code = [](const Request& request) { return SharedEngine().Run(request).status().code(); };
  EXPECT_EQ(code({}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Plain("\xff", 4)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Plain("", 4)), StatusCode::kInvalidArgument);
  Request request = Question();
  request.documents[1].id = request.documents[0].id;
  EXPECT_EQ(code(request), StatusCode::kInvalidArgument);
  request = Question();
  request.compose.mode = ComposeMode::kRepair;
  request.compose.repair_policy = "guess";
  EXPECT_EQ(code(request), StatusCode::kInvalidArgument);
  request = Question();
  for (int i = 0; i < 5000; ++i) request.documents[0].text += " and another";
  const Status long_prompt = SharedEngine().Run(request).status();
  EXPECT_EQ(long_prompt.code(), StatusCode::kContextExceeded);
  request = {};
  request.prompt_tokens = {1, 8192};
  EXPECT_EQ(code(request), StatusCode::kInvalidArgument);
}

TEST(Engine, EndsAtTheContextsEnd) {
  // The bundled model, but with a context of 128 tokens.
  namespace fs = std::filesystem;
  const fs::path folder = testing::TempDir() + "engine_test_short_" + std::to_string(getpid());
  fs::create_directories(folder);
  for (const auto& file : fs::directory_iterator(fs::absolute(Pocket())))
    if (file.path().filename() != "config.json") fs::create_symlink(file.path(), folder / file.path().filename());
  json::value config = ParseJson(ReadFile(Pocket() + "/config.json").value(), "config.json").value();
  config.as_object()["max_position_embeddings"] = 128;
  std::ofstream(folder / "config.json") << json::serialize(config);
  const auto engine = Engine::Open({.model = folder, .kv_memory_bytes = size_t{64} << 20}).value();
  fs::remove_all(folder);

  Request request;
  request.prompt_tokens = std::vector<int32_t>(122, 100);
  request.sampling.ignore_eos = true;
  const Answer answer = engine->Run(request).value();
  EXPECT_EQ(answer.usage.completion_tokens, 6);
  EXPECT_EQ(answer.finish_reason, FinishReason::kLength);
  request.prompt_tokens->resize(128, 100);
  EXPECT_THAT(engine->Run(request).status().message(), HasSubstr("maximum context length is 128 tokens"));
}

TEST(Engine, SaysWhatOfAPromptIsTooLong) {
  const auto refusal = [](const Request& request) {
    const Status status = SharedEngine().Run(request).status();
    EXPECT_EQ(status.code(), StatusCode::kContextExceeded);
    const PromptSize size = SharedEngine().Measure(request).value();
    EXPECT_LT(size.room, 1);
    EXPECT_THAT(status.message(), HasSubstr("maximum context length is 4096 tokens, and the prompt has " +
                                            std::to_string(size.tokens) + " tokens"));
    return status.message();
  };
  std::string much;
  for (int i = 0; i < 5000; ++i) much += " and another";
  Request request = Question();
  request.documents[0].text = much;
  EXPECT_THAT(refusal(request), EndsWith("tokens: use fewer or shorter documents"));
  request.compose.mode = ComposeMode::kSet;  // documents side by side
  EXPECT_THAT(refusal(request), HasSubstr(" and reaches position "));
  request = Question();
  request.messages = {{"user", much}, {"assistant", "Yes."}, {"user", "Sure?"}};
  EXPECT_THAT(refusal(request), EndsWith("tokens: leave out earlier turns of the conversation"));
  request.messages[0].content = "Is it?";
  request.documents[0].text = much;
  EXPECT_THAT(refusal(request),
              EndsWith("tokens: use fewer or shorter documents or leave out earlier turns of the conversation"));
  request = Question();
  request.messages[0].content = much;
  EXPECT_THAT(refusal(request), EndsWith("tokens: shorten the message"));
  EXPECT_THAT(refusal(Plain(much, 4)), EndsWith("tokens: shorten the prompt"));

  const PromptSize size = SharedEngine().Measure(Question()).value();
  EXPECT_EQ(size.tokens, SharedEngine().Run(Question()).value().usage.prompt_tokens);
  EXPECT_EQ(size.room, 4096 - size.tokens);
  EXPECT_GT(size.document_tokens, 20);
  EXPECT_LT(size.document_tokens, size.tokens);
  EXPECT_EQ(SharedEngine().Measure({}).status().code(), StatusCode::kInvalidArgument);
}

TEST(Engine, RefusesPromptsLargerThanItsMemory) {
  auto engine = Engine::Open({.model = Pocket(), .kv_memory_bytes = size_t{2} << 20}).value();  // four blocks
  const Status status = engine->Run(Plain(std::string(3000, 'x'), 1)).status();
  EXPECT_EQ(status.code(), StatusCode::kContextExceeded);
  EXPECT_THAT(status.message(), HasSubstr("4 blocks of 64 tokens"));
  EXPECT_TRUE(engine->Run(Plain("short", 1)).ok());
}

TEST(Engine, EndsAnswersWhereItsMemoryEnds) {
  auto engine = Engine::Open({.model = Pocket(), .kv_memory_bytes = size_t{2} << 20}).value();
  Request request = Plain("Hello", 1000);
  request.sampling.ignore_eos = true;
  for (int i = 0; i < 2; ++i) {  // the second one finds the first one's KV
    const Answer answer = engine->Run(request).value();
    EXPECT_EQ(answer.finish_reason, FinishReason::kLength);
    EXPECT_EQ(answer.usage.prompt_tokens + answer.usage.completion_tokens, 3 * 64);
  }
}

TEST(Engine, CancelsAndFillsItsQueue) {
  auto engine = Engine::Open({.model = Pocket(), .kv_memory_bytes = size_t{64} << 20, .max_queued = 2}).value();
  // The first request holds the engine's thread until told to go on.
  std::promise<void> started, go_on;
  std::shared_future<void> gate = go_on.get_future().share();
  std::once_flag once;
  RequestObserver observer;
  observer.on_text = [&](const std::string&, const std::vector<TokenReport>&) {
    std::call_once(once, [&] { started.set_value(); });
    gate.wait();
  };
  Request endless = Plain("<|begin|><|user|>Hello!<|end|><|assistant|>", 4000);
  endless.sampling.ignore_eos = true;
  auto cancel = std::make_shared<CancelFlag>();
  std::promise<StatusCode> first;
  ASSERT_TRUE(
      engine->Submit(endless, observer, cancel, [&](const Result<Answer>& a) { first.set_value(a.status().code()); })
          .ok());
  started.get_future().wait();
  std::promise<bool> second, third;
  ASSERT_TRUE(
      engine->Submit(Plain("a", 1), {}, nullptr, [&](const Result<Answer>& a) { second.set_value(a.ok()); }).ok());
  auto cancelled = std::make_shared<CancelFlag>();
  ASSERT_TRUE(
      engine->Submit(Plain("b", 1), {}, cancelled, [&](const Result<Answer>& a) { third.set_value(a.ok()); }).ok());
  EXPECT_EQ(engine->Submit(Plain("c", 1), {}, nullptr, [](const Result<Answer>&) {}).code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(engine->stats().queued, 2);
  cancelled->Cancel();
  cancel->Cancel();
  go_on.set_value();
  EXPECT_EQ(first.get_future().get(), StatusCode::kCancelled);
  EXPECT_TRUE(second.get_future().get());
  EXPECT_FALSE(third.get_future().get());
}

// Clients at once, some of which leave: the others get what they get alone, and all memory comes back.
TEST(Engine, SharesItsStepsWithoutATrace) {
  auto engine = Engine::Open({.model = Pocket(), .kv_memory_bytes = size_t{96} << 20, .max_running = 12}).value();
  const auto request = [](int i) {
    Request r = i % 3 == 0 ? Question() : Plain("<|begin|><|user|>Hello " + std::to_string(i) + "<|end|>", 3 + i % 9);
    r.compose.mode = i % 2 ? ComposeMode::kSet : ComposeMode::kExact;
    r.use_cache = i % 4 == 1;
    r.cache_salt = "clients";
    r.sampling.temperature = i % 5 == 0 ? 0.8f : 0.0f;
    r.sampling.seed = 7;
    return r;
  };
  constexpr int kClients = 24;
  std::vector<std::string> alone;
  for (int i = 0; i < kClients; ++i) {
    Request r = request(i);
    r.use_cache = false;
    alone.push_back(SharedEngine().Run(r)->text);
  }
  std::vector<std::promise<Result<Answer>>> answers(kClients);
  std::vector<std::shared_ptr<CancelFlag>> cancels;
  for (int i = 0; i < kClients; ++i) {
    cancels.push_back(std::make_shared<CancelFlag>());
    RequestObserver observer;
    if (i % 10 == 6)  // leaves while it reads its prompt
      observer.on_prefill = [cancel = cancels.back()](int, int) { cancel->Cancel(); };
    if (i % 10 == 7)  // leaves within its answer
      observer.on_text = [cancel = cancels.back()](const std::string&, const std::vector<TokenReport>&) {
        cancel->Cancel();
      };
    ASSERT_TRUE(
        engine
            ->Submit(request(i), observer, cancels.back(),
                     [&answers, i](Result<Answer> a) { answers[static_cast<size_t>(i)].set_value(std::move(a)); })
            .ok());
    if (i % 10 == 8) cancels.back()->Cancel();
  }
  int most_running = 0;
  for (int i = 0; i < kClients; ++i) {
    most_running = std::max(most_running, engine->stats().running);
    const Result<Answer> answer = answers[static_cast<size_t>(i)].get_future().get();
    if (answer.ok()) {
      EXPECT_EQ(answer->text, alone[static_cast<size_t>(i)]) << i;
    } else {
      EXPECT_EQ(answer.status().code(), StatusCode::kCancelled);
      EXPECT_TRUE(i % 10 >= 6 && i % 10 <= 8) << i;
    }
  }
  EXPECT_GT(most_running, 1);
  EXPECT_EQ(engine->stats().running, 0);
  EXPECT_EQ(engine->stats().queued, 0);
  // What is left belongs to kept spans, at most one block each.
  EXPECT_LE(engine->stats().kv_blocks, engine->stats().kv_spans);
}

TEST(Engine, ShutsDownUnderWay) {
  std::promise<StatusCode> ended;
  {
    auto engine = Engine::Open({.model = Pocket(), .kv_memory_bytes = size_t{64} << 20}).value();
    Request endless = Plain("<|begin|><|user|>Hello!<|end|><|assistant|>", 4000);
    endless.sampling.ignore_eos = true;
    ASSERT_TRUE(
        engine->Submit(endless, {}, nullptr, [&](const Result<Answer>& a) { ended.set_value(a.status().code()); })
            .ok());
  }
  EXPECT_EQ(ended.get_future().get(), StatusCode::kCancelled);
}

TEST(Engine, AnswersWithQuantisedWeights) {
  for (const std::string dtype : {"q8", "q4"}) {
    const auto engine = Engine::Open({.model = Pocket(), .dtype = dtype, .kv_memory_bytes = size_t{64} << 20}).value();
    EXPECT_THAT(engine->model().weight_dtype, HasSubstr(dtype));
    EXPECT_LT(engine->model().weight_bytes, SharedEngine().model().weight_bytes * 6 / 10);
    const Answer cold = engine->Run(Question()).value();
    EXPECT_THAT(cold.text, HasSubstr("12 kg")) << dtype;
    EXPECT_EQ(engine->Run(Question())->text, cold.text);
  }
}

TEST(Engine, SaysWhyAModelCannotBeOpened) {
  EXPECT_EQ(Engine::Open({.model = "/nonexistent"}).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Engine::Open({.model = Pocket(), .kv_dtype = "q4"}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Engine::Open({.model = Pocket(), .dtype = "int3"}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Engine::Open({.model = Pocket(), .threads = -1}).status().code(), StatusCode::kInvalidArgument);
  for (const int n : {0, -1, 2'000'000}) {
    EXPECT_EQ(Engine::Open({.model = Pocket(), .max_queued = n}).status().code(), StatusCode::kInvalidArgument) << n;
    EXPECT_EQ(Engine::Open({.model = Pocket(), .max_running = n}).status().code(), StatusCode::kInvalidArgument) << n;
  }
  EXPECT_EQ(Engine::Open({.model = Pocket() + "/nonexistent.gguf"}).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Engine::Open({.model = Pocket() + "/config.json"}).status().code(), StatusCode::kInvalidArgument);
}

// A random model with bytes as tokens, from one file. The tokens: tests/golden/gguf/vectors.json, from llama.cpp.
TEST(Engine, RunsAGgufFile) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  const std::string path = std::string(root ? root : ".") + "/tests/golden/gguf/llama3-bf16.gguf";
  auto opened = Engine::Open({.model = path, .dtype = "f32", .kv_memory_bytes = size_t{16} << 20});
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const std::unique_ptr<Engine> engine = std::move(opened).value();
  EXPECT_EQ(engine->model().name, "llama3-bf16");
  EXPECT_EQ(engine->model().vocab_size, 256);
  Request request;
  request.prompt_tokens = std::vector<int32_t>{14};
  request.sampling.max_tokens = 6;
  request.sampling.logprobs = 1;
  const Answer answer = engine->Run(request).value();
  std::vector<int32_t> ids;
  for (const TokenReport& token : answer.tokens) ids.push_back(token.id);
  EXPECT_EQ(ids, (std::vector<int32_t>{188, 175, 53, 137, 47, 175}));

  EXPECT_EQ(engine->Detokenize(engine->Tokenize("pumps", false).value(), false), "pumps");
  EXPECT_EQ(engine->Tokenize("<|eot_id|>", true).value().back(), 9);
  Request question = Question();
  question.sampling.max_tokens = 2;
  EXPECT_TRUE(engine->Run(question).ok());
}

}  // namespace
}  // namespace spanwise
