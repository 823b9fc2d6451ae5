// A composition mode turns an arranged tree into planned runs. One row of the table in registry.cc a mode.
#pragma once

#include "prompt/plan.h"

namespace spanwise {

struct Composer {
  ComposeMode mode;
  std::string_view exactness;  // what the mode promises, as ComposeReport names it
  Status (*compose)(const PromptNode& tree, const PlanKeys& keys, Plan* plan);
};

// The mode's row.
Result<const Composer*> FindComposer(ComposeMode mode);

// exact.cc: the whole tree as one causal run.
Status ComposeExact(const PromptNode& tree, const PlanKeys& keys, Plan* plan);
// set.cc: members of a set at one base, unseen by each other (Set-Based Prompting, specs/composition.md section 1); and
// the same with a temperature and a scale on each set (APE, section 2).
Status ComposeSet(const PromptNode& tree, const PlanKeys& keys, Plan* plan);
Status ComposeApe(const PromptNode& tree, const PlanKeys& keys, Plan* plan);
// repair.cc: kept documents in sequence, some of their tokens recomputed there (CacheBlend, EPIC, Cache-Craft, sections
// 3 and 9); with a fraction of 1 the flat prompt, which the plan's exactness then says.
Status ComposeRepair(const PromptNode& tree, const PlanKeys& keys, Plan* plan);

}  // namespace spanwise
