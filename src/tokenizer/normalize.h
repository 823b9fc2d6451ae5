// Unicode normalisation form C that remembers where every byte came from.
#pragma once

#include <memory>

#include "tokenizer/piece.h"

namespace spanwise {

// The NFC form of a slice of the input; nullptr when the slice is already in that form.
// REQUIRES: `piece` is a slice of the input and valid UTF-8. Linear but for the sorting of runs of combining marks.
std::unique_ptr<RewrittenText> NormalizeNfc(const Piece& piece);

// The NFC form of a whole text.
std::string NfcOf(std::string_view text);

}  // namespace spanwise
