// Documents to chunks: the smallest text that is retrieved, put in a prompt, and cached.
//
// Structure first: a heading starts a new chunk (headings that follow one another stay together); under one heading,
// whole blocks are packed up to max_tokens. A block that is too long alone is cut at sentences, then lines, then words,
// then characters; code and tables at lines first. Chunks never overlap, and every chunk is an exact byte range of the
// text; what lies between two chunks, before the first and after the last is white space only.
//
// A section that fits is one chunk. In a longer one a chunk is also closed where the content says so (the hash of the
// next block, once the chunk has cut_tokens), so that an edit moves few later boundaries.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/blocks.h"
#include "retrieval/sentences.h"

namespace spanwise::retrieval {

// Increased whenever the same text and options would give other chunks.
inline constexpr int kChunkerVersion = 1;

struct ChunkOptions {
  size_t max_tokens = 240;
  size_t cut_tokens = 96;  // a chunk of this size may be closed by content
  size_t min_tokens = 32;  // on an update, a smaller leftover is packed together with a neighbour
  // Tokens of a text; must not depend on anything else. Absent: four bytes count as one token.
  std::function<size_t(std::string_view)> count_tokens;
  std::string counter_name = "bytes/4";  // names count_tokens in stored corpora: another name re-chunks them

  // All of the above and the chunker's version in one line: equal lines give equal chunks.
  std::string Describe() const;
};

struct Chunk {
  ByteRange range;
  size_t n_tokens = 0;       // at most max_tokens, unless a single character has more
  std::string heading_path;  // "Pumps > Cawick T40"; empty for plain text
};

// A pure function of its arguments. Work is linear in the text; count_tokens sees every byte a few times.
std::vector<Chunk> ChunkText(std::string_view text, DocumentFormat format, const ChunkOptions& options);

// Chunks of an edited text that keep every chunk of `previous` (ranges of `previous_text`, ascending, as these options
// made them) whose blocks are all unchanged; only what lies between them is packed anew. The result depends on the
// history of edits, so it may differ from ChunkText(text); it has the same properties.
std::vector<Chunk> RechunkText(std::string_view text, DocumentFormat format, const ChunkOptions& options,
                               std::string_view previous_text, std::span<const ByteRange> previous);

}  // namespace spanwise::retrieval
