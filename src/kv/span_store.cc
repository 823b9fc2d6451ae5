#include "kv/span_store.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/str.h"
#include "kv/tiers/record.h"

namespace spanwise {

SpanStore::SpanStore(const KvGeometry& geometry, size_t budget_bytes, std::string_view policy)
    : pool_(std::make_shared<BlockPool>(geometry, budget_bytes)) {
  auto made = MakeEvictionPolicy(
      policy, {.capacity_bytes = budget_bytes, .entry_bytes = geometry.BlockBytes(), .predict_bits = true});
  SW_CHECK(made.ok());
  policy_ = std::move(*made);
}

namespace {

// No request waits longer for a tier.
constexpr double kPatience_s = 10;

// Whether more of `tokens` begins a span than of what the match has for its end; takes it then.
bool TakeLonger(const std::shared_ptr<const Span>& span, std::span<const int32_t> tokens, SpanStore::Match* match) {
  const auto common = std::ranges::mismatch(span->tokens, tokens).in1 - span->tokens.begin();
  if (common <= match->partial_tokens) return false;
  match->partial = span;
  match->partial_tokens = static_cast<int>(common);
  return true;
}

// Whether `longer` begins with all of `tokens` and goes on.
bool Begins(std::span<const int32_t> tokens, std::span<const int32_t> longer) {
  return tokens.size() < longer.size() && std::ranges::equal(tokens, longer.first(tokens.size()));
}

// The rows of the smallest cut block that holds a span, where its own has more.
std::optional<int> CutEnd(const Span& span) {
  std::optional<int> least;
  for (const int rows : BlockPool::kCutRows)
    if (span.n_tokens() <= rows && rows < span.block->rows()) least = rows;
  return least;
}

}  // namespace

std::shared_ptr<const Span> SpanStore::FindHere(const SpanKey& key, std::span<const int32_t> tokens) const {
  const auto it = spans_.find(key);
  return it != spans_.end() && std::ranges::equal(it->second.span->tokens, tokens) ? it->second.span : nullptr;
}

std::shared_ptr<const Span> SpanStore::Mapped(const SpanKey& parent, const SpanKey& key,
                                              std::span<const int32_t> tokens) const {
  for (const auto& tier : tiers_)
    if (auto rows = tier->Map(key, tokens))
      return std::make_shared<Span>(
          Span{key,
               parent,
               {tokens.begin(), tokens.end()},
               KvBlock::Mapped(std::move(rows), KvGeometry::CutRows(static_cast<int>(tokens.size())))});
  return nullptr;
}

SpanStore::Match SpanStore::Peek(const RunAddress& address, std::span<const int32_t> tokens) const {
  Match match;
  SpanKey parent = address.ParentOf(0, address.root);
  while (tokens.size() >= kKvBlockTokens) {
    const auto block = tokens.first(kKvBlockTokens);
    const SpanKey key = ChildKey(parent, block);
    std::shared_ptr<const Span> span = FindHere(key, block);
    if (!span) span = Mapped(parent, key, block);
    if (!span) break;
    const SpanKey before = span->key;
    match.full.push_back(std::move(span));
    parent = address.ParentOf(match.n_tokens(), before);
    tokens = tokens.subspan(kKvBlockTokens);
  }
  if (const auto it = children_.find(parent); it != children_.end() && !tokens.empty())
    for (const SpanKey& key : it->second) TakeLonger(spans_.at(key).span, tokens, &match);
  if (static_cast<size_t>(match.partial_tokens) < tokens.size() && tokens.size() < kKvBlockTokens)
    if (const auto span = Mapped(parent, ChildKey(parent, tokens), tokens)) TakeLonger(span, tokens, &match);
  return match;
}

SpanStore::Match SpanStore::Find(const RunAddress& address, std::span<const int32_t> tokens) {
  Match match;
  stats_.lookup_tokens += tokens.size();
  const auto mapped = [&](const SpanKey& parent, const SpanKey& key, std::span<const int32_t> wanted) {
    auto span = Mapped(parent, key, wanted);
    if (!span) return span;
    const int before = static_cast<int>(match.full.size()) * kKvBlockTokens;
    NoteLoaded(KvSource::kDisk, before + match.partial_tokens, before + span->n_tokens(), &match);
    stats_.mapped_tokens += static_cast<uint64_t>(span->n_tokens() - match.partial_tokens);
    return span;
  };
  SpanKey parent = address.ParentOf(0, address.root);
  while (tokens.size() >= kKvBlockTokens) {
    const auto block = tokens.first(kKvBlockTokens);
    const SpanKey key = ChildKey(parent, block);
    std::shared_ptr<const Span> span = FindHere(key, block);
    if (!span) span = mapped(parent, key, block);
    if (!span) span = Load(parent, key, block, kKvBlockTokens - 1, &match);
    if (!span) break;
    const SpanKey before = span->key;
    match.full.push_back(std::move(span));
    parent = address.ParentOf(match.n_tokens(), before);
    tokens = tokens.subspan(kKvBlockTokens);
  }
  tokens = tokens.first(std::min<size_t>(tokens.size(), kKvBlockTokens));
  if (const auto it = children_.find(parent); it != children_.end() && !tokens.empty())
    for (const SpanKey& key : it->second) TakeLonger(spans_.at(key).span, tokens, &match);
  if (static_cast<size_t>(match.partial_tokens) < tokens.size()) {
    const SpanKey key = ChildKey(parent, tokens);
    std::shared_ptr<const Span> span;
    if (tokens.size() < kKvBlockTokens) span = mapped(parent, key, tokens);
    if (!span) span = Load(parent, key, tokens, match.partial_tokens, &match);
    if (span) TakeLonger(span, tokens, &match);
  }
  if (match.partial) Touch(*match.partial, match.partial_tokens == match.partial->n_tokens());
  for (auto it = match.full.rbegin(); it != match.full.rend(); ++it) Touch(**it);
  stats_.hit_tokens += static_cast<uint64_t>(match.n_tokens());
  return match;
}

uint64_t SpanStore::BytesOf(size_t n_tokens) const {
  return RecordBytes(tiers_.front()->format(), static_cast<int>(n_tokens));
}

std::shared_ptr<const Span> SpanStore::Load(const SpanKey& parent, const SpanKey& wanted,
                                            std::span<const int32_t> tokens, int more_than, Match* match) {
  for (const auto& tier : tiers_) {
    const auto found = tier->Find(wanted, tokens, more_than);
    if (!found) continue;
    const SpanKey key = std::ranges::equal(found->tokens, tokens) ? wanted : ChildKey(parent, found->tokens);
    if (const auto it = spans_.find(key); it != spans_.end()) return it->second.span;
    auto block = Allocate();
    if (!block.ok()) return nullptr;
    UnpackRows(tier->format(), found->rows, static_cast<int>(found->tokens.size()), (*block)->data());
    Entry& entry = Insert(std::make_shared<Span>(Span{key, parent, found->tokens, std::move(*block)}));
    entry.in_tiers = true;
    if (tier->source() == KvSource::kRemote)  // the next time it is nearer
      for (const auto& other : tiers_)
        entry.in_tiers = (other == tier || other->Keep(*entry.span, found->rows)) && entry.in_tiers;
    const auto common = std::ranges::mismatch(found->tokens, tokens).in1 - found->tokens.begin();
    const int begin = static_cast<int>(match->full.size()) * kKvBlockTokens +
                      (static_cast<int>(tokens.size()) < kKvBlockTokens ? match->partial_tokens : 0);
    const int end = static_cast<int>(match->full.size()) * kKvBlockTokens + static_cast<int>(common);
    NoteLoaded(tier->source(), begin, end, match);
    return entry.span;
  }
  return nullptr;
}

void SpanStore::NoteLoaded(KvSource from, int begin, int end, Match* match) {
  const bool remote = from == KvSource::kRemote;
  TokenRange& range = remote ? match->from_remote : match->from_disk;
  if (range.begin == range.end) range.begin = begin;
  range.end = end;
  (remote ? stats_.fetched_tokens : stats_.loaded_tokens) += static_cast<uint64_t>(end - begin);
}

SpanStore::Hint& SpanStore::Hint::operator=(Hint&& other) noexcept {
  std::swap(store_, other.store_);
  std::swap(keys_, other.keys_);
  return *this;
}

SpanStore::Hint::~Hint() {
  for (const SpanKey& key : keys_)
    if (const auto it = store_->n_expected_.find(key); --it->second == 0) store_->n_expected_.erase(it);
}

SpanStore::Hint SpanStore::Expect(std::span<const Wish> runs) {
  Hint hint;
  hint.store_ = this;
  const auto expect = [&](const SpanKey& key) {
    hint.keys_.push_back(key);
    ++n_expected_[key];
    policy_->Expect(key);
  };
  for (const Wish& run : runs) {
    std::span<const int32_t> rest = run.tokens;
    int n_before = 0;
    SpanKey parent = run.address.ParentOf(0, run.address.root);
    for (; rest.size() >= kKvBlockTokens; rest = rest.subspan(kKvBlockTokens)) {
      const SpanKey key = ChildKey(parent, rest.first(kKvBlockTokens));
      expect(key);
      parent = run.address.ParentOf(n_before += kKvBlockTokens, key);
    }
    if (rest.empty()) continue;
    Match end;
    if (const auto it = children_.find(parent); it != children_.end())
      for (const SpanKey& key : it->second) TakeLonger(spans_.at(key).span, rest, &end);
    if (end.partial) expect(end.partial->key);
    if (const SpanKey key = ChildKey(parent, rest); !end.partial || end.partial->key != key) expect(key);
  }
  return hint;
}

bool SpanStore::Prefetched::waits() const {
  const double waited_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - asked).count();
  return std::ranges::any_of(parts,
                             [&](const Part& part) { return waited_s < part.patience_s && !part.fetch->done(); });
}

void SpanStore::Wanted::Add(const Tier::Wanted& span, uint64_t n_bytes, double w) {
  spans.push_back(span);
  bytes += n_bytes;
  work += w;
}

SpanStore::Prefetched SpanStore::Prefetch(std::span<const Wish> runs, bool urgent) {
  Prefetched prefetched{.parts = {}, .here = {}, .asked = std::chrono::steady_clock::now()};
  if (tiers_.empty()) return prefetched;
  for (const auto path : {LoadPlanner::kDisk, LoadPlanner::kRemote})
    if (probes_[path] && probes_[path]->done()) Learn(*std::exchange(probes_[path], nullptr), path);
  const auto is_remote = [](const std::unique_ptr<Tier>& tier) { return tier->source() == KvSource::kRemote; };
  const bool any_remote = std::ranges::any_of(tiers_, is_remote);
  Wanted missing, far;  // what is not here, and what no disk has either
  for (size_t i = 0; i < runs.size(); ++i) {
    const Wish& run = runs[i];
    Match here = Peek(run.address, run.tokens);
    const bool all = static_cast<size_t>(here.n_tokens()) == run.tokens.size();
    const size_t n_here = here.full.size() * kKvBlockTokens;
    SpanKey before = here.full.empty() ? run.address.root : here.full.back()->key;
    if (urgent) prefetched.here.push_back(std::move(here));
    if (all) continue;
    const uint64_t run_bytes =
        (run.tokens.size() - n_here + kKvBlockTokens - 1) / kKvBlockTokens * BytesOf(kKvBlockTokens);
    bool on_disk = any_remote && (!planner_ || planner_->LoadSeconds(LoadPlanner::kDisk, run_bytes) <=
                                                   planner_->LoadSeconds(LoadPlanner::kRemote, run_bytes));
    for (size_t at = n_here; at < run.tokens.size(); at += kKvBlockTokens) {
      const auto tokens = run.tokens.subspan(at, std::min<size_t>(kKvBlockTokens, run.tokens.size() - at));
      const SpanKey parent = run.address.ParentOf(static_cast<int>(at), before);
      const Tier::Wanted span{.key = ChildKey(parent, tokens), .parent = parent, .tokens = tokens, .run = i};
      const uint64_t bytes = BytesOf(tokens.size());
      const double work = RecomputeCost(static_cast<double>(tokens.size()), run.depth + static_cast<double>(at));
      missing.Add(span, bytes, work);
      on_disk = on_disk && std::ranges::any_of(tiers_, [&](const auto& tier) { return tier->Has(parent, tokens); });
      // A server finds none that begins in the same way.
      const bool of_no_use = run.goes_on && tokens.size() < kKvBlockTokens;
      if (any_remote && !on_disk && !of_no_use) far.Add(span, bytes, work);
      before = span.key;
    }
  }
  for (const auto& tier : tiers_) {
    if (is_remote(tier)) {
      Ask(*tier, far, LoadPlanner::kRemote, urgent, &prefetched);
    } else {
      const auto path = tier->reads_in_place() ? std::nullopt : std::optional(LoadPlanner::kDisk);
      Ask(*tier, missing, path, urgent, &prefetched);
    }
  }
  return prefetched;
}

// What is read in place is worth it always, and what comes later is decided anew at its turn.
void SpanStore::Ask(Tier& tier, const Wanted& wanted, std::optional<LoadPlanner::Tier> path, bool urgent,
                    Prefetched* prefetched) {
  if (wanted.spans.empty()) return;
  using Choice = LoadPlanner::Choice;
  Choice choice = Choice::kLoad;
  double patience_s = kPatience_s;
  if (planner_ && path) {
    if (urgent) {
      choice = planner_->Choose(*path, wanted.bytes, wanted.work, wanted.spans.size());
    } else if (planner_->LoadSeconds(*path, wanted.bytes) > planner_->ComputeSeconds(wanted.work)) {
      choice = Choice::kCompute;
    }
    patience_s = std::min(patience_s, planner_->PatienceSeconds(*path, wanted.bytes, wanted.work));
  }
  if (choice == Choice::kLoad) {
    if (auto fetch = tier.Prefetch(wanted.spans, urgent))
      prefetched->parts.push_back({.fetch = std::move(fetch), .patience_s = patience_s, .path = path});
  } else if (choice == Choice::kProbe && !probes_[*path]) {
    probes_[*path] = tier.Prefetch(std::span(wanted.spans).first(1), urgent);
  }
}

void SpanStore::Fetched(const Prefetched& prefetched) {
  for (const Prefetched::Part& part : prefetched.parts)
    if (part.path) Learn(*part.fetch, *part.path);
}

void SpanStore::Learn(const Fetch& fetch, LoadPlanner::Tier path) {
  const Fetch::Progress p = fetch.progress();
  if (!planner_ || !p.begun) return;
  // Of what is given up, the span that was on its way counts as if it had just come.
  const bool answered = p.latency_s < p.seconds;
  const uint64_t on_its_way = p.done || !answered ? 0 : BytesOf(kKvBlockTokens);
  planner_->RecordLoad(path, p.bytes + on_its_way, p.latency_s, p.seconds, /*given_up=*/!p.done);
}

void SpanStore::OnFetched(const std::function<void()>& call) {
  for (const auto& tier : tiers_) tier->OnFetched(call);
}

void SpanStore::Idle(bool idle) {
  for (const auto& tier : tiers_) tier->Idle(idle);
}

std::shared_ptr<const Span> SpanStore::Publish(const SpanKey& parent, std::span<const int32_t> tokens,
                                               std::shared_ptr<const KvBlock> block) {
  const SpanKey key = ChildKey(parent, tokens);
  if (const auto it = spans_.find(key); it != spans_.end()) {
    Touch(*it->second.span);
    return it->second.span;
  }
  auto sealed = std::make_shared<Span>(Span{key, parent, {tokens.begin(), tokens.end()}, std::move(block)});
  if (sealed->block->is_mapped()) {
    auto copy = AllocateCopy(sealed->block->data(), sealed->block->rows());
    if (!copy.ok()) return sealed;
    sealed->block = std::move(*copy);
  }
  std::vector<SpanKey> continued;
  for (const SpanKey& sibling : children_[parent]) {
    const Span& known = *spans_.at(sibling).span;
    if (Begins(known.tokens, tokens)) continued.push_back(sibling);
    if (known.block == sealed->block && Begins(tokens, known.tokens)) return sealed;  // a part of what is there already
  }
  for (const SpanKey& sibling : continued) Erase(sibling);
  ++stats_.published_spans;
  Entry& entry = Insert(std::move(sealed));
  entry.in_tiers = OfferToTiers(*entry.span);
  return entry.span;
}

SpanStore::Entry& SpanStore::Insert(std::shared_ptr<const Span> span) {
  const SpanKey key = span->key;
  if (CutEnd(*span)) ends_.push_back(key);
  children_[span->parent].push_back(key);
  const auto above = spans_.find(span->parent);
  const uint32_t position = above == spans_.end() ? 0 : above->second.position + kKvBlockTokens;
  Entry& entry = spans_.emplace(key, Entry{.span = std::move(span), .position = position}).first->second;
  Use(entry);
  return entry;
}

bool SpanStore::OfferToTiers(const Span& span) {
  bool all = true;
  for (const auto& tier : tiers_) all = tier->Offer(span) && all;
  return all;
}

Result<std::shared_ptr<KvBlock>> SpanStore::Allocate() {
  while (true) {
    if (auto block = pool_->Allocate()) return block;
    if (!EvictOne())
      return ResourceExhausted(StrFormat("KV memory: all {} blocks of {} tokens are in use by running requests",
                                         pool_->n_blocks_budget(), kKvBlockTokens));
  }
}

Result<std::shared_ptr<KvBlock>> SpanStore::AllocateCopy(const std::byte* block, int rows) {
  SW_ASSIGN_OR_RETURN(auto copy, Allocate());
  ExactCodec().decode(geometry(), block, rows, copy->data());
  ++stats_.copied_blocks;
  return copy;
}

void SpanStore::CutEnds() {
  std::vector<std::byte> cut_rows;
  std::erase_if(ends_, [&](const SpanKey& key) {
    const auto it = spans_.find(key);
    if (it == spans_.end()) return true;
    std::shared_ptr<const Span>& span = it->second.span;
    const std::optional<int> rows = CutEnd(*span);
    if (!rows) return true;
    if (span.use_count() > 1 || span->block.use_count() > 1) return false;
    cut_rows.resize(geometry().BlockBytes(*rows));
    ExactCodec().encode(geometry(), span->block->data(), span->n_tokens(), cut_rows.data());
    Span moved{key, span->parent, span->tokens, nullptr};
    span = nullptr;  // makes room
    const std::shared_ptr<KvBlock> block = pool_->Allocate(*rows);
    SW_CHECK(block != nullptr);
    std::ranges::copy(cut_rows, block->data());
    moved.block = block;
    span = std::make_shared<Span>(std::move(moved));
    return true;
  });
}

void SpanStore::Clear() {
  ends_.clear();
  for (const auto& [key, entry] : spans_) policy_->Remove(key);
  spans_.clear();
  children_.clear();
}

SpanStoreStats SpanStore::stats() const {
  SpanStoreStats stats = stats_;
  stats.n_spans = spans_.size();
  stats.n_blocks = pool_->n_blocks_in_use();
  stats.n_blocks_budget = pool_->n_blocks_budget();
  return stats;
}

void SpanStore::Use(const Entry& entry) {
  policy_->Use({.key = entry.span->key,
                .bytes = geometry().BlockBytes(),  // a cut one may keep all of its memory in use
                .cost = RecomputeCost(entry.span->n_tokens(), entry.position)});
  if (n_expected_.contains(entry.span->key)) policy_->Expect(entry.span->key);
}

void SpanStore::Touch(const Span& span, bool whole) {
  if (const auto it = spans_.find(span.key); it != spans_.end()) Use(it->second);
  if (!whole) return;
  for (const auto& tier : tiers_) tier->Touch(span.parent, span.tokens);
}

void SpanStore::Erase(const SpanKey& key) {
  const auto it = spans_.find(key);
  SW_DCHECK(it != spans_.end());
  const auto siblings = children_.find(it->second.span->parent);
  std::erase(siblings->second, key);
  if (siblings->second.empty()) children_.erase(siblings);
  policy_->Remove(key);
  spans_.erase(it);
}

bool SpanStore::EvictOne() {
  // A span may be held by a running context, and its block by a run that still grows in it or by other spans (a
  // repaired run shares what it left as it was). Those of the last kind go when there is no other: their blocks are
  // free once nobody holds them.
  for (const bool shared : {false, true}) {
    const auto is_held = [&](const SpanKey& key) {
      const std::shared_ptr<const Span>& span = spans_.at(key).span;
      return span.use_count() > 1 || (!shared && span->block.use_count() > 1);
    };
    SpanKey end;
    const auto may_leave = [&](const SpanKey& key) {
      if (is_held(key)) return false;
      end = key;
      for (auto it = children_.find(end); it != children_.end(); it = children_.find(end)) end = it->second.back();
      return end == key || !is_held(end);
    };
    if (!policy_->Victim(may_leave)) continue;
    const Entry& entry = spans_.at(end);
    if (!entry.in_tiers) OfferToTiers(*entry.span);  // there was no room for it when it was new
    Erase(end);
    ++stats_.evicted_spans;
    return true;
  }
  return false;
}

}  // namespace spanwise
