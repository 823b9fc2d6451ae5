#include "kv/compress/grouped-inl.h"

namespace spanwise {

constinit const SpanCodec kInt4 = {"int4", /*exact=*/false, grouped::RowsBytes<KvCode::kU4>,
                                   grouped::Encode<KvCode::kU4>, grouped::Decode<KvCode::kU4>};

}  // namespace spanwise
