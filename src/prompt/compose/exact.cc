#include "prompt/compose/composer.h"

namespace spanwise {
namespace {

void Flatten(const PromptNode& node, PlannedRun* run, std::vector<PlannedPiece>* pieces) {
  if (node.kind == PromptNode::Kind::kText && !node.tokens.empty()) {
    const int begin = static_cast<int>(run->tokens.size());
    AppendText(node, run);
    pieces->push_back({node.document, 0, begin, static_cast<int>(run->tokens.size()), node.bytes});
  }
  for (const PromptNode& child : node.children) Flatten(child, run, pieces);
}

}  // namespace

Status ComposeExact(const PromptNode& tree, const PlanKeys& keys, Plan* plan) {
  PlannedRun& run = plan->runs.emplace_back();
  run.address.root = RootKey(keys.model, "causal", {});
  Flatten(tree, &run, &plan->pieces);
  return Status::Ok();
}

}  // namespace spanwise
