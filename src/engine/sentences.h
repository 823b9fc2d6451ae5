// Where the sentences of a prompt's documents begin.
#pragma once

#include <vector>

#include "prompt/tree.h"
#include "spanwise/prompt.h"

namespace spanwise {

// Gives documents that have their bytes PromptNode::sentences: the first token of each stretch that may be quoted, with
// the white space before it. REQUIRES: the tree's documents are among `documents`.
void MarkSentences(const std::vector<Document>& documents, PromptNode* tree);

}  // namespace spanwise
