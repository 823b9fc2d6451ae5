#include <algorithm>
#include <cmath>

#include "kernels/element.h"
#include "kernels/ref/ref.h"

namespace spanwise::ref {
namespace {

float CodeValue(KvCode code, const std::byte* line, int i) {
  if (code == KvCode::kU4) return static_cast<float>(static_cast<int>(line[i % 8]) >> (i < 8 ? 0 : 4) & 15);
  const int byte = static_cast<int>(line[i]);
  if (code == KvCode::kU8) return static_cast<float>(byte);
  const int exponent = byte >> 3 & 15, mantissa = byte & 7;
  if ((byte & 127) == 127) return std::nanf("");
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return byte < 128 ? magnitude : -magnitude;
}

float Element(const CodedHead& head, size_t group, size_t line, int i) {
  const float product = LoadElement(head.scales, DType::kBf16, group) *
                        CodeValue(head.code, head.lines + line * CodeLineBytes(head.code), i);
  return head.offsets == nullptr ? product : LoadElement(head.offsets, DType::kBf16, group) + product;
}

// Ties go to even codes.
uint8_t NearestCode(KvCode code, const CodeScale& fit, float x) {
  if (HasOffsets(code)) {
    const float last = static_cast<float>(LastCode(code)), step = (x - fit.offset) * fit.inverse;
    return static_cast<uint8_t>(step > 0 ? std::nearbyint(step < last ? step : last) : 0);  // NaN: 0
  }
  const float scaled = x * fit.inverse, magnitude = std::abs(scaled) < kMostE4m3 ? std::abs(scaled) : kMostE4m3;
  int number = 0;
  if (magnitude < kLeastNormalE4m3) {
    number = static_cast<int>(std::nearbyint(magnitude * 512));
  } else {
    int exponent;
    const float fraction = std::frexp(magnitude, &exponent);  // 0.5 to 1: 8 to 16 eighths of a power of two
    number = 8 * (exponent + 5) + static_cast<int>(std::nearbyint(16 * fraction));
  }
  return static_cast<uint8_t>(number | (scaled < 0 ? 128 : 0));
}

// One group of n elements, x(0) to x(n - 1), whose lines stand `stride` apart.
template <class Element>
void EncodeGroup(const CodedHeadOut& head, size_t group, int n, size_t first_line, size_t stride, const Element& x) {
  float least = x(0), greatest = x(0);
  for (int i = 1; i < n; ++i) {
    least = x(i) < least ? x(i) : least;
    greatest = x(i) > greatest ? x(i) : greatest;
  }
  const CodeScale fit = FitCodes(head.code, least, greatest);
  StoreElement(head.scales, DType::kBf16, group, fit.scale);
  if (HasOffsets(head.code)) StoreElement(head.offsets, DType::kBf16, group, fit.offset);
  const size_t line_bytes = CodeLineBytes(head.code);
  for (int first = 0; first < n; first += kCodesPerLine, first_line += stride) {
    std::byte* line = head.lines + first_line * line_bytes;
    std::fill(line, line + line_bytes, std::byte{});
    for (int i = 0; i < kCodesPerLine && first + i < n; ++i) {
      const uint8_t code = NearestCode(head.code, fit, x(first + i));
      line[head.code == KvCode::kU4 ? i % 8 : i] |=
          static_cast<std::byte>(head.code == KvCode::kU4 && i >= 8 ? code << 4 : code);
    }
  }
}

}  // namespace

void EncodeKeys(const KvGeometry& kv, const std::byte* keys, int n_tokens, const CodedHeadOut& head) {
  const auto dim = static_cast<size_t>(kv.head_dim);
  for (int i = 0; i < kv.head_dim; ++i)
    EncodeGroup(head, static_cast<size_t>(i), n_tokens, static_cast<size_t>(i), dim,
                [&](int token) { return LoadElement(keys + kv.KeyElementOffset(token, i), kv.dtype, 0); });
}

void EncodeValues(const KvGeometry& kv, const std::byte* values, int n_tokens, const CodedHeadOut& head) {
  size_t group = 0, line = 0;
  for (int token = 0; token < n_tokens; ++token)
    for (int begin = 0; begin < kv.head_dim; begin += kValuesPerGroup, ++group) {
      const int n = std::min(kValuesPerGroup, kv.head_dim - begin);
      EncodeGroup(head, group, n, line, 1, [&](int i) {
        return LoadElement(values, kv.dtype, static_cast<size_t>(token * kv.head_dim + begin + i));
      });
      line += static_cast<size_t>((n + kCodesPerLine - 1) / kCodesPerLine);
    }
}

void DecodeKeys(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* keys) {
  const auto dim = static_cast<size_t>(kv.head_dim);
  for (int first = 0; first < n_tokens; first += kPanelRows)
    for (int token = first; token < first + kPanelRows; ++token)
      for (int i = 0; i < kv.head_dim; ++i) {
        const auto group = static_cast<size_t>(i), line = static_cast<size_t>(first / kPanelRows) * dim + group;
        StoreElement(keys + kv.KeyElementOffset(token, i), kv.dtype, 0, Element(head, group, line, token - first));
      }
}

void DecodeValues(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* values) {
  const int n_lines = (kv.head_dim + kCodesPerLine - 1) / kCodesPerLine;
  const int n_groups = (kv.head_dim + kValuesPerGroup - 1) / kValuesPerGroup;
  for (int token = 0; token < n_tokens; ++token)
    for (int i = 0; i < kv.head_dim; ++i)
      StoreElement(values, kv.dtype, static_cast<size_t>(token * kv.head_dim + i),
                   Element(head, static_cast<size_t>(token * n_groups + i / kValuesPerGroup),
                           static_cast<size_t>(token * n_lines + i / kCodesPerLine), i % kCodesPerLine));
}

}  // namespace spanwise::ref
