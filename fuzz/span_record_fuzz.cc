// Any bytes as a record of the span store: nothing but what was written is read, and its format adds up.
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "kv/tiers/record.h"
#include "kv/tiers/span_tables.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace spanwise;
  const auto record = std::as_bytes(std::span(data, size));
  const auto format = RecordFormat(record);
  if (format.ok()) {
    RecordHeader header;
    std::memcpy(&header, record.data(), sizeof header);
    const std::span<const int32_t> tokens(header.tokens, std::min<uint32_t>(header.n_tokens, kKvBlockTokens));
    const auto rows = ReadRecord(*format, header.parent, tokens, record);
    if (rows.ok()) {
      SW_CHECK(rows->size() == RowsBytes(*format, static_cast<int>(tokens.size())));
      SW_CHECK(rows->data() + rows->size() == record.data() + record.size());
      std::vector<std::byte> block(format->geometry.BlockBytes());
      UnpackRows(*format, *rows, static_cast<int>(tokens.size()), block.data());
    }
  }
  const std::string_view key(reinterpret_cast<const char*>(data), size);
  if (const auto decoded = DecodeKey(key); decoded.ok()) SW_CHECK(EncodeKey(decoded->parent, decoded->tokens) == key);
  return 0;
}
