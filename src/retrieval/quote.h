// The sentence of a source that supports a sentence of an answer.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "retrieval/sentences.h"

namespace spanwise::retrieval {

struct Quote {
  ByteRange range;   // of the source: an exact sentence, without white space around it
  double score = 0;  // 0 to 1: the share of the answer's words that the sentence has, by weight
};

// What of `source` may be quoted, in order: paragraphs by sentence; headings, list items, table rows and code lines
// each as a whole.
std::vector<ByteRange> Quotable(std::string_view source);

// The best sentence of `source` (a chunk) for `answer_sentence`; ties to the first. Numbers and codes weigh most, then
// names, then other words; the commonest English words weigh next to nothing, unless the answer has no others. Words
// are compared as words.h folds them, without possessives and simple endings; runs without spaces by pairs of
// characters. The range
// is empty and the score 0 when no word is shared. A chunk's offset in its document added to the range gives the
// quote's place in the document. A pure function; thread-safe.
Quote BestQuote(std::string_view source, std::string_view answer_sentence);

}  // namespace spanwise::retrieval
