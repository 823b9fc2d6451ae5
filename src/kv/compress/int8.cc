#include "kv/compress/grouped-inl.h"

namespace spanwise {
namespace {

struct Int8 {
  static constexpr KvCode kCode = KvCode::kU8;
  static constexpr bool kOffsets = true;
  static constexpr int kSteps = 255;

  static grouped::Group Fit(float least, float greatest) { return grouped::EvenSteps(least, greatest, kSteps); }
  static uint8_t Round(const grouped::Group& group, float x) { return grouped::RoundToStep(group, x, kSteps); }
};

}  // namespace

constinit const SpanCodec kInt8 = {"int8", /*exact=*/false, grouped::RowsBytes<Int8>, grouped::Encode<Int8>,
                                   grouped::Decode<Int8>};

}  // namespace spanwise
