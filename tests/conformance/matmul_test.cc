#include "kernel_fixture.h"
#include "kernels/ref/ref.h"

namespace spanwise {
namespace {

class MatMulTest : public KernelTest {
 protected:
  // Products with bf16 matrices round the rows.
  static bool RoundsRows() { return GetParam() == "avx512bf16" || GetParam() == "amx"; }
};
INSTANTIATE_TEST_SUITE_P(Isa, MatMulTest, kAllIsas, kIsaName);

constexpr DType kWeightTypes[] = {DType::kF32, DType::kBf16, DType::kF16};

TEST_P(MatMulTest, AgreesWithReference) {
  if (GetParam() == "ref") GTEST_SKIP() << "is the reference";
  ThreadPool pool(2);
  const int sizes[] = {1, 3, 7, 16, 17, 63, 64, 65, 100, 129, 513};
  uint32_t seed = 0;
  for (const DType dtype : kWeightTypes) {
    for (const int n_in : sizes) {
      for (const int n_out : sizes) {
        const int n_rows = static_cast<int>(++seed % 9) + 1;
        SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << " " << n_rows << "x" << n_in << "x" << n_out);
        const OwnedWeights w(dtype, n_out, n_in, seed, seed % 5);
        const int64_t x_stride = n_in + seed % 3, y_stride = n_out + seed % 4;
        auto x = RandomFloats(static_cast<size_t>(n_rows * x_stride), seed + 10'000);
        // Where rows are rounded, they have nothing to round.
        for (float& value : x)
          if (RoundsRows()) value = Bf16ToFloat(FloatToBf16(value));
        const auto bias = RandomFloats(seed % 2 == 0 ? static_cast<size_t>(n_out) : 0, seed + 20'000);
        // What lies between the rows of y must stay.
        std::vector<float> y(static_cast<size_t>(n_rows * y_stride), 42), expected = y;
        ops::MatMul(pool, x.data(), x_stride, n_rows, w.matrix, bias, y.data(), y_stride);
        ref::MatMul(pool, x.data(), x_stride, n_rows, w.matrix, bias, expected.data(), y_stride);
        for (int r = 0; r < n_rows; ++r) {
          for (int o = 0; o < y_stride; ++o) {
            const auto i = static_cast<size_t>(r * y_stride + o);
            // A product of n_in standard normal pairs has a standard deviation of sqrt(n_in).
            const double bound = o < n_out ? 5e-6 * (std::sqrt(n_in) + 1) : 0;
            ASSERT_NEAR(y[i], expected[i], bound) << "row " << r << " output " << o;
          }
        }
      }
    }
  }
}

TEST_P(MatMulTest, RowsDoNotDependOnTheirBatch) {
  const int n_in = 300, n_out = GetParam() == "ref" ? 9 : 150, n_rows = 70;
  for (const DType dtype : kWeightTypes) {
    const OwnedWeights w(dtype, n_out, n_in, 7);
    const auto x = RandomFloats(size_t{n_rows} * n_in, 8), bias = RandomFloats(static_cast<size_t>(n_out), 9);
    ThreadPool one(1);
    std::vector<float> alone(static_cast<size_t>(n_rows * n_out));
    for (int r = 0; r < n_rows; ++r) {
      ops::MatMul(one, x.data() + r * n_in, n_in, 1, w.matrix, bias, alone.data() + r * n_out, n_out);
    }
    for (const int n_threads : {1, 2, 5}) {
      ThreadPool pool(n_threads);
      for (int batch = 1; batch <= n_rows; batch += n_threads) {
        std::vector<float> y(alone.size());
        for (int r = 0; r < n_rows; r += batch) {
          ops::MatMul(pool, x.data() + r * n_in, n_in, std::min(batch, n_rows - r), w.matrix, bias,
                      y.data() + r * n_out, n_out);
        }
        ASSERT_TRUE(SameBits(y, alone)) << DTypeName(dtype) << " batch " << batch << " threads " << n_threads;
      }
    }
  }
}

TEST_P(MatMulTest, LargeBatchesSplitWithoutATrace) {
  ThreadPool pool(2);
  const int n_in = 520, n_out = 200, n_rows = 601;
  const OwnedWeights w(DType::kBf16, n_out, n_in, 17);
  const auto x = RandomFloats(size_t{n_rows} * n_in, 18);
  std::vector<float> y(size_t{n_rows} * n_out);
  ops::MatMul(pool, x.data(), n_in, n_rows, w.matrix, {}, y.data(), n_out);
  for (const int r : {0, 1, 191, 192, 203, 300, 404, 599, 600}) {
    std::vector<float> alone(n_out);
    ops::MatMul(pool, x.data() + r * n_in, n_in, 1, w.matrix, {}, alone.data(), n_out);
    ASSERT_TRUE(SameBits(std::span(y).subspan(static_cast<size_t>(r) * n_out, n_out), alone)) << "row " << r;
  }
}

// Outputs do not depend on which of them are computed together either, so that a shard of a matrix gives its rows.
TEST_P(MatMulTest, OutputsDoNotDependOnTheirNeighbours) {
  ThreadPool pool(2);
  const int n_in = 130, n_out = 83, n_rows = 5;
  const OwnedWeights w(DType::kBf16, n_out, n_in, 27);
  const auto x = RandomFloats(size_t{n_rows} * n_in, 28);
  std::vector<float> whole(size_t{n_rows} * n_out), parts = whole;
  ops::MatMul(pool, x.data(), n_in, n_rows, w.matrix, {}, whole.data(), n_out);
  for (int o = 0; o < n_out; o += 2 * kPanelRows) {
    WeightMatrix part = w.matrix;
    part.data += PanelBytes(part.type, static_cast<size_t>(o), n_in);
    part.n_out = std::min(2 * kPanelRows, n_out - o);
    ops::MatMul(pool, x.data(), n_in, n_rows, part, {}, parts.data() + o, n_out);
  }
  EXPECT_TRUE(SameBits(parts, whole));
}

// The definition of kernels/cpu/tiles.cc.
TEST_P(MatMulTest, TilesAddBlocksOf32Inputs) {
  if (GetParam() != "amx") GTEST_SKIP() << "has no tiles";
  ThreadPool pool(2);
  const int n_in = 173, n_out = 83;
  const OwnedWeights w(DType::kBf16, n_out, n_in, 47);
  for (const int n_rows : {1, 15, 16, 17, 40}) {
    const auto x = RandomFloats(static_cast<size_t>(n_rows * n_in), 48), bias = RandomFloats(n_out, 49);
    std::vector<float> y(static_cast<size_t>(n_rows * n_out)), expected = y;
    ops::MatMul(pool, x.data(), n_in, n_rows, w.matrix, bias, y.data(), n_out);
    for (int r = 0; r < n_rows; ++r) {
      for (int o = 0; o < n_out; ++o) {
        float sum = 0;
        for (int k0 = 0; k0 < n_in; k0 += 32) {
          float chains[2] = {};
          for (int k = k0; k < std::min(n_in, k0 + 32); ++k) {
            const float a = Bf16ToFloat(FloatToBf16(x[static_cast<size_t>(r * n_in + k)]));
            chains[k % 2] = std::fma(a, w.at(o, k), chains[k % 2]);
          }
          sum += chains[0] + chains[1];
        }
        expected[static_cast<size_t>(r * n_out + o)] = sum + bias[static_cast<size_t>(o)];
      }
    }
    ASSERT_TRUE(SameBits(y, expected)) << n_rows << " rows";
  }
}

// The definition of docs/decisions/0001, spelled out: what any processor with fused multiply-adds must give.
TEST_P(MatMulTest, IsTheDefinedChainOfFusedMultiplyAdds) {
  if (GetParam() == "ref" || GetParam() == "portable") GTEST_SKIP() << "not fused";
  ThreadPool pool(2);
  const int n_in = 700, n_out = 33, n_rows = 9;
  for (const DType dtype : kWeightTypes) {
    if (dtype == DType::kBf16 && RoundsRows()) continue;  // not by multiply-adds
    const OwnedWeights w(dtype, n_out, n_in, 37);
    const auto x = RandomFloats(size_t{n_rows} * n_in, 38), bias = RandomFloats(n_out, 39);
    std::vector<float> y(size_t{n_rows} * n_out), expected = y;
    ops::MatMul(pool, x.data(), n_in, n_rows, w.matrix, bias, y.data(), n_out);
    for (int r = 0; r < n_rows; ++r) {
      for (int o = 0; o < n_out; ++o) {
        float sum = 0;
        for (int k0 = 0; k0 < n_in; k0 += 256) {
          float chain = 0;
          for (int k = k0; k < std::min(n_in, k0 + 256); ++k) {
            chain = std::fma(x[static_cast<size_t>(r * n_in + k)], w.at(o, k), chain);
          }
          sum = k0 == 0 ? chain : sum + chain;
        }
        expected[static_cast<size_t>(r * n_out + o)] = sum + bias[static_cast<size_t>(o)];
      }
    }
    ASSERT_TRUE(SameBits(y, expected)) << DTypeName(dtype);
  }
}

}  // namespace
}  // namespace spanwise
