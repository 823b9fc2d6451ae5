// A span as bytes that leave the process (docs/formats/span-store.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kv/span.h"
#include "kv/tiers/tier.h"
#include "spanwise/status.h"

namespace spanwise {

// Changes with the bytes of a record, the layout of blocks included.
inline constexpr uint32_t kRecordVersion = 1;

// Fixed size, little-endian, followed by the rows. With it, rows begin 64-byte aligned in an LMDB overflow page.
struct RecordHeader {
  uint64_t checksum;  // XXH3-64 of all that follows
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t record_bytes;
  Hash256 model, key, parent;
  uint32_t n_layers, n_kv_heads, head_dim;
  char dtype[8];
  uint32_t n_tokens;
  int32_t tokens[kKvBlockTokens];  // zero past n_tokens
  char codec[8];                   // name of the codec of the rows; zeros: as they are
  char reserved[16];               // zero
};
static_assert(sizeof(RecordHeader) == 432);

// Of the rows alone, as the format's codec writes them; and with the header.
size_t RowsBytes(const SpanFormat& format, int n_tokens);
size_t RecordBytes(const SpanFormat& format, int n_tokens);

// Fills a record, with rows as a record of the same format has them, if there are any. REQUIRES: out has
// RecordBytes(...) bytes.
void WriteRecord(const SpanFormat& format, const Span& span, std::span<const std::byte> rows, std::span<std::byte> out);

// The rows, as they are written, of the record that holds these tokens behind `parent`. Corruption where any byte is
// another than WriteRecord gave.
Result<std::span<const std::byte>> ReadRecord(const SpanFormat& format, const SpanKey& parent,
                                              std::span<const int32_t> tokens, std::span<const std::byte> record);

// The format that a record says it has, for a check of a store of any model. Corruption where its header contradicts
// itself.
Result<SpanFormat> RecordFormat(std::span<const std::byte> record);

// Puts rows back into a block.
void UnpackRows(const SpanFormat& format, std::span<const std::byte> rows, int n_tokens, std::byte* block);

}  // namespace spanwise
