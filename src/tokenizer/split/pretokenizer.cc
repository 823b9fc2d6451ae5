#include "tokenizer/pretokenizer.h"

namespace spanwise {

Status PreTokenizer::SplitFrom(size_t step, const Piece& piece, const SplitRun& run, const PieceSink& sink) const {
  if (step == steps_.size()) return sink(piece);
  if (step + 1 == steps_.size()) return steps_[step]->Split(piece, run, sink);
  return steps_[step]->Split(piece, run, [&](const Piece& part) { return SplitFrom(step + 1, part, run, sink); });
}

std::string PreTokenizer::Description() const {
  std::string text;
  for (const auto& step : steps_) text += step->Description() + ";";
  return text;
}

}  // namespace spanwise
