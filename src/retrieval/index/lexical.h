// The lexical index: what a word is, and how a question becomes a full-text query.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/sqlite.h"
#include "spanwise/status.h"

namespace spanwise::retrieval {

// Registers the FTS5 tokenizer "spanwise" on a connection: Unicode words, lower-cased, without diacritics, English
// endings stemmed (FTS5's porter over unicode61 remove_diacritics 2), and scripts without spaces as pairs of
// neighbouring characters, so that any two of them are found. Every connection that touches the index needs it.
Status RegisterTokenizer(Database* database);

// A word of a question.
struct QueryTerm {
  std::string text;                 // as written; what MATCH is given, inside double quotes
  std::vector<std::string> tokens;  // as indexed; several for a run of characters without spaces, a phrase
  bool prefix = false;              // a single character of such a script: every pair that begins with it
};

// Splits questions exactly as the index splits documents. Thread-compatible; must not outlive the connection.
class QueryTokenizer {
 public:
  static Result<QueryTokenizer> Create(Database* database);

  // Distinct terms in order. Any bytes are accepted: what is not UTF-8 or no word is dropped, and all after the first
  // 64 KiB too.
  Result<std::vector<QueryTerm>> Terms(std::string_view text) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

struct MatchOptions {
  // Words in a larger share of the chunks are dropped while others remain: beyond half of them BM25 gives no weight,
  // and before that they cost the most and say the least. Short lists cost nothing and are kept up to that half.
  double max_document_share = 0.2;
  size_t always_short = 1000;  // chunks
  size_t keep_at_least = 2;
  size_t max_terms = 32;  // the rarest
};

// The MATCH expression of a question, a disjunction of quoted terms ordered by rarity; empty when no word of it is
// indexed. `document_count` says in how many of the `n_chunks` chunks an indexed token is.
Result<std::string> BuildMatch(const std::vector<QueryTerm>& terms, size_t n_chunks, const MatchOptions& options,
                               const std::function<Result<size_t>(const std::string& token)>& document_count);

}  // namespace spanwise::retrieval
