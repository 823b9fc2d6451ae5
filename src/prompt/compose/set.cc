#include <algorithm>
#include <map>

#include "prompt/compose/walk.h"

namespace spanwise {
namespace {

// Members start at one position and do not see each other; what follows stands behind the longest.
class SetWalk : public TreeWalk {
 public:
  // The members of each set form a group with these weights, if they weigh anything.
  SetWalk(const PlanKeys& keys, const PlannedGroup& weights, Plan* plan) : TreeWalk(keys, plan), weights_(weights) {}

 private:
  Status PlaceSet(const PromptNode& set) override {
    // By content: canonical order, and duplicates placed once, under the salts of all of them.
    std::map<Hash256, const PromptNode*> members;
    std::map<Hash256, Salts> salts;
    for (const PromptNode& member : set.children) {
      if (member.tokens.empty()) continue;
      members.emplace(ContentKey(member), &member);
      salts[ContentKey(member)].insert(member.salts.begin(), member.salts.end());
    }
    std::map<Hash256, int> run_of;
    int end = position_, group = 0;
    if (weights_.inverse_temperature != 1 || weights_.lse_scale != 1) {
      plan_.groups.push_back(weights_);
      group = static_cast<int>(plan_.groups.size());
    }
    for (const auto& [key, member] : members) {
      const int i = AddRun();
      run(i).tokens = member->tokens;
      run(i).address.AddSalts(0, salts[key]);
      run(i).group = group;
      run_of[key] = i;
      end = std::max(end, position_ + static_cast<int>(member->tokens.size()));
    }
    position_ = end;
    for (const auto& [key, i] : run_of) visible_.push_back(i);
    for (const PromptNode& member : set.children)
      if (!member.tokens.empty()) AddPiece(member, run_of.at(ContentKey(member)));
    return Status::Ok();
  }

  const PlannedGroup weights_;
};

}  // namespace

Status ComposeSet(const PromptNode& tree, const PlanKeys& keys, Plan* plan) {
  return SetWalk(keys, {}, plan).Visit(tree);
}

Status ComposeApe(const PromptNode& tree, const PlanKeys& keys, Plan* plan) {
  const double temperature = plan->options.documents_temperature.value_or(ComposeOptions::kDocumentsTemperature);
  const double scale = plan->options.documents_scale.value_or(ComposeOptions::kDocumentsScale);
  if (!(temperature >= 0.01 && temperature <= 100)) return InvalidArgument("documents_temperature must be 0.01 to 100");
  if (!(scale >= 0 && scale <= 100)) return InvalidArgument("documents_scale must be 0 to 100");
  return SetWalk(keys, {.inverse_temperature = 1 / temperature, .lse_scale = scale * temperature}, plan).Visit(tree);
}

}  // namespace spanwise
