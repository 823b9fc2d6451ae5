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

}  // namespace

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
