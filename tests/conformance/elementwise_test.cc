#include "kernel_fixture.h"
#include "kernels/ref/ref.h"

namespace spanwise {
namespace {

using ElementwiseTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Isa, ElementwiseTest, kAllIsas, kIsaName);

constexpr int kWidths[] = {1, 2, 3, 7, 16, 17, 40, 63, 64, 65, 100, 129, 513, 2048};

// Each value within so many units in the last place of float32, about.
void ExpectClose(const std::vector<float>& a, const std::vector<float>& b, double relative) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], relative * std::abs(b[i])) << "value " << i;
}

TEST_P(ElementwiseTest, RmsNorm) {
  ThreadPool pool(2);
  for (const int dim : kWidths) {
    SCOPED_TRACE(dim);
    const int n_rows = 5, x_stride = dim + 3, y_stride = dim + 1;
    const auto x = RandomFloats(static_cast<size_t>(n_rows * x_stride), 1, 3);
    const auto gain = RandomFloats(static_cast<size_t>(dim), 2);
    std::vector<float> y(static_cast<size_t>(n_rows * y_stride), 42), expected = y;
    ops::RmsNorm(pool, x.data(), x_stride, n_rows, dim, gain, 1e-5f, y.data(), y_stride);
    ref::RmsNorm(pool, x.data(), x_stride, n_rows, dim, gain, 1e-5f, expected.data(), y_stride);
    ExpectClose(y, expected, 1e-6);

    std::vector<float> in_place = x, alone(static_cast<size_t>(dim));
    ops::RmsNorm(pool, in_place.data(), x_stride, n_rows, dim, gain, 1e-5f, in_place.data(), x_stride);
    for (int r = 0; r < n_rows; ++r) {
      ops::RmsNorm(pool, x.data() + r * x_stride, x_stride, 1, dim, gain, 1e-5f, alone.data(), dim);
      ASSERT_TRUE(SameBits(std::span(y).subspan(static_cast<size_t>(r * y_stride), alone.size()), alone));
      ASSERT_TRUE(SameBits(std::span(in_place).subspan(static_cast<size_t>(r * x_stride), alone.size()), alone));
    }
  }
}

TEST_P(ElementwiseTest, GatedUnit) {
  ThreadPool pool(2);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const int dim : kWidths) {
      SCOPED_TRACE(dim);
      const int n_rows = 11;
      // GELU cancels towards minus infinity, where only its distance from zero means anything.
      const float width = activation == Activation::kSilu ? 8 : 2;
      auto gate = RandomFloats(static_cast<size_t>(n_rows * dim), 1, width);
      const auto up = RandomFloats(gate.size(), 2);
      std::vector<float> out(gate.size()), expected(gate.size());
      ops::GatedUnit(pool, activation, gate.data(), up.data(), n_rows, dim, out.data());
      ref::GatedUnit(pool, activation, gate.data(), up.data(), n_rows, dim, expected.data());
      if (activation == Activation::kSilu) {
        ExpectClose(out, expected, 2e-6);
      } else {
        for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], 1e-6 * std::abs(up[i])) << gate[i];
      }
      // Row by row and in place.
      for (int r = 0; r < n_rows; ++r)
        ops::GatedUnit(pool, activation, gate.data() + r * dim, up.data() + r * dim, 1, dim, gate.data() + r * dim);
      ASSERT_TRUE(SameBits(gate, out));
    }
  }
}

TEST_P(ElementwiseTest, GatedUnitFarFromZero) {
  ThreadPool pool(1);
  const std::vector<float> gate = {0, -0.0f, 80, 90, 1000, 3e38f, -50, -1000, -3e38f, 1e-30f, -1e-30f}, up(11, 1.0f);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    std::vector<float> out(11), expected(11);
    ops::GatedUnit(pool, activation, gate.data(), up.data(), 1, 11, out.data());
    ref::GatedUnit(pool, activation, gate.data(), up.data(), 1, 11, expected.data());
    for (size_t i = 0; i < gate.size(); ++i)
      EXPECT_NEAR(out[i], expected[i], 1e-6 * std::abs(expected[i]) + 1e-35) << gate[i];
  }
}

TEST_P(ElementwiseTest, Add) {
  ThreadPool pool(2);
  for (const float scale : {1.0f, 0.22f}) {
    for (const int n : {1, 3, 17, 1000, 300000}) {
      const auto y = RandomFloats(static_cast<size_t>(n), 1);
      auto x = RandomFloats(static_cast<size_t>(n), 2), expected = x;
      ops::Add(pool, x.data(), y.data(), scale, n);
      ref::Add(pool, expected.data(), y.data(), scale, n);
      if (GetParam() == "portable" && scale != 1) {  // without a fused multiply-add there are two roundings
        for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], expected[i], 1e-6) << n;
      } else {
        ASSERT_TRUE(SameBits(x, expected)) << n;
      }
    }
  }
}

TEST_P(ElementwiseTest, ScaleAndCap) {
  ThreadPool pool(2);
  for (const float cap : {0.0f, 30.0f}) {
    for (const int n : {1, 3, 17, 1000, 300000}) {
      auto x = RandomFloats(static_cast<size_t>(n), 2, 100), expected = x;
      if (n > 4) x[1] = expected[1] = 1e30f, x[2] = expected[2] = -1e30f, x[3] = expected[3] = 0;
      ops::ScaleAndCap(pool, x.data(), 0.7f, cap, n);
      ref::ScaleAndCap(pool, expected.data(), 0.7f, cap, n);
      ExpectClose(x, expected, 1e-6);
    }
  }
}

TEST_P(ElementwiseTest, EmbedRows) {
  ThreadPool pool(2);
  const std::vector<int32_t> ids = {4, 0, 4, 2, 1};
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    for (const int dim : kWidths) {
      const OwnedWeights w(dtype, 5, dim, 3, 1);
      std::vector<float> out(ids.size() * static_cast<size_t>(dim)), expected = out;
      ops::EmbedRows(pool, w.matrix, ids.data(), static_cast<int>(ids.size()), out.data());
      ref::EmbedRows(pool, w.matrix, ids.data(), static_cast<int>(ids.size()), expected.data());
      ASSERT_TRUE(SameBits(out, expected)) << DTypeName(dtype) << " " << dim;
    }
  }
}

TEST_P(ElementwiseTest, StoreKv) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int head_dim : {2, 6, 16, 40, 64, 80, 96, 128, 256}) {
      SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << " " << head_dim);
      const KvGeometry kv = {.n_layers = 2, .n_kv_heads = 3, .head_dim = head_dim, .dtype = dtype};
      const int first = 59, n_rows = 75, stride = 3 * head_dim + 5;
      auto k = RandomFloats(static_cast<size_t>(n_rows * stride), 1), v = RandomFloats(k.size(), 2);
      v[0] = std::numeric_limits<float>::quiet_NaN();
      v[1] = std::numeric_limits<float>::infinity();
      std::vector<int32_t> positions;
      for (int r = 0; r < n_rows; ++r) positions.push_back(first + r);
      const OwnedTable table(PlainRotation(head_dim), positions);
      OwnedKv stored(kv, first + n_rows), expected(kv, first + n_rows);
      ops::StoreKv(pool, kv, 1, k.data(), v.data(), stride, table.table(), stored.blocks(), positions);
      ref::StoreKv(pool, kv, 1, k.data(), v.data(), stride, table.table(), expected.blocks(), positions);

      // Rotated keys may differ in the last place before they are rounded; all else, and the poison around, to the bit.
      for (size_t b = 0; b < stored.bytes().size(); ++b) {
        for (size_t i = 0; i < kv.BlockBytes() / DTypeBytes(dtype); ++i) {
          const float a = LoadElement(stored.bytes()[b].data(), dtype, i);
          const float e = LoadElement(expected.bytes()[b].data(), dtype, i);
          const size_t bytes_in = i * DTypeBytes(dtype);
          const bool is_key = bytes_in >= kv.KeyOffset(1, 0) && bytes_in < kv.ValueOffset(1, 0);
          if (is_key && !std::isnan(e)) {
            ASSERT_NEAR(a, e, dtype == DType::kF32 ? 1e-6 : std::abs(e) / 128 + 1e-6)
                << "block " << b << " value " << i;
          } else {
            ASSERT_EQ(std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(e)) << "block " << b << " value " << i;
          }
        }
      }

      // One row at a time leaves the same bytes.
      OwnedKv by_row(kv, first + n_rows);
      for (int r = 0; r < n_rows; ++r) {
        const auto at = std::span<const int32_t>(positions).subspan(static_cast<size_t>(r), 1);
        const OwnedTable row(PlainRotation(head_dim), at);
        ops::StoreKv(pool, kv, 1, k.data() + r * stride, v.data() + r * stride, stride, row.table(), by_row.blocks(),
                     at);
      }
      ASSERT_EQ(by_row.bytes(), stored.bytes());
    }
  }
}

TEST(RotationTest, MatchesCosineAtFarPositions) {
  const Rotation rotation(4, {1.0, 0.01}, 1.5);
  const std::vector<int32_t> positions = {0, 1, 100000, std::numeric_limits<int32_t>::max(), -7};
  const OwnedTable table(rotation, positions);
  for (size_t r = 0; r < positions.size(); ++r) {
    for (size_t i = 0; i < 2; ++i) {
      const double angle = positions[r] * rotation.inverse_frequencies()[i];
      EXPECT_FLOAT_EQ(table.cos[2 * r + i], static_cast<float>(1.5 * std::cos(angle)));
      EXPECT_FLOAT_EQ(table.sin[2 * r + i], static_cast<float>(1.5 * std::sin(angle)));
    }
  }
}

TEST(SelectIsaTest, RefusesUnknownNames) {
  ASSERT_TRUE(ops::SelectIsa("portable").ok());
  const Status status = ops::SelectIsa("mmx");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("mmx"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("avx2"), std::string::npos) << status.message();
  EXPECT_STREQ(ops::Isa(), "portable");
}

}  // namespace
}  // namespace spanwise
