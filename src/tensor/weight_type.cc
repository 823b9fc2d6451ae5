#include "tensor/weight_type.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace spanwise {
namespace {

uint16_t Load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
uint16_t Negated(uint16_t half) { return static_cast<uint16_t>(half ^ 0x8000); }

void ReadQ8_0(const uint8_t* block, BlockFields* f) {
  f->d = Load16(block);
  std::memcpy(f->q, block + 2, 32);
}

// The 32 integers whose low four bits are at `low`, lo and hi; their fifth ones at `high`, unless that is null.
void ReadHalves(const uint8_t* high, const uint8_t* low, BlockFields* f) {
  const auto fifth = [&](size_t i) { return high ? (high[i / 8] >> i % 8 & 1) << 4 : 0; };
  for (size_t i = 0; i < 16; ++i) {
    f->q[i] = static_cast<int8_t>((low[i] & 15) | fifth(i));
    f->q[16 + i] = static_cast<int8_t>(low[i] >> 4 | fifth(16 + i));
  }
}

void ReadQ4_0(const uint8_t* block, BlockFields* f) {
  f->d = Load16(block);
  ReadHalves(nullptr, block + 2, f);
}

void ReadQ4_1(const uint8_t* block, BlockFields* f) {
  f->d = Load16(block);
  f->m = Negated(Load16(block + 2));
  ReadHalves(nullptr, block + 4, f);
}

void ReadQ5_0(const uint8_t* block, BlockFields* f) {
  f->d = Load16(block);
  ReadHalves(block + 2, block + 6, f);
}

void ReadQ5_1(const uint8_t* block, BlockFields* f) {
  f->d = Load16(block);
  f->m = Negated(Load16(block + 2));
  ReadHalves(block + 4, block + 8, f);
}

// kQ4K where `high` is null, kQ5K otherwise.
void ReadGroups(const uint8_t* block, const uint8_t* high, const uint8_t* low, BlockFields* f) {
  f->d = Load16(block);
  f->m = Load16(block + 2);
  const uint8_t* packed = block + 4;
  for (size_t g = 0; g < 4; ++g) {
    f->scale[g] = static_cast<int8_t>(packed[g] & 63);
    f->min[g] = packed[4 + g] & 63;
    f->scale[4 + g] = static_cast<int8_t>((packed[8 + g] & 15) | (packed[g] >> 6) << 4);
    f->min[4 + g] = static_cast<uint8_t>(packed[8 + g] >> 4 | (packed[4 + g] >> 6) << 4);
  }
  for (size_t g = 0; g < 8; ++g) {
    for (size_t i = 0; i < 32; ++i) {
      const int b = low[32 * (g / 2) + i];
      const int fifth = high ? (high[i] >> g & 1) << 4 : 0;
      f->q[32 * g + i] = static_cast<int8_t>((g % 2 == 0 ? b & 15 : b >> 4) + fifth);
    }
  }
}

void ReadQ6K(const uint8_t* block, BlockFields* f) {
  const uint8_t *low = block, *high = block + 128;
  f->d = Load16(block + 208);
  std::memcpy(f->scale, block + 192, 16);
  for (size_t k = 0; k < 2; ++k)
    for (size_t r = 0; r < 4; ++r)
      for (size_t i = 0; i < 32; ++i) {
        const int b = low[64 * k + 32 * (r % 2) + i];
        const int top = (high[32 * k + i] >> 2 * r & 3) << 4;
        f->q[128 * k + 32 * r + i] = static_cast<int8_t>((r < 2 ? b & 15 : b >> 4) | top);
      }
}

}  // namespace

WeightType StoredAs(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return WeightType::kF32;
    case DType::kBf16:
      return WeightType::kBf16;
    case DType::kF16:
      return WeightType::kF16;
  }
  return WeightType::kF32;
}

size_t WeightBytes(WeightType type, size_t n) {
  const WeightBlock block = BlockOf(type);
  return n / block.elements * block.bytes;
}

void ReadBlock(WeightType type, const std::byte* block, BlockFields* fields) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(block);
  switch (type) {
    case WeightType::kQ8_0:
      return ReadQ8_0(bytes, fields);
    case WeightType::kQ4_0:
      return ReadQ4_0(bytes, fields);
    case WeightType::kQ4_1:
      return ReadQ4_1(bytes, fields);
    case WeightType::kQ5_0:
      return ReadQ5_0(bytes, fields);
    case WeightType::kQ5_1:
      return ReadQ5_1(bytes, fields);
    case WeightType::kQ4K:
      return ReadGroups(bytes, nullptr, bytes + 16, fields);
    case WeightType::kQ5K:
      return ReadGroups(bytes, bytes + 16, bytes + 48, fields);
    case WeightType::kQ6K:
      return ReadQ6K(bytes, fields);
    case WeightType::kF32:
    case WeightType::kBf16:
    case WeightType::kF16:
      SW_DCHECK(false);
  }
}

void WidenFields(WeightType type, const BlockFields& f, float* out) {
  const BlockKind kind = KindOf(type);
  const size_t n = BlockOf(type).elements;
  const float d = F16ToFloat(f.d), m = F16ToFloat(f.m);
  const size_t group = kind.scale_group > 0 ? static_cast<size_t>(kind.scale_group) : n;
  for (size_t first = 0; first < n; first += group) {
    const size_t g = first / group;
    const float scale = kind.scale_group > 0 ? d * static_cast<float>(f.scale[g]) : d;
    for (size_t i = first; i < first + group; ++i) out[i] = scale * static_cast<float>(f.q[i] - kind.offset);
    if (!kind.minima) continue;
    const float min = kind.scale_group > 0 ? m * static_cast<float>(f.min[g]) : m;
    for (size_t i = first; i < first + group; ++i) out[i] -= min;
  }
}

void Widen(WeightType type, const std::byte* data, size_t n, float* out) {
  if (type == WeightType::kF32) {
    std::memcpy(out, data, n * sizeof(float));
    return;
  }
  if (const auto plain = PlainDType(type)) {
    for (size_t i = 0; i < n; ++i) {
      uint16_t bits;
      std::memcpy(&bits, data + 2 * i, 2);
      out[i] = *plain == DType::kBf16 ? Bf16ToFloat(bits) : F16ToFloat(bits);
    }
    return;
  }
  const WeightBlock block = BlockOf(type);
  for (size_t i = 0; i < n; i += block.elements, data += block.bytes) {
    BlockFields fields;
    ReadBlock(type, data, &fields);
    WidenFields(type, fields, out + i);
  }
}

namespace {

void Store16(uint16_t value, std::byte* out) { std::memcpy(out, &value, 2); }

void NarrowQ8_0(const float* in, std::byte* out) {
  float largest = 0;
  for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::abs(in[i]));
  const uint16_t scale = FloatToF16(largest / 127);
  const float d = F16ToFloat(scale);
  Store16(scale, out);
  for (size_t i = 0; i < 32; ++i) {
    const float q = d == 0 ? 0 : std::clamp(std::nearbyint(in[i] / d), -127.0f, 127.0f);
    out[2 + i] = static_cast<std::byte>(static_cast<int8_t>(q));
  }
}

// q - 8 for each of 32 finite values, given the scale, as floats: loops that compilers turn into vectors.
void QuantsOf(const float* in, float d, float* q) {
  constexpr float kRound = 12582912;  // 1.5 x 2^23: a small number has no fraction left once this was added
  if (d == 0) {
    std::fill_n(q, 32, 0.0f);
    return;
  }
  for (size_t i = 0; i < 32; ++i) {
    const float least = std::max(in[i] / d, -8.0f), within = std::min(least, 7.0f);
    q[i] = (within + kRound) - kRound;
  }
}

void NarrowQ4_0(const float* in, std::byte* out) {
  float extreme = 0;  // the value farthest from zero, which -8 reaches
  for (size_t i = 0; i < 32; ++i)
    if (std::abs(in[i]) > std::abs(extreme)) extreme = in[i];
  float q[32];
  uint16_t best = 0;
  double best_error = std::numeric_limits<double>::infinity();
  for (int step = -6; step <= 6; ++step) {
    float d = extreme / (-8 + 0.25f * static_cast<float>(step));
    for (int round = 0; round < 2; ++round) {  // the scale, then the best one for the quants that it gave
      const uint16_t scale = FloatToF16(d);
      const float rounded = F16ToFloat(scale);
      QuantsOf(in, rounded, q);
      double error[4] = {}, product[4] = {}, square[4] = {};
      for (size_t i = 0; i < 32; i += 4) {
        for (size_t j = 0; j < 4; ++j) {
          const double value = in[i + j], quant = q[i + j], difference = value - static_cast<double>(rounded) * quant;
          error[j] += difference * difference;
          product[j] += value * quant;
          square[j] += quant * quant;
        }
      }
      const auto sum = [](const double* v) { return (v[0] + v[1]) + (v[2] + v[3]); };
      if (sum(error) < best_error) {
        best_error = sum(error);
        best = scale;
      }
      if (sum(square) == 0) break;
      d = static_cast<float>(sum(product) / sum(square));
    }
  }
  Store16(best, out);
  QuantsOf(in, F16ToFloat(best), q);
  for (size_t i = 0; i < 16; ++i)
    out[2 + i] = static_cast<std::byte>((static_cast<int>(q[i]) + 8) | (static_cast<int>(q[16 + i]) + 8) << 4);
}

}  // namespace

bool CanNarrow(WeightType type) { return PlainDType(type) || type == WeightType::kQ8_0 || type == WeightType::kQ4_0; }

void Narrow(WeightType type, const float* in, size_t n, std::byte* out) {
  const WeightBlock block = BlockOf(type);
  for (size_t i = 0; i < n; i += block.elements, in += block.elements, out += block.bytes) {
    switch (type) {
      case WeightType::kF32:
        std::memcpy(out, in, 4);
        break;
      case WeightType::kBf16:
        Store16(FloatToBf16(*in), out);
        break;
      case WeightType::kF16:
        Store16(FloatToF16(*in), out);
        break;
      case WeightType::kQ8_0:
        NarrowQ8_0(in, out);
        break;
      default:
        NarrowQ4_0(in, out);
        break;
    }
  }
}

}  // namespace spanwise
