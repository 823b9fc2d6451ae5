// An order policy arranges the members of every set of a tree before it is composed. One row of the table in order.cc a
// policy.
#pragma once

#include "prompt/tree.h"
#include "spanwise/prompt.h"
#include "spanwise/status.h"

namespace spanwise {

// kGiven changes nothing; kCanonical sorts by content, so that equal sets give equal prompts and share their KV.
// Unimplemented for the others.
Status ArrangeSets(DocumentOrder order, PromptNode* tree);

}  // namespace spanwise
