// How the rows of a span are written where they are kept outside memory: as they are, or rounded to fewer bits. One row
// of the table in registry.cc a codec.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "kernels/kv_view.h"
#include "spanwise/status.h"

namespace spanwise {

// Sizes follow from the geometry and the number of tokens alone. REQUIRES everywhere: 1 to kKvBlockTokens tokens.
struct SpanCodec {
  std::string_view name;  // stands in records: at most 8 bytes
  bool exact;             // rows are a block as it is, cut behind the last panel in use (KvGeometry::CutRows)
  size_t (*rows_bytes)(const KvGeometry& kv, int n_tokens);
  // The first n_tokens tokens of a block, all layers; every byte of `rows` is set, and the same bytes give the same
  // rows on every machine.
  void (*encode)(const KvGeometry& kv, const std::byte* block, int n_tokens, std::byte* rows);
  // Puts them back. Never reads or writes elsewhere, whatever the bytes are; what is past the last token may be
  // anything.
  void (*decode)(const KvGeometry& kv, const std::byte* rows, int n_tokens, std::byte* block);
};

// All, the exact one first.
std::span<const SpanCodec* const> SpanCodecs();
const SpanCodec& ExactCodec();
// InvalidArgument for an unknown name.
Result<const SpanCodec*> FindSpanCodec(std::string_view name);

// Each in a file of its own. Keys are rounded in groups of one channel of a block, values in groups of up to 64
// neighbours of one token (KIVI, 2024), since outliers of keys stay in their channels; scales are bf16.
extern const SpanCodec kAsIs;  // as_is.cc: the block
extern const SpanCodec kFp8;   // fp8.cc: floats of 8 bits, e4m3
extern const SpanCodec kInt8;  // int8.cc: 256 numbers from a group's least to its greatest element
extern const SpanCodec kInt4;  // int4.cc: 16 of them

// What a codec does to KV, as sums of squares.
struct RoundingError {
  double keys = 0, values = 0;          // of what differs
  double all_keys = 0, all_values = 0;  // of all
  double relative_keys() const;         // root mean square of the difference over that of the keys
  double relative_values() const;
};
// Adds the error of the first n_tokens tokens of a block.
void AddRoundingError(const SpanCodec& codec, const KvGeometry& kv, const std::byte* block, int n_tokens,
                      RoundingError* error);

}  // namespace spanwise
