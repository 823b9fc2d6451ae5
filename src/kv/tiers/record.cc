#include "kv/tiers/record.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/str.h"
#include "tensor/panels.h"

namespace spanwise {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

constexpr char kMagic[] = "swspan\r\n";
// Of each dimension, so that sizes never wrap around.
constexpr uint32_t kMostDim = 65535;

std::string_view Chars(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

size_t Panels(int n_tokens) { return static_cast<size_t>((n_tokens + kPanelRows - 1) / kPanelRows); }

// Of one head: keys or values of the panels in use.
size_t HeadRowsBytes(const KvGeometry& kv, int n_tokens) {
  return Panels(n_tokens) * kPanelRows * static_cast<size_t>(kv.head_dim) * DTypeBytes(kv.dtype);
}

RecordHeader HeaderFor(const SpanFormat& format, const SpanKey& parent, std::span<const int32_t> tokens) {
  const KvGeometry& kv = format.geometry;
  RecordHeader header{};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.version = kRecordVersion;
  header.header_bytes = sizeof header;
  header.record_bytes = RecordBytes(kv, static_cast<int>(tokens.size()));
  header.model = format.model;
  header.key = ChildKey(parent, tokens);
  header.parent = parent;
  header.n_layers = static_cast<uint32_t>(kv.n_layers);
  header.n_kv_heads = static_cast<uint32_t>(kv.n_kv_heads);
  header.head_dim = static_cast<uint32_t>(kv.head_dim);
  const std::string_view dtype = DTypeName(kv.dtype);
  std::memcpy(header.dtype, dtype.data(), std::min(dtype.size(), sizeof header.dtype));
  header.n_tokens = static_cast<uint32_t>(tokens.size());
  std::ranges::copy(tokens, header.tokens);
  return header;
}

// Past the last token: memory that other spans may have used before.
void ClearUnused(const KvGeometry& kv, int n_tokens, std::byte* rows) {
  const size_t head = HeadRowsBytes(kv, n_tokens), row = static_cast<size_t>(kv.head_dim) * DTypeBytes(kv.dtype);
  const int end = static_cast<int>(Panels(n_tokens)) * kPanelRows;
  for (int layer = 0; layer < kv.n_layers; ++layer)
    for (int h = 0; h < 2 * kv.n_kv_heads; ++h, rows += head) {
      if (h >= kv.n_kv_heads) {
        std::memset(rows + static_cast<size_t>(n_tokens) * row, 0, static_cast<size_t>(end - n_tokens) * row);
        continue;
      }
      for (int token = n_tokens; token < end; ++token)
        for (int i = 0; i < kv.head_dim; ++i)
          std::memset(rows + kv.KeyElementOffset(token, i), 0, DTypeBytes(kv.dtype));
    }
}

}  // namespace

size_t RowsBytes(const KvGeometry& kv, int n_tokens) {
  return 2 * static_cast<size_t>(kv.n_layers) * static_cast<size_t>(kv.n_kv_heads) * HeadRowsBytes(kv, n_tokens);
}

size_t RecordBytes(const KvGeometry& kv, int n_tokens) { return sizeof(RecordHeader) + RowsBytes(kv, n_tokens); }

void WriteRecord(const SpanFormat& format, const Span& span, std::span<std::byte> out) {
  const KvGeometry& kv = format.geometry;
  const int n = span.n_tokens();
  SW_CHECK(out.size() == RecordBytes(kv, n));
  RecordHeader header = HeaderFor(format, span.parent, span.tokens);
  std::byte* rows = out.data() + sizeof header;
  const size_t head = HeadRowsBytes(kv, n);
  const size_t n_heads = 2 * static_cast<size_t>(kv.n_layers) * static_cast<size_t>(kv.n_kv_heads);
  for (size_t i = 0; i < n_heads; ++i) std::memcpy(rows + i * head, span.block->data() + i * kv.HeadBytes(), head);
  if (n % kPanelRows != 0) ClearUnused(kv, n, rows);
  std::memcpy(out.data(), &header, sizeof header);
  header.checksum = Xxh3(Chars(out.subspan(sizeof header.checksum)));
  std::memcpy(out.data(), &header.checksum, sizeof header.checksum);
}

Result<std::span<const std::byte>> ReadRecord(const SpanFormat& format, const SpanKey& parent,
                                              std::span<const int32_t> tokens, std::span<const std::byte> record) {
  if (tokens.empty() || tokens.size() > kKvBlockTokens) return Corruption("span record: no tokens, or too many");
  RecordHeader expected = HeaderFor(format, parent, tokens);
  if (record.size() != expected.record_bytes)
    return Corruption(StrFormat("span record: {} bytes, expected {}", record.size(), expected.record_bytes));
  std::memcpy(&expected.checksum, record.data(), sizeof expected.checksum);
  if (std::memcmp(&expected, record.data(), sizeof expected) != 0)
    return Corruption("span record: the header is not that of the span");
  if (Xxh3(Chars(record.subspan(sizeof expected.checksum))) != expected.checksum)
    return Corruption("span record: the checksum does not match");
  return record.subspan(sizeof expected);
}

Result<SpanFormat> RecordFormat(std::span<const std::byte> record) {
  RecordHeader header;
  if (record.size() < sizeof header) return Corruption(StrFormat("span record: {} bytes", record.size()));
  std::memcpy(&header, record.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof header.magic) != 0) return Corruption("span record: wrong magic number");
  if (header.version != kRecordVersion)
    return Corruption(StrFormat("span record: version {}, expected {}", header.version, kRecordVersion));
  const auto dtype = ParseDType(std::string_view(header.dtype, strnlen(header.dtype, sizeof header.dtype)));
  if (!dtype || (*dtype != DType::kBf16 && *dtype != DType::kF32)) return Corruption("span record: unknown dtype");
  for (const uint32_t dim : {header.n_layers, header.n_kv_heads, header.head_dim})
    if (dim == 0 || dim > kMostDim) return Corruption(StrFormat("span record: a dimension of {}", dim));
  return SpanFormat{.model = header.model,
                    .geometry = {.n_layers = static_cast<int>(header.n_layers),
                                 .n_kv_heads = static_cast<int>(header.n_kv_heads),
                                 .head_dim = static_cast<int>(header.head_dim),
                                 .dtype = *dtype}};
}

void UnpackRows(const KvGeometry& kv, std::span<const std::byte> rows, int n_tokens, std::byte* block) {
  const size_t head = HeadRowsBytes(kv, n_tokens);
  SW_CHECK(rows.size() == RowsBytes(kv, n_tokens));
  for (size_t i = 0; i < rows.size() / head; ++i) std::memcpy(block + i * kv.HeadBytes(), rows.data() + i * head, head);
}

}  // namespace spanwise
