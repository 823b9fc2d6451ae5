#include "prompt/branches.h"

#include <algorithm>
#include <map>
#include <utility>

namespace spanwise {
namespace {

// A run behind all that `seen` names.
int AddRun(std::vector<int> seen, int base, std::vector<int32_t> tokens, const PlanKeys& keys, Plan* plan) {
  PlannedRun run{.address = {}, .base = base, .tokens = std::move(tokens), .visible = std::move(seen)};
  run.address.root = RootKey(keys.model, "causal", ContextKey(*plan, run));
  run.address.AddSalts(0, SaltsFrom(keys.salt));
  plan->runs.push_back(std::move(run));
  return static_cast<int>(plan->runs.size()) - 1;
}

void AddPiece(int run, Plan* plan) {
  plan->pieces.push_back({{}, run, 0, static_cast<int>(plan->runs[static_cast<size_t>(run)].tokens.size())});
}

// Branches hide each other: what was causal is a set's then, and what was composed otherwise stays of its class.
std::string ForkedExactness(const Plan& context) {
  return context.exactness == kCausalExact ? "set-exact" : context.exactness;
}

// What stands behind the whole context sees.
std::vector<int> AllOf(const Plan& context) {
  std::vector<int> seen = context.runs.back().visible;
  seen.push_back(static_cast<int>(context.runs.size()) - 1);
  return seen;
}

}  // namespace

Plan ForkPlan(const Plan& context, std::vector<int32_t> seed, const PlanKeys& keys) {
  Plan plan = context;
  plan.exactness = ForkedExactness(context);
  AddPiece(AddRun(AllOf(context), context.end_position(), std::move(seed), keys, &plan), &plan);
  return plan;
}

Plan JoinPlan(const Plan& context, const std::vector<std::vector<int32_t>>& branches, std::vector<int32_t> text,
              const PlanKeys& keys) {
  Plan plan = context;
  plan.exactness = ForkedExactness(context);
  std::map<Hash256, int> run_of;  // by content, as members of a set are
  for (const auto& branch : branches) run_of[ContentKey(PromptNode::Text(branch))] = -1;
  const std::vector<int> before = AllOf(context);
  std::vector<int> seen = before;
  const int fork = context.end_position();
  int end = fork;
  for (auto& [content, run] : run_of) {
    const Hash256& key = content;  // Clang 14 lets no lambda take a structured binding
    const auto same = [&](const std::vector<int32_t>& branch) { return ContentKey(PromptNode::Text(branch)) == key; };
    run = AddRun(before, fork, *std::ranges::find_if(branches, same), keys, &plan);
    seen.push_back(run);
    end = std::max(end, plan.end_position());
  }
  for (const auto& branch : branches) AddPiece(run_of.at(ContentKey(PromptNode::Text(branch))), &plan);
  AddPiece(AddRun(std::move(seen), end, std::move(text), keys, &plan), &plan);
  return plan;
}

}  // namespace spanwise
