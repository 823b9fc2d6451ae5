#include "engine/sentences.h"

#include <algorithm>

#include "retrieval/quote.h"

namespace spanwise {

void MarkSentences(const std::vector<Document>& documents, PromptNode* tree) {
  for (PromptNode& child : tree->children) MarkSentences(documents, &child);
  if (tree->document.empty() || tree->bytes.empty()) return;
  const auto document = std::ranges::find(documents, tree->document, &Document::id);
  size_t token = 0;
  for (const retrieval::ByteRange& sentence : retrieval::Quotable(document->text)) {
    while (token < tree->bytes.size() && (tree->bytes[token].empty() || tree->bytes[token].end <= sentence.begin))
      ++token;
    if (token == tree->bytes.size()) return;
    // One token may hold the end of a sentence and the beginning of the next.
    if (tree->sentences.empty() || tree->sentences.back() != static_cast<int32_t>(token))
      tree->sentences.push_back(static_cast<int32_t>(token));
  }
}

}  // namespace spanwise
