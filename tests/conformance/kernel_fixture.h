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

inline const auto kAllIsas = ::testing::Values("ref", "portable", "avx2", "avx512");
inline const auto kIsaName = [](const auto& info) { return info.param; };

inline std::vector<float> RandomFloats(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

// Float16 bits of a value, by truncation: good enough to make test data.
inline uint16_t ToF16Bits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const int exponent = static_cast<int>(bits >> 23 & 0xFF) - 127 + 15;
  const uint32_t sign = bits >> 16 & 0x8000;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(exponent) << 10 | (bits >> 13 & 0x3FF));
}

// A weight matrix with its bytes, `offset_elements` behind an aligned address.
struct OwnedWeights {
  OwnedWeights(DType dtype, int n_out, int n_in, uint32_t seed, size_t offset_elements = 0) {
    const std::vector<float> values = RandomFloats(static_cast<size_t>(n_out) * static_cast<size_t>(n_in), seed);
    const size_t offset = offset_elements * DTypeBytes(dtype);
    bytes.resize(offset + values.size() * DTypeBytes(dtype));
    for (size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::kF16) {
        const uint16_t bits = ToF16Bits(values[i]);
        std::memcpy(bytes.data() + offset + 2 * i, &bits, 2);
      } else {
        StoreElement(bytes.data() + offset, dtype, i, values[i]);
      }
    }
    matrix = {bytes.data() + offset, StoredAs(dtype), n_out, n_in};
  }
  float at(int out, int in) const {
    return LoadElement(matrix.data, matrix.dtype(),
                       static_cast<size_t>(out) * static_cast<size_t>(matrix.n_in) + static_cast<size_t>(in));
  }
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
