// Processes that write, use, damage and drop spans are killed at random moments; what they leave must be whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "kv/tiers/span_fixture.h"
#include "kv/tiers/span_folder.h"

namespace spanwise {
namespace {

const SpanKey kRoot = RootKey(kFormat.model, "causal", {});
constexpr uint64_t kBudget = 1 << 20;

// Until it is killed.
[[noreturn]] void Work(const SpanFormat& format, const std::string& folder, unsigned seed) {
  std::mt19937 random(seed);
  Spans spans(format);
  while (true) {
    auto tier = DiskTier::Open(format, {.folder = folder, .budget_bytes = kBudget});
    if (!tier.ok()) _exit(1);
    for (int i = static_cast<int>(random() % 40); i >= 0; --i) {
      const std::vector<int32_t> tokens =
          Iota(1 + static_cast<int>(random() % 300), 1000 * static_cast<int>(random() % 40));
      for (const Span& span : spans.Chain(kRoot, tokens)) {
        if (random() % 3 == 0) (*tier)->Touch(span.parent, span.tokens);
        (*tier)->Offer(span);
      }
      if (random() % 8 == 0) (*tier)->Flush();
      if (random() % 16 == 0) {  // what it then meets it drops
        const auto env = lmdb::Env::Open(folder, false, 0).value();
        const auto txn = lmdb::Txn::Begin(env, false).value();
        std::string key, cut;
        {
          lmdb::Cursor at(*txn, env->spans);
          if (at.Go(MDB_FIRST)) key = at.key(), cut = at.value().substr(0, at.value().size() / 2);
        }
        if (!key.empty()) {
          MDB_val k = lmdb::Val(key), v = lmdb::Val(cut);
          mdb_put(txn->get(), env->spans, &k, &v, 0);
          (void)txn->Commit();
          const TableKey damaged = DecodeKey(key).value();
          const auto found = Found(**tier, damaged.parent, damaged.tokens, 0);
          if (found && !spans.Holds(damaged.parent, *found)) _exit(2);  // it may have been written anew by now
        }
      }
      if (random() % 16 == 0) {
        const auto now = LastUse(folder);
        if (!now.ok() || !RemoveUnusedSince(folder, *now - std::min<uint64_t>(*now, random() % 200)).ok()) _exit(3);
      }
    }
  }
}

class Crash : public testing::TestWithParam<const SpanCodec*> {};
INSTANTIATE_TEST_SUITE_P(Codecs, Crash, kAllCodecs, kCodecName);

TEST_P(Crash, LeavesOnlyWholeSpans) {
  const Folder folder;
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  std::mt19937 random(SPANWISE_KILLS);
  uint64_t n_served = 0;
  for (int kill_number = 0; kill_number < SPANWISE_KILLS; ++kill_number) {
    pid_t children[2] = {-1, -1};
    const int n_children = 1 + kill_number % 2;  // alone, and two that share the folder
    for (int c = 0; c < n_children; ++c) {
      children[c] = fork();
      if (children[c] == 0) Work(format, folder.path(), static_cast<unsigned>(random()) + static_cast<unsigned>(c));
    }
    for (int c = 0; c < n_children; ++c) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
      kill(children[c], SIGKILL);
      int status = 0;
      ASSERT_EQ(waitpid(children[c], &status, 0), children[c]);
      ASSERT_TRUE(WIFSIGNALED(status)) << "ended by itself: " << WEXITSTATUS(status);
    }
    if (IsSpanFolder(folder.path())) {
      const auto report = CheckSpanFolder(folder.path(), /*verify=*/true);
      if (report.ok()) {
        EXPECT_EQ(report->misnoted, 0u);
        EXPECT_LE(report->damaged, 2u);  // those that were damaged on purpose and not met yet
      } else {
        EXPECT_EQ(report.status().code(), StatusCode::kInvalidArgument) << report.status().message();  // no tables yet
      }
    }
    auto tier = DiskTier::Open(format, {.folder = folder.path(), .budget_bytes = kBudget});
    ASSERT_TRUE(tier.ok()) << tier.status().message();
    for (int i = 0; i < 40; ++i) {
      SpanKey parent = kRoot;
      const std::vector<int32_t> tokens = Iota(320, 1000 * i);
      for (std::span<const int32_t> rest = tokens; !rest.empty(); rest = rest.subspan(kKvBlockTokens)) {
        const auto found = Found(**tier, parent, rest.first(kKvBlockTokens), 0);
        if (!found) break;
        ++n_served;
        ASSERT_TRUE(spans.Holds(parent, *found));
        if (found->tokens.size() < kKvBlockTokens) break;
        parent = ChildKey(parent, found->tokens);
      }
    }
    // It goes on working, and what was freed is used again.
    for (const Span& span : spans.Chain(kRoot, Iota(200, 1000 * (kill_number % 40)))) (*tier)->Offer(span);
    (*tier)->Flush();
    EXPECT_TRUE(Found(**tier, kRoot, Iota(64, 1000 * (kill_number % 40)), 63));
    EXPECT_LE((*tier)->stats().bytes, kBudget);
  }
  EXPECT_GT(n_served, static_cast<uint64_t>(SPANWISE_KILLS));
  EXPECT_LT(std::filesystem::file_size(folder.path() + "/data.mdb"), 3 * kBudget);
}

}  // namespace
}  // namespace spanwise
