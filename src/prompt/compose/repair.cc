#include <bit>

#include "prompt/compose/walk.h"

namespace spanwise {
namespace {

// Members stand one after another as in the flat prompt, each with the KV that a set's member has, until some of its
// tokens are recomputed.
class RepairWalk : public TreeWalk {
 public:
  // `method` names the policy and all that its choice depends on.
  RepairWalk(const PlanKeys& keys, const Hash256& method, Plan* plan) : TreeWalk(keys, plan), method_(method) {}

 private:
  Status PlaceSet(const PromptNode& set) override {
    const int base = position_;
    const std::vector<int> visible = visible_;
    for (const PromptNode& member : set.children) {
      if (member.tokens.empty()) continue;
      const int i = AddRun();
      run(i).tokens = member.tokens;
      if (run(i).base != base) {  // the first sees what it was read after
        PlannedRun source{.root = {}, .base = base, .tokens = {}, .visible = visible};
        source.root = RootKey(keys_.model, "causal", ContextKey(plan_, source), keys_.salt);
        const Hash256 context = Hasher().Field(source.root).Field(ContextKey(plan_, run(i))).Field(method_).Finish();
        run(i).root = RootKey(keys_.model, "repair", context, keys_.salt);
        run(i).source = PlannedSource{source.root, base, visible};
      }
      visible_.push_back(i);
      position_ += static_cast<int>(member.tokens.size());
      AddPiece(member, i);
    }
    return Status::Ok();
  }

  const Hash256 method_;
};

}  // namespace

Status ComposeRepair(const PromptNode& tree, const PlanKeys& keys, Plan* plan) {
  const double fraction = plan->options.repair_fraction;
  if (!(fraction >= 0 && fraction <= 1)) return InvalidArgument("repair_fraction must be 0 to 1");
  const double threshold = plan->options.repair_threshold.value_or(0);
  if (!(threshold >= 0)) return InvalidArgument("repair_threshold must not be negative");
  PlannedRepair repair;
  SW_ASSIGN_OR_RETURN(repair.policy, FindRepairPolicy(plan->options.repair_policy));
  Hasher method;
  method.Field(repair.policy->name).Field(std::bit_cast<uint64_t>(fraction)).Field(std::bit_cast<uint64_t>(threshold));
  // A budget is shared among all documents, and may be spent by what is asked.
  method.Field(ContentKey(tree));
  SW_RETURN_IF_ERROR(RepairWalk(keys, method.Finish(), plan).Visit(tree));
  if (plan->runs.empty()) return Status::Ok();
  repair.question_run = static_cast<int>(plan->runs.size()) - 1;
  repair.question_tokens = static_cast<int>(plan->runs.back().tokens.size());
  plan->repair = repair;
  return Status::Ok();
}

}  // namespace spanwise
