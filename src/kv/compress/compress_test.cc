// Every codec: one row here.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/element.h"
#include "kernels/ops.h"
#include "kv/compress/codec.h"
#include "kv/span.h"

namespace spanwise {
namespace {

struct Promise {
  const char* name;
  double bytes;         // of a block, a part of it as it is (bf16)
  double keys, values;  // relative error of normal noise, no more
  double step;          // greatest error of an element, a part of its group's range; of fp8 see below
};
void PrintTo(const Promise& p, std::ostream* out) { *out << p.name; }

class Codecs : public testing::TestWithParam<Promise> {
 protected:
  const SpanCodec& codec() const { return *FindSpanCodec(GetParam().name).value(); }
};
const auto kName = [](const auto& row) { return std::string(row.param.name); };
INSTANTIATE_TEST_SUITE_P(All, Codecs,
                         testing::Values(Promise{"none", 1, 0, 0, 0}, Promise{"fp8", 0.52, 0.03, 0.03, 1.01 / 28},
                                         Promise{"int8", 0.54, 0.007, 0.007, 0.51 / 255},
                                         Promise{"int4", 0.29, 0.12, 0.12, 0.51 / 15}),
                         kName);

struct Block {
  Block(const KvGeometry& kv, uint32_t seed) : geometry(kv), bytes(kv.BlockBytes()) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < bytes.size() / DTypeBytes(kv.dtype); ++i)
      StoreElement(bytes.data(), kv.dtype, i, normal(random));
  }
  size_t Key(int layer, int head, int token, int i) const {
    return geometry.KeyOffset(layer, head) + geometry.KeyElementOffset(token, i);
  }
  size_t Value(int layer, int head, int token, int i) const {
    return geometry.ValueOffset(layer, head) +
           static_cast<size_t>(token * geometry.head_dim + i) * DTypeBytes(geometry.dtype);
  }
  float At(size_t offset) const { return LoadElement(bytes.data() + offset, geometry.dtype, 0); }
  void Set(size_t offset, float x) { StoreElement(bytes.data() + offset, geometry.dtype, 0, x); }

  KvGeometry geometry;
  std::vector<std::byte> bytes;
};

Block ThereAndBack(const SpanCodec& codec, const Block& block, int n) {
  const KvGeometry& kv = block.geometry;
  std::vector<std::byte> rows(codec.rows_bytes(kv, n) + 8, std::byte{0xEE});
  codec.encode(kv, block.bytes.data(), n, rows.data());
  for (size_t i = rows.size() - 8; i < rows.size(); ++i) EXPECT_EQ(rows[i], std::byte{0xEE});
  Block back = block;
  std::memset(back.bytes.data(), 0xEE, back.bytes.size());
  codec.decode(kv, rows.data(), n, back.bytes.data());
  return back;
}

constexpr int kTokens[] = {1, 2, 15, 16, 17, 40, 63, 64};

// The greatest distance of an element from what comes back of it, over the range of its group, or from zero.
double WorstStep(const Block& block, const Block& back, int n, bool from_zero) {
  const KvGeometry& kv = block.geometry;
  double worst = 0;
  const auto group = [&](int count, const auto& at) {
    double least = block.At(at(0)), greatest = least, error = 0;
    for (int i = 0; i < count; ++i) {
      const double x = block.At(at(i));
      least = std::min(least, x);
      greatest = std::max(greatest, x);
      error = std::max(error, std::abs(x - static_cast<double>(back.At(at(i)))));
    }
    // The offset is a bf16 below the least element, which widens the range; the result is rounded to the KV dtype.
    const double most = std::max(std::abs(least), std::abs(greatest));
    const double range = from_zero ? most : greatest - least + most / 64;
    error = std::max(0.0, error - (kv.dtype == DType::kBf16 ? most / 256 : most / 1e6));
    if (range > 0) worst = std::max(worst, error / range);
  };
  for (int layer = 0; layer < kv.n_layers; ++layer)
    for (int head = 0; head < kv.n_kv_heads; ++head) {
      for (int i = 0; i < kv.head_dim; ++i) group(n, [&](int t) { return block.Key(layer, head, t, i); });
      for (int t = 0; t < n; ++t)
        for (int first = 0; first < kv.head_dim; first += 64)
          group(std::min(64, kv.head_dim - first), [&](int i) { return block.Value(layer, head, t, first + i); });
    }
  return worst;
}

TEST_P(Codecs, GiveBackEveryElementWithinAStep) {
  for (const DType dtype : {DType::kBf16, DType::kF32})
    for (const int dim : {2, 6, 16, 40, 64, 128, 160})
      for (const int n : kTokens) {
        const KvGeometry kv{.n_layers = 2, .n_kv_heads = 3, .head_dim = dim, .dtype = dtype};
        Block block(kv, static_cast<uint32_t>(n));
        // A channel that stands out, one that is constant, one of zeros, one of tiny numbers.
        for (int t = 0; t < n; ++t) {
          block.Set(block.Key(0, 0, t, 0), 50 + 3 * block.At(block.Key(0, 0, t, 0)));
          block.Set(block.Key(1, 1, t, 1), -1.5f);
          block.Set(block.Key(1, 2, t, 0), 0);
          block.Set(block.Key(0, 2, t, 1), 1e-30f * block.At(block.Key(0, 2, t, 1)));
        }
        const Block back = ThereAndBack(codec(), block, n);
        EXPECT_LE(WorstStep(block, back, n, /*from_zero=*/GetParam().name == std::string("fp8")), GetParam().step)
            << DTypeName(dtype) << " " << dim << " " << n;
        for (int t = 0; t < n; ++t) {
          EXPECT_NEAR(back.At(back.Key(1, 1, t, 1)), -1.5f, 0.01);
          EXPECT_EQ(back.At(back.Key(1, 2, t, 0)), 0);
        }
        if (codec().exact && n == kKvBlockTokens) {
          EXPECT_EQ(back.bytes, block.bytes);
        }
      }
}

TEST_P(Codecs, TakeTheBytesAndMakeTheErrorThatTheyPromise) {
  const KvGeometry kv{.n_layers = 4, .n_kv_heads = 2, .head_dim = 64, .dtype = DType::kBf16};
  const Block block(kv, 1);
  EXPECT_LE(static_cast<double>(codec().rows_bytes(kv, 64)), GetParam().bytes * static_cast<double>(kv.BlockBytes()));
  RoundingError error;
  AddRoundingError(codec(), kv, block.bytes.data(), 64, &error);
  EXPECT_LE(error.relative_keys(), GetParam().keys);
  EXPECT_LE(error.relative_values(), GetParam().values);
  if (!codec().exact) {
    EXPECT_GT(error.relative_keys(), GetParam().keys / 4);
  }
}

TEST_P(Codecs, GiveTheSameRowsWhateverStandsBehindTheLastToken) {
  const KvGeometry kv{.n_layers = 2, .n_kv_heads = 2, .head_dim = 40, .dtype = DType::kBf16};
  for (const int n : kTokens) {
    Block block(kv, 5), other(kv, 6);
    for (int layer = 0; layer < 2; ++layer)
      for (int head = 0; head < 2; ++head)
        for (int t = 0; t < n; ++t)
          for (int i = 0; i < 40; ++i)
            for (const size_t at : {block.Key(layer, head, t, i), block.Value(layer, head, t, i)})
              other.Set(at, block.At(at));
    std::vector<std::byte> a(codec().rows_bytes(kv, n)), b(a.size(), std::byte{1});
    codec().encode(kv, block.bytes.data(), n, a.data());
    codec().encode(kv, other.bytes.data(), n, b.data());
    EXPECT_EQ(a, b) << n;
  }
}

// NaN, infinities, the largest and the least numbers: what comes back need not be of use.
TEST_P(Codecs, TakeAnyBits) {
  for (const DType dtype : {DType::kBf16, DType::kF32}) {
    const KvGeometry kv{.n_layers = 1, .n_kv_heads = 2, .head_dim = 64, .dtype = dtype};
    std::mt19937 random(3);
    for (int round = 0; round < 50; ++round) {
      Block block(kv, 1);
      for (std::byte& b : block.bytes) b = static_cast<std::byte>(random());
      ThereAndBack(codec(), block, 1 + static_cast<int>(random() % 64));
      std::vector<std::byte> rows(codec().rows_bytes(kv, 64));
      for (std::byte& b : rows) b = static_cast<std::byte>(random());
      codec().decode(kv, rows.data(), 64, block.bytes.data());
    }
  }
}

TEST(SpanCodecs, AreFoundByName) {
  for (const SpanCodec* codec : SpanCodecs()) {
    EXPECT_EQ(FindSpanCodec(codec->name).value(), codec);
    EXPECT_LE(codec->name.size(), 8u);
    EXPECT_EQ(codec->exact, codec == &ExactCodec());
  }
  const auto unknown = FindSpanCodec("int3");
  EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(unknown.status().message().find("none, fp8, int8, int4"), std::string::npos) << unknown.status().message();
}

}  // namespace
}  // namespace spanwise
