// A run of text on its way through normalisation and splitting, and where its bytes come from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace spanwise {

struct ByteRange {
  uint32_t begin = 0, end = 0;
};

// Text that is not a slice of the input. sources[i] is the range of input bytes that text[i] stands for.
struct RewrittenText {
  std::string text;
  std::vector<ByteRange> sources;
};

// Owns nothing: the input, or the RewrittenText, must outlive it.
struct Piece {
  std::string_view text;
  uint32_t origin = 0;                       // of text[0]: in the input, or in rewritten->text
  const RewrittenText* rewritten = nullptr;  // null: `text` is a slice of the input

  Piece Slice(size_t begin, size_t end) const {
    return {text.substr(begin, end - begin), origin + static_cast<uint32_t>(begin), rewritten};
  }

  // The input bytes of text[begin, end), begin < end, widened to whole characters.
  ByteRange Source(std::string_view input, size_t begin, size_t end) const {
    size_t first = origin + begin, last = origin + end;
    if (rewritten) return {rewritten->sources[first].begin, rewritten->sources[last - 1].end};
    const auto continues = [&](size_t i) { return (static_cast<uint8_t>(input[i]) & 0xC0) == 0x80; };
    while (first > 0 && continues(first)) --first;
    while (last < input.size() && continues(last)) ++last;
    return {static_cast<uint32_t>(first), static_cast<uint32_t>(last)};
  }
};

}  // namespace spanwise
