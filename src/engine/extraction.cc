#include "engine/extraction.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "retrieval/unicode.h"

namespace spanwise {
namespace {

using decode::CopySource;
using retrieval::CodePoint;
using retrieval::DecodeAt;

// What the text's characters say of each byte before which one may be cut.
struct Cuts {
  std::vector<bool> word_begins, word_ends;  // of each byte, and of the end

  explicit Cuts(std::string_view text) : word_begins(text.size() + 1), word_ends(text.size() + 1) {
    char32_t before = ' ';
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = DecodeAt(text, at);
      const bool apart = !retrieval::IsWordCharacter(before) || retrieval::IsUnspaced(before) ||
                         !retrieval::IsWordCharacter(c.value) || retrieval::IsUnspaced(c.value);
      word_begins[at] = apart && retrieval::IsWordCharacter(c.value);
      word_ends[at] = apart && !retrieval::IsSpace(before);
      before = c.value;
      at += c.bytes;
    }
    word_ends[text.size()] = !retrieval::IsSpace(before);
  }
};

// The only token that stands for these bytes between others, or kNone.
int32_t TokenOf(std::string_view bytes, const Tokenizer& tokenizer) {
  const auto ids = tokenizer.Encode(bytes, /*parse_special=*/false);
  return ids.ok() && ids->size() == 1 && tokenizer.TokenBytes((*ids)[0]) == bytes ? (*ids)[0] : CopySource::kNone;
}

CopySource SourceOf(const Document& document, const PromptNode& node, const Tokenizer& tokenizer,
                    std::map<std::string, int32_t>* bare) {
  CopySource source{.name = document.id, .text = document.text, .tokens = {}};
  const std::string_view text = source.text;
  const Cuts cuts(text);
  size_t reached = 0;
  for (size_t i = 0; i < node.bytes.size(); ++i) {
    if (node.bytes[i].empty()) continue;
    // Of tokens that share a character each has its own bytes of it.
    const size_t begin = std::max(node.bytes[i].begin, std::min(reached, node.bytes[i].end));
    const std::string bytes = tokenizer.TokenBytes(node.tokens[i]);
    const size_t end = begin + bytes.size();
    // One that also stands for what is around the text, or not for its text to the letter, cannot be copied.
    if (bytes.empty() || end > node.bytes[i].end || text.substr(begin, bytes.size()) != bytes) continue;
    if (begin != reached && !source.tokens.empty()) source.tokens.emplace_back();  // no copy goes over the gap
    reached = end;
    CopySource::Token& token = source.tokens.emplace_back();
    token.id = node.tokens[i];
    token.begin = token.first_begin = begin;
    token.end = end;
    token.may_end = cuts.word_ends[end];
    size_t word = begin;
    while (word < end && retrieval::IsSpace(static_cast<unsigned char>(text[word]))) ++word;
    if (word == end || !cuts.word_begins[word]) continue;
    if (word == begin) {
      token.first = token.id;
      continue;
    }
    const auto [at, fresh] = bare->try_emplace(std::string(text.substr(word, end - word)), CopySource::kNone);
    if (fresh) at->second = TokenOf(at->first, tokenizer);
    token.first = at->second == CopySource::kNone ? token.id : at->second;
    token.first_begin = at->second == CopySource::kNone ? begin : word;
  }
  return source;
}

}  // namespace

Result<std::shared_ptr<const std::vector<CopySource>>> PrepareExtraction(const Request& request, const PromptNode& tree,
                                                                         const Tokenizer& tokenizer) {
  auto sources = std::make_shared<std::vector<CopySource>>();
  std::map<std::string, int32_t> bare;  // words without the white space before them
  bool any = false;
  for (const PromptNode& part : tree.children) {
    if (part.kind != PromptNode::Kind::kSet) continue;
    for (size_t i = 0; i < part.children.size(); ++i) {
      sources->push_back(SourceOf(request.documents[i], part.children[i], tokenizer, &bare));
      any = any || std::ranges::any_of(sources->back().tokens,
                                       [](const CopySource::Token& t) { return t.first != CopySource::kNone; });
    }
  }
  if (!any) return InvalidArgument("'extract' copies from documents, and none of them holds a word");
  return std::shared_ptr<const std::vector<CopySource>>(std::move(sources));
}

}  // namespace spanwise
