#include "kv/tiers/record.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/str.h"

namespace spanwise {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

constexpr char kMagic[] = "swspan\r\n";
// Of each dimension, so that sizes never wrap around.
constexpr uint32_t kMostDim = 65535;

std::string_view Chars(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Names stand in records, zeros behind.
template <size_t n>
void PutName(std::string_view name, char (&field)[n]) {
  SW_CHECK(name.size() <= n);
  std::memcpy(field, name.data(), name.size());
}

template <size_t n>
std::string_view NameIn(const char (&field)[n]) {
  return {field, strnlen(field, n)};
}

RecordHeader HeaderFor(const SpanFormat& format, const SpanKey& parent, std::span<const int32_t> tokens) {
  const KvGeometry& kv = format.geometry;
  RecordHeader header{};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.version = kRecordVersion;
  header.header_bytes = sizeof header;
  header.record_bytes = RecordBytes(format, static_cast<int>(tokens.size()));
  header.model = format.model;
  header.key = ChildKey(parent, tokens);
  header.parent = parent;
  header.n_layers = static_cast<uint32_t>(kv.n_layers);
  header.n_kv_heads = static_cast<uint32_t>(kv.n_kv_heads);
  header.head_dim = static_cast<uint32_t>(kv.head_dim);
  PutName(DTypeName(kv.dtype), header.dtype);
  header.n_tokens = static_cast<uint32_t>(tokens.size());
  std::ranges::copy(tokens, header.tokens);
  if (!format.codec->exact) PutName(format.codec->name, header.codec);
  return header;
}

}  // namespace

size_t RowsBytes(const SpanFormat& format, int n_tokens) { return format.codec->rows_bytes(format.geometry, n_tokens); }

size_t RecordBytes(const SpanFormat& format, int n_tokens) {
  return sizeof(RecordHeader) + RowsBytes(format, n_tokens);
}

void WriteRecord(const SpanFormat& format, const Span& span, std::span<const std::byte> rows,
                 std::span<std::byte> out) {
  const int n = span.n_tokens();
  SW_CHECK(out.size() == RecordBytes(format, n));
  RecordHeader header = HeaderFor(format, span.parent, span.tokens);
  const std::span<std::byte> to = out.subspan(sizeof header);
  if (rows.empty()) {
    std::vector<std::byte> whole;  // codecs read whole blocks
    if (const int cut_rows = span.block->rows(); cut_rows < kKvBlockTokens) {
      whole.resize(format.geometry.BlockBytes());
      ExactCodec().decode(format.geometry, span.block->data(), cut_rows, whole.data());
    }
    format.codec->encode(format.geometry, whole.empty() ? span.block->data() : whole.data(), n, to.data());
  } else {
    SW_CHECK(rows.size() == to.size());
    std::ranges::copy(rows, to.begin());
  }
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
  const auto dtype = ParseDType(NameIn(header.dtype));
  if (!dtype || (*dtype != DType::kBf16 && *dtype != DType::kF32)) return Corruption("span record: unknown dtype");
  for (const uint32_t dim : {header.n_layers, header.n_kv_heads, header.head_dim})
    if (dim == 0 || dim > kMostDim) return Corruption(StrFormat("span record: a dimension of {}", dim));
  if (header.head_dim % 2 != 0) return Corruption("span record: an odd head size");
  const std::string_view name = NameIn(header.codec);
  const auto codec = FindSpanCodec(name.empty() ? ExactCodec().name : name);
  if (!codec.ok() || (!name.empty() && (*codec)->exact))
    return Corruption(StrFormat("span record: unknown codec {}", Quoted(name)));
  return SpanFormat{.model = header.model,
                    .geometry = {.n_layers = static_cast<int>(header.n_layers),
                                 .n_kv_heads = static_cast<int>(header.n_kv_heads),
                                 .head_dim = static_cast<int>(header.head_dim),
                                 .dtype = *dtype},
                    .codec = *codec};
}

void UnpackRows(const SpanFormat& format, std::span<const std::byte> rows, int n_tokens, std::byte* block) {
  SW_CHECK(rows.size() == RowsBytes(format, n_tokens));
  format.codec->decode(format.geometry, rows.data(), n_tokens, block);
}

}  // namespace spanwise
