// Coded KV against the oracle, to the bit.
#include "kernel_fixture.h"
#include "kernels/ref/ref.h"

namespace spanwise {
namespace {

class KvCodesTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Isa, KvCodesTest, kAllIsas, kIsaName);

// Every code occurs; scales and offsets are of all sizes, zero included.
struct OwnedCodes {
  OwnedCodes(KvCode code, size_t n_groups, size_t n_lines, bool has_offsets, uint32_t seed)
      : scales(2 * n_groups), offsets(2 * n_groups), lines(n_lines * CodeLineBytes(code)) {
    std::mt19937 random(seed);
    for (std::byte& b : lines) {
      b = static_cast<std::byte>(random());
      if (code == KvCode::kE4m3 && (b & std::byte{127}) == std::byte{127}) b = {};
    }
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < n_groups; ++i) {
      const float size = std::exp(8 * normal(random));
      StoreElement(scales.data(), DType::kBf16, i, i % 7 == 3 ? 0 : size);
      StoreElement(offsets.data(), DType::kBf16, i, i % 5 == 2 ? 0 : size * 100 * normal(random));
    }
    head = {code, scales.data(), has_offsets ? offsets.data() : nullptr, lines.data()};
  }
  std::vector<std::byte> scales, offsets, lines;
  CodedHead head;
};

TEST_P(KvCodesTest, GiveTheBitsOfTheOracle) {
  for (const KvCode code : {KvCode::kU4, KvCode::kU8, KvCode::kE4m3})
    for (const DType dtype : {DType::kF32, DType::kBf16})
      for (const bool has_offsets : {false, true})
        for (const int dim : {2, 6, 16, 18, 40, 64, 80, 96, 128, 250, 256})
          for (const int n : {1, 2, 15, 16, 17, 40, 63, 64}) {
            const KvGeometry kv = {.n_layers = 1, .n_kv_heads = 1, .head_dim = dim, .dtype = dtype};
            const auto parts = [](int whole, int part) { return static_cast<size_t>((whole + part - 1) / part); };
            const size_t d = static_cast<size_t>(dim), tokens = static_cast<size_t>(n);
            const OwnedCodes keys(code, d, parts(n, kPanelRows) * d, has_offsets, 1);
            const OwnedCodes values(code, tokens * parts(dim, kValuesPerGroup), tokens * parts(dim, kCodesPerLine),
                                    has_offsets, 2);
            std::vector<std::byte> got(kv.BlockBytes(), std::byte{0xEE}), expected = got;
            ops::DecodeKeys(kv, keys.head, n, got.data());
            ops::DecodeValues(kv, values.head, n, got.data() + kv.ValueOffset(0, 0));
            ref::DecodeKeys(kv, keys.head, n, expected.data());
            ref::DecodeValues(kv, values.head, n, expected.data() + kv.ValueOffset(0, 0));
            ASSERT_EQ(got, expected) << static_cast<int>(code) << " " << DTypeName(dtype) << " " << has_offsets << " "
                                     << dim << " " << n;
          }
}

TEST_P(KvCodesTest, AreMadeAsByTheOracle) {
  for (const KvCode code : {KvCode::kU4, KvCode::kU8, KvCode::kE4m3})
    for (const DType dtype : {DType::kF32, DType::kBf16})
      for (const int dim : {2, 6, 16, 18, 40, 64, 80, 96, 128, 250, 256})
        for (const int n : {1, 2, 15, 16, 17, 40, 63, 64}) {
          const KvGeometry kv = {.n_layers = 1, .n_kv_heads = 1, .head_dim = dim, .dtype = dtype};
          std::vector<std::byte> block(kv.BlockBytes());
          const auto floats = RandomFloats(block.size() / DTypeBytes(dtype), static_cast<uint32_t>(dim + n), 3);
          for (size_t i = 0; i < floats.size(); ++i)
            StoreElement(block.data(), dtype, i, i % 11 == 5 ? 0 : i % 13 == 7 ? floats[i] * 1e-3f : floats[i]);
          const auto parts = [](int whole, int part) { return static_cast<size_t>((whole + part - 1) / part); };
          const auto encoded = [&](const auto& encode, size_t n_groups, size_t n_lines) {
            std::vector<std::byte> out(4 * n_groups + n_lines * CodeLineBytes(code), std::byte{0xEE});
            encode(CodedHeadOut{code, out.data(), HasOffsets(code) ? out.data() + 2 * n_groups : nullptr,
                                out.data() + 4 * n_groups});
            return out;
          };
          const size_t d = static_cast<size_t>(dim), tokens = static_cast<size_t>(n);
          const auto keys = [&](const auto& encode) {
            return encoded([&](const CodedHeadOut& head) { encode(kv, block.data(), n, head); }, d,
                           parts(n, kPanelRows) * d);
          };
          const auto values = [&](const auto& encode) {
            return encoded([&](const CodedHeadOut& head) { encode(kv, block.data() + kv.ValueOffset(0, 0), n, head); },
                           tokens * parts(dim, kValuesPerGroup), tokens * parts(dim, kCodesPerLine));
          };
          ASSERT_EQ(keys(ops::EncodeKeys), keys(ref::EncodeKeys)) << dim << " " << n;
          ASSERT_EQ(values(ops::EncodeValues), values(ref::EncodeValues)) << dim << " " << n;
        }
}

TEST_P(KvCodesTest, GiveEveryCodeOfE4m3ItsNumber) {
  const KvGeometry kv = {.n_layers = 1, .n_kv_heads = 1, .head_dim = 16, .dtype = DType::kF32};
  std::vector<std::byte> lines(256), scales(2 * 16);
  for (size_t i = 0; i < 256; ++i) lines[i] = static_cast<std::byte>(i);
  for (size_t i = 0; i < 16; ++i) StoreElement(scales.data(), DType::kBf16, i, 1);
  std::vector<float> values(256);
  ops::DecodeValues(kv, {KvCode::kE4m3, scales.data(), nullptr, lines.data()}, 16,
                    reinterpret_cast<std::byte*>(values.data()));
  EXPECT_TRUE(std::isnan(values[127]) && std::isnan(values[255]));
  EXPECT_EQ(values[126], 448);
  EXPECT_EQ(values[1], 0x1p-9f);
  EXPECT_EQ(values[8], 0x1p-6f);
  EXPECT_EQ(values[0x38], 1);
  for (size_t i = 0; i < 127; ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(values[i + 128]), std::bit_cast<uint32_t>(-values[i])) << i;
    if (i > 0) {
      EXPECT_GT(values[i], values[i - 1]) << i;
    }
  }
}

}  // namespace
}  // namespace spanwise
