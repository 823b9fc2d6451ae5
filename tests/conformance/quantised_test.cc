// Products with matrices of block types: kernels/rounded.h, to the bit, on every instruction set.
#include "kernel_fixture.h"
#include "kernels/ref/ref.h"
#include "kernels/rounded.h"
#include "tensor/panels.h"

namespace spanwise {
namespace {

using QuantisedTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Isa, QuantisedTest, kAllIsas, kIsaName);

// Blocks of random bits, but with scales near `scale`: every integer a type can hold occurs, also ones that no
// quantiser makes (-128).
struct OwnedPanels {
  OwnedPanels(WeightType type, int n_out, int n_in, uint32_t seed, float scale = 0.01f) {
    const auto out = static_cast<size_t>(n_out), in = static_cast<size_t>(n_in);
    const WeightBlock block = BlockOf(type);
    std::mt19937 random(seed);
    blocks.resize(out * WeightBytes(type, in));
    for (std::byte& b : blocks) b = static_cast<std::byte>(random());
    for (size_t at = 0; at < blocks.size(); at += block.bytes) {
      const auto put = [&](size_t offset) {
        const uint16_t bits = FloatToF16(scale * (0.5f + static_cast<float>(random() % 1000) / 1000));
        std::memcpy(&blocks[at + offset], &bits, 2);
      };
      put(type == WeightType::kQ6K ? 208 : 0);
      if (KindOf(type).minima) put(2);
    }
    panels.resize(PanelBytes(type, out, in));
    for (size_t first = 0; first < out; first += kPanelRows) {
      const std::byte* rows[kPanelRows] = {};
      for (size_t i = 0; i < kPanelRows && first + i < out; ++i) rows[i] = row(type, first + i, in);
      PackPanel(type, rows, in, panels.data() + PanelBytes(type, first, in));
    }
    matrix = {panels.data(), type, n_out, n_in};
  }
  const std::byte* row(WeightType type, size_t i, size_t n_in) const {
    return blocks.data() + i * WeightBytes(type, n_in);
  }
  std::vector<std::byte> blocks, panels;
  WeightMatrix matrix;
};

// The definition, spelled out over the blocks as files hold them.
float Defined(const OwnedPanels& w, size_t output, const float* x) {
  const WeightType type = w.matrix.type;
  const BlockKind kind = KindOf(type);
  const auto n_in = static_cast<size_t>(w.matrix.n_in);
  const size_t elements = BlockOf(type).elements;
  const std::byte* block = w.row(type, output, n_in);
  float y = 0;
  for (size_t first = 0; first < n_in; first += elements, block += BlockOf(type).bytes) {
    BlockFields f;
    ReadBlock(type, block, &f);
    for (size_t g = 0; g < elements / 32; ++g) {
      int8_t q[32];
      const float e = RoundGroup(x + first + 32 * g, q);
      const size_t inputs = kind.scale_group == 16 ? 16 : 32;
      int sum = 0;
      for (size_t k0 = 0; k0 < 32; k0 += inputs) {
        int dot = 0;
        for (size_t k = k0; k < k0 + inputs; ++k) {
          dot += (f.q[32 * g + k] - kind.offset) * q[k];
          sum += q[k];
        }
        const float d = F16ToFloat(f.d);
        const float scale = kind.scale_group == 0 ? d : d * static_cast<float>(f.scale[(32 * g + k0) / inputs]);
        y = std::fma(static_cast<float>(dot), scale * e, y);
      }
      const float m = F16ToFloat(f.m), min = kind.scale_group == 0 ? m : m * static_cast<float>(f.min[g]);
      if (kind.minima) y = std::fma(static_cast<float>(sum), -(min * e), y);
    }
  }
  return y;
}

TEST(Panels, HoldWhatTheBlocksHold) {
  for (const WeightType type : kBlockTypes) {
    const int n_in = 2 * static_cast<int>(BlockOf(type).elements), n_out = 37;
    const OwnedPanels w(type, n_out, n_in, 3);
    for (size_t o = 0; o < 37; ++o) {
      std::vector<float> expected(static_cast<size_t>(n_in)), found = expected;
      Widen(type, w.row(type, o, expected.size()), expected.size(), expected.data());
      WidenPanelRow(type, w.panels.data(), o, expected.size(), found.data());
      ASSERT_TRUE(SameBits(found, expected)) << WeightTypeName(type) << " row " << o;
    }
  }
}

TEST_P(QuantisedTest, IsTheDefinition) {
  if (GetParam() == "ref") GTEST_SKIP() << "sums in double";
  ThreadPool pool(2);
  uint32_t seed = 0;
  for (const WeightType type : kBlockTypes) {
    for (const int n_blocks : {1, 2, 3, 9, 17}) {
      const int n_in = n_blocks * static_cast<int>(BlockOf(type).elements);
      for (const int n_out : {1, 15, 16, 33}) {
        const int n_rows = static_cast<int>(++seed % 13) + 1;
        SCOPED_TRACE(::testing::Message() << WeightTypeName(type) << " " << n_rows << "x" << n_in << "x" << n_out);
        const OwnedPanels w(type, n_out, n_in, seed);
        const int64_t x_stride = n_in + seed % 3, y_stride = n_out + seed % 4;
        auto x = RandomFloats(static_cast<size_t>(n_rows * x_stride), seed + 10'000);
        std::fill_n(x.begin(), 16, 1e-35f);  // some groups round to zero, some have one large value
        x[20] = 1e4f;
        const auto bias = RandomFloats(seed % 2 == 0 ? static_cast<size_t>(n_out) : 0, seed + 20'000);
        std::vector<float> y(static_cast<size_t>(n_rows * y_stride), 42), expected = y;
        ops::MatMul(pool, x.data(), x_stride, n_rows, w.matrix, bias, y.data(), y_stride);
        for (int r = 0; r < n_rows; ++r)
          for (int o = 0; o < n_out; ++o)
            expected[static_cast<size_t>(r * y_stride + o)] =
                Defined(w, static_cast<size_t>(o), x.data() + r * x_stride) +
                (bias.empty() ? 0 : bias[static_cast<size_t>(o)]);
        ASSERT_TRUE(SameBits(y, expected));
      }
    }
  }
}

TEST_P(QuantisedTest, AgreesWithReference) {
  if (GetParam() == "ref") GTEST_SKIP() << "is the reference";
  ThreadPool pool(2);
  for (const WeightType type : kBlockTypes) {
    const int n_in = 1024, n_out = 40, n_rows = 11;
    const OwnedPanels w(type, n_out, n_in, 5);
    const auto x = RandomFloats(size_t{n_rows} * n_in, 6);
    std::vector<float> y(size_t{n_rows} * n_out), expected = y;
    ops::MatMul(pool, x.data(), n_in, n_rows, w.matrix, {}, y.data(), n_out);
    ref::MatMul(pool, x.data(), n_in, n_rows, w.matrix, {}, expected.data(), n_out);
    EXPECT_TRUE(Close(y, expected, 1e-5)) << WeightTypeName(type);
  }
}

TEST_P(QuantisedTest, RowsDoNotDependOnTheirBatch) {
  const int n_in = 512, n_out = GetParam() == "ref" ? 9 : 50, n_rows = GetParam() == "ref" ? 20 : 300;
  for (const WeightType type : kBlockTypes) {
    const OwnedPanels w(type, n_out, n_in, 7);
    const auto x = RandomFloats(static_cast<size_t>(n_rows * n_in), 8);
    ThreadPool one(1);
    std::vector<float> alone(static_cast<size_t>(n_rows * n_out));
    for (int r = 0; r < n_rows; ++r)
      ops::MatMul(one, x.data() + r * n_in, n_in, 1, w.matrix, {}, alone.data() + r * n_out, n_out);
    for (const int n_threads : {1, 2, 5}) {
      ThreadPool pool(n_threads);
      for (const int batch : {2, 3, 4, 5, 7, 11, 257, 300}) {
        std::vector<float> y(alone.size());
        for (int r = 0; r < n_rows; r += batch)
          ops::MatMul(pool, x.data() + r * n_in, n_in, std::min(batch, n_rows - r), w.matrix, {}, y.data() + r * n_out,
                      n_out);
        ASSERT_TRUE(SameBits(y, alone)) << WeightTypeName(type) << " batch " << batch << " threads " << n_threads;
      }
    }
  }
}

TEST_P(QuantisedTest, ProductsTogetherAreTheProductsAlone) {
  constexpr int kIn = 512;
  const OwnedWeights plain[] = {OwnedWeights(DType::kBf16, 70, kIn, 1), OwnedWeights(DType::kBf16, 3, kIn, 2),
                                OwnedWeights(DType::kF32, 130, kIn, 3)};
  std::vector<OwnedPanels> panels;
  for (const WeightType type : kBlockTypes)
    for (const int n_out : {200, 17}) panels.emplace_back(type, n_out, kIn, panels.size());
  std::vector<WeightMatrix> matrices;
  for (const OwnedPanels& w : panels) matrices.push_back(w.matrix);
  for (const OwnedWeights& w : plain) matrices.push_back(w.matrix);
  for (const int n_threads : {1, 3}) {
    ThreadPool pool(n_threads);
    for (const int n_rows : {1, 2, 9}) {
      const auto x = RandomFloats(static_cast<size_t>(n_rows) * kIn, 4);
      std::vector<std::vector<float>> together, biases;
      for (const WeightMatrix& w : matrices) {
        biases.push_back(RandomFloats(biases.size() % 2 ? static_cast<size_t>(w.n_out) : 0, 5));
        together.emplace_back(static_cast<size_t>(n_rows * w.n_out));
      }
      std::vector<Product> products;
      for (size_t i = 0; i < matrices.size(); ++i)
        products.push_back({matrices[i], biases[i], together[i].data(), matrices[i].n_out});
      ops::MatMuls(pool, x.data(), kIn, n_rows, products);
      for (size_t i = 0; i < matrices.size(); ++i) {
        std::vector<float> alone(together[i].size());
        ops::MatMul(pool, x.data(), kIn, n_rows, matrices[i], biases[i], alone.data(), matrices[i].n_out);
        ASSERT_TRUE(SameBits(together[i], alone)) << i << " rows " << n_rows << " threads " << n_threads;
      }
    }
  }
}

TEST_P(QuantisedTest, EmbedsItsRows) {
  ThreadPool pool(2);
  for (const WeightType type : kBlockTypes) {
    const auto n_in = BlockOf(type).elements;
    const OwnedPanels w(type, 20, static_cast<int>(n_in), 9);
    const int32_t ids[] = {19, 0, 16};
    std::vector<float> out(3 * n_in), expected = out;
    ops::EmbedRows(pool, w.matrix, ids, 3, out.data());
    for (size_t r = 0; r < 3; ++r)
      Widen(type, w.row(type, static_cast<size_t>(ids[r]), n_in), n_in, expected.data() + r * n_in);
    EXPECT_TRUE(SameBits(out, expected)) << WeightTypeName(type);
  }
}

// What is not finite stays in its row and harms nothing else.
TEST_P(QuantisedTest, RowsThatAreNotFiniteHarmNoOther) {
  ThreadPool pool(2);
  const int n_in = 256, n_out = 20;
  for (const WeightType type : kBlockTypes) {
    const OwnedPanels w(type, n_out, n_in, 11);
    auto x = RandomFloats(size_t{3} * n_in, 12);
    std::vector<float> y(size_t{3} * n_out), alone(n_out);
    ops::MatMul(pool, x.data(), n_in, 1, w.matrix, {}, alone.data(), n_out);
    x[n_in + 5] = HUGE_VALF;
    x[2 * n_in + 5] = NAN;
    ops::MatMul(pool, x.data(), n_in, 3, w.matrix, {}, y.data(), n_out);
    EXPECT_TRUE(SameBits(std::span(y).first(n_out), alone)) << WeightTypeName(type);
  }
}

}  // namespace
}  // namespace spanwise
