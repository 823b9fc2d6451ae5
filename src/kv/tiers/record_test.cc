#include "kv/tiers/record.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>

#include "kv/tiers/span_fixture.h"
#include "kv/tiers/span_tables.h"

namespace spanwise {
namespace {

const SpanKey kRoot = RootKey(kFormat.model, "causal", {});

bool Served(const SpanFormat& format, const Span& span, std::span<const std::byte> record) {
  return ReadRecord(format, span.parent, span.tokens, record).ok();
}

void FixChecksum(std::vector<std::byte>* record) {
  const uint64_t checksum =
      Xxh3({reinterpret_cast<const char*>(record->data()) + sizeof checksum, record->size() - sizeof checksum});
  std::memcpy(record->data(), &checksum, sizeof checksum);
}

class Records : public testing::TestWithParam<const SpanCodec*> {};
INSTANTIATE_TEST_SUITE_P(Codecs, Records, kAllCodecs, kCodecName);

TEST_P(Records, GiveBackTheRowsInUse) {
  for (const DType dtype : {DType::kBf16, DType::kF32}) {
    const SpanFormat format{
        Sha256("m"), {.n_layers = 3, .n_kv_heads = 2, .head_dim = 6, .dtype = dtype}, /*codec=*/GetParam()};
    const KvGeometry& kv = format.geometry;
    Spans spans(format);
    for (const int n : {1, 2, 15, 16, 17, 40, 63, 64}) {
      const Span span = spans.Make(kRoot, Iota(n));
      const auto record = spans.Record(span);
      const auto rows = ReadRecord(format, kRoot, span.tokens, record);
      ASSERT_TRUE(rows.ok()) << rows.status().message();
      EXPECT_EQ(rows->size(), RowsBytes(format, n));
      std::vector<std::byte> encoded(rows->size()), block(kv.BlockBytes()), expected(kv.BlockBytes());
      GetParam()->encode(kv, span.block->data(), n, encoded.data());
      EXPECT_EQ(std::memcmp(rows->data(), encoded.data(), encoded.size()), 0);
      UnpackRows(format, *rows, n, block.data());
      GetParam()->decode(kv, encoded.data(), n, expected.data());
      EXPECT_EQ(block, expected);
      if (const int cut_rows = KvGeometry::CutRows(n); cut_rows <= kKvBlockTokens / 2) {  // so does a cut block
        const auto pool = std::make_shared<BlockPool>(kv, kv.BlockBytes());
        const std::shared_ptr<KvBlock> cut = pool->Allocate(cut_rows);
        ExactCodec().encode(kv, span.block->data(), n, cut->data());
        EXPECT_EQ(spans.Record(Span{span.key, span.parent, span.tokens, cut}), record);
      }
      // Rows of a record make the same record.
      std::vector<std::byte> again(record.size());
      WriteRecord(format, span, *rows, again);
      EXPECT_EQ(again, record);
    }
  }
}

TEST(Record, HoldsABlockAsItIsAndZerosBehindTheLastToken) {
  for (const DType dtype : {DType::kBf16, DType::kF32}) {
    const SpanFormat format{Sha256("m"), {.n_layers = 3, .n_kv_heads = 2, .head_dim = 6, .dtype = dtype}};
    const KvGeometry& kv = format.geometry;
    Spans spans(format);
    for (const int n : {1, 2, 15, 16, 17, 40, 63, 64}) {
      const Span span = spans.Make(kRoot, Iota(n));
      const auto record = spans.Record(span);
      const std::span<const std::byte> rows = std::span(record).subspan(sizeof(RecordHeader));
      if (n == 64) {
        EXPECT_EQ(std::memcmp(rows.data(), span.block->data(), kv.BlockBytes()), 0);
      }
      std::vector<std::byte> block(kv.BlockBytes());
      UnpackRows(format, rows, n, block.data());
      const size_t row = static_cast<size_t>(kv.head_dim) * DTypeBytes(dtype), element = DTypeBytes(dtype);
      for (int layer = 0; layer < kv.n_layers; ++layer)
        for (int head = 0; head < kv.n_kv_heads; ++head)
          for (int token = 0; token < kKvBlockTokens; ++token) {
            const size_t value = kv.ValueOffset(layer, head) + static_cast<size_t>(token) * row;
            const std::vector<std::byte> zero(row);
            EXPECT_EQ(std::memcmp(block.data() + value, token < n ? span.block->data() + value : zero.data(), row), 0);
            for (int i = 0; i < kv.head_dim; ++i) {
              const size_t key = kv.KeyOffset(layer, head) + kv.KeyElementOffset(token, i);
              EXPECT_EQ(std::memcmp(block.data() + key, token < n ? span.block->data() + key : zero.data(), element), 0)
                  << n << " " << token;
            }
          }
    }
  }
}

TEST_P(Records, MeetEveryFlippedBit) {
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  const Span span = spans.Make(kRoot, Iota(19));
  std::vector<std::byte> record = spans.Record(span);
  for (size_t i = 0; i < record.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      record[i] ^= std::byte(1 << bit);
      ASSERT_FALSE(Served(format, span, record)) << i << " " << bit;
      (void)RecordFormat(record);
      record[i] ^= std::byte(1 << bit);
    }
  EXPECT_TRUE(Served(format, span, record));
}

TEST_P(Records, MeetEveryWrongLength) {
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  const Span span = spans.Make(kRoot, Iota(5));
  std::vector<std::byte> record = spans.Record(span);
  for (size_t n = 0; n < record.size(); ++n) {
    ASSERT_FALSE(Served(format, span, std::span(record).first(n))) << n;
    (void)RecordFormat(std::span(record).first(n));
  }
  record.push_back({});
  EXPECT_FALSE(Served(format, span, record));
}

// Whole fields, of another span and with the right checksum: what a confused writer would leave.
TEST_P(Records, MeetEveryFieldOfAnotherSpan) {
  const SpanFormat format = FormatOf(GetParam());
  Spans spans(format);
  SpanFormat other_format = format;
  other_format.codec = format.codec->exact ? &kInt8 : &kAsIs;
  other_format.model = Sha256("another model");
  other_format.geometry = {.n_layers = 1, .n_kv_heads = 1, .head_dim = 32, .dtype = DType::kF32};
  Spans other_spans(other_format);
  const Span span = spans.Make(kRoot, Iota(19)), other = other_spans.Make(Sha256("elsewhere"), Iota(33, 7));
  const auto theirs = other_spans.Record(other);
  const auto swapped = [&](size_t begin, size_t end) {
    auto record = spans.Record(span);
    std::copy(theirs.begin() + static_cast<ptrdiff_t>(begin), theirs.begin() + static_cast<ptrdiff_t>(end),
              record.begin() + static_cast<ptrdiff_t>(begin));
    FixChecksum(&record);
    return record;
  };
#define SW_FIELD(name) \
  EXPECT_FALSE(Served( \
      format, span, swapped(offsetof(RecordHeader, name), offsetof(RecordHeader, name) + sizeof(RecordHeader::name))))
  SW_FIELD(record_bytes);
  SW_FIELD(model);
  SW_FIELD(key);
  SW_FIELD(parent);
  SW_FIELD(n_layers);
  SW_FIELD(n_kv_heads);
  SW_FIELD(head_dim);
  SW_FIELD(dtype);
  SW_FIELD(n_tokens);
  SW_FIELD(tokens);
  SW_FIELD(codec);
#undef SW_FIELD
  EXPECT_FALSE(Served(format, span, theirs));
  for (const size_t at : {offsetof(RecordHeader, magic), offsetof(RecordHeader, version),
                          offsetof(RecordHeader, header_bytes), offsetof(RecordHeader, reserved)}) {
    auto record = spans.Record(span);
    record[at] ^= std::byte{1};
    FixChecksum(&record);
    EXPECT_FALSE(Served(format, span, record)) << at;
  }
  auto rows = spans.Record(span);  // rows alone: the checksum is all that tells
  std::reverse(rows.begin() + sizeof(RecordHeader), rows.end());
  EXPECT_FALSE(Served(format, span, rows));
}

TEST_P(Records, TellTheirFormat) {
  Spans spans(FormatOf(GetParam()));
  auto record = spans.Record(spans.Make(kRoot, Iota(3)));
  const auto format = RecordFormat(record);
  ASSERT_TRUE(format.ok());
  EXPECT_EQ(format->model, kFormat.model);
  EXPECT_EQ(format->codec, GetParam());
  EXPECT_EQ(format->geometry.BlockBytes(), kFormat.geometry.BlockBytes());
  for (const std::string_view name : {"none", "int3", "int88888"}) {
    std::memcpy(record.data() + offsetof(RecordHeader, codec), name.data(), name.size());
    EXPECT_EQ(RecordFormat(record).status().code(), StatusCode::kCorruption) << name;
  }
}

TEST(TableKey, StandsInTheOrderOfItsTokens) {
  const auto key = [](const std::vector<int32_t>& tokens) { return EncodeKey(kRoot, tokens); };
  EXPECT_LT(key({1, 2}), key({1, 2, 0}));
  EXPECT_LT(key({1, 2, 9}), key({1, 3}));
  EXPECT_LT(key({255}), key({256}));
  const auto decoded = DecodeKey(key({7, 1 << 30}));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->parent, kRoot);
  EXPECT_EQ(decoded->tokens, (std::vector<int32_t>{7, 1 << 30}));
  for (const size_t n : {0, 1, 32, 33, 35, 37, 32 + 4 * 65}) EXPECT_FALSE(DecodeKey(std::string(n, 'x')).ok()) << n;
}

}  // namespace
}  // namespace spanwise
