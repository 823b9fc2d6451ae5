#include "prompt/compose/walk.h"

namespace spanwise {

Status TreeWalk::Visit(const PromptNode& node) {
  switch (node.kind) {
    case PromptNode::Kind::kText:
      VisitText(node);
      return Status::Ok();
    case PromptNode::Kind::kSequence:
      for (const PromptNode& child : node.children) SW_RETURN_IF_ERROR(Visit(child));
      return Status::Ok();
    case PromptNode::Kind::kSet:
      for (const PromptNode& member : node.children)
        if (member.kind != PromptNode::Kind::kText)
          return Unimplemented("a member of a set must be plain text; nested sets and sequences are not available");
      CloseRun();
      return PlaceSet(node);
  }
  return Internal("unknown prompt node");
}

void TreeWalk::VisitText(const PromptNode& node) {
  if (node.tokens.empty()) return;
  if (open_ < 0) open_ = AddRun();
  const int begin = static_cast<int>(run(open_).tokens.size());
  AppendText(node, &run(open_));
  plan_.pieces.push_back({node.document, open_, begin, static_cast<int>(run(open_).tokens.size()), node.bytes});
}

int TreeWalk::AddRun() {
  PlannedRun& run = plan_.runs.emplace_back();
  run.base = position_;
  run.visible = visible_;
  run.address.root = RootKey(keys_.model, "causal", ContextKey(plan_, run));
  return static_cast<int>(plan_.runs.size()) - 1;
}

void TreeWalk::AddPiece(const PromptNode& node, int run) {
  plan_.pieces.push_back({node.document, run, 0, static_cast<int>(node.tokens.size()), node.bytes});
}

void TreeWalk::CloseRun() {
  if (open_ < 0) return;
  position_ += static_cast<int>(run(open_).tokens.size());
  visible_.push_back(open_);
  open_ = -1;
}

}  // namespace spanwise
