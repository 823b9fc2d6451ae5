#include "kv/compress/grouped-inl.h"

namespace spanwise {
namespace {

struct Int4 {
  static constexpr KvCode kCode = KvCode::kU4;
  static constexpr bool kOffsets = true;
  static constexpr int kSteps = 15;

  static grouped::Group Fit(float least, float greatest) { return grouped::EvenSteps(least, greatest, kSteps); }
  static uint8_t Round(const grouped::Group& group, float x) { return grouped::RoundToStep(group, x, kSteps); }
};

}  // namespace

constinit const SpanCodec kInt4 = {"int4", /*exact=*/false, grouped::RowsBytes<Int4>, grouped::Encode<Int4>,
                                   grouped::Decode<Int4>};

}  // namespace spanwise
