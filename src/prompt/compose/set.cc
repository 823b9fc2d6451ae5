#include <algorithm>
#include <map>

#include "prompt/compose/composer.h"

namespace spanwise {
namespace {

// Walks the tree in order. Text joins the open run; a set closes it, gives each member a run at the position reached,
// and text after the set opens a run behind its longest member.
class SetWalk {
 public:
  SetWalk(const PlanKeys& keys, Plan* plan) : keys_(keys), plan_(*plan) {}

  Status Visit(const PromptNode& node) {
    switch (node.kind) {
      case PromptNode::Kind::kText:
        return VisitText(node);
      case PromptNode::Kind::kSequence:
        for (const PromptNode& child : node.children) SW_RETURN_IF_ERROR(Visit(child));
        return Status::Ok();
      case PromptNode::Kind::kSet:
        return VisitSet(node);
    }
    return Internal("unknown prompt node");
  }

 private:
  Status VisitText(const PromptNode& node) {
    if (node.tokens.empty()) return Status::Ok();
    if (open_ < 0) open_ = AddRun();
    PlannedRun& run = plan_.runs[static_cast<size_t>(open_)];
    const int begin = static_cast<int>(run.tokens.size());
    run.tokens.insert(run.tokens.end(), node.tokens.begin(), node.tokens.end());
    plan_.pieces.push_back({node.document, open_, begin, static_cast<int>(run.tokens.size())});
    return Status::Ok();
  }

  Status VisitSet(const PromptNode& set) {
    CloseRun();
    std::map<Hash256, const PromptNode*> members;  // by content: canonical order, and duplicates placed once
    for (const PromptNode& member : set.children) {
      if (member.kind != PromptNode::Kind::kText)
        return Unimplemented("a member of a set must be plain text; nested sets and sequences are not available");
      if (!member.tokens.empty()) members.emplace(ContentKey(member), &member);
    }
    std::map<Hash256, int> run_of;
    int end = position_;
    for (const auto& [key, member] : members) {
      const int run = AddRun();
      plan_.runs[static_cast<size_t>(run)].tokens = member->tokens;
      run_of[key] = run;
      end = std::max(end, position_ + static_cast<int>(member->tokens.size()));
    }
    position_ = end;
    for (const auto& [key, run] : run_of) visible_.push_back(run);
    for (const PromptNode& member : set.children)
      if (!member.tokens.empty())
        plan_.pieces.push_back(
            {member.document, run_of.at(ContentKey(member)), 0, static_cast<int>(member.tokens.size())});
    return Status::Ok();
  }

  // A run at the position reached, seeing all that is closed so far.
  int AddRun() {
    PlannedRun& run = plan_.runs.emplace_back();
    run.base = position_;
    run.visible = visible_;
    run.root = RootKey(keys_.model, "causal", ContextKey(plan_, run), keys_.salt);
    return static_cast<int>(plan_.runs.size()) - 1;
  }

  void CloseRun() {
    if (open_ < 0) return;
    position_ += static_cast<int>(plan_.runs[static_cast<size_t>(open_)].tokens.size());
    visible_.push_back(open_);
    open_ = -1;
  }

  const PlanKeys& keys_;
  Plan& plan_;
  int open_ = -1;             // the run that text is being added to
  int position_ = 0;          // where the next run starts
  std::vector<int> visible_;  // closed runs
};

}  // namespace

Status ComposeSet(const PromptNode& tree, const PlanKeys& keys, Plan* plan) { return SetWalk(keys, plan).Visit(tree); }

}  // namespace spanwise
