#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "kv/run.h"
#include "kv/span_store.h"

namespace spanwise {
namespace {

constexpr KvGeometry kTiny{.n_layers = 2, .n_kv_heads = 1, .head_dim = 2, .dtype = DType::kF32};

std::vector<int32_t> Iota(int n, int first = 0) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// Stands for the model: the "key" of a token is the token itself plus 1000 times the layer, in every component.
void Encode(const KvGeometry& kv, Run& run) {
  for (int i = run.n_ready(); i < run.n_tokens(); ++i) {
    std::byte* block = run.writable_blocks()[static_cast<size_t>(i / kKvBlockTokens)];
    ASSERT_NE(block, nullptr);
    for (int layer = 0; layer < kv.n_layers; ++layer) {
      const float value = static_cast<float>(run.tokens()[static_cast<size_t>(i)] + 1000 * layer);
      const int row = i % kKvBlockTokens;
      const float values[2] = {value, -value};
      std::memcpy(block + kv.ValueOffset(layer, 0) + static_cast<size_t>(row) * sizeof values, values, sizeof values);
      for (int e = 0; e < 2; ++e)
        std::memcpy(block + kv.KeyOffset(layer, 0) + kv.KeyElementOffset(row, e), &values[e], sizeof values[e]);
    }
  }
  run.MarkReady(run.n_tokens() - run.n_ready());
}

void ExpectHolds(const KvGeometry& kv, const Run& run) {
  const KvRun view = run.View(0, run.n_ready());
  for (int i = 0; i < run.n_ready(); ++i)
    for (int layer = 0; layer < kv.n_layers; ++layer) {
      const auto at = static_cast<size_t>(i / kKvBlockTokens);
      const std::byte* block = view.blocks[at];
      const int row = i % kKvBlockTokens, rows = view.RowsOf(at);
      float key, value;
      std::memcpy(&key, block + kv.KeyOffset(layer, 0, rows) + kv.KeyElementOffset(row, 0), sizeof key);
      std::memcpy(&value, block + kv.ValueOffset(layer, 0, rows) + static_cast<size_t>(row) * 2 * sizeof value,
                  sizeof value);
      ASSERT_EQ(key, static_cast<float>(run.tokens()[static_cast<size_t>(i)] + 1000 * layer)) << i;
      ASSERT_EQ(value, key) << i;
    }
}

Run Encoded(SpanStore& store, const SpanKey& root, const std::vector<int32_t>& tokens, int* reused = nullptr) {
  spanwise::Run run(root);
  const int n = run.Reuse(store, tokens, static_cast<int>(tokens.size()));
  if (reused) *reused = n;
  EXPECT_TRUE(run.Extend(store, std::span(tokens).subspan(static_cast<size_t>(n))).ok());
  Encode(store.geometry(), run);
  return run;
}

const SpanKey kRoot = RootKey(Sha256("model"), "causal", {});

TEST(SpanKey, DependsOnEverythingThatDeterminesBytes) {
  const auto base = RootKey(Sha256("m"), "causal", {});
  EXPECT_NE(base, RootKey(Sha256("n"), "causal", {}));
  EXPECT_NE(base, RootKey(Sha256("m"), "other", {}));
  EXPECT_NE(base, RootKey(Sha256("m"), "causal", Sha256("c")));
  EXPECT_EQ(RunKey(base, {}), base);
  EXPECT_NE(RunKey(base, Iota(64)), RunKey(base, Iota(65)));
  EXPECT_EQ(RunKey(base, Iota(65)), ChildKey(ChildKey(base, Iota(64)), Iota(1, 64)));
}

TEST(Run, ReusesAtTokenGranularity) {
  SpanStore store(kTiny, size_t{100} * kTiny.BlockBytes());
  spanwise::Run first = Encoded(store, kRoot, Iota(200));
  EXPECT_EQ(first.Seal(store), RunKey(kRoot, Iota(200)));
  for (const int common : {0, 1, 63, 64, 65, 127, 150, 192, 199, 200}) {
    std::vector<int32_t> tokens = Iota(common);
    tokens.push_back(-7);  // differs from there on
    tokens.push_back(-8);
    int reused;
    const uint64_t copied = store.stats().copied_blocks;
    EXPECT_EQ(spanwise::Run(kRoot).Reuse(store, tokens, common), common);
    EXPECT_EQ(store.stats().copied_blocks, copied);
    spanwise::Run run = Encoded(store, kRoot, tokens, &reused);
    EXPECT_EQ(reused, common);
    EXPECT_EQ(store.stats().copied_blocks, copied + (common % kKvBlockTokens > 0));  // only what is continued
    ExpectHolds(kTiny, run);
  }
  ExpectHolds(kTiny, first);  // continuing a half-full span changed nothing in it
  int reused;
  Encoded(store, RootKey(Sha256("other"), "causal", {}), Iota(200), &reused);
  EXPECT_EQ(reused, 0);
}

TEST(Run, IsFoundOnlyWithItsSalts) {
  SpanStore store(kTiny, size_t{100} * kTiny.BlockBytes());
  RunAddress salted(kRoot);
  salted.AddSalts(100, {"a"});
  salted.AddSalts(180, {"a"});  // nothing new
  salted.AddSalts(190, {"b"});
  ASSERT_EQ(salted.salted.size(), 2u);
  spanwise::Run run(salted);
  for (int n = 0; n < 250; n += 25) {  // sealed in the middle of blocks, too
    ASSERT_TRUE(run.Extend(store, Iota(25, n)).ok());
    Encode(kTiny, run);
    run.Seal(store);
  }
  EXPECT_EQ(run.Seal(store), RunKey(salted, Iota(250)));
  const auto found = [&](const RunAddress& address) {
    spanwise::Run again(address);
    EXPECT_EQ(store.Peek(address, Iota(250)).n_tokens(), again.Reuse(store, Iota(250), 250));
    return again.n_ready();
  };
  EXPECT_EQ(found(salted), 250);
  EXPECT_EQ(found(kRoot), 64);
  RunAddress other(kRoot);
  other.AddSalts(100, {"b"});
  EXPECT_EQ(found(other), 64);
  other = kRoot;
  other.AddSalts(100, {"a"});
  EXPECT_EQ(found(other), 128);  // b is missing from the block of token 190 on
  other.AddSalts(128, {"b"});
  EXPECT_EQ(found(other), 250);
  // What follows the first blocks is found from there as well.
  const RunAddress behind = salted.Behind(128, RunKey(salted, Iota(128)));
  EXPECT_EQ(store.Peek(behind, Iota(122, 128)).n_tokens(), 122);
  EXPECT_EQ(store.Peek(RunKey(salted, Iota(128)), Iota(122, 128)).n_tokens(), 0);
  // A run that is cut goes on under its salts.
  ASSERT_TRUE(run.Truncate(store, 150).ok());
  ASSERT_TRUE(run.Extend(store, Iota(40, 500)).ok());
  Encode(kTiny, run);
  std::vector<int32_t> tokens = Iota(150);
  for (const int32_t token : Iota(40, 500)) tokens.push_back(token);
  EXPECT_EQ(run.Seal(store), RunKey(salted, tokens));
}

TEST(Run, GrowsAcrossSeals) {
  SpanStore store(kTiny, size_t{100} * kTiny.BlockBytes());
  spanwise::Run run(kRoot);
  for (int i = 0; i < 150; ++i) {
    ASSERT_TRUE(run.Extend(store, Iota(1, i)).ok());
    Encode(kTiny, run);
    if (i % 7 == 0) run.Seal(store);
  }
  run.Seal(store);
  EXPECT_EQ(store.stats().n_spans, 3u);  // shorter ends were dropped for longer ones
  int reused;
  const spanwise::Run again = Encoded(store, kRoot, Iota(150), &reused);
  EXPECT_EQ(reused, 150);
  ExpectHolds(kTiny, again);
}

// As of a request that is cancelled before it has read what is new in it.
TEST(Run, WhatItHasFoundIsNotKeptAgain) {
  SpanStore store(kTiny, size_t{100} * kTiny.BlockBytes());
  Encoded(store, kRoot, Iota(100)).Seal(store);
  for (const int n : {64, 70, 99, 100}) {
    spanwise::Run part(kRoot);
    ASSERT_EQ(part.Reuse(store, Iota(100), n), n);
    EXPECT_EQ(part.Seal(store), RunKey(kRoot, Iota(n)));
    EXPECT_EQ(store.stats().n_spans, 2u);
  }
  EXPECT_EQ(store.stats().n_blocks, 2u);
}

TEST(Run, TruncatesWithoutTouchingSpans) {
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    SpanStore store(kTiny, size_t{100} * kTiny.BlockBytes());
    if (i % 3 == 0) Encoded(store, kRoot, Iota(200)).Seal(store);  // then the run begins with spans
    spanwise::Run run = Encoded(store, kRoot, Iota(200));
    if (i % 2 == 0) run.Seal(store);
    std::vector<int32_t> left = Iota(200);
    for (int cut = 0; cut < 3; ++cut) {
      const int n = static_cast<int>(random() % (left.size() + 1));
      ASSERT_TRUE(run.Truncate(store, n).ok());
      EXPECT_EQ(run.n_ready(), n);
      ExpectHolds(kTiny, run);
      left.resize(static_cast<size_t>(n));
      const std::vector<int32_t> more = Iota(static_cast<int>(random() % 100), -500 * (cut + 1));
      left.insert(left.end(), more.begin(), more.end());
      ASSERT_TRUE(run.Extend(store, more).ok());
      Encode(kTiny, run);
      ExpectHolds(kTiny, run);
      if (random() % 2 == 0) {
        EXPECT_EQ(run.Seal(store), RunKey(kRoot, left));
      }
    }
    EXPECT_EQ(std::vector<int32_t>(run.tokens().begin(), run.tokens().end()), left);
    if (i % 2 == 0) {  // what was sealed before the cuts is as it was
      int reused;
      ExpectHolds(kTiny, Encoded(store, kRoot, Iota(200), &reused));
      EXPECT_EQ(reused, 200);
    }
    store.Clear();
    EXPECT_EQ(store.stats().n_blocks, (left.size() + kKvBlockTokens - 1) / kKvBlockTokens);
  }
}

// As many short chats leave them.
TEST(SpanStore, ShortEndsTakeLittleMoreThanTheyHold) {
  for (const size_t budget : {size_t{100}, size_t{11}}) {  // the lesser is all in use by then
    SpanStore store(kTiny, budget * kTiny.BlockBytes());
    const auto tokens_of = [](int i) { return Iota(1 + i % 40, 1000 * (i + 1)); };
    constexpr int kChats = 40;
    for (int i = 0; i < kChats; ++i) {
      {
        spanwise::Run run = Encoded(store, kRoot, tokens_of(i));
        run.Seal(store);
        store.CutEnds();  // it is held, and stays
        ExpectHolds(kTiny, run);
      }
      store.CutEnds();
    }
    // 16 of up to 16 tokens, a quarter each; 16 of up to 32, a half; 8 that need a whole block.
    EXPECT_EQ(store.stats().n_blocks, budget == 100 ? 4u + 8 + 8 : 11u);
    int n_found = 0;
    for (int i = 0; i < kChats; ++i) {
      int reused;
      const spanwise::Run again = Encoded(store, kRoot, tokens_of(i), &reused);
      ExpectHolds(kTiny, again);
      n_found += reused > 0;
      EXPECT_TRUE(reused == 0 || reused == 1 + i % 40);
      std::vector<int32_t> longer = tokens_of(i);
      longer.push_back(-1);
      if (budget == 100) ExpectHolds(kTiny, Encoded(store, kRoot, longer));  // continued in a block of its own
    }
    EXPECT_GE(n_found, budget == 100 ? kChats : 1);
    store.Clear();
    EXPECT_EQ(store.stats().n_blocks, 0u);
  }
}

TEST(BlockPool, HalvesBlocksAndMakesThemWholeAgain) {
  const auto pool = std::make_shared<BlockPool>(kTiny, size_t{3} * kTiny.BlockBytes());
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::shared_ptr<KvBlock>> blocks;
    int rows_in_use = 0;
    while (true) {
      const int rows = kKvBlockTokens >> random() % 3;
      auto block = pool->Allocate(rows);
      if (!block) break;
      EXPECT_EQ(block->rows(), rows);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block->data()) % KvBlock::kAlignment, 0u);
      for (const auto& other : blocks) {
        const bool apart = block->data() + kTiny.BlockBytes(rows) <= other->data() ||
                           other->data() + kTiny.BlockBytes(other->rows()) <= block->data();
        ASSERT_TRUE(apart);
      }
      rows_in_use += rows;
      blocks.push_back(std::move(block));
      if (random() % 4 == 0) {
        const size_t victim = random() % blocks.size();
        rows_in_use -= blocks[victim]->rows();
        blocks.erase(blocks.begin() + static_cast<ptrdiff_t>(victim));
      }
    }
    EXPECT_LE(rows_in_use, 3 * kKvBlockTokens);
    std::ranges::shuffle(blocks, random);
    blocks.clear();
    ASSERT_EQ(pool->n_blocks_in_use(), 0u);
    for (int i = 0; i < 3; ++i) blocks.push_back(pool->Allocate());  // whole again
    EXPECT_TRUE(blocks.back());
    EXPECT_FALSE(pool->Allocate(kKvBlockTokens / 4));
  }
}

class SpanStoreOf : public ::testing::TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(Policies, SpanStoreOf,
                         ::testing::Values("lru", "lfu", "arc", "gdsf", "gdsf-decay", "s3fifo", "discard", "mark0",
                                           "markpredict", "combine"),
                         [](const auto& policy) {
                           std::string name(policy.param);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(SpanStoreOf, EvictsEndsFirstAndNeverWhatIsHeld) {
  SpanStore store(kTiny, size_t{4} * kTiny.BlockBytes(), GetParam());
  { Encoded(store, kRoot, Iota(256)).Seal(store); }
  EXPECT_EQ(store.stats().n_spans, 4u);
  auto block = store.Allocate();
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(store.Find(kRoot, Iota(256)).n_tokens(), 192);  // the end went, not the beginning
  auto held = store.Find(kRoot, Iota(192));
  EXPECT_EQ(store.Allocate().status().code(), StatusCode::kResourceExhausted);
  held.full.clear();
  EXPECT_TRUE(store.Allocate().ok());
  EXPECT_EQ(store.stats().n_blocks_budget, 4u);
}

// Whoever waits for a chain keeps it in memory that others use, until the hint is gone.
TEST(SpanStore, WhatWaitsKeepsWhatItWillUse) {
  const std::vector<int32_t> wanted = Iota(150, 10'000);
  const SpanStore::Wish wishes[] = {{.address = kRoot, .tokens = wanted}};
  enum { kNoHint, kBeforeItCame, kAfterItCame };
  for (const int when : {kNoHint, kBeforeItCame, kAfterItCame}) {
    SpanStore store(kTiny, size_t{12} * kTiny.BlockBytes());
    SpanStore::Hint hint;
    if (when == kBeforeItCame) hint = store.Expect(wishes);
    Encoded(store, kRoot, wanted).Seal(store);
    if (when == kAfterItCame) hint = store.Expect(wishes);
    int n_others = 0;
    const auto use_others = [&](int n) {
      for (; n > 0; --n) Encoded(store, kRoot, Iota(190, 1000 * n_others++)).Seal(store);
    };
    use_others(6);
    EXPECT_EQ(store.Peek(kRoot, wanted).n_tokens(), when == kNoHint ? 0 : 150);
    if (when == kNoHint) continue;
    EXPECT_EQ(store.Find(kRoot, wanted).n_tokens(), 150);  // somebody else uses it
    use_others(6);
    EXPECT_EQ(store.Peek(kRoot, wanted).n_tokens(), 150);
    hint = {};
    EXPECT_EQ(store.Find(kRoot, wanted).n_tokens(), 150);
    use_others(20);
    EXPECT_EQ(store.Peek(kRoot, wanted).n_tokens(), 0);
  }
}

TEST_P(SpanStoreOf, ReturnsEveryBlock) {
  SpanStore store(kTiny, size_t{16} * kTiny.BlockBytes(), GetParam());
  std::mt19937 random(3);
  for (int i = 0; i < 500; ++i) {
    const int n = 1 + static_cast<int>(random() % 300), first = static_cast<int>(random() % 3);
    spanwise::Run run = Encoded(store, kRoot, Iota(n, first));
    ExpectHolds(kTiny, run);
    run.Seal(store);
  }
  EXPECT_LE(store.stats().n_blocks, 16u);
  store.Clear();
  EXPECT_EQ(store.stats().n_blocks, 0u);
}

}  // namespace
}  // namespace spanwise
