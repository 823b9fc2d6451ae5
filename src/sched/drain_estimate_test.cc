#include "sched/drain_estimate.h"

#include <gtest/gtest.h>

namespace spanwise::sched {
namespace {

TEST(DrainEstimate, FollowsTheRateOfTurns) {
  DrainEstimate drain;
  EXPECT_EQ(drain.Seconds(0, 10), 0);
  double now = 100;
  drain.Took(now, 0);  // nobody waited: says nothing about the rate
  drain.Took(now += 50, 20);
  EXPECT_EQ(drain.Seconds(now, 20), 0);
  for (int i = 0; i < 20; ++i) drain.Took(now += 0.5, 20);
  EXPECT_NEAR(drain.Seconds(now, 20), 10, 1e-9);
  EXPECT_NEAR(drain.Seconds(now + 10, 20), 20, 2);  // no turn since
  for (int i = 0; i < 400; ++i) drain.Took(now += 2, 20);
  EXPECT_NEAR(drain.Seconds(now, 20), 40, 0.1);  // what was before is forgotten
}

TEST(DrainEstimate, CountsTurnsThatComeTogether) {
  DrainEstimate drain;
  double now = 0;
  for (int i = 0; i < 10; ++i) {
    now += 8;
    for (int k = 0; k < 16; ++k) drain.Took(now, 100);
  }
  EXPECT_NEAR(drain.Seconds(now, 100), 50, 10);
}

}  // namespace
}  // namespace spanwise::sched
