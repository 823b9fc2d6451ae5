#include "kv/span_store.h"

#include <algorithm>

#include "base/check.h"
#include "base/str.h"

namespace spanwise {

SpanStore::SpanStore(const KvGeometry& geometry, size_t budget_bytes)
    : pool_(std::make_shared<BlockPool>(geometry, budget_bytes)) {}

SpanStore::Match SpanStore::Peek(const SpanKey& root, std::span<const int32_t> tokens) const {
  Match match;
  SpanKey parent = root;
  while (tokens.size() >= kKvBlockTokens) {
    const auto block = tokens.first(kKvBlockTokens);
    const SpanKey key = ChildKey(parent, block);
    const auto it = spans_.find(key);
    if (it == spans_.end() || !std::ranges::equal(it->second.span->tokens, block)) break;
    match.full.push_back(it->second.span);
    parent = key;
    tokens = tokens.subspan(kKvBlockTokens);
  }
  if (const auto it = children_.find(parent); it != children_.end() && !tokens.empty()) {
    for (const SpanKey& key : it->second) {
      const std::shared_ptr<const Span>& span = spans_.at(key).span;
      const auto common = std::ranges::mismatch(span->tokens, tokens).in1 - span->tokens.begin();
      if (common > match.partial_tokens) {
        match.partial = span;
        match.partial_tokens = static_cast<int>(common);
      }
    }
  }
  return match;
}

SpanStore::Match SpanStore::Find(const SpanKey& root, std::span<const int32_t> tokens) {
  Match match = Peek(root, tokens);
  stats_.lookup_tokens += tokens.size();
  if (match.partial) Touch(match.partial->key);
  for (auto it = match.full.rbegin(); it != match.full.rend(); ++it) Touch((*it)->key);
  stats_.hit_tokens += static_cast<uint64_t>(match.n_tokens());
  return match;
}

std::shared_ptr<const Span> SpanStore::Publish(const SpanKey& parent, std::span<const int32_t> tokens,
                                               std::shared_ptr<const KvBlock> block) {
  const SpanKey key = ChildKey(parent, tokens);
  if (const auto it = spans_.find(key); it != spans_.end()) {
    Touch(key);
    return it->second.span;
  }
  std::vector<SpanKey> continued;
  for (const SpanKey& sibling : children_[parent]) {
    const std::vector<int32_t>& known = spans_.at(sibling).span->tokens;
    if (known.size() < tokens.size() && std::ranges::equal(known, tokens.first(known.size())))
      continued.push_back(sibling);
  }
  for (const SpanKey& sibling : continued) Erase(sibling);
  auto span =
      std::make_shared<Span>(Span{key, parent, std::vector<int32_t>(tokens.begin(), tokens.end()), std::move(block)});
  ++stats_.published_spans;
  children_[parent].push_back(key);
  const auto above = spans_.find(parent);
  spans_.emplace(key, Entry{span, ages_.insert(above == spans_.end() ? ages_.end() : above->second.age, key)});
  return span;
}

Result<std::shared_ptr<KvBlock>> SpanStore::Allocate() {
  while (true) {
    if (auto block = pool_->Allocate()) return block;
    if (!EvictOne())
      return ResourceExhausted(StrFormat("KV memory: all {} blocks of {} tokens are in use by running requests",
                                         pool_->n_blocks_budget(), kKvBlockTokens));
  }
}

void SpanStore::Clear() {
  spans_.clear();
  children_.clear();
  ages_.clear();
}

SpanStoreStats SpanStore::stats() const {
  SpanStoreStats stats = stats_;
  stats.n_spans = spans_.size();
  stats.n_blocks = pool_->n_blocks_in_use();
  stats.n_blocks_budget = pool_->n_blocks_budget();
  return stats;
}

void SpanStore::Touch(const SpanKey& key) {
  Entry& entry = spans_.at(key);
  ages_.splice(ages_.end(), ages_, entry.age);
}

void SpanStore::Erase(const SpanKey& key) {
  const auto it = spans_.find(key);
  SW_DCHECK(it != spans_.end());
  const auto siblings = children_.find(it->second.span->parent);
  std::erase(siblings->second, key);
  if (siblings->second.empty()) children_.erase(siblings);
  ages_.erase(it->second.age);
  spans_.erase(it);
}

bool SpanStore::EvictOne() {
  // A span may be held by a running context, and its block by a run that still grows in it or by other spans (a
  // repaired run shares what it left as it was). Those of the last kind go when there is no other: their blocks are
  // free once nobody holds them.
  for (const bool shared : {false, true}) {
    for (const SpanKey& key : ages_) {
      const Entry& entry = spans_.at(key);
      if (entry.span.use_count() > 1 || (!shared && entry.span->block.use_count() > 1)) continue;
      Erase(SpanKey(key));
      ++stats_.evicted_spans;
      return true;
    }
  }
  return false;
}

}  // namespace spanwise
