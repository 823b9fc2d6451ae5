#include "prompt/order/order.h"

#include <algorithm>

#include "base/str.h"

namespace spanwise {
namespace {

using Arrange = void (*)(std::vector<PromptNode>* members);

void KeepGiven(std::vector<PromptNode>*) {}

void SortByContent(std::vector<PromptNode>* members) {
  std::ranges::stable_sort(*members, {}, [](const PromptNode& node) { return ContentKey(node); });
}

struct OrderPolicy {
  DocumentOrder order;
  Arrange arrange;
};

constexpr OrderPolicy kPolicies[] = {
    {DocumentOrder::kGiven, KeepGiven},
    {DocumentOrder::kCanonical, SortByContent},
};

void Visit(Arrange arrange, PromptNode* node) {
  for (PromptNode& child : node->children) Visit(arrange, &child);
  if (node->kind == PromptNode::Kind::kSet) arrange(&node->children);
}

}  // namespace

Status ArrangeSets(DocumentOrder order, PromptNode* tree) {
  for (const OrderPolicy& policy : kPolicies) {
    if (policy.order != order) continue;
    Visit(policy.arrange, tree);
    return Status::Ok();
  }
  return Unimplemented(StrFormat("order '{}' is not available; use given or canonical", DocumentOrderName(order)));
}

}  // namespace spanwise
