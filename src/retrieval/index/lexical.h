// The lexical index: what a word is, and how a question becomes a full-text query.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/sqlite.h"
#include "spanwise/status.h"

namespace spanwise::retrieval {

// Registers the FTS5 tokenizer "spanwise" on a connection: the terms of words.h, words with English endings stemmed (by
// FTS5's porter). A run that is cut in pairs is indexed as its overlapping pairs and its last character, words of
// Arabic and Hebrew also without article and particles. In a MATCH expression each string between quotes is one indexed
// token, as it is. Every connection that touches the index needs it.
Status RegisterTokenizer(Database* database);

// Which tokens a text has: another number for another version of this code or of the Unicode tables under it. An index
// with another number holds other tokens and has to be made anew.
int64_t TokenizerVersion();

// What may stand in the index for a part of a question.
struct QueryTerm {
  enum Form {
    kToken,   // the token
    kPrefix,  // every token that begins so
    kPhrase,  // two tokens, one behind the other
  };
  Form form = kToken;
  std::string token, second = {};
  // Beside the terms of the question itself: another form of the word before it, or a phrase of two. It adds to the
  // score of a chunk and never takes the place of such a term.
  bool extra = false;
  bool only_if_unknown = false;  // an extra one for a word that itself is not indexed
  bool operator==(const QueryTerm&) const = default;
};

// Splits questions exactly as the index splits documents. Thread-compatible; must not outlive the connection.
class QueryTokenizer {
 public:
  static Result<QueryTokenizer> Create(Database* database);

  // Distinct terms in order, each word before its extra terms (docs/corpora.md, "Search"). Any bytes are accepted: what
  // is not UTF-8 or no word is dropped, and all after the first 64 KiB too.
  Result<std::vector<QueryTerm>> Terms(std::string_view text) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

struct MatchOptions {
  // Terms in a larger share of the chunks are dropped while others remain: beyond half of them BM25 gives no weight,
  // and before that they cost the most and say the least. Short lists cost nothing and are kept up to that half.
  double max_document_share = 0.2;
  size_t always_short = 1000;  // chunks
  size_t keep_at_least = 2;
  size_t max_terms = 32;  // the rarest, and as many extra ones
};

// In how many chunks a token is, or with `prefix` the sum over all that begin so. It may stop at `enough` and return
// that.
using ChunkCounter = std::function<Result<size_t>(const std::string& token, bool prefix, size_t enough)>;

// The MATCH expression of a question, a disjunction of quoted tokens ordered by rarity; empty when none is indexed.
Result<std::string> BuildMatch(const std::vector<QueryTerm>& terms, size_t n_chunks, const MatchOptions& options,
                               const ChunkCounter& chunk_count);

}  // namespace spanwise::retrieval
