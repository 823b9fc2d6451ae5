// Pieces of a definition that files of both kinds need.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/hash.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/model.h"
#include "tokenizer/pipeline.h"

namespace spanwise {

// Of one token: where a model looks for the longest, a text takes time in proportion to this.
constexpr size_t kMaxTokenBytes = 4096;

// Everything that decides which ids a text gets, in an order that a file's layout does not change.
class DefinitionDigest {
 public:
  DefinitionDigest& Add(std::string_view name, std::string_view value) {
    hasher_.Field(name).Field(value);
    return *this;
  }
  DefinitionDigest& Add(std::string_view name, uint64_t value) {
    hasher_.Field(name).Field(value);
    return *this;
  }
  void AddMerges(const std::vector<MergeTable::Merge>& merges);
  // The steps and added tokens of `definition`.
  std::string Finish(const PipelineTokenizer::Definition& definition);

 private:
  Hasher hasher_;
};

// Whether BPE may cut before each run of U+2581 after something else: whether no merge joins the two sides, so that the
// words between come out the same. `text_of` gives a token's text by id.
template <typename TextOf>
bool MayCutBeforeSpaces(const std::vector<MergeTable::Merge>& merges, const TextOf& text_of) {
  constexpr std::string_view kSpace = "\u2581";
  for (const MergeTable::Merge& merge : merges)
    if (!std::string_view(text_of(merge.left)).ends_with(kSpace) &&
        std::string_view(text_of(merge.right)).starts_with(kSpace))
      return false;
  return true;
}

}  // namespace spanwise
