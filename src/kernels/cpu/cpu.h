// The vector path: the operations of ops.h on the vector unit, for the target chosen with SelectTarget. The contracts
// are those of ops.h; how results stay the same for every split of the work is in
// docs/decisions/0001-row-invariant-kernels.md.
#pragma once

#include <string_view>

#include "kernels/ops.h"

namespace spanwise::cpu {

decltype(ops::MatMuls) MatMuls;
decltype(ops::MatMuls) MatMulsQuantised;  // REQUIRES: quantised matrices of one size of scale group, at least one row
decltype(ops::MatMuls) MatMulsBf16Dots;   // REQUIRES: HasBf16Dots(), bf16 weights, at least one row
decltype(ops::MatMuls) MatMulsBf16Tiles;  // REQUIRES: HasTiles(), bf16 weights, at least one row
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

// Whether this processor has dot products of bf16, whether they are taken to be faster there than multiply-adds of
// float32, and whether the target in use takes them.
bool HasBf16Dots();
bool Bf16DotsAreFast();
bool UsesBf16Dots();

// Whether this processor has matrix tiles of bf16 and of bytes that the system lets this process use, and whether the
// target in use takes them.
bool HasTiles();
bool UsesTiles();

// The targets that were compiled, widest first: "amx" (avx512 and matrix tiles), "avx512bf16" (avx512 and dot
// products of bf16), "avx512", "avx2", "portable".
std::span<const std::string_view> TargetNames();

// The fastest target this processor has.
std::string_view BestTarget();

// Makes all later calls use the target; false if the name is unknown or the processor lacks it. The target in use then
// stays.
bool SelectTarget(std::string_view name);

}  // namespace spanwise::cpu
