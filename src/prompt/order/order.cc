#include "prompt/order/order.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/str.h"

namespace spanwise {
namespace {

Status KeepGiven(PromptNode*) { return Status::Ok(); }

Status SortByContent(PromptNode* set) {
  std::ranges::stable_sort(set->children, {}, [](const PromptNode& node) { return ContentKey(node); });
  return Status::Ok();
}

// The best first; equal scores by content, so that the order given never shows.
Status SortByRelevance(PromptNode* set) {
  for (const PromptNode& member : set->children)
    if (!member.score)
      return InvalidArgument(
          StrFormat("document {} has no score, which orders by relevance need: give scores, or take "
                    "the documents from a corpus",
                    Quoted(member.document)));
  SW_RETURN_IF_ERROR(SortByContent(set));
  std::ranges::stable_sort(set->children, std::greater(), [](const PromptNode& node) { return *node.score; });
  return Status::Ok();
}

// Of k ranks the odd ones from the left, the even ones from the right: 1, 3, 5, 4, 2. Long-Context LLMs Meet RAG
// (2024), retrieval reordering.
Status PutBestAtSides(PromptNode* set) {
  SW_RETURN_IF_ERROR(SortByRelevance(set));
  std::vector<PromptNode> left, right;
  for (size_t i = 0; i < set->children.size(); ++i) (i % 2 == 0 ? left : right).push_back(std::move(set->children[i]));
  std::ranges::move(right.rbegin(), right.rend(), std::back_inserter(left));
  set->children = std::move(left);
  return Status::Ok();
}

// JRT-Prompt of Just Read Twice (2024). The members of the second set see all of the first.
Status ReadTwice(PromptNode* set) {
  PromptNode first = *set;
  *set = PromptNode::Sequence({std::move(first), *set});
  return Status::Ok();
}

struct OrderPolicy {
  DocumentOrder order;
  bool fits_sets;  // false: promises places that members of a set do not have
  Status (*arrange)(PromptNode* set);
};

constexpr OrderPolicy kPolicies[] = {
    {DocumentOrder::kGiven, true, KeepGiven},
    {DocumentOrder::kCanonical, true, SortByContent},
    {DocumentOrder::kRelevance, false, SortByRelevance},
    {DocumentOrder::kSides, false, PutBestAtSides},
    {DocumentOrder::kRepeat, true, ReadTwice},
    // Those that ask the model or the store begin like this (engine/arrangement.h).
    {DocumentOrder::kSearch, false, KeepGiven},
    {DocumentOrder::kCached, false, SortByContent},
};

Status Visit(const OrderPolicy& policy, PromptNode* node) {
  for (PromptNode& child : node->children) SW_RETURN_IF_ERROR(Visit(policy, &child));
  return node->kind == PromptNode::Kind::kSet ? policy.arrange(node) : Status::Ok();
}

}  // namespace

Status ArrangeSets(const ComposeOptions& options, PromptNode* tree) {
  for (const OrderPolicy& policy : kPolicies) {
    if (policy.order != options.order) continue;
    const bool has_order = options.mode != ComposeMode::kSet && options.mode != ComposeMode::kApe;
    if (!has_order && !policy.fits_sets)
      return InvalidArgument(StrFormat("order '{}' changes nothing in compose mode '{}', where documents have no order",
                                       DocumentOrderName(options.order), ComposeModeName(options.mode)));
    if (options.order == DocumentOrder::kCached && options.mode != ComposeMode::kExact)
      return InvalidArgument(
          StrFormat("order 'cached' is of compose mode 'exact': in '{}' documents are found kept in any order",
                    ComposeModeName(options.mode)));
    return Visit(policy, tree);
  }
  return Internal(StrFormat("order '{}' has no policy", DocumentOrderName(options.order)));
}

}  // namespace spanwise
