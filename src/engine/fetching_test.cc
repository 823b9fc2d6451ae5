// Requests whose kept KV is still on its way, beside others.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "engine/executor.h"
#include "engine/model_text.h"
#include "engine/runner.h"
#include "engine/test_engines.h"
#include "kv/tiers/record.h"
#include "model/weights.h"
#include "prompt/plan.h"

namespace spanwise {
namespace {

// What slow tiers hold: outlives the engines that read it. Loads of what is there end when they are let go.
struct Shelf {
  struct Kept {
    std::vector<int32_t> tokens;
    std::vector<std::byte> record;
  };
  std::mutex mutex;
  std::map<SpanKey, std::shared_ptr<const Kept>> kept;  // guarded by mutex
  std::mutex call_mutex;
  std::function<void()> fetched;  // guarded by call_mutex
  std::atomic<bool> open = true;
  std::atomic<int> n_fetches = 0;  // that wait

  void Open() {
    open = true;
    const std::lock_guard lock(call_mutex);
    if (fetched) fetched();
  }
};

class SlowTier final : public Tier {
 public:
  SlowTier(const SpanFormat& format, Shelf& shelf) : format_(format), shelf_(shelf) {}

  const SpanFormat& format() const override { return format_; }
  std::shared_ptr<Fetch> Prefetch(std::span<const Wanted> spans, bool urgent) override {
    const std::lock_guard lock(shelf_.mutex);
    const bool any = std::ranges::any_of(spans, [&](const Wanted& span) { return shelf_.kept.contains(span.key); });
    return any && urgent ? std::make_shared<Waiting>(shelf_) : nullptr;
  }
  void OnFetched(const std::function<void()>& call) override {
    const std::lock_guard lock(shelf_.call_mutex);
    shelf_.fetched = call;
  }
  std::optional<Found> Find(const SpanKey& key, std::span<const int32_t> tokens, int) override {
    const std::lock_guard lock(shelf_.mutex);
    const auto at = shelf_.kept.find(key);
    if (!shelf_.open || shelf_.n_fetches == 0 || at == shelf_.kept.end()) return std::nullopt;
    EXPECT_TRUE(std::ranges::equal(at->second->tokens, tokens));
    return Found{.tokens = at->second->tokens,
                 .rows = std::span(at->second->record).subspan(sizeof(RecordHeader)),
                 .hold = at->second};
  }
  bool Keep(const Span& span, std::span<const std::byte> rows) override {
    auto kept = std::make_shared<Shelf::Kept>();
    kept->tokens = span.tokens;
    kept->record.resize(RecordBytes(format_, span.n_tokens()));
    WriteRecord(format_, span, rows, kept->record);
    const std::lock_guard lock(shelf_.mutex);
    shelf_.kept[span.key] = std::move(kept);
    return true;
  }
  void Touch(const SpanKey&, std::span<const int32_t>) override {}
  void Flush() override {}
  TierStats stats() const override { return {}; }

 private:
  struct Waiting final : Fetch {
    explicit Waiting(Shelf& s) : shelf(s) { ++shelf.n_fetches; }
    ~Waiting() override { --shelf.n_fetches; }
    Progress progress() const override {
      return {.begun = true, .done = shelf.open, .bytes = shelf.open ? 1u << 20 : 0u, .latency_s = 1, .seconds = 1};
    }
    bool done() const override { return shelf.open; }
    Shelf& shelf;
  };
  const SpanFormat format_;
  Shelf& shelf_;
};

std::vector<int32_t> Tokens(unsigned seed, int n) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& t : tokens) t = static_cast<int32_t>(20 + random() % 200);
  return tokens;
}

class Fetching : public testing::Test {
 protected:
  Fetching() : text_(LoadModelText(TinyModel()).value()) {
    ThreadPool pool(1);
    weights_ = ModelWeights::Load(TinyModel(), std::nullopt, pool).value();
  }

  struct How {
    bool tier = true, planned = false;
    size_t n_blocks = 200;
    int max_running = 8;
  };
  std::unique_ptr<Runner> Start() { return Start(How()); }
  std::unique_ptr<Runner> Start(const How& how) {
    const size_t block_bytes =
        Executor(weights_, DType::kBf16, size_t{1} << 20, 1).transformer().kv_geometry().BlockBytes();
    auto executor = std::make_unique<Executor>(weights_, DType::kBf16, how.n_blocks * block_bytes, 1);
    if (how.tier)
      executor->store().AddTier(
          std::make_unique<SlowTier>(SpanFormat{keys_, executor->transformer().kv_geometry()}, shelf_));
    if (how.planned) executor->store().PlanLoads(LoadPlanner(1e-3));
    return std::make_unique<Runner>(std::move(executor), *text_.tokenizer,
                                    RunnerOptions{.max_running = how.max_running, .step_tokens = 64});
  }

  struct Client {
    std::atomic<int> n_texts = 0, n_prefills = 0;
    std::shared_ptr<CancelFlag> cancel = std::make_shared<CancelFlag>();
    std::promise<Result<Answer>> promise;
    std::future<Result<Answer>> answer = promise.get_future();
    bool answered() const { return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }
  };
  std::unique_ptr<Client> Ask(Runner& runner, const std::vector<int32_t>& prompt, int max_tokens) {
    auto client = std::make_unique<Client>();
    Job job;
    job.plan = MakePlan(PromptNode::Text(prompt), {}, {keys_, ""}).value();
    job.setup.sampling.temperature = 0;
    job.setup.sampling.ignore_eos = true;
    job.setup.sampling.logprobs = 1;
    job.setup.max_tokens = max_tokens;
    job.observer.on_text = [c = client.get()](const std::string&, const std::vector<TokenReport>&) { ++c->n_texts; };
    job.observer.on_prefill = [c = client.get()](int, int) { ++c->n_prefills; };
    job.cancel = client->cancel;
    job.done = [c = client.get()](Result<Answer> answer) { c->promise.set_value(std::move(answer)); };
    EXPECT_TRUE(runner.Submit(std::move(job)).ok());
    return client;
  }
  Answer Answered(Client& client) { return client.answer.get().value(); }

  static bool Eventually(const std::function<bool()>& happens) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!happens()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  const Hash256 keys_ = Sha256("fetching");
  Shelf shelf_;
  ModelText text_;
  std::shared_ptr<const ModelWeights> weights_;
};

TEST_F(Fetching, OthersGoOnWhileATierLoads) {
  const std::vector<int32_t> kept = Tokens(1, 200), other = Tokens(2, 70);
  Answer expected;
  {
    const auto runner = Start();
    expected = Answered(*Ask(*runner, kept, 8));
  }
  const auto runner = Start();
  shelf_.open = false;
  const auto streaming = Ask(*runner, other, 3000);
  ASSERT_TRUE(Eventually([&] { return streaming->n_texts > 5; }));
  const auto waiting = Ask(*runner, kept, 8), leaving = Ask(*runner, kept, 8);
  ASSERT_TRUE(Eventually([&] { return shelf_.n_fetches == 2; }));
  const int n_before = streaming->n_texts;
  // Another one comes, is read and answered; the stream goes on.
  EXPECT_EQ(Answered(*Ask(*runner, Tokens(3, 150), 8)).tokens.size(), 8u);
  EXPECT_TRUE(Eventually([&] { return streaming->n_texts > n_before + 50; }));
  EXPECT_EQ(waiting->n_prefills, 0);
  EXPECT_FALSE(waiting->answered());
  EXPECT_EQ(runner->stats().running, 3);
  // Who leaves does not wait for the tier.
  leaving->cancel->Cancel();
  EXPECT_EQ(leaving->answer.get().status().code(), StatusCode::kCancelled);
  EXPECT_EQ(shelf_.n_fetches, 1);

  EXPECT_FALSE(streaming->answered());
  shelf_.Open();
  const Answer answer = Answered(*waiting);
  ExpectSame(answer.tokens, expected.tokens);
  EXPECT_EQ(answer.usage.cached_tokens, 192);  // whole blocks
  EXPECT_EQ(answer.compose.spans[0].source, KvSource::kComputed);
  EXPECT_EQ(shelf_.n_fetches, 0);
  streaming->cancel->Cancel();
  (void)streaming->answer.get();
}

// With nobody else under way the engine sleeps until the tier has said that it is done.
TEST_F(Fetching, TheLastOneBeginsAsSoonAsItsSpansAreHere) {
  const std::vector<int32_t> kept = Tokens(1, 200);
  const auto first = Start();
  const Answer expected = Answered(*Ask(*first, kept, 4));
  const auto runner = Start();
  shelf_.open = false;
  const auto waiting = Ask(*runner, kept, 4);
  ASSERT_TRUE(Eventually([&] { return shelf_.n_fetches == 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(waiting->n_prefills, 0);
  shelf_.Open();
  ExpectSame(Answered(*waiting).tokens, expected.tokens);
}

// What a queued request needs stays in memory, though others come before it that would take its place.
TEST_F(Fetching, WhatIsQueuedKeepsWhatItNeeds) {
  const std::vector<int32_t> wanted = Tokens(1, 300);
  const auto cached = [&](bool queued) {
    const auto runner = Start({.tier = false, .n_blocks = 26, .max_running = 1});
    Answered(*Ask(*runner, wanted, 1));
    std::vector<std::unique_ptr<Client>> clients;
    const auto ask = [&](const std::vector<int32_t>& prompt, int max_tokens) {
      clients.push_back(Ask(*runner, prompt, max_tokens));
      if (!queued) (void)Answered(*clients.back());
    };
    ask(Tokens(2, 20), 200);  // the others queue behind it
    for (unsigned i = 0; i < 8; ++i) ask(Tokens(10 + i, 300), 1);
    const auto last = Ask(*runner, wanted, 1);
    const Answer answer = Answered(*last);
    for (const auto& client : clients)
      if (queued) (void)Answered(*client);
    return answer.usage.cached_tokens;
  };
  EXPECT_LT(cached(false), 256);
  EXPECT_EQ(cached(true), 299);
}

TEST_F(Fetching, WhatTakesTooLongIsComputed) {
  const std::vector<int32_t> kept = Tokens(1, 200);
  Answer expected;
  {
    const auto runner = Start();
    expected = Answered(*Ask(*runner, kept, 4));
  }
  const auto runner = Start({.planned = true});
  shelf_.open = false;
  const Answer answer = Answered(*Ask(*runner, kept, 4));  // computing is taken to last 0.2 s
  ExpectSame(answer.tokens, expected.tokens);
  EXPECT_EQ(answer.usage.cached_tokens, 0);
  EXPECT_EQ(shelf_.n_fetches, 0);
}

}  // namespace
}  // namespace spanwise
