#include "kv/run.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "kernels/element.h"

namespace spanwise {

int Run::Reuse(SpanStore& store, std::span<const int32_t> tokens, int max_reused) {
  SW_CHECK(tokens_.empty());
  const auto wanted = tokens.first(std::min(tokens.size(), static_cast<size_t>(std::max(0, max_reused))));
  SpanStore::Match match = store.Find(address_, wanted);
  from_disk_ = match.from_disk;
  from_remote_ = match.from_remote;
  spans_ = std::move(match.full);
  for (const auto& span : spans_) {
    blocks_.push_back(span->block->data());
    writable_.push_back(nullptr);
  }
  if (match.partial) {
    blocks_.push_back(match.partial->block->data());
    writable_.push_back(nullptr);
    own_.push_back(match.partial->block);
    end_rows_ = match.partial->block->rows();
  }
  n_ready_ = static_cast<int>(spans_.size()) * kKvBlockTokens + match.partial_tokens;
  tokens_.assign(wanted.begin(), wanted.begin() + n_ready_);
  n_sealed_ = static_cast<int>(spans_.size()) * kKvBlockTokens;
  if (!spans_.empty()) sealed_ = spans_.back()->key;
  return n_ready_;
}

Status Run::Extend(SpanStore& store, std::span<const int32_t> tokens) {
  if (tokens.empty()) return Status::Ok();
  const size_t n_blocks = (tokens_.size() + tokens.size() + kKvBlockTokens - 1) / kKvBlockTokens;
  std::shared_ptr<KvBlock> copy;  // of a half-full end that is not this run's
  if (tokens_.size() % kKvBlockTokens > 0 && writable_.back() == nullptr) {
    SW_ASSIGN_OR_RETURN(copy, store.AllocateCopy(blocks_.back(), end_rows_));
  }
  std::vector<std::shared_ptr<KvBlock>> fresh;
  while (blocks_.size() + fresh.size() < n_blocks) {
    SW_ASSIGN_OR_RETURN(auto block, store.Allocate());
    fresh.push_back(std::move(block));
  }
  if (copy) {
    blocks_.back() = writable_.back() = copy->data();
    own_.back() = std::move(copy);
    end_rows_ = kKvBlockTokens;
  }
  for (auto& block : fresh) {
    blocks_.push_back(block->data());
    writable_.push_back(block->data());
    own_.push_back(std::move(block));
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  return Status::Ok();
}

Result<Run> Run::Repaired(const RunAddress& address, const Run& source, std::span<const int32_t> stale,
                          SpanStore& store) {
  SW_CHECK(source.n_ready_ == source.n_tokens());
  Run run(address);
  run.from_disk_ = source.from_disk_;
  run.from_remote_ = source.from_remote_;
  run.tokens_ = source.tokens_;
  run.blocks_ = source.blocks_;
  run.end_rows_ = source.end_rows_;
  run.writable_.assign(source.blocks_.size(), nullptr);
  for (const auto& span : source.spans_) run.own_.push_back(span->block);
  run.own_.insert(run.own_.end(), source.own_.begin(), source.own_.end());
  for (const int32_t row : stale) {
    const auto i = static_cast<size_t>(row / kKvBlockTokens);
    if (run.writable_[i] != nullptr) continue;
    const int rows = i + 1 == run.blocks_.size() ? std::exchange(run.end_rows_, kKvBlockTokens) : kKvBlockTokens;
    SW_ASSIGN_OR_RETURN(auto copy, store.AllocateCopy(run.blocks_[i], rows));
    run.blocks_[i] = run.writable_[i] = copy->data();
    run.own_[i] = std::move(copy);
  }
  run.stale_.assign(stale.begin(), stale.end());
  run.n_ready_ = run.n_tokens() - static_cast<int>(stale.size());
  return run;
}

Status Run::Truncate(SpanStore& store, int n) {
  SW_CHECK(n <= n_ready_);
  const auto whole = static_cast<size_t>(n / kKvBlockTokens);  // blocks
  const bool partial = n % kKvBlockTokens > 0;
  if (partial && (writable_[whole] == nullptr || own_[whole - spans_.size()].use_count() > 1)) {
    SW_ASSIGN_OR_RETURN(auto copy, store.AllocateCopy(blocks_[whole], View(0, n).RowsOf(whole)));
    blocks_[whole] = writable_[whole] = copy->data();
    if (whole < spans_.size()) {
      own_.assign(1, std::move(copy));
    } else {
      own_[whole - spans_.size()] = std::move(copy);
    }
  } else if (whole < spans_.size()) {
    own_.clear();
  }
  spans_.resize(std::min(spans_.size(), whole));
  own_.resize(whole + partial - spans_.size());
  blocks_.resize(whole + partial);
  writable_.resize(whole + partial);
  end_rows_ = kKvBlockTokens;
  tokens_.resize(static_cast<size_t>(n));
  n_ready_ = n;
  if (n_sealed_ > n) {
    n_sealed_ = static_cast<int>(whole) * kKvBlockTokens;
    sealed_ = RunKey(address_, std::span(tokens_).first(static_cast<size_t>(n_sealed_)));
  }
  return Status::Ok();
}

void Run::MarkReady(int n) {
  n_ready_ += n;
  if (!stale_.empty()) n_repaired_ += static_cast<size_t>(n);
  SW_DCHECK(n_ready_ <= n_tokens());
}

SpanKey Run::Seal(SpanStore& store) {
  if (!stale().empty()) return address_.root;
  const auto block_at = [&](int token) { return own_[static_cast<size_t>(token / kKvBlockTokens) - spans_.size()]; };
  const std::span<const int32_t> tokens(tokens_);
  for (; n_ready_ - n_sealed_ >= kKvBlockTokens; n_sealed_ += kKvBlockTokens)
    sealed_ = store
                  .Publish(address_.ParentOf(n_sealed_, sealed_),
                           tokens.subspan(static_cast<size_t>(n_sealed_), kKvBlockTokens), block_at(n_sealed_))
                  ->key;
  if (n_ready_ == n_sealed_) return sealed_;
  // The half-full end is offered too; it stays this run's to continue, in rows that the span does not cover.
  const auto rest = tokens.subspan(static_cast<size_t>(n_sealed_), static_cast<size_t>(n_ready_ - n_sealed_));
  return store.Publish(address_.ParentOf(n_sealed_, sealed_), rest, block_at(n_sealed_))->key;
}

double ValueChange(const KvGeometry& geometry, const KvRun& before, const KvRun& after, int token) {
  const auto block = static_cast<size_t>(token / kKvBlockTokens), dim = static_cast<size_t>(geometry.head_dim);
  const size_t row = static_cast<size_t>(token % kKvBlockTokens) * dim;
  double mean = 0;
  for (int layer = 0; layer < geometry.n_layers; ++layer) {
    double difference = 0, norm = 0;
    for (int head = 0; head < geometry.n_kv_heads; ++head) {
      const size_t at_before = geometry.ValueOffset(layer, head, before.RowsOf(block));
      const size_t at_after = geometry.ValueOffset(layer, head, after.RowsOf(block));
      for (size_t i = row; i < row + dim; ++i) {
        const double old = LoadElement(before.blocks[block] + at_before, geometry.dtype, i);
        const double change = LoadElement(after.blocks[block] + at_after, geometry.dtype, i) - old;
        difference += change * change;
        norm += old * old;
      }
    }
    if (difference > 0) mean += difference / std::max(norm, std::numeric_limits<double>::min());
  }
  return mean / geometry.n_layers;
}

}  // namespace spanwise
