// Two hundred clients at once, some of which leave: the others get what they get alone, and all memory comes back.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <random>
#include <thread>

#include "spanwise/engine.h"

namespace spanwise {
namespace {

constexpr int kClients = 200, kFirst = 40;

std::string TinyModel() {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/gguf/llama3-bf16.gguf";
}

std::vector<int32_t> RandomTokens(std::mt19937& random, int n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& t : tokens) t = static_cast<int32_t>(20 + random() % 200);
  return tokens;
}

// The same for the same number.
Request RequestOf(int client) {
  std::mt19937 random(static_cast<uint32_t>(client) + 1);
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  Request r;
  if (client % 4 == 0) {
    for (int i = 0; i < 3; ++i) {
      std::mt19937 of_document(static_cast<uint32_t>(draw(6)) + 1000 * static_cast<uint32_t>(i + 1));
      std::string text;
      for (int k = 30 + static_cast<int>(of_document() % 60); k > 0; --k)
        text += static_cast<char>('a' + of_document() % 26);
      r.documents.push_back({std::to_string(i), "", text});
    }
    r.messages = {{"user", "Question " + std::to_string(client)}};
    r.compose.mode = client % 8 == 0 ? ComposeMode::kSet : ComposeMode::kExact;
  } else {
    std::mt19937 shared(static_cast<uint32_t>(client % 3));
    r.prompt_tokens = client % 4 == 1 ? RandomTokens(random, 1 + draw(150)) : RandomTokens(shared, 100);
    const std::vector<int32_t> own = RandomTokens(random, 1 + draw(30));
    r.prompt_tokens->insert(r.prompt_tokens->end(), own.begin(), own.end());
    r.echo = client % 16 == 1;
  }
  r.sampling.max_tokens = 1 + draw(24);
  r.sampling.ignore_eos = client % 2;
  r.sampling.logprobs = 0;
  r.sampling.temperature = client % 3 == 0 ? 0.9f : 0.0f;
  r.sampling.seed = static_cast<uint64_t>(client);
  r.use_cache = client % 7 != 3;
  r.priority = client < kFirst ? -1 : client % 3 - 1;
  r.client = std::to_string(client % 9);
  return r;
}

TEST(Load, TwoHundredClientsAtOnce) {
  std::vector<Answer> alone;
  {
    auto engine = Engine::Open({.model = TinyModel(), .threads = 1, .kv_memory_bytes = size_t{64} << 20}).value();
    for (int i = 0; i < kClients; ++i) {
      Request r = RequestOf(i);
      r.use_cache = false;
      alone.push_back(engine->Run(r).value());
    }
  }
  // Room for a few at a time, and for less than they would like to keep.
  constexpr size_t kBlocks = 96;
  const size_t block_bytes =
      Engine::Open({.model = TinyModel(), .kv_memory_bytes = size_t{1} << 20})->get()->model().kv_bytes_per_token * 64;
  auto engine = Engine::Open({.model = TinyModel(),
                              .threads = 2,
                              .kv_memory_bytes = kBlocks * block_bytes,
                              .cache_policy = "lru",  // under which what comes last stays, see the end
                              .max_running = 12,
                              .step_tokens = 64})
                    .value();
  std::vector<std::promise<Result<Answer>>> answers(kClients);
  std::vector<std::string> streamed(kClients);
  std::vector<std::shared_ptr<CancelFlag>> cancels;
  for (int i = 0; i < kClients; ++i) cancels.push_back(std::make_shared<CancelFlag>());
  std::atomic<int> n_texts = 0;
  const auto submit = [&](int i) {
    const auto at = static_cast<size_t>(i);
    RequestObserver observer;
    observer.on_text = [&, at](const std::string& text, const std::vector<TokenReport>&) {
      streamed[at] += text;
      ++n_texts;
    };
    const Status status = engine->Submit(RequestOf(i), observer, cancels[at],
                                         [&answers, at](Result<Answer> a) { answers[at].set_value(std::move(a)); });
    ASSERT_TRUE(status.ok()) << status.message();
  };
  // The lowest come first and are under way when the others come, from several threads.
  for (int i = 0; i < kFirst; ++i) submit(i);
  while (n_texts == 0) std::this_thread::yield();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = kFirst + t; i < kClients; i += 4) submit(i);
    });
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = 5 + 10 * t; i < kClients; i += 20) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
        cancels[static_cast<size_t>(i)]->Cancel();
      }
    });
  for (std::thread& thread : threads) thread.join();

  for (int i = 0; i < kClients; ++i) {
    const auto at = static_cast<size_t>(i);
    const Result<Answer> answer = answers[at].get_future().get();
    if (!answer.ok()) {
      EXPECT_EQ(answer.status().code(), StatusCode::kCancelled) << answer.status().message();
      EXPECT_EQ(i % 10, 5);
      continue;
    }
    EXPECT_EQ(answer->text, alone[at].text) << i;
    EXPECT_EQ(streamed[at], answer->text) << i;
    EXPECT_EQ(answer->usage.prompt_tokens, alone[at].usage.prompt_tokens);
    ASSERT_EQ(answer->tokens.size(), alone[at].tokens.size()) << i;
    for (size_t t = 0; t < alone[at].tokens.size(); ++t) {
      EXPECT_EQ(answer->tokens[t].id, alone[at].tokens[t].id);
      EXPECT_EQ(answer->tokens[t].logprob, alone[at].tokens[t].logprob) << i << " " << t;
    }
  }
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.requests, static_cast<uint64_t>(kClients));
  EXPECT_EQ(stats.failed, 0u);
  EXPECT_GT(stats.suspensions, 0u);
  EXPECT_EQ(stats.queued + stats.running + stats.suspended, 0);
  EXPECT_EQ(stats.kv_blocks_reserved, 0u);
  EXPECT_EQ(stats.kv_blocks_budget, kBlocks);
  EXPECT_LE(stats.kv_blocks, stats.kv_spans);  // what is left belongs to kept spans, a block or a part of one each
  EXPECT_GE(4 * stats.kv_blocks, stats.kv_spans);

  // Nobody holds any of it: requests that together fill all memory are all kept.
  constexpr int kPrompt = 490, kPromptBlocks = 8;
  const auto filling = [](uint32_t i) {
    Request r;
    std::mt19937 random(5000 + i);
    r.prompt_tokens = RandomTokens(random, kPrompt);
    r.sampling.max_tokens = 1;
    return r;
  };
  for (uint32_t i = 0; i < kBlocks / kPromptBlocks; ++i) EXPECT_TRUE(engine->Run(filling(i)).ok());
  EXPECT_EQ(engine->stats().kv_blocks, kBlocks);
  EXPECT_EQ(engine->Run(filling(0))->usage.cached_tokens, kPrompt - 1);
}

}  // namespace
}  // namespace spanwise
