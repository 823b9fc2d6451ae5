// Answers that are a stretch of a document: what of the documents may be copied.
#pragma once

#include <memory>
#include <vector>

#include "decode/copier.h"
#include "prompt/tree.h"
#include "spanwise/engine.h"
#include "spanwise/status.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

// The documents of a tree whose documents have their bytes. A stretch begins with a word and ends with a word or what
// stands directly behind it. InvalidArgument: no document holds a word.
Result<std::shared_ptr<const std::vector<decode::CopySource>>> PrepareExtraction(const Request& request,
                                                                                 const PromptNode& tree,
                                                                                 const Tokenizer& tokenizer);

}  // namespace spanwise
