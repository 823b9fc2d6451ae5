#include "decode/noise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "decode/fixed_math.h"

namespace spanwise::decode {
namespace {

TEST(FixedMath, AgreesWithTheLibraryWithinAFewUlp) {
  std::mt19937_64 rng(1);
  for (int i = 0; i < 200000; ++i) {
    const double x = std::uniform_real_distribution<double>(-708.0, 10.0)(rng);
    const double e = std::exp(x);
    ASSERT_NEAR(FixedExp(x), e, e * 5e-16) << x;
    const double u = std::ldexp(std::uniform_real_distribution<double>(0.5, 1.0)(rng), -static_cast<int>(rng() % 40));
    ASSERT_NEAR(FixedLog(u), std::log(u), std::abs(std::log(u)) * 1e-15) << u;
  }
  EXPECT_EQ(FixedExp(0.0), 1.0);
  EXPECT_EQ(FixedExp(-709.0), FixedExp(-708.0));
  EXPECT_EQ(FixedExp(-INFINITY), FixedExp(-708.0));
  EXPECT_EQ(FixedLog(1.0), 0.0);
}

TEST(Noise, IsPhilox) {
  // Known answers published with the authors' Random123 library.
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Noise, KeepsItsBitsForever) {
  const Noise noise(1234567890123456789u, 3);
  EXPECT_EQ(noise.Exp1(0, 0), 0x1.15e78ep-1f);
  EXPECT_EQ(noise.Exp1(17, 128001), 0x1.b3d62ep+0f);
}

TEST(Noise, DependsOnEveryArgument) {
  const float base = Noise(7, 0).Exp1(5, 11);
  EXPECT_EQ(Noise(7, 0).Exp1(5, 11), base);
  EXPECT_NE(Noise(8, 0).Exp1(5, 11), base);
  EXPECT_NE(Noise(7 + (uint64_t{1} << 32), 0).Exp1(5, 11), base);
  EXPECT_NE(Noise(7, 1).Exp1(5, 11), base);
  EXPECT_NE(Noise(7, 0).Exp1(6, 11), base);
  EXPECT_NE(Noise(7, 0).Exp1(5, 12), base);
  EXPECT_NE(Noise(7, 0).Exp1(5, 15), base);
}

TEST(Noise, StaysInsideItsBounds) {
  EXPECT_EQ(ExponentialOf((4294967295.0 + 0.5) * 0x1p-32), 0x1p-33f);
  EXPECT_LT(ExponentialOf(0.5 * 0x1p-32), 22.9f);
}

// Kolmogorov-Smirnov along each counter dimension: the critical value 1.95 / sqrt(n) is passed with probability 0.001.
TEST(Noise, IsExponentialAlongEveryDimension) {
  constexpr int kDraws = 100000;
  for (int dimension = 0; dimension < 4; ++dimension) {
    std::vector<double> draws;
    double neighbours = 0.0;
    for (uint32_t i = 0; i < kDraws; ++i) {
      const Noise noise(dimension == 0 ? i : 42, dimension == 1 ? i : 0);
      draws.push_back(noise.Exp1(dimension == 2 ? i : 9, dimension == 3 ? i : 100));
      if (i > 0) neighbours += (draws[i] - 1.0) * (draws[i - 1] - 1.0);
    }
    EXPECT_LT(std::abs(neighbours / kDraws), 4.0 / std::sqrt(kDraws)) << "correlated along dimension " << dimension;
    std::sort(draws.begin(), draws.end());
    double distance = 0.0;
    for (int i = 0; i < kDraws; ++i) {
      const double cdf = 1.0 - std::exp(-draws[i]);
      distance = std::max({distance, std::abs(cdf - double(i) / kDraws), std::abs(cdf - double(i + 1) / kDraws)});
    }
    EXPECT_LT(distance, 1.95 / std::sqrt(kDraws)) << "dimension " << dimension;
  }
}

}  // namespace
}  // namespace spanwise::decode
