// What the kernel tests share: seeded data, typed copies of it, KV in blocks, and a row of instruction sets to test.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/element.h"
#include "kernels/ops.h"
#include "kernels/rope.h"

namespace spanwise {

// Runs each test once per instruction set; those this machine lacks are skipped.
class KernelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const Status status = ops::SelectIsa(GetParam());
    if (status.code() == StatusCode::kUnavailable) GTEST_SKIP() << status.message();
    ASSERT_TRUE(status.ok()) << status.message();
  }
};

inline const auto kAllIsas = ::testing::Values("ref", "portable", "avx2", "avx512", "avx512bf16", "amx");
inline const auto kIsaName = [](const auto& info) { return info.param; };

inline std::vector<float> RandomFloats(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

// A weight matrix with its bytes, `offset` behind an aligned address.
struct OwnedWeights {
  OwnedWeights(DType dtype, int n_out, int n_in, uint32_t seed, size_t offset = 0) {
    const auto out = static_cast<size_t>(n_out), in = static_cast<size_t>(n_in);
    const WeightType type = StoredAs(dtype);
    values.resize(out * in);
    std::vector<std::byte> rows(WeightBytes(type, values.size()));
    Narrow(type, RandomFloats(values.size(), seed).data(), values.size(), rows.data());
    Widen(type, rows.data(), values.size(), values.data());
    bytes.resize(offset + PanelBytes(type, out, in));
    for (size_t first = 0; first < out; first += kPanelRows) {
      const std::byte* from[kPanelRows] = {};
      for (size_t i = 0; i < kPanelRows && first + i < out; ++i)
        from[i] = rows.data() + WeightBytes(type, (first + i) * in);
      PackPanel(type, from, in, bytes.data() + offset + PanelBytes(type, first, in));
    }
    matrix = {bytes.data() + offset, type, n_out, n_in};
  }
  float at(int out, int in) const {
    return values[static_cast<size_t>(out) * static_cast<size_t>(matrix.n_in) + static_cast<size_t>(in)];
  }
  std::vector<float> values;  // [n_out, n_in]
  std::vector<std::byte> bytes;
  WeightMatrix matrix;
};

// Blocks of KV, every byte poisoned (NaN in both KV types) until a row is stored.
class OwnedKv {
 public:
  OwnedKv(const KvGeometry& kv, int capacity_tokens) {
    for (int i = 0; i < (capacity_tokens + kKvBlockTokens - 1) / kKvBlockTokens; ++i) {
      bytes_.emplace_back(kv.BlockBytes(), std::byte{0xFF});
      blocks_.push_back(bytes_.back().data());
    }
    const_blocks_.assign(blocks_.begin(), blocks_.end());
  }
  OwnedKv(OwnedKv&&) = default;
  std::span<std::byte* const> blocks() { return blocks_; }
  KvRun Run(int n_tokens, int base) const { return {const_blocks_, n_tokens, base}; }
  const std::vector<std::vector<std::byte>>& bytes() const { return bytes_; }

 private:
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<std::byte*> blocks_;
  std::vector<const std::byte*> const_blocks_;
};

// A RotationTable with its numbers.
struct OwnedTable {
  OwnedTable(const Rotation& rotation, std::span<const int32_t> positions)
      : cos(positions.size() * static_cast<size_t>(rotation.head_dim()) / 2), sin(cos.size()) {
    rotation.Fill(positions, cos.data(), sin.data());
  }
  RotationTable table() const { return {cos, sin}; }
  std::vector<float> cos, sin;
};

inline Rotation PlainRotation(int head_dim) {
  std::vector<double> frequencies;
  for (int i = 0; i < head_dim / 2; ++i) frequencies.push_back(std::pow(10000.0, -2.0 * i / head_dim));
  return Rotation(head_dim, frequencies);
}

// Both to the bit, NaN and the sign of zero included.
inline ::testing::AssertionResult SameBits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " values against " << b.size();
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return ::testing::AssertionFailure() << "value " << i << ": " << a[i] << " against " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

// |a - b| <= tolerance * the root mean square of b, everywhere.
template <typename T>
::testing::AssertionResult Close(std::span<const float> a, const std::vector<T>& b, double tolerance) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " values against " << b.size();
  double square = 0;
  for (const T value : b) square += static_cast<double>(value) * static_cast<double>(value);
  const double unit = std::sqrt(square / static_cast<double>(b.size()));
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) <= tolerance * unit)) {
      return ::testing::AssertionFailure() << "value " << i << ": " << a[i] << " against " << b[i] << ", unit " << unit;
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace spanwise
