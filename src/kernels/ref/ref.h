// The scalar oracle: every operation of ops.h as plain loops, accumulated in double. Slow, easy to read, and what every
// other path is compared with. The contracts are those of ops.h.
#pragma once

#include "kernels/ops.h"

namespace spanwise::ref {

decltype(ops::MatMul) MatMul;
decltype(ops::MatMuls) MatMuls;
decltype(ops::RmsNorm) RmsNorm;
decltype(ops::GatedUnit) GatedUnit;
decltype(ops::Add) Add;
decltype(ops::ScaleAndCap) ScaleAndCap;
decltype(ops::EmbedRows) EmbedRows;
decltype(ops::StoreKv) StoreKv;
decltype(ops::EncodeKeys) EncodeKeys;
decltype(ops::EncodeValues) EncodeValues;
decltype(ops::DecodeKeys) DecodeKeys;
decltype(ops::DecodeValues) DecodeValues;
decltype(ops::SpanAttention) SpanAttention;

}  // namespace spanwise::ref
