#include "server/workers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>

namespace spanwise::server {
namespace {

using ::testing::ElementsAre;
constexpr size_t kMb = 1'000'000;

// A task that waits until it is let go.
struct Gate {
  std::promise<void> begun, open;
  std::function<void()> Task() {
    return [this] {
      begun.set_value();
      open.get_future().wait();
    };
  }
};

TEST(Workers, SmallWorkDoesNotWaitForLarge) {
  Workers workers({.small_threads = 1, .large_threads = 1});
  Gate gate;
  ASSERT_TRUE(workers.TryPost(10 * kMb, gate.Task()));
  gate.begun.get_future().wait();
  ASSERT_TRUE(workers.TryPost(10 * kMb, [] {}));
  std::promise<void> small;
  ASSERT_TRUE(workers.TryPost(Workers::kSmallBytes, [&] { small.set_value(); }));
  EXPECT_EQ(small.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  gate.open.set_value();
}

TEST(Workers, SmallerOnesPassLargerOnesAndWhatWasBegunPassesAll) {
  Workers workers({.small_threads = 1, .large_threads = 1});
  Gate gate;
  ASSERT_TRUE(workers.TryPost(kMb, gate.Task()));
  gate.begun.get_future().wait();
  std::vector<int> order;
  for (const int mb : {900, 30, 600, 2})
    ASSERT_TRUE(workers.TryPost(kMb * static_cast<size_t>(mb), [&, mb] { order.push_back(mb); }));
  ASSERT_TRUE(workers.Post(Workers::Lane::kLarge, [&] { order.push_back(0); }));
  gate.open.set_value();
  workers.Stop();
  EXPECT_THAT(order, ElementsAre(0, 2, 30, 600, 900));
}

TEST(Workers, AFullQueueRefusesAndStopRunsWhatWaits) {
  std::atomic<int> n = 0;
  Workers workers({.small_threads = 1, .large_threads = 1, .max_waiting = 2});
  Gate gate;
  ASSERT_TRUE(workers.TryPost(1, gate.Task()));
  gate.begun.get_future().wait();
  EXPECT_TRUE(workers.TryPost(1, [&] { throw std::runtime_error("dropped"); }));
  EXPECT_TRUE(workers.TryPost(1, [&] {
    ++n;
    EXPECT_TRUE(workers.Post(Workers::Lane::kLarge, [&] { ++n; }));
  }));
  EXPECT_FALSE(workers.TryPost(1, [&] { ++n; }));
  EXPECT_TRUE(workers.Post(Workers::Lane::kSmall, [&] { ++n; }));  // was begun
  gate.open.set_value();
  workers.Stop();
  EXPECT_EQ(n, 3);
  EXPECT_FALSE(workers.TryPost(1, [&] { ++n; }));
  EXPECT_FALSE(workers.Post(Workers::Lane::kLarge, [&] { ++n; }));
  workers.Stop();
}

TEST(Workers, SaysWhenLargeWorkHasEnded) {
  std::atomic<int> n = 0;
  Workers workers({.small_threads = 1, .large_threads = 1, .max_waiting = 9, .after_large = [&] { ++n; }});
  Gate gate;
  ASSERT_TRUE(workers.TryPost(kMb, gate.Task()));
  gate.begun.get_future().wait();
  ASSERT_TRUE(workers.TryPost(kMb, [] {}));
  ASSERT_TRUE(workers.TryPost(1, [] {}));
  gate.open.set_value();
  workers.Stop();
  EXPECT_EQ(n, 1);
}

TEST(Serial, RunsInOrderInTheLanesAskedFor) {
  const auto workers = std::make_shared<Workers>(Workers::Options{.small_threads = 3, .large_threads = 2});
  std::vector<std::vector<int>> seen(8);
  std::vector<std::shared_ptr<Serial>> serials;
  for (int s = 0; s < 8; ++s) serials.push_back(std::make_shared<Serial>(workers));
  for (int i = 0; i < 300; ++i)
    for (size_t s = 0; s < 8; ++s)
      serials[s]->Post(i % 7 < 3 ? Workers::Lane::kLarge : Workers::Lane::kSmall, [&, i, s] { seen[s].push_back(i); });
  workers->Stop();
  for (const auto& one : seen) {
    ASSERT_EQ(one.size(), 300u);
    for (int i = 0; i < 300; ++i) ASSERT_EQ(one[static_cast<size_t>(i)], i);
  }
  // Whatever comes later is dropped, and with it what it holds.
  const auto held = std::make_shared<int>(1);
  serials[0]->Post(Workers::Lane::kSmall, [held] { ADD_FAILURE(); });
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace spanwise::server
