// A run: tokens encoded one after another, of which a beginning may come from the store and the end may grow.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/kv_view.h"
#include "kv/span.h"
#include "kv/span_store.h"
#include "spanwise/status.h"

namespace spanwise {

// Consecutive tokens encoded one after another, of which a beginning may come from the store. Rows of the tokens
// [0, n_ready) hold KV; [n_ready, n_tokens) have memory and wait to be encoded. Never writes to memory that a span of
// another run covers: what continues a half-full span is copied first. Thread-compatible.
class Run {
 public:
  // A run that is kept at `address`.
  explicit Run(RunAddress address) : address_(std::move(address)), sealed_(address_.root) {}
  Run(Run&&) = default;
  Run& operator=(Run&&) = default;

  // Takes as many leading tokens as the store knows, at most max_reused, and copies nothing. Returns how many.
  // REQUIRES: the run is empty.
  int Reuse(SpanStore& store, std::span<const int32_t> tokens, int max_reused);

  // Appends tokens and the memory for their rows; a half-full end that was taken from the store is copied before, and
  // stays the run's own. ResourceExhausted leaves the run as it was.
  Status Extend(SpanStore& store, std::span<const int32_t> tokens);

  // A run with another's tokens and KV, of which the rows `stale`, ascending, are to be encoded again: their blocks are
  // copied, all others shared. REQUIRES: all of `source` is ready. ResourceExhausted when there is no memory for
  // copies.
  static Result<Run> Repaired(const RunAddress& address, const Run& source, std::span<const int32_t> stale,
                              SpanStore& store);

  // Rows of a repaired run that wait to be encoded again.
  std::span<const int32_t> stale() const { return std::span(stale_).subspan(n_repaired_); }

  // Drops all but the first n tokens. Where a span covers rows that come to be written again, the block is copied
  // first: ResourceExhausted leaves the run as it was. REQUIRES: n <= n_ready.
  Status Truncate(SpanStore& store, int n);

  // Says that the next n waiting rows now hold KV.
  void MarkReady(int n);

  // Offers all ready rows to the store; of a repaired run nothing before all are. Returns the address of the ready part
  // of the run.
  SpanKey Seal(SpanStore& store);

  // The tokens from the first to the last that Reuse took from each kind of tier below memory.
  const TokenRange& from_disk() const { return from_disk_; }
  const TokenRange& from_remote() const { return from_remote_; }

  const RunAddress& address() const { return address_; }
  std::span<const int32_t> tokens() const { return tokens_; }
  int n_tokens() const { return static_cast<int>(tokens_.size()); }
  int n_ready() const { return n_ready_; }

  // The first n_tokens tokens placed at `base`; valid until the run changes.
  KvRun View(int base, int n_tokens) const { return {blocks_, n_tokens, base, end_rows_}; }
  // All blocks for writing, where they may be; rows that are ready must not be written.
  std::span<std::byte* const> writable_blocks() const { return writable_; }

 private:
  RunAddress address_;
  std::vector<int32_t> tokens_;
  int n_ready_ = 0;
  TokenRange from_disk_, from_remote_;
  int n_sealed_ = 0;                                 // tokens offered to the store so far
  SpanKey sealed_;                                   // address of the last full sealed block; the root before that
  std::vector<std::shared_ptr<const Span>> spans_;   // the full spans reused; they hold the first blocks
  std::vector<std::shared_ptr<const KvBlock>> own_;  // the blocks after those; also of others, where writable_ says so
  std::vector<int32_t> stale_;                       // of a repaired run
  size_t n_repaired_ = 0;                            // of stale_
  std::vector<const std::byte*> blocks_;             // all, in order
  std::vector<std::byte*> writable_;                 // the same; nullptr for those of others
  int end_rows_ = kKvBlockTokens;                    // of the last block, which is a cut one only as another's
};

// How much the values of a token differ between two runs of the same tokens: the mean over layers of
// |after - before|^2 / |before|^2, over all KV heads.
double ValueChange(const KvGeometry& geometry, const KvRun& before, const KvRun& after, int token);

}  // namespace spanwise
