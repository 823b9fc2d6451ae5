#include "kv/compress/grouped-inl.h"

namespace spanwise {

// Source of e4m3: FP8 Formats for Deep Learning (2022).
constinit const SpanCodec kFp8 = {"fp8", /*exact=*/false, grouped::RowsBytes<KvCode::kE4m3>,
                                  grouped::Encode<KvCode::kE4m3>, grouped::Decode<KvCode::kE4m3>};

}  // namespace spanwise
