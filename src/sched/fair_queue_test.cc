#include "sched/fair_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace spanwise::sched {
namespace {

using ::testing::ElementsAre;

// Takes everybody out; each turn costs its client so many tokens.
std::vector<uint64_t> Drain(FairQueue& queue, const std::map<uint64_t, FairQueue::Entry>& entries, int64_t cost,
                            double now = 0) {
  std::vector<uint64_t> ids;
  while (const auto turn = queue.Next(now)) {
    ids.push_back(turn->id);
    queue.Take(turn->id, now);
    queue.Charge(entries.at(turn->id).priority, entries.at(turn->id).client, cost);
  }
  return ids;
}

class Filled {
 public:
  void Add(int priority, const std::string& client, double now = 0, bool suspended = false) {
    const FairQueue::Entry entry{.id = ++last_, .priority = priority, .client = client, .suspended = suspended};
    entries[last_] = entry;
    queue.Push(entry, now);
  }
  FairQueue queue;
  std::map<uint64_t, FairQueue::Entry> entries;

 private:
  uint64_t last_ = 0;
};

TEST(FairQueue, HighestPriorityFirstThenInOrder) {
  Filled f;
  for (const int priority : {0, -3, 2, 0, 2}) f.Add(priority, "a");
  EXPECT_THAT(Drain(f.queue, f.entries, 10), ElementsAre(3, 5, 1, 4, 2));
  EXPECT_TRUE(f.queue.empty());
  EXPECT_FALSE(f.queue.Next(0));
}

TEST(FairQueue, ClientsTakeTurns) {
  Filled f;
  for (int i = 0; i < 4; ++i) f.Add(0, "many");
  f.Add(0, "b");
  f.Add(0, "c");
  f.Add(0, "b");
  EXPECT_THAT(Drain(f.queue, f.entries, 10), ElementsAre(1, 5, 6, 2, 7, 3, 4));
}

TEST(FairQueue, WhoNeededMoreWaitsLonger) {
  Filled f;
  for (int i = 0; i < 3; ++i) f.Add(0, "long");
  for (int i = 0; i < 3; ++i) f.Add(0, "short");
  std::vector<uint64_t> ids;
  while (const auto turn = f.queue.Next(0)) {
    ids.push_back(turn->id);
    f.queue.Take(turn->id, 0);
    f.queue.Charge(0, f.entries[turn->id].client, turn->id <= 3 ? 100 : 30);
  }
  EXPECT_THAT(ids, ElementsAre(1, 4, 5, 6, 2, 3));
}

TEST(FairQueue, NobodySavesUpTurns) {
  Filled f;
  for (int i = 0; i < 5; ++i) f.Add(0, "busy");
  for (int i = 0; i < 3; ++i) {
    const uint64_t id = f.queue.Next(0)->id;
    f.queue.Take(id, 0);
    f.queue.Charge(0, "busy", 1000);
  }
  for (int i = 0; i < 3; ++i) f.Add(0, "new");  // ids 6 to 8, lifted to the start of the last turn
  EXPECT_THAT(Drain(f.queue, f.entries, 1000), ElementsAre(6, 4, 7, 5, 8));
}

TEST(FairQueue, BackloggedClientsStayWithinOneRequestOfEachOther) {
  Filled f;
  std::mt19937 random(3);
  std::map<std::string, int64_t> served;
  const std::vector<std::string> clients = {"a", "b", "c"};
  for (int i = 0; i < 300; ++i) f.Add(0, clients[i % 10 < 8 ? 0 : static_cast<size_t>(i % 2) + 1]);
  for (int turn = 0; turn < 60; ++turn) {
    const uint64_t id = f.queue.Next(0)->id;
    f.queue.Take(id, 0);
    const std::string& client = f.entries[id].client;
    const auto cost = static_cast<int64_t>(1 + random() % 500);
    f.queue.Charge(0, client, cost);
    served[client] += cost;
    for (const auto& x : clients)
      for (const auto& y : clients) EXPECT_LE(served[x] - served[y], 500);
  }
}

TEST(FairQueue, SuspendedOnesComeFirstInTheirBand) {
  Filled f;
  f.Add(0, "a");
  f.Add(0, "b", 0, true);
  f.Add(1, "c");
  EXPECT_THAT(Drain(f.queue, f.entries, 1), ElementsAre(3, 2, 1));
}

TEST(FairQueue, ABandThatWaitedGetsATurnAndTheRankOfThoseItPassed) {
  constexpr double kPatience = FairQueue::kPatience_s;
  Filled f;
  for (int i = 0; i < 2; ++i) f.Add(-1, "low");
  for (int i = 0; i < 9; ++i) f.Add(4, "high", 1);
  EXPECT_EQ(f.queue.Next(kPatience - 0.1)->id, 3u);
  const auto turn = f.queue.Next(kPatience);
  EXPECT_EQ(turn->id, 1u);
  EXPECT_EQ(turn->rank, 4);
  f.queue.Take(1, kPatience);
  EXPECT_EQ(f.queue.Next(kPatience)->id, 3u);
  EXPECT_EQ(f.queue.Next(2 * kPatience - 0.1)->id, 3u);
  EXPECT_EQ(f.queue.Next(2 * kPatience)->id, 2u);
}

TEST(FairQueue, ForgetsWhoWasRemovedAndTakesTokensBack) {
  Filled f;
  for (int i = 0; i < 2; ++i) f.Add(0, "a");
  for (int i = 0; i < 2; ++i) f.Add(0, "b");
  f.queue.Remove(1);
  EXPECT_EQ(f.queue.Next(0)->id, 2u);
  f.queue.Charge(0, "a", 50);
  EXPECT_EQ(f.queue.Next(0)->id, 3u);
  f.queue.Charge(0, "a", -50);
  f.queue.Charge(0, "nobody", -50);
  EXPECT_EQ(f.queue.Next(0)->id, 2u);
  EXPECT_EQ(f.queue.size(), 3u);
}

TEST(FairQueue, EverybodyComesWhateverHappens) {
  std::mt19937 random(11);
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  FairQueue queue;
  std::map<uint64_t, FairQueue::Entry> waiting;
  uint64_t last = 0;
  double now = 0;
  for (int i = 0; i < 20000; ++i) {
    now += draw(3);
    const int what = draw(4);
    if (what < 2 && i < 15000) {
      // More clients than a band remembers.
      const FairQueue::Entry entry{
          .id = ++last, .priority = draw(5) - 2, .client = std::to_string(draw(5000)), .suspended = draw(9) == 0};
      queue.Push(entry, now);
      waiting[entry.id] = entry;
    } else if (what == 2 && !waiting.empty() && draw(5) == 0) {
      const auto victim = std::next(waiting.begin(), draw(static_cast<int>(waiting.size())));
      queue.Remove(victim->first);
      waiting.erase(victim);
    } else if (const auto turn = queue.Next(now)) {
      ASSERT_TRUE(waiting.contains(turn->id));
      queue.Take(turn->id, now);
      queue.Charge(waiting[turn->id].priority, waiting[turn->id].client, draw(1000));
      waiting.erase(turn->id);
    }
    ASSERT_EQ(queue.size(), waiting.size());
  }
  while (const auto turn = queue.Next(now)) {
    queue.Take(turn->id, now);
    EXPECT_EQ(waiting.erase(turn->id), 1u);
  }
  EXPECT_TRUE(waiting.empty());
}

}  // namespace
}  // namespace spanwise::sched
