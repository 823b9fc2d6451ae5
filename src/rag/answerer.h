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
  std::string document_id;
  std::string title;
  std::string text;  // bytes [begin, begin + text.size()) of the document
  size_t begin = 0;
  std::optional<double> score = {};  // of the retrieval; absent where nothing was retrieved
};

struct Citation {
  std::string document_id;
  std::string title;
  std::string label;  // as the answer's text names it: [label]
  std::string quote;  // bytes [begin, end) of the document
  size_t begin = 0, end = 0;
  double score = 0;  // how well the quote supports the sentence that cites it, in [0, 1]
};

struct GroundedAnswer {
  Answer answer;                    // compose.spans name documents by document_id
  std::vector<Source> sources;      // what the prompt held, in order
  std::vector<Citation> citations;  // in the order of the answer, each once
};

// The request of a conversation over sources: every source becomes a document whose id in the prompt stays the same in
// whatever company it appears, so that its KV can be reused.
Request MakeRequest(std::vector<Message> messages, const std::vector<Source>& sources, const ComposeOptions& compose,
                    const SamplingParams& sampling);

// Resolves the labels in the answer's text. Labels that name no source are left out.
GroundedAnswer Ground(Answer answer, std::vector<Source> sources);

// Whole documents as sources.
std::vector<Source> WholeDocuments(const std::vector<retrieval::SourceDocument>& documents);

// The k best chunks for the question, best first.
Result<std::vector<Source>> Retrieve(const retrieval::Corpus& corpus, const std::string& question, size_t k);

}  // namespace spanwise::rag
