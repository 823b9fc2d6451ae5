// Question to grounded answer: pick the sources, ask the engine, point each citation at its place in a document.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "retrieval/corpus.h"
#include "retrieval/document.h"
#include "spanwise/engine.h"
#include "spanwise/status.h"

namespace spanwise::rag {

// A stretch of a document that may enter a prompt: a chunk, or the whole.
struct Source {
  std::string document_id;  // of one without: see Document::id
  std::string title;
  std::string text;  // bytes [begin, begin + text.size()) of the document
  size_t begin = 0;
  std::optional<double> score = {};            // of the retrieval; absent where nothing was retrieved
  std::optional<std::string> cache_salt = {};  // Document::cache_salt
};

struct Citation {
  std::string document_id;
  std::string title;
  std::string label;  // as the answer's text names it: [label]
  std::string quote;  // bytes [begin, end) of the document
  size_t begin = 0, end = 0;
  // How well the quote supports the sentence that cites it, in [0, 1]; of one by attention, the document's share of
  // what was paid to all documents.
  double score = 0;
};

// A label in the answer's text whose source does not bear out the sentence before it.
struct UnsupportedCitation {
  std::string document_id;
  std::string title;
  std::string label;
  std::vector<std::string> missing;  // names and numbers of the sentence, as it writes them
};

struct GroundedAnswer {
  Answer answer;                    // compose.spans name documents by document_id
  std::vector<Source> sources;      // what the prompt held, in order
  std::vector<Citation> citations;  // in the order of the answer, each once; by attention the best first
  std::vector<UnsupportedCitation> unsupported = {};  // of citations as they are written, those that are not given
};

// The request of a conversation over sources: every source becomes a document whose id in the prompt stays the same in
// whatever company it appears, so that its KV can be reused.
Request MakeRequest(std::vector<Message> messages, const std::vector<Source>& sources, const ComposeOptions& compose,
                    const SamplingParams& sampling);

// The documents that an answer was read from, by its attention, each with the stretch that got most of it, the best
// first: those with at least half the score of the best, and 0.15. Of report.documents[i] the source is sources[i].
std::vector<Citation> CitationsByAttention(const AttentionReport& report, const std::vector<Source>& sources,
                                           const std::vector<std::string>& labels);

// Resolves the labels in the answer's text; labels that name no source are left out, and those whose source speaks of
// something else than the sentence (names.h: Unsupported) are told apart. An answer that is a stretch of a
// document cites that instead, and one that reports its attention what it was read from.
GroundedAnswer Ground(Answer answer, std::vector<Source> sources);

// Whole documents as sources.
std::vector<Source> WholeDocuments(const std::vector<retrieval::SourceDocument>& documents);
std::vector<Source> WholeDocuments(const std::vector<Document>& documents);

// The k best chunks for the last question of a conversation, best first. Where that leans on the turns before it, some
// are the best for the question that these complete, some for the question alone (conversation.h).
Result<std::vector<Source>> Retrieve(const retrieval::Corpus& corpus, const std::vector<Message>& messages, size_t k);

}  // namespace spanwise::rag
