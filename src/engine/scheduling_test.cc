// Who comes when: priorities, clients, requests that are suspended and cancelled. A random model with bytes as tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>

#include "engine/test_engines.h"
#include "spanwise/engine.h"

namespace spanwise {
namespace {

using ::testing::ElementsAre;

std::string TinyModel() {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/gguf/llama3-bf16.gguf";
}

size_t BlockBytes() {
  static const size_t bytes = Engine::Open({.model = TinyModel(), .threads = 1, .kv_memory_bytes = 1 << 20})
                                  .value()
                                  ->model()
                                  .kv_bytes_per_token *
                              64;
  return bytes;
}

std::unique_ptr<Engine> Open(int n_blocks, int max_running, int step_tokens = 512) {
  return Engine::Open({.model = TinyModel(),
                       .threads = 2,
                       .kv_memory_bytes = static_cast<size_t>(n_blocks) * BlockBytes(),
                       .max_running = max_running,
                       .step_tokens = step_tokens})
      .value();
}

Request Tokens(int n, int seed, int max_tokens) {
  Request request;
  request.prompt_tokens.emplace();
  for (int i = 0; i < n; ++i) request.prompt_tokens->push_back(20 + (i * 31 + seed * 17) % 200);
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 1;
  return request;
}

void ExpectSame(const Answer& got, const Answer& expected) {
  EXPECT_EQ(got.text, expected.text);
  ASSERT_EQ(got.tokens.size(), expected.tokens.size());
  for (size_t i = 0; i < got.tokens.size(); ++i) {
    EXPECT_EQ(got.tokens[i].id, expected.tokens[i].id) << i;
    EXPECT_EQ(got.tokens[i].logprob, expected.tokens[i].logprob) << i;
  }
  EXPECT_EQ(got.finish_reason, expected.finish_reason);
  EXPECT_EQ(got.usage.prompt_tokens, expected.usage.prompt_tokens);
  EXPECT_EQ(got.usage.completion_tokens, expected.usage.completion_tokens);
}

// Submits requests while another one holds the engine's thread, lets it go, and says in which order they ended.
class Ordered {
 public:
  explicit Ordered(Engine& engine) : engine_(engine) {
    RequestObserver observer;
    observer.on_prefill = [this](int, int) {
      started_.set_value();
      go_on_.get_future().wait();
    };
    Request request = Tokens(4, 99, 1);
    request.priority = Request::kMostPriority;
    EXPECT_TRUE(engine.Submit(request, observer, nullptr, [](const Result<Answer>&) {}).ok());
    started_.get_future().wait();
  }
  void Submit(Request request, const std::string& name) {
    ++n_left_;
    EXPECT_TRUE(engine_
                    .Submit(std::move(request), {}, nullptr,
                            [this, name](const Result<Answer>& answer) {
                              EXPECT_TRUE(answer.ok()) << answer.status().message();
                              const std::lock_guard lock(mutex_);
                              order_.push_back(name);
                              if (--n_left_ == 0) ended_.set_value();
                            })
                    .ok());
  }
  std::vector<std::string> Run() {
    go_on_.set_value();
    ended_.get_future().wait();
    return order_;
  }

 private:
  Engine& engine_;
  std::promise<void> started_, go_on_, ended_;
  std::mutex mutex_;
  std::atomic<int> n_left_{0};
  std::vector<std::string> order_;
};

TEST(Scheduling, HigherPrioritiesComeFirst) {
  auto engine = Open(64, 1);
  Ordered ordered(*engine);
  for (const int priority : {0, -5, 7, 0, 7}) {
    Request request = Tokens(10, priority + 10, 3);
    request.priority = priority;
    ordered.Submit(request, std::to_string(priority));
  }
  EXPECT_THAT(ordered.Run(), ElementsAre("7", "7", "0", "0", "-5"));
}

TEST(Scheduling, ClientsTakeTurns) {
  auto engine = Open(64, 1);
  Ordered ordered(*engine);
  for (const std::string client : {"a", "a", "a", "b", "c", "a", "b"}) {
    Request request = Tokens(10, 1, 3);
    request.use_cache = false;
    request.client = client;
    ordered.Submit(request, client);
  }
  EXPECT_THAT(ordered.Run(), ElementsAre("a", "b", "c", "a", "b", "a", "a"));
}

TEST(Scheduling, RefusesPrioritiesThatAreNone) {
  auto engine = Open(64, 1);
  for (const int priority : {101, -101, std::numeric_limits<int>::min()}) {
    Request request = Tokens(4, 1, 1);
    request.priority = priority;
    EXPECT_EQ(engine->Run(request).status().code(), StatusCode::kInvalidArgument);
  }
}

struct Disturbed {
  const char* name;
  int n_prompt;
  int at;        // the callback at which the other request comes: of prefill when negative
  int n_blocks;  // few: the other request evicts what this one left
  bool use_cache = true, echo = false;
};

class Suspension : public ::testing::TestWithParam<Disturbed> {};

TEST_P(Suspension, ChangesNothing) {
  const Disturbed& p = GetParam();
  Request low = Tokens(p.n_prompt, 3, 70);
  low.use_cache = p.use_cache;
  low.echo = p.echo;
  low.sampling.temperature = 1.0f;
  low.sampling.seed = 11;
  low.sampling.repetition_penalty = 1.2f;
  Request high = Tokens(260, 4, 20);
  high.priority = 1;
  const Answer low_alone = Open(p.n_blocks, 1, 40)->Run(low).value();
  const Answer high_alone = Open(p.n_blocks, 1, 40)->Run(high).value();

  auto engine = Open(p.n_blocks, 1, 40);
  std::promise<Result<Answer>> low_answer, high_answer;
  bool high_ended = false;  // of the engine's thread
  std::string streamed;
  int n_text = 0, n_prefill = 0, n_sent = 0;
  const auto disturb = [&] {
    for (int i = 0; i < 2; ++i) {  // the second one finds the first one running
      ++n_sent;
      ASSERT_TRUE(engine
                      ->Submit(high, {}, nullptr,
                               [&](Result<Answer> answer) {
                                 high_ended = true;
                                 if (--n_sent == 0) high_answer.set_value(std::move(answer));
                               })
                      .ok());
    }
  };
  RequestObserver observer;
  observer.on_text = [&](const std::string& text, const std::vector<TokenReport>&) {
    streamed += text;
    if (++n_text == p.at) disturb();
    if (n_text == p.at + 1) {
      EXPECT_TRUE(high_ended);
    }
  };
  observer.on_prefill = [&](int, int) {
    if (++n_prefill == -p.at) disturb();
  };
  ASSERT_TRUE(engine
                  ->Submit(low, observer, nullptr,
                           [&](Result<Answer> answer) {
                             EXPECT_TRUE(high_ended);
                             low_answer.set_value(std::move(answer));
                           })
                  .ok());
  ExpectSame(high_answer.get_future().get().value(), high_alone);
  const Answer answer = low_answer.get_future().get().value();
  ExpectSame(answer, low_alone);
  EXPECT_EQ(answer.usage.cached_tokens, 0);
  EXPECT_EQ(streamed, answer.text);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.suspensions, 1u);
  EXPECT_EQ(stats.suspended, 0);
  EXPECT_EQ(stats.kv_blocks_reserved, 0u);
}

INSTANTIATE_TEST_SUITE_P(Cases, Suspension,
                         ::testing::Values(Disturbed{"decoding", 150, 30, 64},
                                           Disturbed{"decoding_evicted", 150, 30, 8}, Disturbed{"reading", 150, -2, 64},
                                           Disturbed{"reading_evicted", 150, -2, 8},
                                           Disturbed{"first_token", 64, 1, 64},
                                           Disturbed{"without_cache", 150, 30, 64, false},
                                           Disturbed{"reading_without_cache", 150, -2, 64, false},
                                           Disturbed{"echo_reading", 150, -2, 64, true, true},
                                           Disturbed{"echo_reading_evicted", 150, -2, 8, true, true},
                                           Disturbed{"echo_decoding_evicted", 150, 160, 8, true, true}),
                         [](const auto& p) { return p.param.name; });

// What is recomputed is chosen by the question, whatever has been generated behind it meanwhile.
TEST(Scheduling, ARepairedPromptGoesOnAfterASuspension) {
  Request low;
  low.messages = {{"user", "Which of these lifts water from a deep well in winter?"}};
  low.documents = {{"a", "Pumps", "A pump lifts water by suction or by force, and freezes where nobody drains it."},
                   {"b", "", "A bucket lifts it."},
                   {"c", "Screws", "The screw of Archimedes lifts it up a slope, but not from a well."}};
  low.sampling.max_tokens = 40;
  low.sampling.ignore_eos = true;
  low.sampling.logprobs = 1;
  for (const auto& [policy, threshold] : {std::pair{"focused", 0.0},
                                          {"focused", 1e-9},
                                          {"focused", 1e9},
                                          {"question", 0.0},
                                          {"deviation", 0.0},
                                          {"cachecraft", 0.0}}) {
    low.compose = {
        .mode = ComposeMode::kRepair, .repair_fraction = 0.2, .repair_policy = policy, .repair_threshold = threshold};
    const Answer expected = OpenTiny()->Run(low).value();
    for (const bool use_cache : {true, false}) {
      const auto engine = OpenTiny(expected.usage.prompt_tokens / 64 + 14);
      low.use_cache = use_cache;
      Request high;
      high.prompt = std::string(480, 'x');  // most of the memory: what the other one left is evicted
      high.priority = 1;
      high.sampling.max_tokens = 3;
      std::promise<Result<Answer>> low_answer, high_answer;
      RequestObserver observer;
      int n_text = 0;
      observer.on_text = [&](const std::string&, const std::vector<TokenReport>&) {
        if (++n_text != 20) return;
        const Status status =
            engine->Submit(high, {}, nullptr, [&](Result<Answer> a) { high_answer.set_value(std::move(a)); });
        if (!status.ok()) high_answer.set_value(status);
      };
      ASSERT_TRUE(
          engine->Submit(low, observer, nullptr, [&](Result<Answer> a) { low_answer.set_value(std::move(a)); }).ok());
      EXPECT_TRUE(high_answer.get_future().get().ok());
      const Answer answer = low_answer.get_future().get().value();
      ExpectSame(answer.tokens, expected.tokens);
      EXPECT_EQ(engine->stats().suspensions, 1u) << policy;
    }
  }
}

TEST(Scheduling, NeverSuspendsForTheSamePriority) {
  auto engine = Open(8, 1);
  std::promise<void> ended;
  RequestObserver observer;
  bool sent = false, first_ended = false;
  observer.on_text = [&](const std::string&, const std::vector<TokenReport>&) {
    if (std::exchange(sent, true)) return;
    EXPECT_TRUE(engine
                    ->Submit(Tokens(100, 2, 4), {}, nullptr,
                             [&](const Result<Answer>&) {
                               EXPECT_TRUE(first_ended);
                               ended.set_value();
                             })
                    .ok());
  };
  ASSERT_TRUE(
      engine->Submit(Tokens(100, 1, 60), observer, nullptr, [&](const Result<Answer>&) { first_ended = true; }).ok());
  ended.get_future().wait();
  EXPECT_EQ(engine->stats().suspensions, 0u);
}

TEST(Scheduling, ASuspendedRequestCanBeCancelled) {
  auto engine = Open(64, 1);
  auto cancel = std::make_shared<CancelFlag>();
  std::promise<StatusCode> low_ended;
  std::promise<bool> high_ended;
  bool sent = false, low_has_ended = false;
  RequestObserver of_high, of_low;
  int n_high = 0;
  of_high.on_text = [&](const std::string&, const std::vector<TokenReport>&) {
    if (++n_high == 3) {
      EXPECT_EQ(engine->stats().suspended, 1);
      cancel->Cancel();
    }
  };
  of_low.on_text = [&](const std::string&, const std::vector<TokenReport>&) {
    if (std::exchange(sent, true)) return;
    Request high = Tokens(20, 2, 30);
    high.priority = 1;
    EXPECT_TRUE(engine
                    ->Submit(high, of_high, nullptr,
                             [&](const Result<Answer>& answer) {
                               EXPECT_TRUE(low_has_ended);  // not kept until its turn comes
                               high_ended.set_value(answer.ok());
                             })
                    .ok());
  };
  ASSERT_TRUE(engine
                  ->Submit(Tokens(100, 1, 60), of_low, cancel,
                           [&](const Result<Answer>& answer) {
                             low_has_ended = true;
                             low_ended.set_value(answer.status().code());
                           })
                  .ok());
  EXPECT_EQ(low_ended.get_future().get(), StatusCode::kCancelled);
  EXPECT_TRUE(high_ended.get_future().get());
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.suspended + stats.queued + stats.running, 0);
  EXPECT_EQ(stats.kv_blocks_reserved, 0u);
}

TEST(Scheduling, ShutsDownWithSuspendedRequests) {
  std::promise<StatusCode> low_ended, high_ended;
  bool sent = false;
  std::promise<void> under_way;
  {
    auto engine = Open(64, 1);
    RequestObserver of_high, of_low;
    // Two seconds in all: it cannot end before the engine does.
    of_high.on_text = [&](const std::string&, const std::vector<TokenReport>&) {
      if (!std::exchange(sent, true)) under_way.set_value();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    };
    bool begun = false;
    of_low.on_text = [&](const std::string&, const std::vector<TokenReport>&) {
      if (std::exchange(begun, true)) return;
      Request high = Tokens(20, 2, 100);
      high.priority = 1;
      EXPECT_TRUE(engine
                      ->Submit(high, of_high, nullptr,
                               [&](const Result<Answer>& a) { high_ended.set_value(a.status().code()); })
                      .ok());
    };
    ASSERT_TRUE(engine
                    ->Submit(Tokens(100, 1, 60), of_low, nullptr,
                             [&](const Result<Answer>& a) { low_ended.set_value(a.status().code()); })
                    .ok());
    under_way.get_future().wait();
  }
  EXPECT_EQ(low_ended.get_future().get(), StatusCode::kCancelled);
  EXPECT_EQ(high_ended.get_future().get(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace spanwise
