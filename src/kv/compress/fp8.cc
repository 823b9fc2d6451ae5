#include "kv/compress/grouped-inl.h"

namespace spanwise {
namespace {

// The element farthest from zero becomes the largest code. Source of e4m3: FP8 Formats for Deep Learning (2022).
struct Fp8 {
  static constexpr KvCode kCode = KvCode::kE4m3;
  static constexpr bool kOffsets = false;
  static constexpr float kMost = 448, kLeastNormal = 0x1p-6f;

  static grouped::Group Fit(float least, float greatest) {
    return grouped::MakeGroup(grouped::Bf16AtLeast(std::max(-least, greatest) / kMost), 0);
  }

  static uint8_t Round(const grouped::Group& group, float x) {
    const float scaled = x * group.inverse;
    float magnitude = scaled < 0 ? -scaled : scaled;
    magnitude = magnitude < kMost ? magnitude : kMost;  // NaN, too
    // Ties go to even codes: below the least normal number by counting steps, else in the bits of the float.
    const auto bits = std::bit_cast<uint32_t>(magnitude);
    const uint32_t normal = (bits + 0x7FFFF + (bits >> 20 & 1)) >> 20;
    constexpr float kToInteger = 0x1p23f;  // floats from here on have no fraction
    const float tiny = magnitude * 512 + kToInteger;
    const uint32_t code = magnitude < kLeastNormal ? std::bit_cast<uint32_t>(tiny) & 15 : normal - (120u << 3);
    return static_cast<uint8_t>(code | (scaled < 0 ? 128 : 0));
  }
};

}  // namespace

constinit const SpanCodec kFp8 = {"fp8", /*exact=*/false, grouped::RowsBytes<Fp8>, grouped::Encode<Fp8>,
                                  grouped::Decode<Fp8>};

}  // namespace spanwise
