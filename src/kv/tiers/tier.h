// Where spans are kept below the engine's memory: what outlives their eviction, the process, or the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

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

struct TierStats {
  uint64_t spans = 0, bytes = 0, budget_bytes = 0;  // held now; bytes as they are taken from the budget
  uint64_t hits = 0, misses = 0;                    // look-ups
  uint64_t written_spans = 0, written_bytes = 0;
  uint64_t evicted_spans = 0;  // for the budget
  uint64_t damaged_spans = 0;  // met, never served
  uint64_t lost_spans = 0;     // not kept because the tier was too slow, too small or failing
};

// One place for spans. It never fails a caller: what it cannot do counts as a miss or as lost, and is said once. Find,
// Map, Prefetch, Idle, Offer and Touch belong to the engine's thread and wait neither for a disk nor for a network,
// unless the tier was told to wait with Offer until it has room; the others are thread-safe.
class Tier {
 public:
  virtual ~Tier() = default;

  // Whose spans these are, and how they are written.
  virtual const SpanFormat& format() const = 0;

  // Of a run, spans that follow one another in the order in which they are named.
  struct Wanted {
    SpanKey key, parent;  // key: of all these tokens
    std::span<const int32_t> tokens;
    size_t run = 0;
  };
  // Begins to bring spans to where Find takes them at once, for a request whose turn it is (`urgent`); for one that
  // comes later perhaps only nearer. nullptr: there is nothing to wait for, or no room now.
  virtual std::shared_ptr<Fetch> Prefetch(std::span<const Wanted> spans, bool urgent) = 0;
  // From now on `call` is called whenever a fetch has ended, from any thread that holds no lock which other calls here
  // take; nullptr: nothing is called any more.
  virtual void OnFetched(const std::function<void()>& /*call*/) {}

  // A span that was checked as a whole: its rows are as they were written, to the bit.
  struct Found {
    std::vector<int32_t> tokens;
    std::span<const std::byte> rows;   // as the format's codec writes them
    std::shared_ptr<const void> hold;  // the rows stay as long as it lives; holding it for long may keep the tier big
  };
  // What has come of a wanted span: one of its parent that begins with more than `more_than` of these tokens. A tier
  // may know only those that have all of them.
  virtual std::optional<Found> Find(const SpanKey& key, std::span<const int32_t> tokens, int more_than) = 0;

  // Whether spans are read where the tier has them, which costs nothing but looking them up.
  virtual bool reads_in_place() const { return false; }
  // The block of the span of exactly these tokens, cut behind its last panel (KvGeometry::CutRows), to be attended
  // where it is, aligned as KvBlock says, if it has come once. Its bytes were checked as a whole, and stay as long as
  // the pointer lives. nullptr where there is none, or none that can be used without a copy: only of a codec that is
  // exact.
  virtual std::shared_ptr<const std::byte> Map(const SpanKey& /*key*/, std::span<const int32_t> /*tokens*/) {
    return nullptr;
  }

  // Says whether the engine has nothing to do: a tier may get ready for what will be asked.
  virtual void Idle(bool /*idle*/) {}

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

  // Whether there is a span behind `parent` that begins with these tokens, as far as can be said without reading it;
  // may wait for what a disk needs to find it.
  virtual bool Has(const SpanKey& /*parent*/, std::span<const int32_t> /*tokens*/) { return false; }
};

}  // namespace spanwise
