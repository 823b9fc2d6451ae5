// Builds what a normaliser makes of a text, and remembers where every byte came from.
#pragma once

#include <memory>
#include <string_view>

#include "spanwise/status.h"
#include "tokenizer/piece.h"

namespace spanwise {

// How much longer all steps of one call may make a text together: steps that each double it end in ResourceExhausted,
// also where pieces of it never stand side by side. Thread-compatible.
struct GrowthBudget {
  explicit GrowthBudget(size_t text_bytes);
  size_t all, left;  // bytes
};

// Nothing is copied until something changes. Thread-compatible. `input`, `growth` and what `piece` refers to must
// outlive it.
class Rewriter {
 public:
  Rewriter(std::string_view input, const Piece& piece, GrowthBudget* growth)
      : input_(input), piece_(piece), growth_(growth) {}

  // text[begin, end) of the piece becomes `with`, which stands for all the input of that range. Calls go from front to
  // back; the range may be empty only in a piece that is not: what is inserted then belongs to the character before it,
  // at the start to the one after.
  void Replace(size_t begin, size_t end, std::string_view with);
  // Puts `with` in front as a part of the first character.
  void Prepend(std::string_view with);

  // The new text; null when nothing changed. ResourceExhausted when it grew beyond its budget.
  Result<std::unique_ptr<RewrittenText>> Finish();

 private:
  void CopyUntil(size_t end);

  const std::string_view input_;
  const Piece piece_;
  GrowthBudget* const growth_;
  std::unique_ptr<RewrittenText> result_;
  size_t copied_ = 0;  // bytes of the piece that the result accounts for
  bool too_long_ = false;
};

}  // namespace spanwise
