// Distributions compared by hand-made logits.
#include "eval/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace spanwise::eval {
namespace {

TEST(Divergence, LogProbIsTheLogarithmOfSoftmax) {
  const std::vector<float> logits = {0.0f, std::log(2.0f), std::log(5.0f)};
  EXPECT_NEAR(LogProb(logits, 1).value(), std::log(2.0 / 8), 1e-6);
  EXPECT_NEAR(LogProb(logits, 2).value(), std::log(5.0 / 8), 1e-6);
  // Adding a number to all changes nothing, however large it is.
  const std::vector<float> large = {30000.0f, 30001.0f};
  EXPECT_NEAR(LogProb(large, 0).value(), -std::log1p(std::exp(1.0)), 1e-12);
  const std::vector<float> small = {-30000.0f, -30001.0f};
  EXPECT_NEAR(LogProb(small, 1).value(), -std::log1p(std::exp(1.0)), 1e-12);
}

TEST(Divergence, KlOfTwoCoins) {
  // P = (1/2, 1/2), Q = (1/4, 3/4): KL = 1/2 ln 2 + 1/2 ln 2/3.
  const std::vector<float> p = {1.0f, 1.0f}, q = {0.0f, std::log(3.0f)};
  const TokenDivergence d = Compare(p, q, 1).value();
  EXPECT_NEAR(d.kl, 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3), 1e-7);
  EXPECT_NEAR(d.reference_logprob, std::log(0.5), 1e-12);
  EXPECT_NEAR(d.logprob, std::log(0.75), 1e-7);
  EXPECT_FALSE(d.same_top);  // a tie goes to the lowest id
  // It is not symmetric.
  EXPECT_NEAR(Compare(q, p, 1)->kl, 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
}

TEST(Divergence, OfADistributionFromItselfIsZero) {
  std::vector<float> logits, moved;
  for (int i = 0; i < 1000; ++i) {
    logits.push_back(static_cast<float>(i % 37) * 0.25f);
    moved.push_back(logits.back() + 64.0f);
  }
  EXPECT_EQ(Compare(logits, logits, 3)->kl, 0.0);
  EXPECT_EQ(Compare(logits, moved, 3)->kl, 0.0);
  EXPECT_TRUE(Compare(logits, moved, 3)->same_top);
}

TEST(Divergence, TokensOfNoProbabilityAddNothing) {
  const std::vector<float> p = {0.0f, -5000.0f}, q = {0.0f, -4000.0f};
  EXPECT_EQ(Compare(p, q, 0)->kl, 0.0);
  EXPECT_NEAR(Compare(p, {{-4000.0f, 0.0f}}, 0)->kl, 4000.0, 1e-9);
}

TEST(Divergence, RefusesLogitsThatAreNotFinite) {
  const std::vector<float> good = {0.0f, 1.0f}, bad = {0.0f, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_EQ(LogProb(bad, 0).status().code(), StatusCode::kInternal);
  EXPECT_EQ(Compare(good, bad, 0).status().code(), StatusCode::kInternal);
  EXPECT_EQ(Compare(bad, good, 0).status().code(), StatusCode::kInternal);
}

TEST(Divergence, ComparesReadingsOfTheSameTokensOnly) {
  Reading a{.vocab_size = 2, .tokens = {0, 1}, .logits = {0, 0, 0, 1}, .answer = {}};
  Reading b = a;
  b.logits = {0, 2, 0, 1};
  const auto both = CompareReadings(a, b).value();
  ASSERT_EQ(both.size(), 2u);
  EXPECT_GT(both[0].kl, 0.0);
  EXPECT_EQ(both[1].kl, 0.0);
  b.tokens = {0, 0};
  EXPECT_EQ(CompareReadings(a, b).status().code(), StatusCode::kInvalidArgument);
  b.vocab_size = 4;
  EXPECT_THAT(CompareReadings(a, b).status().message(), ::testing::HasSubstr("2 and 4"));
}

TEST(Divergence, SummaryIsMeansAndANearestRank) {
  std::vector<TokenDivergence> tokens;
  for (int i = 1; i <= 200; ++i)
    tokens.push_back({.kl = i * 0.01, .same_top = i > 50, .reference_logprob = -1.0, .logprob = -2.0});
  const Divergence d = Summarise(tokens);
  EXPECT_EQ(d.n, 200u);
  EXPECT_NEAR(d.kl, 1.005, 1e-12);
  EXPECT_DOUBLE_EQ(d.kl_p99, 1.98);
  EXPECT_DOUBLE_EQ(d.agreement, 0.75);
  EXPECT_NEAR(d.reference_perplexity(), std::exp(1.0), 1e-12);
  EXPECT_NEAR(d.perplexity(), std::exp(2.0), 1e-12);
  EXPECT_DOUBLE_EQ(Summarise(std::vector<TokenDivergence>{{.kl = 3}}).kl_p99, 3.0);
  EXPECT_EQ(Summarise({}).n, 0u);
}

}  // namespace
}  // namespace spanwise::eval
