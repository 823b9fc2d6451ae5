#include "kv/tiers/disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "base/str.h"
#include "kv/run.h"
#include "kv/span_store.h"
#include "kv/tiers/disk_fixture.h"
#include "kv/tiers/span_fixture.h"
#include "kv/tiers/span_folder.h"

namespace spanwise {
namespace {

const SpanKey kRoot = RootKey(kFormat.model, "causal", {});

// Changes the record of a span behind the store's back.
void Damage(const std::string& folder, const Span& span, const std::function<void(std::string*)>& change) {
  const auto env = lmdb::Env::Open(folder, false, 0).value();
  const auto txn = lmdb::Txn::Begin(env, false).value();
  const std::string key = EncodeKey(span.parent, span.tokens);
  MDB_val k = lmdb::Val(key), v;
  ASSERT_EQ(mdb_get(txn->get(), env->spans, &k, &v), 0);
  std::string record(lmdb::Bytes(v));
  change(&record);
  v = lmdb::Val(record);
  ASSERT_EQ(mdb_put(txn->get(), env->spans, &k, &v, 0), 0);
  ASSERT_TRUE(txn->Commit().ok());
}

class DiskTiers : public testing::TestWithParam<const SpanCodec*> {};
INSTANTIATE_TEST_SUITE_P(Codecs, DiskTiers, kAllCodecs, kCodecName);

TEST_P(DiskTiers, KeepWhatWasOffered) {
  const Folder folder;
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  {
    const auto tier = Open(folder.path(), {}, format);
    for (const Span& span : spans.Chain(kRoot, Iota(200))) tier->Offer(span);
  }  // waits for the disk
  const auto tier = Open(folder.path(), {}, format);
  EXPECT_EQ(FoundTokens(*tier, spans, kRoot, Iota(200)), 200);
  EXPECT_EQ(FoundTokens(*tier, spans, kRoot, Iota(300)), 200);
  EXPECT_EQ(FoundTokens(*tier, spans, RootKey(kFormat.model, "causal", Sha256("seen")), Iota(200)), 0);
  EXPECT_EQ(tier->stats().spans, 4u);
  EXPECT_GT(tier->stats().bytes, 4 * 4096u);
  EXPECT_EQ(tier->stats().written_spans, 0u);
}

TEST(DiskTier, FindsTheLongestCommonBeginning) {
  const Folder folder;
  Spans spans;
  const auto tier = Open(folder.path());
  std::mt19937 random(1);
  std::vector<std::vector<int32_t>> kept;
  for (int i = 0; i < 200; ++i) {
    std::vector<int32_t> tokens(1 + random() % 8);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 3);
    Keep(*tier, {spans.Make(kRoot, tokens)});
    kept.push_back(tokens);
    std::vector<int32_t> asked(1 + random() % 8);
    for (int32_t& token : asked) token = static_cast<int32_t>(random() % 3);
    size_t longest = 0;
    for (const auto& k : kept)
      longest = std::max(longest, static_cast<size_t>(std::ranges::mismatch(k, asked).in1 - k.begin()));
    EXPECT_EQ(FoundTokens(*tier, spans, kRoot, asked), static_cast<int>(longest));
    EXPECT_FALSE(Found(*tier, kRoot, asked, static_cast<int>(longest)));
  }
  EXPECT_FALSE(Found(*tier, Sha256("another parent"), Iota(3), 0));
}

TEST(DiskTier, KeepsTheLongerOfTwoEnds) {
  const Folder folder;
  Spans spans;
  const auto tier = Open(folder.path());
  for (const int n : {3, 20, 9, 41, 64, 50}) Keep(*tier, {spans.Make(kRoot, Iota(n))});
  EXPECT_EQ(tier->stats().spans, 1u);
  EXPECT_EQ(FoundTokens(*tier, spans, kRoot, Iota(64)), 64);
}

TEST(DiskTier, EvictsChainsFromTheirEndsAndWhatWasUsedLongestAgo) {
  const Folder folder;
  Spans spans;
  const uint64_t budget = 400 << 10;
  const auto tier = Open(folder.path(), {.budget_bytes = budget});
  const auto tokens = [](int i) { return Iota(256, 1000 * i); };
  for (int i = 0; i < 30; ++i) {
    Keep(*tier, spans.Chain(kRoot, tokens(i)));
    for (const Span& span : spans.Chain(kRoot, tokens(0))) tier->Touch(span.parent, span.tokens);
    tier->Flush();
    EXPECT_LE(tier->stats().bytes, budget);
  }
  EXPECT_GT(tier->stats().evicted_spans, 50u);
  EXPECT_EQ(FoundTokens(*tier, spans, kRoot, tokens(0)), 256);  // in use all the time
  EXPECT_EQ(FoundTokens(*tier, spans, kRoot, tokens(1)), 0);
  EXPECT_EQ(FoundTokens(*tier, spans, kRoot, tokens(29)), 256);
  uint64_t reachable = 0;  // nothing stands behind a span that is gone
  for (int i = 0; i < 30; ++i) reachable += static_cast<uint64_t>(FoundTokens(*tier, spans, kRoot, tokens(i))) / 64;
  EXPECT_EQ(reachable, tier->stats().spans);
  EXPECT_LT(std::filesystem::file_size(folder.path() + "/data.mdb"), 2 * budget);
}

TEST(DiskTier, LeavesOutWhatIsLargerThanItsBudget) {
  const Folder folder;
  Spans spans;
  const auto tier = Open(folder.path(), {.budget_bytes = 4096});
  tier->Offer(spans.Make(kRoot, Iota(64)));
  tier->Flush();
  EXPECT_EQ(tier->stats().spans, 0u);
  EXPECT_EQ(tier->stats().lost_spans, 1u);
}

TEST_P(DiskTiers, NeverServeADamagedRecord) {
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  const Folder folder;
  const Span span = spans.Make(kRoot, Iota(17)), other = spans.Make(kRoot, Iota(17, 100));
  const auto tier = Open(folder.path(), {}, format);
  std::mt19937 random(2);
  std::vector<std::function<void(std::string*)>> changes;
  const size_t bytes = spans.Record(span).size();
  for (size_t i = 0; i < bytes; i += i < sizeof(RecordHeader) ? 3 : 61)
    changes.push_back([i, bit = random() % 8](std::string* r) { (*r)[i] = static_cast<char>((*r)[i] ^ (1 << bit)); });
  for (size_t n = 0; n < bytes; n += 1 + random() % 97) changes.push_back([n](std::string* r) { r->resize(n); });
  changes.push_back([](std::string* r) { *r += 'x'; });
  const auto theirs = spans.Record(other);
  changes.push_back([&](std::string* r) { r->assign(reinterpret_cast<const char*>(theirs.data()), theirs.size()); });
  Keep(*tier, {other});
  for (size_t i = 0; i < changes.size(); ++i) {
    Keep(*tier, {span});
    ASSERT_TRUE(Found(*tier, kRoot, span.tokens, 0));
    ASSERT_NO_FATAL_FAILURE(Damage(folder.path(), span, changes[i]));
    EXPECT_FALSE(Found(*tier, kRoot, span.tokens, 0)) << i;
    EXPECT_EQ(tier->stats().damaged_spans, i + 1);
    tier->Flush();
    EXPECT_EQ(tier->stats().spans, 1u);  // it is gone
  }
  EXPECT_TRUE(Found(*tier, kRoot, other.tokens, 0));
}

TEST(DiskTier, BeginsAnewWhereTheFileIsCutOrNotItsOwn) {
  Spans spans;
  const Folder made;
  { Keep(*Open(made.path()), spans.Chain(kRoot, Iota(1000))); }
  const std::string whole = made.path() + "/data.mdb";
  const auto size = std::filesystem::file_size(whole);
  std::mt19937 random(3);
  for (int i = 0; i < 40; ++i) {
    const Folder folder;
    const std::string file = folder.path() + "/data.mdb";
    if (i % 4 == 0) {
      std::ofstream out(file);
      for (int j = 0; j < 9000; ++j) out.put(static_cast<char>(random()));
    } else {
      std::filesystem::copy_file(whole, file);
      std::filesystem::resize_file(file, i == 1 ? 0 : random() % size);
    }
    int n_warnings = 0;
    const auto tier = Open(folder.path(), {.warn = [&](const std::string&) { ++n_warnings; }});
    ASSERT_TRUE(tier);
    EXPECT_EQ(n_warnings, i == 1 ? 0 : 1);
    EXPECT_EQ(FoundTokens(*tier, spans, kRoot, Iota(1000)), 0);
    Keep(*tier, spans.Chain(kRoot, Iota(100)));
    EXPECT_EQ(FoundTokens(*tier, spans, kRoot, Iota(1000)), 100);
  }
}

TEST(DiskTier, RefusesToReadAFileThatWasCut) {
  const Folder folder;
  Spans spans;
  { Keep(*Open(folder.path()), spans.Chain(kRoot, Iota(1000))); }
  const std::string file = folder.path() + "/data.mdb";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 4096);
  EXPECT_EQ(DiskTier::Open(kFormat, {.folder = folder.path(), .read_only = true}).status().code(),
            StatusCode::kCorruption);
  EXPECT_FALSE(std::filesystem::exists(file + ".damaged"));  // only its writer sets it aside
}

TEST(DiskTier, RefusesWhatIsNoFolderOfSpans) {
  const Folder folder;
  const std::string file = folder.path() + "/file";
  std::ofstream(file) << "x";
  EXPECT_FALSE(DiskTier::Open(kFormat, {.folder = file}).ok());
  EXPECT_EQ(DiskTier::Open(kFormat, {.folder = folder.path() + "/none", .read_only = true}).status().code(),
            StatusCode::kNotFound);
  {  // another program's tables
    MDB_env* env;
    mdb_env_create(&env);
    ASSERT_EQ(mdb_env_open(env, folder.path().c_str(), 0, 0644), 0);
    MDB_txn* txn;
    mdb_txn_begin(env, nullptr, 0, &txn);
    MDB_dbi dbi;
    mdb_dbi_open(txn, nullptr, 0, &dbi);
    MDB_val k = lmdb::Val("key"), v = lmdb::Val("value");
    mdb_put(txn, dbi, &k, &v, 0);
    mdb_txn_commit(txn);
    mdb_env_close(env);
  }
  for (const bool read_only : {true, false})
    EXPECT_EQ(DiskTier::Open(kFormat, {.folder = folder.path(), .read_only = read_only}).status().code(),
              StatusCode::kInvalidArgument);
}

TEST(DiskTier, IsReadByManyAndWrittenByNoneWhereItIsReadOnly) {
  const Folder folder;
  Spans spans;
  { Keep(*Open(folder.path()), spans.Chain(kRoot, Iota(200))); }
  const Span span = spans.Make(kRoot, Iota(64));
  Damage(folder.path(), span, [](std::string* r) { r->back() ^= 1; });
  const auto before = std::filesystem::last_write_time(folder.path() + "/data.mdb");
  const auto a = Open(folder.path(), {.read_only = true}), b = Open(folder.path(), {.read_only = true});
  EXPECT_EQ(FoundTokens(*a, spans, kRoot, Iota(64)), 0);
  EXPECT_EQ(FoundTokens(*b, spans, span.key, Iota(136, 64)), 136);
  EXPECT_TRUE(a->Offer(spans.Make(kRoot, Iota(9, 500))));
  a->Touch(kRoot, Iota(64));
  a->Flush();
  EXPECT_EQ(a->stats().spans, 4u);
  EXPECT_EQ(a->stats().damaged_spans, 1u);
  EXPECT_EQ(std::filesystem::last_write_time(folder.path() + "/data.mdb"), before);
}

// Blocks of a chain that are mapped once they were fetched, each as it must be.
std::vector<std::shared_ptr<const std::byte>> MappedBlocks(DiskTier& tier, const std::vector<Span>& chain) {
  const auto fetch = Ended(Prefetch(tier, chain));
  std::vector<std::shared_ptr<const std::byte>> blocks;
  for (const Span& span : chain) {
    auto block = tier.Map(span.key, span.tokens);
    if (block) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block.get()) % KvBlock::kAlignment, 0u);
      const std::vector<std::byte> expected = CutBlock(span);
      EXPECT_EQ(std::memcmp(block.get(), expected.data(), expected.size()), 0);
      blocks.push_back(std::move(block));
    }
  }
  return blocks;
}

TEST(DiskTier, MapsBlocksOfAFolderThatIsOnlyRead) {
  Spans spans;
  const std::vector<Span> chain = spans.Chain(kRoot, Iota(200)), other = spans.Chain(kRoot, Iota(128, 1000));
  std::vector<std::shared_ptr<const std::byte>> blocks;
  {
    const Folder folder;
    {
      const auto tier = Open(folder.path());
      Keep(*tier, chain);
      EXPECT_EQ(MappedBlocks(*tier, chain).size(), 0u);  // its writer wants to use pages again
    }
    auto tier = Open(folder.path(), {.read_only = true});
    EXPECT_EQ(tier->Map(chain[0].key, chain[0].tokens), nullptr);  // it was not checked yet
    blocks = MappedBlocks(*tier, chain);
    EXPECT_EQ(blocks.size(), 4u);
    EXPECT_EQ(tier->Map(chain[3].key, std::span(chain[3].tokens).first(7)), nullptr);  // not exactly these
    EXPECT_EQ(blocks[0], tier->Map(chain[0].key, chain[0].tokens));                    // all look at the same bytes
    EXPECT_EQ(tier->Map(chain[0].key, chain[1].tokens), nullptr);
    EXPECT_EQ(tier->Map(other[0].key, other[0].tokens), nullptr);
    // As long as nobody writes, it is known to be sound.
    const auto first = blocks[0].get();
    blocks.clear();
    blocks.push_back(tier->Map(chain[0].key, chain[0].tokens));
    EXPECT_EQ(blocks[0].get(), first);
    EXPECT_EQ(MappedBlocks(*tier, other).size(), 0u);
    blocks = MappedBlocks(*tier, chain);
    tier = nullptr;
  }  // the folder is gone as well
  for (size_t i = 0; i < 4; ++i) {
    const std::vector<std::byte> expected = CutBlock(chain[i]);
    EXPECT_EQ(std::memcmp(blocks[i].get(), expected.data(), expected.size()), 0);
  }
}

TEST_P(DiskTiers, AreOfOneCodecAndMapOnlyWhatIsAsItIs) {
  const Folder folder;
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  { Keep(*Open(folder.path(), {}, format), spans.Chain(kRoot, Iota(200))); }
  const uint64_t rows = RowsBytes(format, 64);
  EXPECT_EQ(rows < kFormat.geometry.BlockBytes(), !GetParam()->exact);
  for (const SpanCodec* other : SpanCodecs()) {
    std::vector<std::string> warnings;
    const auto tier =
        Open(folder.path(), {.read_only = true, .warn = [&](const std::string& w) { warnings.push_back(w); }},
             FormatOf(other));
    if (other == GetParam()) {
      EXPECT_THAT(warnings, testing::IsEmpty());
      EXPECT_EQ(FoundTokens(*tier, spans, kRoot, Iota(200)), 200);
      const SpanKey first = ChildKey(kRoot, Iota(64));
      EXPECT_EQ(tier->Map(first, Iota(64)) != nullptr, other->exact);
      EXPECT_EQ(tier->reads_in_place(), other->exact);
      continue;
    }
    EXPECT_THAT(warnings, testing::ElementsAre(testing::HasSubstr(
                              StrFormat("is written by codec {}, expected {}", GetParam()->name, other->name))));
    EXPECT_FALSE(Found(*tier, kRoot, Iota(64)));  // a digest of its own keeps an engine from asking at all
  }
}

int MappedNow(DiskTier& tier, const std::vector<Span>& chain) {
  return static_cast<int>(
      std::ranges::count_if(chain, [&](const Span& span) { return tier.Map(span.key, span.tokens) != nullptr; }));
}

TEST(DiskTier, IsReadyBeforeAnybodyAsks) {
  const Folder folder;
  Spans spans;
  const std::vector<Span> chain = spans.Chain(kRoot, Iota(64 * 200));
  { Keep(*Open(folder.path()), chain); }
  Damage(folder.path(), chain[7], [](std::string* r) { r->back() ^= 1; });
  const auto settled = [&](DiskTier& tier) {
    int before = -1, now = 0;
    for (; before != now || now == 0; now = MappedNow(tier, chain)) {
      before = now;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return now;
  };
  {
    const auto tier = Open(folder.path(), {.read_only = true, .ready_bytes = uint64_t{1} << 30});
    EXPECT_EQ(settled(*tier), 199);
    EXPECT_EQ(tier->Map(chain[7].key, chain[7].tokens), nullptr);
    EXPECT_EQ(tier->stats().damaged_spans, 0u);  // nobody asked for it yet
    EXPECT_EQ(MappedBlocks(*tier, chain).size(), 199u);
    EXPECT_EQ(tier->stats().damaged_spans, 1u);
  }
  {  // It waits for the engine to be idle.
    const auto tier = Open(folder.path(), {.read_only = true, .ready_bytes = uint64_t{1} << 30});
    tier->Idle(false);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const int n = MappedNow(*tier, chain);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(MappedNow(*tier, chain), n);
    tier->Idle(true);
    EXPECT_EQ(settled(*tier), 199);
  }
  // Not more than it may, ...
  const auto some = Open(folder.path(), {.read_only = true, .ready_bytes = 1});
  const int n_some = settled(*some);
  EXPECT_GT(n_some, 0);
  EXPECT_LT(n_some, 100);
  // ... nothing of a folder that it writes, and nothing beside other work.
  const auto writer = Open(folder.path() + "/other", {.ready_bytes = uint64_t{1} << 30});
  Keep(*writer, chain);
  writer->Idle(true);
  const auto none = Open(folder.path(), {.read_only = true});
  none->Idle(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(MappedNow(*writer, chain), 0);
  EXPECT_EQ(MappedNow(*none, chain), 0);
}

// By the turn of a request that waits the folder may be another one.
TEST(DiskTier, WhatIsFetchedAheadIsLookedUpAgain) {
  const Folder folder;
  Spans spans;
  const std::vector<Span> chain = spans.Chain(kRoot, Iota(64 * 300));
  const auto tier = Open(folder.path());
  Keep(*tier, chain);
  const auto ahead = Prefetch(*tier, chain, /*urgent=*/false);
  const auto urgent = Ended(Prefetch(*tier, {chain[0], chain[299]}));
  ASSERT_TRUE(Ended(ahead));
  EXPECT_TRUE(tier->Find(chain[0].key, chain[0].tokens, 0));
  EXPECT_TRUE(tier->Find(chain[299].key, chain[299].tokens, 0));
  EXPECT_FALSE(tier->Find(chain[1].key, chain[1].tokens, 0));
  EXPECT_TRUE(Found(*tier, kRoot, chain[0].tokens));
  EXPECT_GT(ahead->progress().bytes, 290 * RecordBytes(kFormat, 64));
}

TEST(DiskTier, NeverMapsADamagedRecord) {
  const Folder folder;
  Spans spans;
  { Keep(*Open(folder.path()), spans.Chain(kRoot, Iota(192))); }
  std::string file;
  {
    std::ifstream in(folder.path() + "/data.mdb", std::ios::binary);
    file.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto chain = spans.Chain(kRoot, Iota(192));
  const auto rows = [&](size_t i) {
    return std::string_view(reinterpret_cast<const char*>(chain[i].block->data()), kFormat.geometry.BlockBytes());
  };
  const size_t at = file.find(rows(1));
  ASSERT_NE(at, std::string::npos);
  for (const size_t offset : {size_t{0}, rows(1).size() / 2, rows(1).size() - 1}) {
    std::string damaged = file;
    damaged[at + offset] = static_cast<char>(damaged[at + offset] ^ 4);
    std::ofstream(folder.path() + "/data.mdb", std::ios::binary) << damaged;
    const auto tier = Open(folder.path(), {.read_only = true});
    EXPECT_EQ(MappedBlocks(*tier, chain).size(), 2u);
    EXPECT_EQ(tier->stats().damaged_spans, 1u);
    EXPECT_EQ(FoundTokens(*tier, spans, kRoot, Iota(192)), 64);
    EXPECT_EQ(tier->stats().damaged_spans, 2u);
  }
}

// Another process replaces all that a folder holds, again and again, while this one reads it in place.
TEST(DiskTier, WhatIsMappedStaysWhileTheFolderIsWrittenAnew) {
  const Folder folder;
  const auto tokens = [](int round) { return Iota(640, 1000 * round); };
  Spans spans;
  { Keep(*Open(folder.path()), spans.Chain(kRoot, tokens(0))); }
  int go[2], done[2];
  ASSERT_EQ(pipe(go) + pipe(done), 0);
  constexpr int kRounds = 8;
  const pid_t child = fork();
  if (child == 0) {
    close(go[1]);
    Spans own;
    char c = 0;
    for (int round = 1; round <= kRounds && read(go[0], &c, 1) == 1; ++round) {
      const auto since = LastUse(folder.path());
      {
        const auto tier = DiskTier::Open(kFormat, {.folder = folder.path(), .budget_bytes = uint64_t{1} << 30});
        for (const Span& span : own.Chain(kRoot, tokens(round))) {
          (*tier)->Offer(span);
          (*tier)->Flush();  // a transaction each
        }
      }
      if (!since.ok() || !RemoveUnusedSince(folder.path(), *since).ok()) _exit(1);
      if (write(done[1], &c, 1) != 1) _exit(1);
    }
    _exit(0);
  }
  const auto write_anew = [&] {
    char c = 0;
    ASSERT_EQ(write(go[1], &c, 1), 1);
    ASSERT_EQ(read(done[0], &c, 1), 1);
  };
  const auto tier = Open(folder.path(), {.read_only = true});
  auto first = MappedBlocks(*tier, spans.Chain(kRoot, tokens(0)));
  ASSERT_EQ(first.size(), 10u);
  for (int round = 1; round <= 3; ++round) {
    ASSERT_NO_FATAL_FAILURE(write_anew());
    const auto chain = spans.Chain(kRoot, tokens(0));
    for (size_t i = 0; i < first.size(); ++i)
      EXPECT_EQ(std::memcmp(first[i].get(), chain[i].block->data(), kFormat.geometry.BlockBytes()), 0);
    EXPECT_EQ(tier->Map(chain[0].key, chain[0].tokens), nullptr);
    EXPECT_EQ(MappedBlocks(*tier, spans.Chain(kRoot, tokens(round))).size(), 10u);
  }
  // What is mapped and let go again keeps no page from being used anew.
  const auto size = [&] { return std::filesystem::file_size(folder.path() + "/data.mdb"); };
  first.clear();
  uint64_t settled = 0;
  for (int round = 4; round <= kRounds; ++round) {
    ASSERT_NO_FATAL_FAILURE(write_anew());
    EXPECT_EQ(MappedBlocks(*tier, spans.Chain(kRoot, tokens(round))).size(), 10u);
    if (round == 5) settled = size();
  }
  EXPECT_EQ(size(), settled);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(DiskTier, IsSharedByTwoProcesses) {
  const Folder folder;
  Spans spans;
  const pid_t child = fork();
  if (child == 0) {
    Spans own;
    DiskTierOptions options{.folder = folder.path(), .budget_bytes = uint64_t{1} << 30};
    {
      const auto tier = DiskTier::Open(kFormat, options);
      for (int i = 0; i < 50; ++i)
        for (const Span& span : own.Chain(kRoot, Iota(150, 1000 * i))) (*tier)->Offer(span);
    }
    _exit(0);
  }
  {
    const auto tier = Open(folder.path());
    for (int i = 25; i < 75; ++i) Keep(*tier, spans.Chain(kRoot, Iota(150, 1000 * i)));
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    for (int i = 0; i < 75; ++i) EXPECT_EQ(FoundTokens(*tier, spans, kRoot, Iota(150, 1000 * i)), 150);
    EXPECT_EQ(tier->stats().spans, 75u * 3);
  }
}

TEST(DiskTier, GoesOnWithoutADiskThatIsFull) {
  const Folder folder;
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    Spans spans;
    int n_warnings = 0;
    auto tier = DiskTier::Open(kFormat, {.folder = folder.path(),
                                         .budget_bytes = uint64_t{1} << 30,
                                         .warn = [&](const std::string&) { ++n_warnings; }});
    for (const Span& span : spans.Chain(kRoot, Iota(128))) (*tier)->Offer(span);
    (*tier)->Flush();
    const rlimit limit{256 << 10, 256 << 10};
    setrlimit(RLIMIT_FSIZE, &limit);
    int kept = 0;
    for (int i = 1; i < 100; ++i) {
      for (const Span& span : spans.Chain(kRoot, Iota(128, 1000 * i))) kept += (*tier)->Offer(span);
      (*tier)->Flush();
    }
    const bool right = n_warnings == 1 && kept < 100 && (*tier)->stats().lost_spans > 100 &&
                       FoundTokens(**tier, spans, kRoot, Iota(128)) == 128;
    _exit(right ? 0 : 1);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// As another user than root, who may write everywhere.
template <typename Check>
void AsNobody(const Check& check) {
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(2);
    _exit(check() ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(DiskTier, ReadsWhatItMayNotWrite) {
  const Folder folder;
  {
    Spans spans;
    Keep(*Open(folder.path()), spans.Chain(kRoot, Iota(150)));
  }
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0555));
  for (const char* name : {"/data.mdb", "/lock.mdb"})
    std::filesystem::permissions(folder.path() + name, std::filesystem::perms(0444));
  std::vector<std::string> warnings;
  const auto open = [&] {
    warnings.clear();
    return DiskTier::Open(
        kFormat, {.folder = folder.path(), .warn = [&](const std::string& message) { warnings.push_back(message); }});
  };
  AsNobody([&] {
    const auto tier = open();
    Spans spans;
    return tier.ok() && *tier && !(*tier)->reads_in_place() && warnings.size() == 1 &&
           warnings[0] == "kept KV: " + folder.path() +
                              "/lock.mdb: Permission denied; what is there is read, and nothing more is kept" &&
           FoundTokens(**tier, spans, kRoot, Iota(150)) == 150 && FoundTokens(**tier, spans, kRoot, Iota(90)) == 90;
  });
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
}

TEST(DiskTier, DoesWithoutAFolderThatCannotBeMade) {
  const Folder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0555));
  AsNobody([&] {
    int n_warnings = 0;
    const DiskTierOptions options{.folder = folder.path() + "/new", .warn = [&](const std::string&) { ++n_warnings; }};
    const auto tier = DiskTier::Open(kFormat, options);
    DiskTierOptions needed = options;
    needed.wait_when_full = true;
    return tier.ok() && !*tier && n_warnings == 1 &&
           DiskTier::Open(kFormat, needed).status().code() == StatusCode::kUnavailable && n_warnings == 1;
  });
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  // That it is no folder at all is no trouble of the disk.
  std::ofstream(folder.path() + "/file") << "text";
  for (const char* name : {"/file", "/file/below"})
    EXPECT_EQ(DiskTier::Open(kFormat, {.folder = folder.path() + name}).status().code(), StatusCode::kInvalidArgument);
}

// Its lock file lies where it cannot be written, and somebody else writes all the same.
TEST(DiskTier, WithoutLocksItReadsCopies) {
  if (geteuid() != 0) GTEST_SKIP() << "needs two users";
  const Folder folder;
  {
    Spans spans;
    Keep(*Open(folder.path()), spans.Chain(kRoot, Iota(150)));
  }
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  int to_owner[2], from_owner[2];
  ASSERT_EQ(pipe(to_owner), 0);
  ASSERT_EQ(pipe(from_owner), 0);
  const auto tell = [](int file) { return write(file, "x", 1) == 1; };
  const auto wait_for = [](int file) {
    char byte;
    return read(file, &byte, 1) == 1;
  };
  const pid_t owner = fork();
  if (owner == 0) {
    bool right = wait_for(to_owner[0]);
    Spans spans;
    const auto tier = Open(folder.path());
    for (int i = 1; i < 4; ++i) Keep(*tier, spans.Chain(kRoot, Iota(150, 1000 * i)));
    right = right && tell(from_owner[1]) && wait_for(to_owner[0]);
    _exit(right ? 0 : 1);
  }
  AsNobody([&] {
    std::vector<std::string> warnings;
    const auto open = [&] {
      warnings.clear();
      return DiskTier::Open(
          kFormat, {.folder = folder.path(), .warn = [&](const std::string& message) { warnings.push_back(message); }});
    };
    Spans spans;
    {
      const auto tier = open();
      if (!tier.ok() || !*tier || warnings.size() != 1) return false;
      const auto held = Found(**tier, kRoot, Iota(64));
      if (!held || !tell(to_owner[1]) || !wait_for(from_owner[0]) || !spans.Holds(kRoot, *held)) return false;
      if (FoundTokens(**tier, spans, kRoot, Iota(150, 2000)) != 150) return false;
    }
    // Whoever comes now sees that there is an owner at work.
    const auto tier = open();
    return tier.ok() && !*tier && warnings.size() == 1 &&
           warnings[0].ends_with("another process is using it, so it is not read either: nothing is kept");
  });
  EXPECT_TRUE(tell(to_owner[1]));
  int status = -1;
  ASSERT_EQ(waitpid(owner, &status, 0), owner);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace spanwise
