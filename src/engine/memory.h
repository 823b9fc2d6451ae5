// How the memory that a process may use is shared out.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spanwise {

struct MemoryShares {
  size_t kv_bytes = 0;         // budget of KV in memory
  uint64_t queue_bytes = 0;    // of each tier: what waits to be written or sent
  uint64_t fetched_bytes = 0;  // of a server: what has come and was not used yet
};

// `usable`: bytes of memory; `weights`: those that the model takes. KV gets a quarter of all, but at most half of what
// the model leaves and at least a sixteenth.
MemoryShares ShareMemory(uint64_t usable, uint64_t weights);

}  // namespace spanwise
