#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/weight_type.h"

namespace spanwise {
namespace {

TEST(DType, Bf16RoundsToNearestEven) {
  EXPECT_EQ(FloatToBf16(1.0f), 0x3F80);
  EXPECT_EQ(FloatToBf16(1.00390625f), 0x3F80);  // halfway: to even
  EXPECT_EQ(FloatToBf16(1.01171875f), 0x3F82);  // halfway: to even, upwards
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(NAN))));
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const float f = Bf16ToFloat(static_cast<uint16_t>(b));
    if (!std::isnan(f)) {
      ASSERT_EQ(FloatToBf16(f), b);
    }
  }
}

// IEEE 754 binary16: a sign, 5 bits of exponent (bias 15; 0 is subnormal, 31 infinite or not a number), 10 of fraction.
float F16ByDefinition(uint32_t bits) {
  const float sign = bits & 0x8000 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

TEST(DType, F16ReadsBackByDefinition) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const float want = F16ByDefinition(b), got = F16ToFloat(static_cast<uint16_t>(b));
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got));
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(want), std::bit_cast<uint32_t>(got)) << b;
    }
  }
}

TEST(DType, NamesReadBack) {
  for (const DType t : {DType::kF32, DType::kBf16, DType::kF16}) EXPECT_EQ(ParseDType(DTypeName(t)), t);
  EXPECT_EQ(ParseDType("f64"), std::nullopt);
}

TEST(DType, F16RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = F16ToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(F16ToFloat(FloatToF16(value))));
      continue;
    }
    ASSERT_EQ(FloatToF16(value), half) << value;
    const float next = F16ToFloat(static_cast<uint16_t>(half + 1));  // away from zero
    if (!std::isfinite(value) || !std::isfinite(next)) continue;
    const auto middle = static_cast<float>((double{value} + double{next}) / 2);
    ASSERT_EQ(FloatToF16(middle), half % 2 == 0 ? half : half + 1) << middle;
    ASSERT_EQ(FloatToF16(std::nextafter(middle, value)), half);
    ASSERT_EQ(FloatToF16(std::nextafter(middle, next)), half + 1);
  }
  EXPECT_EQ(FloatToF16(65519.99f), 0x7BFF);
  EXPECT_EQ(FloatToF16(65520), 0x7C00);
  EXPECT_EQ(FloatToF16(-1e30f), 0xFC00);
  EXPECT_EQ(FloatToF16(1e-30f), 0);
}

TEST(WeightType, NarrowedBlocksAreClose) {
  const std::vector<float> zeros(64, 0.0f);
  std::vector<float> back(64);
  for (const auto& [type, bound] : {std::pair{WeightType::kQ8_0, 1.0f / 127}, {WeightType::kQ4_0, 1.0f / 6}}) {
    ASSERT_TRUE(CanNarrow(type));
    std::vector<std::byte> bytes(WeightBytes(type, 64));
    Narrow(type, zeros.data(), 64, bytes.data());
    Widen(type, bytes.data(), 64, back.data());
    EXPECT_EQ(back, zeros);
    for (const float size : {1e-3f, 1.0f, 500.0f}) {
      std::vector<float> x(64);
      for (size_t i = 0; i < x.size(); ++i) x[i] = size * std::sin(static_cast<float>(i * i));
      Narrow(type, x.data(), 64, bytes.data());
      Widen(type, bytes.data(), 64, back.data());
      for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(back[i], x[i], size * bound) << i;
    }
  }
  EXPECT_FALSE(CanNarrow(WeightType::kQ6K));
}

}  // namespace
}  // namespace spanwise
