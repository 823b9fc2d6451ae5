// Plans of a context that forks (Multiverse: map, process, reduce; docs/composition.md). A branch is the member of a
// set whose text is still being written, so that what was written is found when the branches are joined.
#pragma once

#include <cstdint>
#include <vector>

#include "prompt/plan.h"

namespace spanwise {

// The context, and behind it a run that sees all of it and begins with `seed`. It has the address that a member of a
// set in that place has. REQUIRES: seed is not empty.
Plan ForkPlan(const Plan& context, std::vector<int32_t> seed, const PlanKeys& keys);

// The context, the branches as members of a set at its end, and `text` behind the longest: what MakePlan makes of such
// a tree in mode set. The order of the branches shows in the pieces alone; equal branches are placed once. REQUIRES: no
// branch is empty, nor is text.
Plan JoinPlan(const Plan& context, const std::vector<std::vector<int32_t>>& branches, std::vector<int32_t> text,
              const PlanKeys& keys);

}  // namespace spanwise
