// PromptTree: the only input language of composition.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "kv/span.h"

namespace spanwise {

// Bytes of a document's text.
struct TextRange {
  size_t begin = 0, end = 0;  // end excluded
  bool empty() const { return begin == end; }
  bool operator==(const TextRange&) const = default;
};

struct PromptNode {
  enum class Kind {
    kText,      // tokens
    kSequence,  // children in order; each sees those before it
    kSet,       // children without order; none sees another
  };
  Kind kind = Kind::kText;
  std::vector<int32_t> tokens;
  std::vector<PromptNode> children;
  std::string document;         // of a text node: the document it holds, empty for other text
  std::optional<double> score;  // of a member of a set: Document::score
  // Of a document where it is asked for: which of its text each token stands for, empty for what stands around the
  // text.
  std::vector<TextRange> bytes = {};
  // Of a text: who may find KV of it, and of all that has seen it.
  Salts salts = {};
  // Of a document where it is asked for: those of its tokens that begin a sentence, ascending.
  std::vector<int32_t> sentences = {};

  static PromptNode Text(std::vector<int32_t> tokens, std::string document = {}, std::optional<double> score = {},
                         Salts salts = {}) {
    return {Kind::kText, std::move(tokens), {}, std::move(document), score, {}, std::move(salts), {}};
  }
  static PromptNode Sequence(std::vector<PromptNode> children) {
    return {Kind::kSequence, {}, std::move(children), {}, {}, {}, {}, {}};
  }
  static PromptNode Set(std::vector<PromptNode> children) {
    return {Kind::kSet, {}, std::move(children), {}, {}, {}, {}, {}};
  }
};

// Hash of what the node says: of a text its tokens, of a sequence its children in order, of a set its children in
// the order of their hashes. Permuting a set never changes it; document ids, scores and salts do not enter.
Hash256 ContentKey(const PromptNode& node);

// Those of all its texts.
Salts SaltsOf(const PromptNode& node);

}  // namespace spanwise
