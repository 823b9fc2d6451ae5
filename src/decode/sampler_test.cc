#include "decode/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/math/distributions/chi_squared.hpp>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace spanwise::decode {
namespace {

using ::testing::HasSubstr;

std::vector<float> RandomLogits(int n, uint64_t seed, float spread = 2.0f) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(static_cast<size_t>(n));
  for (float& l : logits) l = normal(rng);
  return logits;
}

Sampler Make(const SamplingParams& params, const Sampler::Sequence& sequence) {
  auto sampler = Sampler::Create(params, sequence);
  EXPECT_TRUE(sampler.ok()) << sampler.status().message();
  return std::move(sampler).value();
}

// The chain as its definition reads, with a full sort and the C library's exp.
std::vector<double> ReferenceDistribution(const std::vector<float>& logits, const SamplingParams& p,
                                          const std::vector<int32_t>& prompt, const std::vector<int32_t>& output) {
  const size_t n = logits.size();
  std::vector<double> l(logits.begin(), logits.end());
  for (const auto& [id, bias] : p.logit_bias) l[id] += bias;
  for (size_t i = 0; i < n; ++i) {
    const auto id = static_cast<int32_t>(i);
    const auto seen = std::count(output.begin(), output.end(), id);
    if (seen || std::count(prompt.begin(), prompt.end(), id))
      l[i] = l[i] > 0 ? l[i] / p.repetition_penalty : l[i] * p.repetition_penalty;
    l[i] -= double{p.frequency_penalty} * double(seen) + (seen ? p.presence_penalty : 0.0);
  }
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return l[a] > l[b]; });
  std::vector<double> prob(n, 0.0);
  const auto normalise = [&] {
    const double total = std::accumulate(prob.begin(), prob.end(), 0.0);
    for (double& x : prob) x /= total;
  };
  const size_t kept = p.top_k > 0 ? std::min<size_t>(n, static_cast<size_t>(p.top_k)) : n;
  for (size_t r = 0; r < kept; ++r) prob[order[r]] = std::exp((l[order[r]] - l[order[0]]) / p.temperature);
  normalise();
  double mass = 0.0;
  for (size_t r = 0; r < n; ++r) {
    if (mass >= p.top_p && p.top_p < 1.0f) prob[order[r]] = 0.0;
    mass += prob[order[r]];
  }
  normalise();
  const double best = *std::max_element(prob.begin(), prob.end());
  for (double& x : prob)
    if (x < p.min_p * best) x = 0.0;
  normalise();
  return prob;
}

// p-value of the draws under `prob`; cells expecting fewer than 10 are pooled.
double ChiSquarePValue(const std::vector<double>& prob, const std::vector<int>& counts, int draws) {
  double statistic = 0.0, rest_expected = 0.0, rest_seen = 0.0;
  int cells = 0;
  const auto add = [&](double expected, double seen) {
    statistic += (seen - expected) * (seen - expected) / expected;
    ++cells;
  };
  for (size_t i = 0; i < prob.size(); ++i) {
    if (prob[i] == 0.0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " is outside the distribution";
    } else if (prob[i] * draws < 10.0) {
      rest_expected += prob[i] * draws;
      rest_seen += counts[i];
    } else {
      add(prob[i] * draws, counts[i]);
    }
  }
  if (rest_expected > 0.0) add(rest_expected, rest_seen);
  if (cells < 2) return 1.0;
  return boost::math::cdf(boost::math::complement(boost::math::chi_squared(cells - 1), statistic));
}

struct Case {
  const char* name;
  SamplingParams params;
};

SamplingParams Params(float temperature, int top_k, float top_p, float min_p) {
  SamplingParams p;
  p.temperature = temperature;
  p.top_k = top_k;
  p.top_p = top_p;
  p.min_p = min_p;
  p.seed = 20240229;
  return p;
}

std::vector<Case> Cases() {
  std::vector<Case> cases = {
      {"plain", Params(1.0f, 0, 1.0f, 0.0f)},     {"cool", Params(0.7f, 0, 1.0f, 0.0f)},
      {"hot", Params(1.3f, 0, 1.0f, 0.0f)},       {"top_p_0_8", Params(1.0f, 0, 0.8f, 0.0f)},
      {"min_p_0_1", Params(1.0f, 0, 1.0f, 0.1f)}, {"top_k_7", Params(1.0f, 7, 1.0f, 0.0f)},
      {"all", Params(1.5f, 20, 0.9f, 0.05f)},     {"top_p_and_min_p", Params(2.0f, 0, 0.95f, 0.2f)},
  };
  Case penalties{"penalties", Params(1.0f, 0, 1.0f, 0.0f)};
  penalties.params.repetition_penalty = 1.3f;
  penalties.params.frequency_penalty = 0.4f;
  penalties.params.presence_penalty = -0.5f;
  penalties.params.logit_bias = {{3, 2.5f}, {4, -100.0f}, {49, 1.0f}};
  cases.push_back(penalties);
  penalties.name = "penalties_top_p";
  penalties.params.top_p = 0.8f;
  cases.push_back(penalties);
  return cases;
}

class Distribution : public testing::TestWithParam<Case> {};

TEST_P(Distribution, DrawsFollowTheChain) {
  constexpr int kVocabulary = 50, kDraws = 300000;
  const std::vector<float> logits = RandomLogits(kVocabulary, 5);
  const std::vector<int32_t> prompt = {1, 2, 2, 3, 30}, output = {3, 3, 7, 49};
  Sampler::Sequence sequence{.vocab_size = kVocabulary, .prompt = prompt};
  Sampler sampler = Make(GetParam().params, sequence);
  for (const int32_t id : output) sampler.Accept(id);
  std::vector<int> counts(kVocabulary, 0);
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.Sample(logits, i)->id];
  const double p = ChiSquarePValue(ReferenceDistribution(logits, GetParam().params, prompt, output), counts, kDraws);
  EXPECT_GT(p, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Sampler, Distribution, testing::ValuesIn(Cases()),
                         [](const auto& param) { return std::string(param.param.name); });

// The shortcuts (pruned race, partial sort, prefilter) choose what the definition chooses, draw by draw.
TEST(Sampler, ShortcutsChangeNothing) {
  constexpr int kVocabulary = 3001;
  for (const Case& c : Cases()) {
    SamplingParams params = c.params;
    params.logit_bias.clear();
    for (const float spread : {0.01f, 1.0f, 4.0f, 12.0f}) {
      const std::vector<float> logits = RandomLogits(kVocabulary, 11, spread);
      Sampler sampler = Make(params, {.vocab_size = kVocabulary});
      const std::vector<double> prob = ReferenceDistribution(logits, params, {}, {});
      const Noise noise(*params.seed, 0);
      for (uint32_t pos = 0; pos < 50; ++pos) {
        int32_t winner = -1;
        double winning = -1.0;
        for (int32_t id = 0; id < kVocabulary; ++id) {
          const double speed = prob[id] / noise.Exp1(pos, static_cast<uint32_t>(id));
          if (speed > winning) winning = speed, winner = id;
        }
        ASSERT_EQ(sampler.Sample(logits, static_cast<int>(pos))->id, winner) << c.name << " at " << pos;
      }
    }
  }
}

TEST(Sampler, ASeedDecidesEverything) {
  const std::vector<float> logits = RandomLogits(1000, 2);
  SamplingParams params = Params(1.0f, 0, 0.9f, 0.0f);
  const auto draw = [&](uint64_t seed, uint32_t stream) {
    params.seed = seed;
    Sampler sampler = Make(params, {.vocab_size = 1000, .stream = stream});
    std::vector<int32_t> ids;
    for (int pos = 0; pos < 50; ++pos) ids.push_back(sampler.Sample(logits, pos)->id);
    return ids;
  };
  EXPECT_EQ(draw(1, 0), draw(1, 0));
  EXPECT_NE(draw(1, 0), draw(2, 0));
  EXPECT_NE(draw(1, 0), draw(1, 1));
  params.seed.reset();
  const Sampler a = Make(params, {.vocab_size = 1000}), b = Make(params, {.vocab_size = 1000});
  EXPECT_NE(a.seed(), b.seed());
}

TEST(Sampler, GreedyTakesTheLowestOfEqualsAndReadsNoNoise) {
  SamplingParams params;
  for (const uint64_t seed : {1, 2, 3}) {
    params.seed = seed;
    Sampler sampler = Make(params, {.vocab_size = 5});
    EXPECT_EQ(sampler.Sample(std::vector<float>{-1, 4, 3, 4, 0}, 0)->id, 1);
  }
}

TEST(Sampler, MinTokensBansTheEnd) {
  SamplingParams params;
  params.min_tokens = 2;
  Sampler sampler = Make(params, {.vocab_size = 3, .eos_ids = {2}});
  const std::vector<float> logits = {0, 1, 9};
  EXPECT_EQ(sampler.Sample(logits, 0)->id, 1);
  EXPECT_EQ(sampler.Sample(logits, 1)->id, 1);
  EXPECT_EQ(sampler.Sample(logits, 2)->id, 2);
  params.ignore_eos = true;
  EXPECT_EQ(Make(params, {.vocab_size = 3, .eos_ids = {2}}).Sample(logits, 0)->id, 2);
  params.ignore_eos = false;
  EXPECT_EQ(Make(params, {.vocab_size = 1, .eos_ids = {0}}).Sample(std::vector<float>{1.0f}, 0).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(Sampler, RewindTakesBackPenalties) {
  SamplingParams params;
  params.frequency_penalty = 1.0f;
  params.repetition_penalty = 1.5f;
  Sampler sampler = Make(params, {.vocab_size = 3});
  const std::vector<float> logits = {3.0f, 2.5f, 0.0f};
  EXPECT_EQ(sampler.Sample(logits, 0)->id, 0);
  sampler.Accept(0);
  EXPECT_EQ(sampler.Sample(logits, 1)->id, 1);
  sampler.Accept(1);
  sampler.Rewind(0);
  EXPECT_EQ(sampler.Sample(logits, 0)->id, 0);
}

TEST(Sampler, LogprobsAreThoseOfTheRawLogits) {
  SamplingParams params = Params(0.3f, 2, 0.5f, 0.0f);
  params.logit_bias = {{0, 50.0f}};
  params.logprobs = 3;
  Sampler sampler = Make(params, {.vocab_size = 5});
  const std::vector<float> logits = {0.0f, 2.0f, 1.0f, 2.0f, -3.0f};
  double total = 0.0;
  for (const float l : logits) total += std::exp(double{l});
  const auto token = sampler.Sample(logits, 0);
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token->id, 0);
  EXPECT_FLOAT_EQ(*token->logprob, static_cast<float>(-std::log(total)));
  ASSERT_EQ(token->alternatives.size(), 3u);
  EXPECT_EQ(token->alternatives[0].id, 1);
  EXPECT_EQ(token->alternatives[1].id, 3);
  EXPECT_EQ(token->alternatives[2].id, 2);
  EXPECT_FLOAT_EQ(token->alternatives[2].logprob, static_cast<float>(1.0 - std::log(total)));
  EXPECT_EQ(LogprobsOf(logits, 4, 0)->alternatives.size(), 0u);
  EXPECT_EQ(LogprobsOf(logits, 4, 9)->alternatives.size(), 5u);
}

TEST(Sampler, ShortensNoVocabularyTail) {
  for (int n = 1; n < 40; ++n) {
    const std::vector<float> logits = RandomLogits(n, static_cast<uint64_t>(n), 0.5f);
    const double best = *std::max_element(logits.begin(), logits.end());
    double total = 0.0;
    for (const float l : logits) total += std::exp(l - best);
    EXPECT_NEAR(*LogprobsOf(logits, n - 1, 0)->logprob, logits[n - 1] - best - std::log(total), 1e-6);
    Sampler sampler = Make(Params(1.0f, 0, 1.0f, 0.0f), {.vocab_size = n});
    for (int pos = 0; pos < 20; ++pos) {
      const int32_t id = sampler.Sample(logits, pos)->id;
      EXPECT_TRUE(id >= 0 && id < n);
    }
  }
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {kNan, kInf, -kInf}) {
    for (const size_t at : {size_t{0}, size_t{9}, size_t{19}}) {
      for (const float temperature : {0.0f, 1.0f}) {
        std::vector<float> logits(20, 1.0f);
        logits[at] = bad;
        Sampler sampler = Make(Params(temperature, 0, 1.0f, 0.0f), {.vocab_size = 20});
        const Status status = sampler.Sample(logits, 0).status();
        EXPECT_EQ(status.code(), StatusCode::kInternal);
        EXPECT_THAT(status.message(), HasSubstr("token " + std::to_string(at)));
      }
    }
  }
  EXPECT_EQ(Make({}, {.vocab_size = 4}).Sample(std::vector<float>(3), 0).status().code(), StatusCode::kInternal);
}

TEST(Sampler, SurvivesExtremes) {
  constexpr float kMax = std::numeric_limits<float>::max();
  const std::vector<float> logits = {-kMax, kMax, kMax, 0.0f, -1.0f};
  for (const float temperature : {0.0f, 1e-38f, 1.0f, 100.0f}) {
    for (const float top_p : {0.0f, 0.5f, 1.0f}) {
      SamplingParams params = Params(temperature, 0, top_p, 0.0f);
      params.repetition_penalty = 0.01f;
      params.logit_bias = {{0, -100.0f}, {1, 100.0f}};
      Sampler sampler = Make(params, {.vocab_size = 5});
      for (int32_t id = 0; id < 5; ++id) sampler.Accept(id);
      for (int pos = 0; pos < 20; ++pos) {
        const auto token = sampler.Sample(logits, pos);
        ASSERT_TRUE(token.ok());
        EXPECT_TRUE(token->id == 1 || token->id == 2);
      }
    }
  }
}

TEST(Sampler, ValidationNamesFieldValueAndRange) {
  const auto message = [](auto set) {
    SamplingParams p;
    set(p);
    const Status status = ValidateSampling(p, 100);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return status.message();
  };
  EXPECT_TRUE(ValidateSampling({}, 100).ok());
  EXPECT_EQ(message([](auto& p) { p.temperature = -1; }), "temperature is -1, expected 0 to 100");
  EXPECT_EQ(message([](auto& p) { p.temperature = std::nanf(""); }), "temperature is nan, expected 0 to 100");
  EXPECT_EQ(message([](auto& p) { p.top_p = 1.5f; }), "top_p is 1.5, expected 0 to 1");
  EXPECT_EQ(message([](auto& p) { p.min_p = -0.5f; }), "min_p is -0.5, expected 0 to 1");
  EXPECT_EQ(message([](auto& p) { p.top_k = -2; }), "top_k is -2, expected 0 (off) or more");
  EXPECT_EQ(message([](auto& p) { p.max_tokens = -1; }), "max_tokens is -1, expected 0 or more");
  EXPECT_EQ(message([](auto& p) { p.min_tokens = 999; }), "min_tokens is 999, expected 0 to max_tokens, which is 256");
  EXPECT_EQ(message([](auto& p) { p.repetition_penalty = 0; }), "repetition_penalty is 0, expected 0.01 to 100");
  EXPECT_EQ(message([](auto& p) { p.presence_penalty = 3; }), "presence_penalty is 3, expected -2 to 2");
  EXPECT_EQ(message([](auto& p) { p.frequency_penalty = -3; }), "frequency_penalty is -3, expected -2 to 2");
  EXPECT_EQ(message([](auto& p) { p.logit_bias[100] = 1; }),
            "a token of logit_bias is 100, expected 0 to 99, the vocabulary");
  EXPECT_EQ(message([](auto& p) { p.logit_bias[5] = 101; }), "logit_bias of token 5 is 101, expected -100 to 100");
  EXPECT_EQ(message([](auto& p) { p.logprobs = 101; }), "logprobs is 101, expected 0 to 100, the vocabulary's size");
  EXPECT_THAT(message([](auto& p) { p.stop = {""}; }), HasSubstr("stop string is 0"));
  EXPECT_THAT(message([](auto& p) { p.stop = {"\xff"}; }), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(message([](auto& p) { p.stop.assign(65, "x"); }), HasSubstr("65"));
  const std::vector<int32_t> prompt = {1, 100};
  EXPECT_EQ(Sampler::Create({}, {.vocab_size = 100, .prompt = prompt}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace spanwise::decode
