#include "kv/compress/grouped-inl.h"

namespace spanwise {

constinit const SpanCodec kInt8 = {"int8", /*exact=*/false, grouped::RowsBytes<KvCode::kU8>,
                                   grouped::Encode<KvCode::kU8>, grouped::Decode<KvCode::kU8>};

}  // namespace spanwise
