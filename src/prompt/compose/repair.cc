#include <bit>

#include "prompt/compose/walk.h"

namespace spanwise {
namespace {

// Where a policy may cut depends on the text, which more than the tokens may know.
void AddSentences(const PromptNode& node, Hasher* hasher) {
  hasher->Field(static_cast<uint64_t>(node.sentences.size()));
  for (const int32_t token : node.sentences) hasher->Field(static_cast<uint64_t>(token));
  for (const PromptNode& child : node.children) AddSentences(child, hasher);
}

// Members stand one after another as in the flat prompt, each with the KV that a set's member has, until some of its
// tokens are recomputed.
class RepairWalk : public TreeWalk {
 public:
  // `method` names the policy and all that its choice depends on, `salts` are those of all that.
  RepairWalk(const PlanKeys& keys, const Hash256& method, Salts salts, Plan* plan)
      : TreeWalk(keys, plan), method_(method), salts_(std::move(salts)) {}

 private:
  Status PlaceSet(const PromptNode& set) override {
    const int base = position_;
    const std::vector<int> visible = visible_;
    for (const PromptNode& member : set.children) {
      if (member.tokens.empty()) continue;
      const int i = AddRun();
      if (run(i).base == base) {  // it sees what it was read after
        AppendText(member, &run(i));
      } else {
        run(i).tokens = member.tokens;
        PlannedRun source{.address = {}, .base = base, .tokens = {}, .visible = visible};
        source.address.root = RootKey(keys_.model, "causal", ContextKey(plan_, source));
        const Hash256 context =
            Hasher().Field(source.address.root).Field(ContextKey(plan_, run(i))).Field(method_).Finish();
        run(i).address.root = RootKey(keys_.model, "repair", context);
        run(i).address.AddSalts(0, salts_);
        source.address.AddSalts(0, member.salts);
        run(i).source = PlannedSource{source.address, base, visible};
        run(i).sentences = member.sentences;
      }
      visible_.push_back(i);
      position_ += static_cast<int>(member.tokens.size());
      AddPiece(member, i);
    }
    return Status::Ok();
  }

  const Hash256 method_;
  const Salts salts_;
};

}  // namespace

Status ComposeRepair(const PromptNode& tree, const PlanKeys& keys, Plan* plan) {
  const double fraction = plan->options.repair_fraction;
  if (!(fraction >= 0 && fraction <= 1)) return InvalidArgument("repair_fraction must be 0 to 1");
  const double threshold = plan->options.repair_threshold.value_or(0);
  if (!(threshold >= 0)) return InvalidArgument("repair_threshold must not be negative");
  PlannedRepair repair;
  SW_ASSIGN_OR_RETURN(repair.policy, FindRepairPolicy(plan->options.repair_policy));
  if (fraction == 1) {
    // Keys are rounded as they are rotated, and partial attention merges run by run: rows recomputed where their run
    // stands are close to the flat prompt's, and only the flat prompt itself is the same to the bit.
    plan->exactness = kCausalExact;
    return ComposeExact(tree, keys, plan);
  }
  Hasher method;
  method.Field(repair.policy->name).Field(std::bit_cast<uint64_t>(fraction)).Field(std::bit_cast<uint64_t>(threshold));
  // A budget is shared among all documents, and may be spent by what is asked.
  method.Field(ContentKey(tree));
  AddSentences(tree, &method);
  SW_RETURN_IF_ERROR(RepairWalk(keys, method.Finish(), Joined(SaltsOf(tree)), plan).Visit(tree));
  if (plan->runs.empty()) return Status::Ok();
  repair.question_run = static_cast<int>(plan->runs.size()) - 1;
  repair.question_tokens = static_cast<int>(plan->runs.back().tokens.size());
  plan->repair = repair;
  return Status::Ok();
}

}  // namespace spanwise
