#include <cmath>
#include <string>
#include <vector>

#include "base/str.h"
#include "kernels/element.h"
#include "kv/compress/codec.h"

namespace spanwise {
namespace {

constexpr const SpanCodec* kCodecs[] = {&kAsIs, &kFp8, &kInt8, &kInt4};

double Ratio(double part, double all) { return all > 0 ? std::sqrt(part / all) : 0; }

}  // namespace

std::span<const SpanCodec* const> SpanCodecs() { return kCodecs; }

const SpanCodec& ExactCodec() { return kAsIs; }

Result<const SpanCodec*> FindSpanCodec(std::string_view name) {
  std::string known;
  for (const SpanCodec* codec : kCodecs) {
    if (codec->name == name) return codec;
    known += (known.empty() ? "" : ", ") + std::string(codec->name);
  }
  return InvalidArgument(StrFormat("codec {} of kept KV, expected one of {}", Quoted(name), known));
}

double RoundingError::relative_keys() const { return Ratio(keys, all_keys); }
double RoundingError::relative_values() const { return Ratio(values, all_values); }

void AddRoundingError(const SpanCodec& codec, const KvGeometry& kv, const std::byte* block, int n_tokens,
                      RoundingError* error) {
  std::vector<std::byte> rows(codec.rows_bytes(kv, n_tokens)), back(kv.BlockBytes());
  codec.encode(kv, block, n_tokens, rows.data());
  codec.decode(kv, rows.data(), n_tokens, back.data());
  const auto add = [&](size_t at, double* difference, double* all) {
    const double x = LoadElement(block + at, kv.dtype, 0), y = LoadElement(back.data() + at, kv.dtype, 0);
    *difference += (x - y) * (x - y);
    *all += x * x;
  };
  for (int layer = 0; layer < kv.n_layers; ++layer)
    for (int head = 0; head < kv.n_kv_heads; ++head)
      for (int token = 0; token < n_tokens; ++token)
        for (int i = 0; i < kv.head_dim; ++i) {
          add(kv.KeyOffset(layer, head) + kv.KeyElementOffset(token, i), &error->keys, &error->all_keys);
          add(kv.ValueOffset(layer, head) + static_cast<size_t>(token * kv.head_dim + i) * DTypeBytes(kv.dtype),
              &error->values, &error->all_values);
        }
}

}  // namespace spanwise
