#include "tokenizer/definition.h"

#include <algorithm>

namespace spanwise {

void DefinitionDigest::AddMerges(const std::vector<MergeTable::Merge>& merges) {
  hasher_.Field("merges").Field(merges.size());
  for (const MergeTable::Merge& merge : merges)
    hasher_.Field(static_cast<uint64_t>(merge.left))
        .Field(static_cast<uint64_t>(merge.right))
        .Field(uint64_t{merge.rank});
}

std::string DefinitionDigest::Finish(const PipelineTokenizer::Definition& definition) {
  Add("normalizer", definition.normalizer.Description());
  Add("pre_tokenizer", definition.pre_tokenizer.Description());
  std::vector<const AddedToken*> added;
  for (const AddedToken& token : definition.added) added.push_back(&token);
  std::sort(added.begin(), added.end(), [](const AddedToken* a, const AddedToken* b) { return a->id < b->id; });
  for (const AddedToken* token : added)
    hasher_.Field(static_cast<uint64_t>(token->id))
        .Field(token->content)
        .Field(uint64_t{token->special} | uint64_t{token->lstrip} << 1 | uint64_t{token->rstrip} << 2 |
               uint64_t{token->normalized} << 3 | uint64_t{token->single_word} << 4);
  return hasher_.Finish().Hex();
}

}  // namespace spanwise
