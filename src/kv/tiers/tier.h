// Where spans are kept below the engine's memory: what outlives their eviction, the process, or the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kv_view.h"
#include "kv/compress/codec.h"
#include "kv/span.h"
#include "kv/tiers/fetch.h"
#include "spanwise/prompt.h"

namespace spanwise {

// Whose KV a tier holds: what every record must agree with.
struct SpanFormat {
  Hash256 model;  // digest of weights, KV format and kernels, as in RootKey; a codec that rounds is part of it
  KvGeometry geometry;
  const SpanCodec* codec = &ExactCodec();  // how rows are written
};

// A run that is about to be looked up: what follows a root or a full span.
struct WantedRun {
  RunAddress address;
  std::span<const int32_t> tokens;
};

struct TierStats {
  uint64_t spans = 0, bytes = 0, budget_bytes = 0;  // held now; bytes as they are taken from the budget
  uint64_t hits = 0, misses = 0;                    // look-ups
  uint64_t written_spans = 0, written_bytes = 0;
  uint64_t evicted_spans = 0;  // for the budget
  uint64_t damaged_spans = 0;  // met, never served
  uint64_t lost_spans = 0;     // not kept because the tier was too slow, too small or failing
};

// One place for spans. It never fails a caller: what it cannot do counts as a miss or as lost, and is said once.
// Find, Map, Expect, Offer and Touch belong to the engine's thread and wait for no write, unless the tier was told to;
// the others are thread-safe.
class Tier {
 public:
  virtual ~Tier() = default;

  // Whose spans these are, and how they are written.
  virtual const SpanFormat& format() const = 0;

  // A span that was checked as a whole: its rows are as they were written, to the bit.
  struct Found {
    std::vector<int32_t> tokens;
    std::span<const std::byte> rows;   // as the format's codec writes them
    std::shared_ptr<const void> hold;  // the rows stay as long as it lives; holding it for long may keep the tier big
  };

  // Of the spans that follow `parent`, the one whose tokens have the longest beginning in common with these, if that is
  // longer than `more_than`. REQUIRES: 1 to kKvBlockTokens tokens.
  virtual std::optional<Found> Find(const SpanKey& parent, std::span<const int32_t> tokens, int more_than) = 0;

  // The block of the span of exactly these kKvBlockTokens tokens, to be attended where it is, aligned as KvBlock says.
  // Only of a codec that is exact.
  // Its bytes were checked as a whole once, and stay as long as the pointer lives. nullptr where there is none, or none
  // that can be used without a copy; a tier that would have to wait for another machine has none.
  virtual std::shared_ptr<const std::byte> Map(const SpanKey& /*parent*/, std::span<const int32_t> /*tokens*/) {
    return nullptr;
  }

  // Says which runs are looked up next, so that all of their spans can be fetched and checked at once.
  virtual void Expect(std::span<const WantedRun> /*runs*/, ThreadPool& /*pool*/) {}

  // Takes a copy of a span, to be kept soon. False when there is no room for it now. `rows`, if any: those that another
  // tier of this format has of it, so that nothing is rounded twice.
  virtual bool Keep(const Span& span, std::span<const std::byte> rows) = 0;
  bool Offer(const Span& span) { return Keep(span, {}); }

  // Says that a span was used.
  virtual void Touch(const SpanKey& parent, std::span<const int32_t> tokens) = 0;

  // Returns when all that was offered is kept, or lost.
  virtual void Flush() = 0;

  virtual TierStats stats() const = 0;

  // What a report calls it.
  virtual KvSource source() const { return KvSource::kDisk; }

  // Whether there is a span behind `parent` that begins with these tokens, as far as can be said without reading it.
  virtual bool Has(const SpanKey& /*parent*/, std::span<const int32_t> /*tokens*/) { return false; }

  // Of a run, spans that follow one another in the order in which they are named.
  struct Wanted {
    SpanKey key, parent;
    std::span<const int32_t> tokens;
    size_t run = 0;
  };
  // Begins to bring spans to where Find takes them at once, for a request whose turn it is (`urgent`) or comes later.
  // nullptr: there is nothing to wait for, or no room now.
  virtual std::shared_ptr<Fetch> Prefetch(std::span<const Wanted> /*spans*/, bool /*urgent*/) { return nullptr; }
};

}  // namespace spanwise
