// Finds sealed spans by address, in memory and in the tiers below it, and makes room for new ones.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kv/evict/policy.h"
#include "kv/planner.h"
#include "kv/span.h"
#include "kv/tiers/tier.h"
#include "spanwise/status.h"

namespace spanwise {

struct SpanStoreStats {
  size_t n_spans = 0;
  size_t n_blocks = 0;  // blocks in use, by spans and by growing runs, wholly or in part
  size_t n_blocks_budget = 0;
  uint64_t hit_tokens = 0;       // tokens whose KV was found
  uint64_t loaded_tokens = 0;    // of these, that came from disk
  uint64_t mapped_tokens = 0;    // of these, that are attended where they are there
  uint64_t fetched_tokens = 0;   // of hit_tokens, that came from a server
  uint64_t lookup_tokens = 0;    // tokens that were asked for
  uint64_t published_spans = 0;  // that were new
  uint64_t evicted_spans = 0;
  uint64_t copied_blocks = 0;
};

// Tokens of a run from `begin` on.
struct TokenRange {
  int begin = 0, end = 0;
  bool Meets(int b, int e) const { return begin < e && b < end; }
};

// Spans in memory under a byte budget. When room is needed, a replacement policy (evict/policy.h) names a span, and the
// end of a chain that continues it leaves: chains lose their ends before their beginnings. A span never leaves while
// somebody holds it. What is new is offered to the tiers. What they have is used where it is, if they can be read in
// place (Tier::Map): it takes nothing from the budget, and the store holds none of it. All else is copied into memory
// when it is asked for. Thread-compatible (the engine thread).
class SpanStore {
 public:
  // REQUIRES: the name of a policy that needs to know no future (MakeEvictionPolicy).
  SpanStore(const KvGeometry& geometry, size_t budget_bytes, std::string_view policy = kDefaultEvictionPolicy);

  // Looks there too from now on, in the order in which tiers were added. REQUIRES: the format of those before.
  void AddTier(std::unique_ptr<Tier> tier) { tiers_.push_back(std::move(tier)); }
  std::span<const std::unique_ptr<Tier>> tiers() const { return tiers_; }
  // See Tier.
  void OnFetched(const std::function<void()>& call);
  void Idle(bool idle);
  // Loads only what would take longer to compute, from now on.
  void PlanLoads(const LoadPlanner& planner) { planner_ = planner; }
  // Who is to be told what computing takes; nullptr: nobody.
  LoadPlanner* planner() { return planner_ ? &*planner_ : nullptr; }

  // The longest known beginning of a run: `full` spans of kKvBlockTokens each, then possibly the first `partial_tokens`
  // tokens of `partial`. Every token has been compared. Marks what it returns as used.
  struct Match {
    std::vector<std::shared_ptr<const Span>> full;
    std::shared_ptr<const Span> partial;
    int partial_tokens = 0;
    // The tokens from the first to the last that came from each kind of tier.
    TokenRange from_disk, from_remote;
    int n_tokens() const { return static_cast<int>(full.size()) * kKvBlockTokens + partial_tokens; }
  };
  // Of the tiers it sees what is read in place or was brought by a Prefetch whose result lives.
  Match Find(const RunAddress& address, std::span<const int32_t> tokens);
  // The same in memory and what is read in place, without marking or counting anything. Tokens may also follow a full
  // span: see RunAddress::Behind.
  Match Peek(const RunAddress& address, std::span<const int32_t> tokens) const;

  // A run that Find will be asked for.
  struct Wish {
    RunAddress address;
    std::span<const int32_t> tokens;
    int depth = 0;         // tokens that its first one sees: they make it dearer to compute
    bool goes_on = false;  // behind them something else than in other runs
  };
  // Says that a request that waits will ask for these runs: as long as the hint lives, the replacement policy knows it
  // of their spans, of those that come meanwhile too.
  class Hint {
   public:
    Hint() = default;
    Hint(Hint&& other) noexcept { *this = std::move(other); }
    Hint& operator=(Hint&& other) noexcept;
    ~Hint();

   private:
    friend SpanStore;
    SpanStore* store_ = nullptr;  // outlives it
    std::vector<SpanKey> keys_;
  };
  Hint Expect(std::span<const Wish> runs);

  // What is on its way from tiers.
  struct Prefetched {
    struct Part {
      std::shared_ptr<Fetch> fetch;
      double patience_s = 0;                       // how long it is worth waiting for, from `asked` on
      std::optional<LoadPlanner::Tier> path = {};  // that is measured by it
    };
    std::vector<Part> parts;
    std::vector<Match> here;  // of each run: stays, when it is urgent
    std::chrono::steady_clock::time_point asked = {};
    bool waits() const;  // something is worth waiting for
  };
  // Begins to bring what memory does not have, if that is worth it.
  Prefetched Prefetch(std::span<const Wish> runs, bool urgent);
  // Learns from what is not waited for any more.
  void Fetched(const Prefetched& prefetched);

  // Seals `tokens`, whose KV stands in the first rows of `block`, as the child of `parent`. Returns the span that is
  // kept: the one already there when the address is known. A shorter span of the same parent that the new one continues
  // is dropped, and one that a longer one has in the same block is not kept again. Of a mapped block a copy is kept, if
  // there is room for one.
  std::shared_ptr<const Span> Publish(const SpanKey& parent, std::span<const int32_t> tokens,
                                      std::shared_ptr<const KvBlock> block);

  // A fresh block, evicting spans that nobody holds if need be. ResourceExhausted when everything is held.
  Result<std::shared_ptr<KvBlock>> Allocate();
  // One that begins as a copy of another, which may be a cut one.
  Result<std::shared_ptr<KvBlock>> AllocateCopy(const std::byte* block, int rows);

  // Moves the half-full ends that nobody holds any more into cut blocks, where these are smaller: many short texts then
  // take little more than what they hold.
  void CutEnds();

  void Clear();
  SpanStoreStats stats() const;
  const KvGeometry& geometry() const { return pool_->geometry(); }

 private:
  struct Entry {
    std::shared_ptr<const Span> span;
    uint32_t position = 0;  // tokens of its run before it
    bool in_tiers = false;  // every tier has it or was given it
  };
  std::shared_ptr<const Span> FindHere(const SpanKey& key, std::span<const int32_t> tokens) const;
  // A span of exactly these tokens that a tier lets be read in place, or nullptr.
  std::shared_ptr<const Span> Mapped(const SpanKey& parent, const SpanKey& key, std::span<const int32_t> tokens) const;
  void NoteLoaded(KvSource from, int begin, int end, Match* match);
  // A span of `parent` with more than `more_than` of these tokens, from the first tier where it has come; nullptr when
  // there is none, or memory is all in use.
  std::shared_ptr<const Span> Load(const SpanKey& parent, const SpanKey& key, std::span<const int32_t> tokens,
                                   int more_than, Match* match);
  // Spans that are wanted from a tier, and what computing them takes instead.
  struct Wanted {
    std::vector<Tier::Wanted> spans;
    uint64_t bytes = 0;
    double work = 0;
    void Add(const Tier::Wanted& span, uint64_t n_bytes, double w);
  };
  void Ask(Tier& tier, const Wanted& wanted, std::optional<LoadPlanner::Tier> path, bool urgent,
           Prefetched* prefetched);
  void Learn(const Fetch& fetch, LoadPlanner::Tier path);
  uint64_t BytesOf(size_t n_tokens) const;  // of a span, in tiers. REQUIRES: there are any
  Entry& Insert(std::shared_ptr<const Span> span);
  void Use(const Entry& entry);  // tells the policy
  bool OfferToTiers(const Span& span);
  // Tiers note only spans that were used from end to end: what others have a beginning of may be of no use otherwise.
  void Touch(const Span& span, bool whole = true);
  void Erase(const SpanKey& key);
  bool EvictOne();

  std::shared_ptr<BlockPool> pool_;
  std::unordered_map<SpanKey, Entry> spans_;
  std::vector<SpanKey> ends_;                                   // that could be cut, new since CutEnds or held then
  std::unordered_map<SpanKey, std::vector<SpanKey>> children_;  // by parent, in order of publication
  std::unique_ptr<EvictionPolicy> policy_;
  std::unordered_map<SpanKey, int> n_expected_;  // hints that name a span, here or not
  SpanStoreStats stats_;
  std::vector<std::unique_ptr<Tier>> tiers_;
  std::optional<LoadPlanner> planner_;
  std::array<std::shared_ptr<Fetch>, 2> probes_;  // by LoadPlanner::Tier; for which nobody waits
};

}  // namespace spanwise
