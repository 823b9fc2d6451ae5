// Text to sentences, as byte ranges.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace spanwise::retrieval {

struct ByteRange {
  size_t begin = 0, end = 0;  // bytes of the text, end excluded
  size_t size() const { return end - begin; }
  bool operator==(const ByteRange&) const = default;
};

// The sentences of one paragraph in order, without the white space between them; all other bytes belong to exactly one.
// A sentence ends at . ! ? … (with closing quotes and brackets) before white space and something other than a small
// letter, at 。！？, or at a blank line. Common abbreviations, single initials ("J. Field") and list numbers at its
// start ("3. ") do not end one. English and languages that share its punctuation; stateless, a pure function of the
// text.
std::vector<ByteRange> SplitSentences(std::string_view text);

}  // namespace spanwise::retrieval
