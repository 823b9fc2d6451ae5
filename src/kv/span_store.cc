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

// No request waits longer for a server.
constexpr double kPatience_s = 10;

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Whether more of `tokens` begins a span than of what the match has for its end; takes it then.
bool TakeLonger(const std::shared_ptr<const Span>& span, std::span<const int32_t> tokens, SpanStore::Match* match) {
  const auto common = std::ranges::mismatch(span->tokens, tokens).in1 - span->tokens.begin();
  if (common <= match->partial_tokens) return false;
  match->partial = span;
  match->partial_tokens = static_cast<int>(common);
  return true;
}

}  // namespace

std::shared_ptr<const Span> SpanStore::FindHere(const SpanKey& key, std::span<const int32_t> tokens) const {
  const auto it = spans_.find(key);
  return it != spans_.end() && std::ranges::equal(it->second.span->tokens, tokens) ? it->second.span : nullptr;
}

std::shared_ptr<const Span> SpanStore::Mapped(const SpanKey& parent, const SpanKey& key,
                                              std::span<const int32_t> tokens) const {
  for (const auto& tier : tiers_)
    if (auto rows = tier->Map(parent, tokens))
      return std::make_shared<Span>(
          Span{key, parent, {tokens.begin(), tokens.end()}, KvBlock::Mapped(std::move(rows))});
  return nullptr;
}

SpanStore::Match SpanStore::Peek(const RunAddress& address, std::span<const int32_t> tokens) const {
  return Look(address, tokens, /*mapped=*/true);
}

SpanStore::Match SpanStore::Look(const RunAddress& address, std::span<const int32_t> tokens, bool mapped) const {
  Match match;
  SpanKey parent = address.ParentOf(0, address.root);
  while (tokens.size() >= kKvBlockTokens) {
    const auto block = tokens.first(kKvBlockTokens);
    const SpanKey key = ChildKey(parent, block);
    std::shared_ptr<const Span> span = FindHere(key, block);
    if (!span && mapped) span = Mapped(parent, key, block);
    if (!span) break;
    const SpanKey before = span->key;
    match.full.push_back(std::move(span));
    parent = address.ParentOf(match.n_tokens(), before);
    tokens = tokens.subspan(kKvBlockTokens);
  }
  if (const auto it = children_.find(parent); it != children_.end() && !tokens.empty())
    for (const SpanKey& key : it->second) TakeLonger(spans_.at(key).span, tokens, &match);
  return match;
}

void SpanStore::Expect(std::span<const WantedRun> runs, ThreadPool& pool) {
  if (tiers_.empty()) return;
  std::vector<WantedRun> missing;
  uint64_t bytes = 0;
  for (const WantedRun& run : runs) {
    const Match match = Look(run.address, run.tokens, /*mapped=*/false);
    if (static_cast<size_t>(match.n_tokens()) == run.tokens.size()) continue;
    const size_t n_full = match.full.size() * kKvBlockTokens;
    missing.push_back({.address = match.full.empty()
                                      ? run.address
                                      : run.address.Behind(static_cast<int>(n_full), match.full.back()->key),
                       .tokens = run.tokens.subspan(n_full)});
    bytes += BytesOf(missing.back().tokens.size());
  }
  if (missing.empty()) return;
  const auto start = std::chrono::steady_clock::now();
  for (const auto& tier : tiers_) tier->Expect(missing, pool);
  expected_s_per_byte_ = SecondsSince(start) / static_cast<double>(bytes);
}

SpanStore::Match SpanStore::Find(const RunAddress& address, std::span<const int32_t> tokens, int depth) {
  Match match;
  Loading loading{.rest = tokens, .position = depth, .match = &match};
  stats_.lookup_tokens += tokens.size();
  SpanKey parent = address.ParentOf(0, address.root);
  while (tokens.size() >= kKvBlockTokens) {
    const auto block = tokens.first(kKvBlockTokens);
    const SpanKey key = ChildKey(parent, block);
    std::shared_ptr<const Span> span = FindHere(key, block);
    if (!span && (span = Mapped(parent, key, block))) {
      stats_.mapped_tokens += kKvBlockTokens;
      const int begin = static_cast<int>(match.full.size()) * kKvBlockTokens;
      NoteLoaded(KvSource::kDisk, begin, begin + kKvBlockTokens, &match);
    }
    if (!span) span = Load(parent, block, kKvBlockTokens - 1, loading);
    if (!span) break;
    const SpanKey before = span->key;
    match.full.push_back(std::move(span));
    parent = address.ParentOf(match.n_tokens(), before);
    tokens = tokens.subspan(kKvBlockTokens);
    loading.rest = tokens;
    loading.position += kKvBlockTokens;
  }
  tokens = tokens.first(std::min<size_t>(tokens.size(), kKvBlockTokens));
  if (const auto it = children_.find(parent); it != children_.end() && !tokens.empty())
    for (const SpanKey& key : it->second) TakeLonger(spans_.at(key).span, tokens, &match);
  if (static_cast<size_t>(match.partial_tokens) < tokens.size())
    if (const auto span = Load(parent, tokens, match.partial_tokens, loading)) TakeLonger(span, tokens, &match);
  if (planner_ && loading.bytes > 0)
    planner_->RecordLoad(LoadPlanner::kDisk, loading.bytes, 0,
                         loading.seconds + expected_s_per_byte_ * static_cast<double>(loading.bytes));
  if (match.partial) Touch(*match.partial, match.partial_tokens == match.partial->n_tokens());
  for (auto it = match.full.rbegin(); it != match.full.rend(); ++it) Touch(**it);
  stats_.hit_tokens += static_cast<uint64_t>(match.n_tokens());
  return match;
}

uint64_t SpanStore::BytesOf(size_t n_tokens) const {
  const SpanFormat& format = tiers_.front()->format();
  return n_tokens / kKvBlockTokens * RecordBytes(format, kKvBlockTokens) +
         (n_tokens % kKvBlockTokens ? RecordBytes(format, static_cast<int>(n_tokens % kKvBlockTokens)) : 0);
}

// Decided once for a run, from where memory ends; what turns out slower than that is given up.
bool SpanStore::WorthReading(Loading& l) {
  if (!planner_) return true;
  using Choice = LoadPlanner::Choice;
  if (!l.choice) {
    const double work = RecomputeCost(static_cast<double>(l.rest.size()), l.position);
    l.choice = planner_->Choose(LoadPlanner::kDisk, BytesOf(l.rest.size()), work,
                                (l.rest.size() + kKvBlockTokens - 1) / kKvBlockTokens);
    l.patience_s = planner_->PatienceSeconds(LoadPlanner::kDisk, BytesOf(l.rest.size()), work);
  }
  if (*l.choice == Choice::kLoad) return l.seconds <= l.patience_s;
  return *l.choice == Choice::kProbe && l.bytes == 0;
}

std::shared_ptr<const Span> SpanStore::Load(const SpanKey& parent, std::span<const int32_t> tokens, int more_than,
                                            Loading& loading) {
  for (const auto& tier : tiers_) {
    const bool remote = tier->source() == KvSource::kRemote;
    if (!remote && !WorthReading(loading)) continue;
    const auto start = std::chrono::steady_clock::now();
    const auto found = tier->Find(parent, tokens, more_than);
    if (!found) continue;
    const SpanKey key = ChildKey(parent, found->tokens);
    if (const auto it = spans_.find(key); it != spans_.end()) return it->second.span;
    auto block = Allocate();
    if (!block.ok()) return nullptr;
    UnpackRows(tier->format(), found->rows, static_cast<int>(found->tokens.size()), (*block)->data());
    Entry& entry = Insert(std::make_shared<Span>(Span{key, parent, found->tokens, std::move(*block)}));
    entry.in_tiers = true;
    if (!remote) {
      loading.seconds += SecondsSince(start);
      loading.bytes += RecordBytes(tier->format(), entry.span->n_tokens());
    } else {  // the next time it is nearer
      for (const auto& other : tiers_)
        entry.in_tiers = (other == tier || other->Keep(*entry.span, found->rows)) && entry.in_tiers;
    }
    const auto common = std::ranges::mismatch(found->tokens, tokens).in1 - found->tokens.begin();
    const int begin = static_cast<int>(loading.match->full.size()) * kKvBlockTokens +
                      (static_cast<int>(tokens.size()) < kKvBlockTokens ? loading.match->partial_tokens : 0);
    const int end = static_cast<int>(loading.match->full.size()) * kKvBlockTokens + static_cast<int>(common);
    NoteLoaded(tier->source(), begin, end, loading.match);
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

SpanStore::Prefetched SpanStore::Prefetch(std::span<const Wish> runs, bool urgent) {
  const auto is_remote = [](const std::unique_ptr<Tier>& tier) { return tier->source() == KvSource::kRemote; };
  const auto tier = std::ranges::find_if(tiers_, is_remote);
  if (tier == tiers_.end()) return {};
  if (probe_ && probe_->done()) Fetched(*std::exchange(probe_, nullptr));
  std::vector<Tier::Wanted> wanted;
  uint64_t bytes = 0;
  double work = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunAddress& address = runs[i].address;
    const Match here = Peek(address, runs[i].tokens);
    const auto n_here = static_cast<size_t>(here.n_tokens());
    if (n_here == runs[i].tokens.size()) continue;
    size_t first = here.full.size() * kKvBlockTokens;
    SpanKey before = here.full.empty() ? address.root : here.full.back()->key;
    const uint64_t run_bytes = BytesOf(runs[i].tokens.size() - first);
    const bool near = !planner_ || planner_->LoadSeconds(LoadPlanner::kDisk, run_bytes) <=
                                       planner_->LoadSeconds(LoadPlanner::kRemote, run_bytes);
    bool on_disk = near;
    for (size_t at = first; at < runs[i].tokens.size(); at += kKvBlockTokens) {
      const auto tokens = runs[i].tokens.subspan(at, std::min<size_t>(kKvBlockTokens, runs[i].tokens.size() - at));
      const SpanKey parent = address.ParentOf(static_cast<int>(at), before);
      on_disk = on_disk && std::ranges::any_of(tiers_, [&](const auto& other) { return other->Has(parent, tokens); });
      const SpanKey key = ChildKey(parent, tokens);
      if (on_disk) {
        first += tokens.size();
      } else {
        wanted.push_back({.key = key, .parent = parent, .tokens = tokens, .run = i});
      }
      before = key;
    }
    const size_t n_wanted = runs[i].tokens.size() - std::min(first, runs[i].tokens.size());
    bytes += BytesOf(n_wanted);
    work += RecomputeCost(static_cast<double>(n_wanted), runs[i].depth + static_cast<double>(first));
  }
  if (wanted.empty()) return {};
  if (!planner_) return {.fetch = (*tier)->Prefetch(wanted, urgent), .patience_s = kPatience_s};
  switch (planner_->Choose(LoadPlanner::kRemote, bytes, work, wanted.size())) {
    case LoadPlanner::Choice::kLoad:
      return {.fetch = (*tier)->Prefetch(wanted, urgent),
              .patience_s = std::min(planner_->PatienceSeconds(LoadPlanner::kRemote, bytes, work), kPatience_s)};
    case LoadPlanner::Choice::kProbe:
      if (!probe_) probe_ = (*tier)->Prefetch(std::span(wanted).first(1), urgent);
      break;
    case LoadPlanner::Choice::kCompute:
      break;
  }
  return {};
}

void SpanStore::Fetched(const Fetch& fetch) {
  const Fetch::Progress p = fetch.progress();
  if (!planner_ || !p.begun) return;
  // Of what is given up, the span that was on its way counts as if it had just come.
  const bool answered = p.latency_s < p.seconds;
  const uint64_t on_its_way = p.done || !answered ? 0 : RecordBytes(tiers_.front()->format(), kKvBlockTokens);
  planner_->RecordLoad(LoadPlanner::kRemote, p.bytes + on_its_way, p.latency_s, p.seconds, /*given_up=*/!p.done);
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
    auto copy = Allocate();
    if (!copy.ok()) return sealed;
    std::memcpy((*copy)->data(), sealed->block->data(), geometry().BlockBytes());
    sealed->block = std::move(*copy);
  }
  std::vector<SpanKey> continued;
  for (const SpanKey& sibling : children_[parent]) {
    const std::vector<int32_t>& known = spans_.at(sibling).span->tokens;
    if (known.size() < tokens.size() && std::ranges::equal(known, tokens.first(known.size())))
      continued.push_back(sibling);
  }
  for (const SpanKey& sibling : continued) Erase(sibling);
  ++stats_.published_spans;
  Entry& entry = Insert(std::move(sealed));
  entry.in_tiers = OfferToTiers(*entry.span);
  return entry.span;
}

SpanStore::Entry& SpanStore::Insert(std::shared_ptr<const Span> span) {
  const SpanKey key = span->key;
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

Result<std::shared_ptr<KvBlock>> SpanStore::AllocateCopy(const std::byte* block) {
  SW_ASSIGN_OR_RETURN(auto copy, Allocate());
  std::memcpy(copy->data(), block, geometry().BlockBytes());
  ++stats_.copied_blocks;
  return copy;
}

void SpanStore::Clear() {
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
                .bytes = geometry().BlockBytes(),
                .cost = RecomputeCost(entry.span->n_tokens(), entry.position)});
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
