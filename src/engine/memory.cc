#include "engine/memory.h"

#include <algorithm>

namespace spanwise {

MemoryShares ShareMemory(uint64_t usable, uint64_t weights) {
  const uint64_t left = usable - std::min(usable, weights);
  return {.kv_bytes = std::max(std::min(usable / 4, left / 2), usable / 16),
          .queue_bytes = std::min(uint64_t{64} << 20, usable / 16),
          .fetched_bytes = std::min(uint64_t{256} << 20, usable / 16)};
}

}  // namespace spanwise
