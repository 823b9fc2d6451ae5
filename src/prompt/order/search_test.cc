#include "prompt/order/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace spanwise {
namespace {

using Order = std::vector<size_t>;

// Tries until done; returns all trials.
std::vector<Order> TryAll(OrderSearch* search, const std::function<double(const Order&)>& value) {
  std::vector<Order> trials;
  while (search->trial()) {
    trials.push_back(*search->trial());
    search->Record(value(trials.back()));
  }
  return trials;
}

TEST(OrderSearch, BeginsWithTheGivenOrderAndStopsWhereNothingHelps) {
  OrderSearch search(4, 100);
  const auto trials = TryAll(&search, [](const Order&) { return 0.0; });
  EXPECT_EQ(trials,
            (std::vector<Order>{
                {0, 1, 2, 3}, {0, 1, 3, 2}, {0, 2, 3, 1}, {1, 2, 3, 0}, {0, 2, 1, 3}, {1, 2, 0, 3}, {1, 0, 2, 3}}));
  EXPECT_EQ(search.best(), trials[0]);
  EXPECT_EQ(search.n_trials(), 7);
}

TEST(OrderSearch, HasNothingToTryOfFewerThanTwo) {
  for (const size_t n : {size_t{0}, size_t{1}}) {
    OrderSearch search(n, 10);
    EXPECT_EQ(TryAll(&search, [](const Order&) { return -1.0; }).size(), 1u);
    EXPECT_EQ(search.best().size(), n);
    EXPECT_EQ(search.best_value(), -1);
  }
}

TEST(OrderSearch, FindsBetterOrdersWithinItsTrialsAndNoneTwice) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    Order wanted(6);
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = i;
    std::shuffle(wanted.begin(), wanted.end(), random);
    const auto value = [&](const Order& order) {  // pairs that stand as wanted
      double n = 0;
      for (size_t a = 0; a < order.size(); ++a)
        for (size_t b = a + 1; b < order.size(); ++b)
          n += std::ranges::find(wanted, order[a]) < std::ranges::find(wanted, order[b]);
      return n;
    };
    double last = -1;
    for (const int most : {1, 4, 16, 64, 720}) {
      OrderSearch search(wanted.size(), most);
      auto trials = TryAll(&search, value);
      EXPECT_LE(trials.size(), static_cast<size_t>(most));
      EXPECT_EQ(search.best_value(), value(search.best()));
      EXPECT_GE(search.best_value(), last);  // more trials go on where fewer stopped
      last = search.best_value();
      std::ranges::sort(trials);
      EXPECT_EQ(std::ranges::adjacent_find(trials), trials.end());
      for (Order& trial : trials) {
        std::ranges::sort(trial);
        EXPECT_EQ(trial, (Order{0, 1, 2, 3, 4, 5}));
      }
    }
    EXPECT_EQ(last, 15);  // such a value has no worse peaks
  }
}

}  // namespace
}  // namespace spanwise
