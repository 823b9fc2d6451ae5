// The span store over a disk tier, and over a tier from elsewhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "kv/run.h"
#include "kv/span_store.h"
#include "kv/tiers/disk_fixture.h"
#include "kv/tiers/span_fixture.h"

namespace spanwise {
namespace {

const SpanKey kRoot = RootKey(kFormat.model, "causal", {});

class StoreOverTiers : public testing::TestWithParam<const SpanCodec*> {};
INSTANTIATE_TEST_SUITE_P(Codecs, StoreOverTiers, kAllCodecs, kCodecName);

SpanStore::Prefetched Fetched(SpanStore& store, std::span<const int32_t> tokens) {
  const SpanStore::Wish wish{.address = kRoot, .tokens = tokens};
  auto prefetched = store.Prefetch({&wish, 1}, /*urgent=*/true);
  for (const auto& part : prefetched.parts) Ended(part.fetch);
  return prefetched;
}

// What came from another machine, as the store meets it.
class Elsewhere final : public Tier {
 public:
  Elsewhere(const SpanFormat& format, Spans& spans) : format_(format), spans_(spans) {}
  const SpanFormat& format() const override { return format_; }
  KvSource source() const override { return KvSource::kRemote; }
  std::shared_ptr<Fetch> Prefetch(std::span<const Wanted> spans, bool) override {
    for (const Wanted& span : spans) parents_[span.key] = span.parent;
    return nullptr;
  }
  std::optional<Found> Find(const SpanKey& key, std::span<const int32_t> tokens, int) override {
    const auto parent = parents_.find(key);
    if (parent == parents_.end()) return std::nullopt;
    const auto record = std::make_shared<std::vector<std::byte>>(
        spans_.Record(spans_.Make(parent->second, {tokens.begin(), tokens.end()})));
    return Found{.tokens = {tokens.begin(), tokens.end()},
                 .rows = std::span(*record).subspan(sizeof(RecordHeader)),
                 .hold = record};
  }
  bool Keep(const Span&, std::span<const std::byte>) override { return true; }
  void Touch(const SpanKey&, std::span<const int32_t>) override {}
  void Flush() override {}
  TierStats stats() const override { return {}; }

 private:
  const SpanFormat format_;
  Spans& spans_;
  std::map<SpanKey, SpanKey> parents_;
};

TEST_P(StoreOverTiers, KeepWhatCameFromAnotherTierAsItIs) {
  const Folder folder;
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  SpanStore store(kFormat.geometry, uint64_t{1} << 20);
  store.AddTier(std::make_unique<Elsewhere>(format, spans));
  store.AddTier(Open(folder.path(), {}, format));
  const auto tokens = Iota(100);
  const auto fetched = Fetched(store, tokens);
  const auto match = store.Find(kRoot, tokens);
  ASSERT_EQ(match.n_tokens(), 100);
  EXPECT_EQ(match.from_remote.end, 100);
  auto& disk = static_cast<DiskTier&>(*store.tiers()[1]);
  disk.Flush();
  EXPECT_EQ(FoundTokens(disk, spans, kRoot, tokens), 100);
  // In memory stands what the rows say, not what they were made from.
  const Span span = spans.Make(kRoot, Iota(64));
  const auto record = spans.Record(span);
  std::vector<std::byte> block(kFormat.geometry.BlockBytes());
  UnpackRows(format, std::span(record).subspan(sizeof(RecordHeader)), 64, block.data());
  EXPECT_EQ(std::memcmp(match.full[0]->block->data(), block.data(), block.size()), 0);
}

// A disk on which loading all bytes of a block would take as long as computing 4/3 of it.
TEST_P(StoreOverTiers, ArePlannedByTheBytesThatTheyHave) {
  const Folder folder;
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  { Keep(*Open(folder.path(), {}, format), spans.Chain(kRoot, Iota(640))); }
  SpanStore store(kFormat.geometry, uint64_t{1} << 20);
  store.AddTier(Open(folder.path(), {}, format));
  const double second_per_byte = 1, work = RecomputeCost(640, 0);
  LoadPlanner planner(0.75 * 10 * static_cast<double>(kFormat.geometry.BlockBytes()) * second_per_byte / work);
  planner.RecordLoad(LoadPlanner::kDisk, 1000, 0, 1000 * second_per_byte);
  store.PlanLoads(planner);
  const auto tokens = Iota(640);
  const auto fetched = Fetched(store, tokens);
  EXPECT_EQ(store.Find(kRoot, tokens).n_tokens(), GetParam()->exact ? 0 : 640);
}

// Through the store, as the engine uses it.
TEST(SpanStore, FindsWhatWasEvictedOnDisk) {
  const Folder folder;
  Spans spans;
  const KvGeometry& kv = kFormat.geometry;
  for (const bool second_process : {false, true}) {
    SpanStore store(kv, 12 * kv.BlockBytes());
    store.AddTier(Open(folder.path()));
    for (int i = 0; i < 20; ++i) {
      const std::vector<int32_t> tokens = Iota(200, 1000 * (i % 10));
      spanwise::Run run(kRoot);
      const auto fetched = Fetched(store, tokens);
      const int reused = run.Reuse(store, tokens, 200);
      EXPECT_EQ(reused, i < 10 && !second_process ? 0 : 200);
      if (reused > 0) {
        EXPECT_EQ(run.from_disk().begin, 0);
        EXPECT_EQ(run.from_disk().end, 200);
      }
      ASSERT_TRUE(run.Extend(store, std::span(tokens).subspan(static_cast<size_t>(reused))).ok());
      const std::vector<Span> expected = spans.Chain(kRoot, tokens);
      for (size_t b = 0; b < expected.size(); ++b) {
        std::byte* block = run.writable_blocks()[b];
        if (reused == 0) {
          std::memcpy(block, expected[b].block->data(), kv.BlockBytes());
          continue;
        }
        const size_t row = static_cast<size_t>(kv.head_dim) * 2;
        const std::byte* got = run.View(0, 200).blocks[b];
        for (int head = 0; head < kv.n_kv_heads; ++head)
          EXPECT_EQ(std::memcmp(got + kv.ValueOffset(1, head), expected[b].block->data() + kv.ValueOffset(1, head),
                                row * expected[b].tokens.size()),
                    0);
      }
      run.MarkReady(200 - reused);
      run.Seal(store);
      store.tiers()[0]->Flush();
    }
    EXPECT_EQ(store.tiers()[0]->stats().spans, 40u);
    EXPECT_LE(store.stats().n_blocks, 12u);
    store.Clear();
    EXPECT_EQ(store.stats().n_blocks, 0u);
  }
}

TEST(SpanStore, TakesNoMemoryForWhatIsMapped) {
  const Folder folder;
  Spans spans;
  const KvGeometry& kv = kFormat.geometry;
  const std::vector<int32_t> tokens = Iota(200);
  const std::vector<Span> chain = spans.Chain(kRoot, tokens);
  { Keep(*Open(folder.path()), chain); }
  SpanStore store(kv, 2 * kv.BlockBytes());
  store.AddTier(Open(folder.path(), {.read_only = true}));
  auto fetched = Fetched(store, tokens);
  EXPECT_EQ(store.stats().n_spans, 0u);
  EXPECT_EQ(store.Peek(kRoot, tokens).full.size(), 3u);

  std::vector<spanwise::Run> runs;
  for (uint64_t i = 1; i <= 5; ++i) {
    spanwise::Run& run = runs.emplace_back(kRoot);
    ASSERT_EQ(run.Reuse(store, tokens, 200), 200);
    fetched = {};
    EXPECT_EQ(run.from_disk().end, 200);
    EXPECT_EQ(store.stats().mapped_tokens, 200 * i);
    EXPECT_EQ(store.stats().n_blocks, 0u);
    EXPECT_EQ(store.stats().n_spans, 0u);
    const KvRun view = run.View(0, 200);
    EXPECT_EQ(view.end_rows, 16);
    for (size_t b = 0; b < 4; ++b) {
      EXPECT_EQ(run.writable_blocks()[b], nullptr);
      const std::vector<std::byte> expected = CutBlock(chain[b]);
      EXPECT_EQ(std::memcmp(view.blocks[b], expected.data(), expected.size()), 0);
    }
  }
  // Two continue the end in a copy of their own; for another there is no room.
  for (const size_t i : {0, 1}) {
    ASSERT_TRUE(runs[i].Extend(store, Iota(3, 900)).ok());
    const KvRun view = runs[i].View(0, 203);
    EXPECT_EQ(view.end_rows, kKvBlockTokens);
    std::vector<std::byte> end(RowsBytes(kFormat, 8));
    ExactCodec().encode(kv, view.blocks[3], 8, end.data());
    EXPECT_EQ(end, CutBlock(chain[3]));
  }
  EXPECT_EQ(runs[2].Extend(store, Iota(3, 800)).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(runs[2].n_tokens(), 200);
  // One drops what it had of the end, and half of a block.
  runs[0] = spanwise::Run(kRoot);
  ASSERT_TRUE(runs[3].Truncate(store, 100).ok());
  EXPECT_EQ(runs[3].View(0, 100).end_rows, kKvBlockTokens);
  EXPECT_EQ(std::memcmp(runs[3].View(0, 100).blocks[1], chain[1].block->data(), kv.BlockBytes()), 0);

  // A repaired run that left its blocks as they were: what the store keeps of it are copies, as far as there is room.
  const SpanKey repaired = RootKey(kFormat.model, "repair", {});
  for (const size_t n_blocks : {2, 8}) {
    SpanStore other(kv, n_blocks * kv.BlockBytes());
    other.AddTier(Open(folder.path(), {.read_only = true}));
    spanwise::Run source(kRoot);
    const auto again = Fetched(other, tokens);
    ASSERT_EQ(source.Reuse(other, tokens, 200), 200);
    auto run = spanwise::Run::Repaired(repaired, source, {}, other);
    ASSERT_TRUE(run.ok());
    EXPECT_EQ(run->Seal(other), RunKey(repaired, tokens));
    const auto match = other.Peek(repaired, tokens);
    if (n_blocks == 8) {
      ASSERT_EQ(match.n_tokens(), 200);
      std::vector<std::byte> end(RowsBytes(kFormat, 8));
      ExactCodec().encode(kv, match.partial->block->data(), 8, end.data());
      EXPECT_EQ(end, CutBlock(chain[3]));
    }
    for (size_t b = 0; b < match.full.size(); ++b) {
      EXPECT_FALSE(match.full[b]->block->is_mapped());
      EXPECT_EQ(std::memcmp(match.full[b]->block->data(), chain[b].block->data(), kv.BlockBytes()), 0);
    }
    EXPECT_LE(other.stats().n_blocks, n_blocks);
  }
}

}  // namespace
}  // namespace spanwise
