#include "prompt/tree.h"

#include <algorithm>

namespace spanwise {

Hash256 ContentKey(const PromptNode& node) {
  Hasher hasher;
  hasher.Field(static_cast<uint64_t>(node.kind));
  hasher.Field(node.tokens.size());
  for (const int32_t token : node.tokens) hasher.Field(static_cast<uint64_t>(token));
  std::vector<Hash256> children;
  for (const PromptNode& child : node.children) children.push_back(ContentKey(child));
  if (node.kind == PromptNode::Kind::kSet) std::ranges::sort(children);
  for (const Hash256& child : children) hasher.Field(child);
  return hasher.Finish();
}

Salts SaltsOf(const PromptNode& node) {
  Salts salts = node.salts;
  for (const PromptNode& child : node.children) salts.merge(SaltsOf(child));
  return salts;
}

}  // namespace spanwise
