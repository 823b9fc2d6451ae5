#include "engine/memory.h"

#include <gtest/gtest.h>

namespace spanwise {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20, kGiB = uint64_t{1} << 30;

TEST(Memory, AQuarterIsForKv) {
  EXPECT_EQ(ShareMemory(24 * kGiB, 60 * kMiB).kv_bytes, 6 * kGiB);
  EXPECT_EQ(ShareMemory(300 * kMiB, 60 * kMiB).kv_bytes, 75 * kMiB);
}

TEST(Memory, ALargeModelLeavesLess) {
  EXPECT_EQ(ShareMemory(24 * kGiB, 20 * kGiB).kv_bytes, 2 * kGiB);
  EXPECT_EQ(ShareMemory(16 * kGiB, 16 * kGiB).kv_bytes, kGiB);
  EXPECT_EQ(ShareMemory(16 * kGiB, 40 * kGiB).kv_bytes, kGiB);
}

// What is under way to and from tiers takes a small part, too, and never more than it has use for.
TEST(Memory, QueuesFollow) {
  for (const uint64_t usable : {100 * kMiB, 300 * kMiB, kGiB, 24 * kGiB}) {
    const MemoryShares shares = ShareMemory(usable, 0);
    EXPECT_LE(shares.kv_bytes + 2 * shares.queue_bytes + shares.fetched_bytes, usable / 2);
    EXPECT_LE(shares.queue_bytes, 64 * kMiB);
    EXPECT_LE(shares.fetched_bytes, 256 * kMiB);
  }
  EXPECT_EQ(ShareMemory(24 * kGiB, 0).queue_bytes, 64 * kMiB);
  EXPECT_EQ(ShareMemory(24 * kGiB, 0).fetched_bytes, 256 * kMiB);
}

}  // namespace
}  // namespace spanwise
