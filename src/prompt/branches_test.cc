#include "prompt/branches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace spanwise {
namespace {

const PlanKeys kKeys{Sha256("model"), "salt"};

PromptNode Salted(std::vector<int32_t> tokens) {
  return PromptNode::Text(std::move(tokens), {}, {}, SaltsFrom(kKeys.salt));
}

PromptNode Context(bool documents) {
  if (!documents) return Salted({1, 2, 3});
  return PromptNode::Sequence({PromptNode::Text({1, 2}),
                               PromptNode::Set({PromptNode::Text({10, 11, 12}, "a"), PromptNode::Text({20}, "b")}),
                               Salted({8, 9})});
}

void ExpectSameRuns(const Plan& a, const Plan& b) {
  ASSERT_EQ(a.runs.size(), b.runs.size());
  for (size_t i = 0; i < a.runs.size(); ++i) {
    EXPECT_EQ(a.runs[i].address, b.runs[i].address) << i;
    EXPECT_EQ(a.runs[i].base, b.runs[i].base) << i;
    EXPECT_EQ(a.runs[i].tokens, b.runs[i].tokens) << i;
    EXPECT_EQ(a.runs[i].visible, b.runs[i].visible) << i;
  }
}

TEST(JoinPlan, IsThePlanOfASet) {
  const std::vector<std::vector<int32_t>> branches = {{30, 31}, {40, 41, 42, 43}, {50}};
  for (const bool documents : {false, true}) {
    const Plan context = MakePlan(Context(documents), {ComposeMode::kSet}, kKeys).value();
    const Plan join = JoinPlan(context, branches, {60, 61}, kKeys);
    std::vector<PromptNode> members;
    for (const auto& branch : branches) members.push_back(Salted(branch));
    const Plan set = MakePlan(PromptNode::Sequence({Context(documents), PromptNode::Set(members), Salted({60, 61})}),
                              {ComposeMode::kSet}, kKeys)
                         .value();
    ExpectSameRuns(join, set);
    EXPECT_EQ(join.pieces.size(), set.pieces.size());
    EXPECT_EQ(join.n_tokens(), context.n_tokens() + 9);
    EXPECT_EQ(join.end_position(), context.end_position() + 6);
    EXPECT_EQ(join.exactness, "set-exact");
  }
}

TEST(JoinPlan, DoesNotDependOnTheOrderOfBranches) {
  const Plan context = MakePlan(Context(true), {ComposeMode::kSet}, kKeys).value();
  std::vector<std::vector<int32_t>> branches = {{30, 31}, {40, 41}, {30, 31}, {50}};
  const Plan first = JoinPlan(context, branches, {60}, kKeys);
  EXPECT_EQ(first.runs.size(), context.runs.size() + 4);  // the equal ones once
  EXPECT_EQ(first.pieces.size(), context.pieces.size() + 5);
  for (std::ranges::sort(branches); std::ranges::next_permutation(branches).found;)
    ExpectSameRuns(JoinPlan(context, branches, {60}, kKeys), first);
}

TEST(ForkPlan, GivesABranchTheAddressOfASetsMember) {
  for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kSet}) {
    const Plan context = MakePlan(Context(true), {mode}, kKeys).value();
    const Plan fork = ForkPlan(context, {30}, kKeys), join = JoinPlan(context, {{30, 31}, {40}}, {60}, kKeys);
    EXPECT_EQ(fork.runs.back().base, context.end_position());
    EXPECT_EQ(fork.runs.back().visible.size(), context.runs.size());
    const size_t first = context.runs.size();
    for (const size_t i : {first, first + 1}) EXPECT_EQ(join.runs[i].address, fork.runs.back().address);
    EXPECT_NE(fork.runs.back().address, ForkPlan(context, {30}, {kKeys.model, "other"}).runs.back().address);
  }
}

}  // namespace
}  // namespace spanwise
