#include "engine/sentences.h"

#include <string_view>
#include <unordered_map>

#include "retrieval/quote.h"

namespace spanwise {
namespace {

using TextsById = std::unordered_map<std::string_view, std::string_view>;

void Mark(const TextsById& texts, PromptNode* tree) {
  for (PromptNode& child : tree->children) Mark(texts, &child);
  if (tree->document.empty() || tree->bytes.empty()) return;
  size_t token = 0;
  for (const retrieval::ByteRange& sentence : retrieval::Quotable(texts.at(tree->document))) {
    while (token < tree->bytes.size() && (tree->bytes[token].empty() || tree->bytes[token].end <= sentence.begin))
      ++token;
    if (token == tree->bytes.size()) return;
    // One token may hold the end of a sentence and the beginning of the next.
    if (tree->sentences.empty() || tree->sentences.back() != static_cast<int32_t>(token))
      tree->sentences.push_back(static_cast<int32_t>(token));
  }
}

}  // namespace

void MarkSentences(const std::vector<Document>& documents, PromptNode* tree) {
  TextsById texts;
  for (const Document& document : documents) texts.emplace(document.id, document.text);
  Mark(texts, tree);
}

}  // namespace spanwise
