#include <gtest/gtest.h>

#include <cmath>

#include "tensor/dtype.h"

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

TEST(DType, F16MatchesTheCompilersConversion) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const auto h = static_cast<uint16_t>(b);
    const float want = static_cast<float>(std::bit_cast<_Float16>(h)), got = F16ToFloat(h);
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

}  // namespace
}  // namespace spanwise
