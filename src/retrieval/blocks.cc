#include "retrieval/blocks.h"

#include <algorithm>

#include "base/str.h"
#include "retrieval/unicode.h"

namespace spanwise::retrieval {
namespace {

struct Line {
  size_t begin = 0, end = 0;  // without the line break
  std::string_view text;      // without white space at both ends
  size_t indent = 0;          // columns of leading white space, a tab to the next multiple of 4
};

Line LineAt(std::string_view text, size_t begin) {
  Line line{begin, std::min(text.find('\n', begin), text.size()), {}, 0};
  std::string_view raw = text.substr(begin, line.end - begin);
  if (raw.ends_with('\r')) raw.remove_suffix(1), --line.end;
  for (const char c : raw) {
    if (c == ' ') {
      ++line.indent;
    } else if (c == '\t') {
      line.indent = line.indent / 4 * 4 + 4;
    } else {
      break;
    }
  }
  line.text = Trim(raw);
  return line;
}

size_t RunLength(std::string_view text, char c) {
  const size_t end = text.find_first_not_of(c);
  return end == std::string_view::npos ? text.size() : end;
}

int AtxLevel(const Line& line) {
  const size_t marks = RunLength(line.text, '#');
  if (line.indent > 3 || marks == 0 || marks > 6) return 0;
  return marks == line.text.size() || line.text[marks] == ' ' || line.text[marks] == '\t' ? static_cast<int>(marks) : 0;
}

int SetextLevel(const Line& line) {
  if (line.indent > 3 || line.text.empty()) return 0;
  if (RunLength(line.text, '=') == line.text.size()) return 1;
  return line.text.size() > 1 && RunLength(line.text, '-') == line.text.size() ? 2 : 0;
}

// Length of the fence that opens here, 0 where none does.
size_t FenceLength(const Line& line) {
  for (const char mark : {'`', '~'}) {
    const size_t length = RunLength(line.text, mark);
    if (length >= 3 && (mark == '~' || line.text.find('`', length) == std::string_view::npos)) return length;
  }
  return 0;
}

bool StartsListItem(const Line& line) {
  size_t marker = 0;
  if (line.text.starts_with('-') || line.text.starts_with('*') || line.text.starts_with('+')) {
    marker = 1;
  } else {
    while (marker < line.text.size() && marker < 9 && IsAsciiDigit(line.text[marker])) ++marker;
    if (marker == 0 || marker >= line.text.size() || (line.text[marker] != '.' && line.text[marker] != ')'))
      return false;
    ++marker;
  }
  return marker < line.text.size() && (line.text[marker] == ' ' || line.text[marker] == '\t');
}

bool IsDelimiterRow(const Line& line) {
  return line.text.find('-') != std::string_view::npos && line.text.find('|') != std::string_view::npos &&
         line.text.find_first_not_of("|:- \t") == std::string_view::npos;
}

class MarkdownParser {
 public:
  explicit MarkdownParser(std::string_view text) : text_(text) {}

  std::vector<Block> Parse() {
    while (at_ < text_.size()) {
      const Line line = LineAt(text_, at_);
      Advance(line);
      if (line.text.empty()) {
        open_ = false;
      } else {
        Take(line);
      }
    }
    return std::move(blocks_);
  }

 private:
  void Advance(const Line& line) { at_ = std::min(text_.find('\n', line.end), text_.size() - 1) + 1; }
  void Add(BlockKind kind, const Line& line, bool open, int level = 0) {
    blocks_.push_back({kind, level, {line.begin, line.end}});
    open_ = open;
  }

  void Take(const Line& line) {
    Block* block = open_ ? &blocks_.back() : nullptr;
    if (const size_t fence = FenceLength(line)) return TakeFence(line, fence);
    if (const int level = AtxLevel(line)) return Add(BlockKind::kHeading, line, false, level);
    if (const int level = SetextLevel(line); level && block && block->kind == BlockKind::kParagraph && lines_ == 1) {
      *block = {BlockKind::kHeading, level, {block->range.begin, line.end}};
      open_ = false;
      return;
    }
    if (!block && line.indent >= 4 && !StartsListItem(line)) return Add(BlockKind::kCode, line, true);
    if (block && block->kind == BlockKind::kCode && line.indent < 4) block = nullptr;
    if (StartsListItem(line)) return Add(BlockKind::kListItem, line, true);
    if (line.text.starts_with('|') ||
        (at_ < text_.size() && line.text.find('|') != std::string_view::npos && IsDelimiterRow(LineAt(text_, at_)))) {
      if (!block || block->kind != BlockKind::kTable) return Add(BlockKind::kTable, line, true);
    } else if (block && block->kind == BlockKind::kTable && line.text.find('|') == std::string_view::npos) {
      block = nullptr;
    }
    if (!block) {
      Add(BlockKind::kParagraph, line, true);
      lines_ = 1;
      return;
    }
    block->range.end = line.end;
    ++lines_;
  }

  void TakeFence(const Line& first, size_t length) {
    Add(BlockKind::kCode, first, false);
    while (at_ < text_.size()) {
      const Line line = LineAt(text_, at_);
      Advance(line);
      if (!line.text.empty()) blocks_.back().range.end = line.end;
      if (RunLength(line.text, first.text[0]) >= length && RunLength(line.text, first.text[0]) == line.text.size())
        return;
    }
  }

  std::string_view text_;
  std::vector<Block> blocks_;
  size_t at_ = 0;
  size_t lines_ = 0;   // of the open paragraph
  bool open_ = false;  // whether the next line may continue the last block
};

std::vector<Block> ParseParagraphs(std::string_view text) {
  std::vector<Block> blocks;
  bool open = false;
  for (size_t at = 0; at < text.size();) {
    const Line line = LineAt(text, at);
    at = std::min(text.find('\n', line.end), text.size() - 1) + 1;
    if (line.text.empty()) {
      open = false;
    } else if (open) {
      blocks.back().range.end = line.end;
    } else {
      blocks.push_back({BlockKind::kParagraph, 0, {line.begin, line.end}});
      open = true;
    }
  }
  return blocks;
}

}  // namespace

std::vector<Block> ParseBlocks(std::string_view text, DocumentFormat format) {
  return format == DocumentFormat::kMarkdown ? MarkdownParser(text).Parse() : ParseParagraphs(text);
}

std::string HeadingText(std::string_view block_text) {
  std::string_view line = Trim(block_text.substr(0, block_text.find('\n')));
  const size_t marks = RunLength(line, '#');
  if (marks == 0 || marks > 6) return std::string(line);
  line = Trim(line.substr(marks));
  const size_t text_end = line.find_last_not_of('#');
  if (text_end == std::string_view::npos) return {};
  if (text_end + 1 < line.size() && (line[text_end] == ' ' || line[text_end] == '\t')) line = line.substr(0, text_end);
  return std::string(Trim(line));
}

}  // namespace spanwise::retrieval
