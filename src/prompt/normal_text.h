// What a model reads of a document: the same for files that differ in nothing a reader sees.
#pragma once

#include <memory>
#include <string_view>

#include "spanwise/status.h"
#include "tokenizer/piece.h"

namespace spanwise {

// The text in Unicode's normal form C, with lines that end in \n (instead of \r\n or \r), without byte order marks at
// its start and without white space at its end. `sources` tell which bytes of `text` each byte stands for. nullptr
// where nothing changes, and of what is not UTF-8. Idempotent.
Result<std::unique_ptr<const RewrittenText>> NormalText(std::string_view text);

}  // namespace spanwise
