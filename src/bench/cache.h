// A simulated cache of KV blocks: what each replacement policy would have computed again on a trace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/trace.h"
#include "spanwise/status.h"

namespace spanwise::bench {

struct CacheOptions {
  std::string policy = "lru";
  uint64_t capacity_blocks = 0;
  uint64_t seed = 1;

  // EntryUse::discard: what Belady's policy would drop before its next use, each bit turned round with this chance; or
  // what an engine knows, in five parts:
  std::optional<double> oracle_error = {};
  bool sketch = true;       // how often blocks were used (DiscardPredictor)
  bool ingest = true;       // documents that are read without a question are to be discarded
  size_t queue = 8;         // blocks of so many requests that wait are expected
  bool sessions = false;    // blocks of a conversation are expected
  bool candidates = false;  // documents that the retriever considered are expected
};

struct CacheResult {
  uint64_t uses = 0, misses = 0;   // blocks
  uint64_t tokens = 0;             // that the requests need
  uint64_t computed_tokens = 0;    // of them not found
  uint64_t recomputed_tokens = 0;  // of those computed before
  double seconds = 0;              // of the simulation
};

// Requests run one after another. Blocks of the request that runs stay; a block leaves only when nothing that is kept
// continues it; what finds no room is computed and not kept. InvalidArgument for an unknown policy.
Result<CacheResult> SimulateCache(const Trace& trace, const CacheOptions& options);

// What a trace's blocks come to.
uint64_t UsedBlocks(const Trace& trace);

}  // namespace spanwise::bench
