#include "sched/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spanwise::sched {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(MakeRoom, SuspendsNobodyWhileThereIsRoom) {
  const std::vector<Running> running = {{.id = 1, .rank = 0, .n_blocks = 4}};
  EXPECT_THAT(MakeRoom(running, {.priority = 5, .n_blocks = 6}, {.max_running = 2, .n_blocks = 10}),
              testing::Optional(IsEmpty()));
  EXPECT_THAT(MakeRoom({}, {.priority = 0, .n_blocks = 60}, {.max_running = 2, .n_blocks = 10}),
              testing::Optional(IsEmpty()));
}

TEST(MakeRoom, NeverSuspendsTheSameOrAHigherRank) {
  const std::vector<Running> running = {{.id = 1, .rank = 1, .n_blocks = 4}, {.id = 2, .rank = 2, .n_blocks = 4}};
  EXPECT_FALSE(MakeRoom(running, {.priority = 1, .n_blocks = 4}, {.max_running = 2, .n_blocks = 100}));
  EXPECT_FALSE(MakeRoom(running, {.priority = 1, .n_blocks = 4}, {.max_running = 9, .n_blocks = 10}));
  EXPECT_THAT(MakeRoom(running, {.priority = 2, .n_blocks = 4}, {.max_running = 9, .n_blocks = 10}),
              testing::Optional(ElementsAre(0)));
}

TEST(MakeRoom, CountsSequences) {
  const std::vector<Running> running = {{.id = 1, .rank = 0, .n_sequences = 3}, {.id = 2, .rank = 0}};
  EXPECT_FALSE(MakeRoom(running, {.priority = 0, .n_sequences = 3}, {.max_running = 6}));
  EXPECT_THAT(MakeRoom(running, {.priority = 0, .n_sequences = 2}, {.max_running = 6}), testing::Optional(IsEmpty()));
  EXPECT_THAT(MakeRoom(running, {.priority = 1, .n_sequences = 3}, {.max_running = 6}),
              testing::Optional(ElementsAre(1)));
  EXPECT_THAT(MakeRoom({}, {.priority = 0, .n_sequences = 9}, {.max_running = 6}), testing::Optional(IsEmpty()));
}

TEST(MakeRoom, TakesTheLowestAndLatestAndAsFewAsItCan) {
  const std::vector<Running> running = {{.id = 1, .rank = 0, .n_blocks = 2},
                                        {.id = 2, .rank = 1, .n_blocks = 2},
                                        {.id = 3, .rank = 0, .n_blocks = 2},
                                        {.id = 4, .rank = 0, .n_suspensions = kMostSuspensions, .n_blocks = 2}};
  const Limits limits{.max_running = 4, .n_blocks = 10};
  EXPECT_THAT(MakeRoom(running, {.priority = 3, .n_blocks = 4}, limits), testing::Optional(ElementsAre(2)));
  EXPECT_THAT(MakeRoom(running, {.priority = 3, .n_blocks = 5}, limits), testing::Optional(ElementsAre(2, 0)));
  EXPECT_THAT(MakeRoom(running, {.priority = 3, .n_blocks = 8}, limits), testing::Optional(ElementsAre(2, 0, 1)));
  EXPECT_FALSE(MakeRoom(running, {.priority = 3, .n_blocks = 9}, limits));  // nobody pauses in vain
}

}  // namespace
}  // namespace spanwise::sched
