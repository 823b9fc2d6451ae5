// The structure of a document: headings, paragraphs, list items, tables, code, as byte ranges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/sentences.h"

namespace spanwise::retrieval {

enum class DocumentFormat : uint8_t { kText, kMarkdown };

enum class BlockKind : uint8_t { kHeading, kParagraph, kListItem, kTable, kCode };

struct Block {
  BlockKind kind = BlockKind::kParagraph;
  int level = 0;    // of a heading, 1 to 6
  ByteRange range;  // whole lines without the last line break, and without blank lines around them
};

// The blocks in order; every byte that is not white space belongs to exactly one. Plain text has paragraphs only,
// parted by blank lines. Markdown: ATX and setext headings, fenced and indented code, pipe tables, list items,
// paragraphs; what it does not know (HTML, front matter) is a paragraph, so that nothing is lost.
std::vector<Block> ParseBlocks(std::string_view text, DocumentFormat format);

// A heading's text without its marks: "## The pump ##" is "The pump".
std::string HeadingText(std::string_view block_text);

}  // namespace spanwise::retrieval
