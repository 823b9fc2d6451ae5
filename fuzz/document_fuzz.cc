// Any bytes as a file of documents: read, cut, cut again after an edit, quoted. The first byte chooses the type of file
// and the size of chunks.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "retrieval/chunker.h"
#include "retrieval/document.h"
#include "retrieval/quote.h"
#include "retrieval/unicode.h"

namespace {

using namespace spanwise;
using namespace spanwise::retrieval;

bool AllSpace(std::string_view text) {
  for (size_t i = 0; i < text.size(); i += DecodeAt(text, i).bytes)
    if (!IsSpace(DecodeAt(text, i).value)) return false;
  return true;
}

void CheckChunks(std::string_view text, const std::vector<Chunk>& chunks, const ChunkOptions& options) {
  size_t end = 0;
  for (const Chunk& chunk : chunks) {
    SW_CHECK(end <= chunk.range.begin && chunk.range.begin < chunk.range.end && chunk.range.end <= text.size());
    SW_CHECK(AllSpace(text.substr(end, chunk.range.begin - end)));
    const std::string_view chunk_text = text.substr(chunk.range.begin, chunk.range.size());
    SW_CHECK(IsValidUtf8(chunk_text));
    SW_CHECK(chunk.n_tokens <= options.max_tokens || DecodeAt(chunk_text, 0).bytes == chunk_text.size());
    end = chunk.range.end;
  }
  SW_CHECK(AllSpace(text.substr(end)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t choice = data[0];
  const std::string bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  SourceFile file;
  file.path = file.id = "input";
  file.kind = static_cast<SourceKind>(choice % 3);
  DocumentLimits limits;
  limits.max_text_bytes = limits.max_line_bytes = 1 << 16;

  ChunkOptions options;
  options.max_tokens = 1 + choice / 3;
  options.cut_tokens = options.max_tokens / 2;
  options.min_tokens = options.max_tokens / 8;
  std::string previous;
  std::vector<ByteRange> ranges;
  const Status status = ParseSource(file, bytes, limits, [&](SourceDocument document) {
    SW_CHECK(IsValidUtf8(document.text) && IsValidUtf8(document.title) && !document.title.empty() &&
             !document.id.empty());
    const std::vector<Chunk> chunks = ChunkText(document.text, document.format, options);
    CheckChunks(document.text, chunks, options);
    CheckChunks(document.text, RechunkText(document.text, document.format, options, previous, ranges), options);
    if (!chunks.empty()) {
      const ByteRange range = chunks.back().range;
      const std::string_view source = std::string_view(document.text).substr(range.begin, range.size());
      const Quote quote = BestQuote(source, document.title);
      SW_CHECK(quote.range.begin <= quote.range.end && quote.range.end <= source.size());
      SW_CHECK(quote.score >= 0 && quote.score <= 1);
    }
    ranges.clear();
    for (const Chunk& chunk : chunks) ranges.push_back(chunk.range);
    previous = std::move(document.text);
    return Status::Ok();
  });
  SW_CHECK(status.ok() || status.message().starts_with("input"));
  return 0;
}
