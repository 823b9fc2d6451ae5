// An order policy arranges the members of every set of a tree before it is composed. One row of the table in order.cc a
// policy.
#pragma once

#include "prompt/tree.h"
#include "spanwise/prompt.h"
#include "spanwise/status.h"

namespace spanwise {

// InvalidArgument: an order by relevance where a member has no score, or where the mode leaves it without effect.
Status ArrangeSets(const ComposeOptions& options, PromptNode* tree);

}  // namespace spanwise
