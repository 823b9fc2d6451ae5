#include "prompt/plan.h"

#include <bit>

#include "base/str.h"
#include "prompt/compose/composer.h"
#include "prompt/order/order.h"

namespace spanwise {

int Plan::n_tokens() const {
  int n = 0;
  for (const PlannedRun& run : runs) n += static_cast<int>(run.tokens.size());
  return n;
}

int Plan::end_position() const { return runs.back().base + static_cast<int>(runs.back().tokens.size()); }

SpanKey ContextKey(const Plan& plan, const PlannedRun& run) {
  if (run.visible.empty()) return {};
  Hasher hasher;
  for (const int i : run.visible) {
    const PlannedRun& seen = plan.runs[static_cast<size_t>(i)];
    hasher.Field(RunKey(seen.address, seen.tokens)).Field(static_cast<uint64_t>(run.base - seen.base));
    if (seen.group == 0) continue;
    const PlannedGroup& group = plan.groups[static_cast<size_t>(seen.group) - 1];
    hasher.Field("group")
        .Field(std::bit_cast<uint64_t>(group.inverse_temperature))
        .Field(std::bit_cast<uint64_t>(group.lse_scale));
  }
  return hasher.Finish();
}

void AppendText(const PromptNode& text, PlannedRun* run) {
  run->address.AddSalts(static_cast<int>(run->tokens.size()), text.salts);
  run->tokens.insert(run->tokens.end(), text.tokens.begin(), text.tokens.end());
}

Result<Plan> MakePlan(const PromptNode& tree, const ComposeOptions& options, const PlanKeys& keys) {
  SW_ASSIGN_OR_RETURN(const Composer* composer, FindComposer(options.mode));
  PromptNode arranged = tree;
  SW_RETURN_IF_ERROR(ArrangeSets(options, &arranged));
  Plan plan;
  plan.options = options;
  plan.exactness = composer->exactness;
  SW_RETURN_IF_ERROR(composer->compose(arranged, keys, &plan));
  if (plan.n_tokens() == 0) return InvalidArgument("the prompt is empty");
  // Every run but the last must be seen by the last: otherwise the prompt ends inside a set.
  if (plan.runs.back().visible.size() + 1 != plan.runs.size())
    return InvalidArgument("the prompt ends with a set; text must follow it");
  AppendText(PromptNode::Text({}, {}, {}, SaltsFrom(keys.salt)), &plan.runs.back());
  return plan;
}

}  // namespace spanwise
