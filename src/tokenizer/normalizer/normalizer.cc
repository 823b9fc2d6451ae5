#include "tokenizer/normalizer.h"

namespace spanwise {

Result<std::unique_ptr<RewrittenText>> Normalizer::Apply(std::string_view input, const Piece& piece, RegexRun* regexes,
                                                         GrowthBudget* growth) const {
  std::unique_ptr<RewrittenText> text;
  Piece current = piece;
  for (const auto& step : steps_) {
    if (current.text.empty()) break;
    Rewriter out(input, current, growth);
    SW_RETURN_IF_ERROR(step->Apply(current.text, regexes, &out));
    SW_ASSIGN_OR_RETURN(auto rewritten, out.Finish());
    if (!rewritten) continue;
    text = std::move(rewritten);
    current = Piece{text->text, 0, text.get()};
  }
  return text;
}

Result<std::string> Normalizer::ApplyTo(std::string_view text, RegexRun* regexes, GrowthBudget* growth) const {
  SW_ASSIGN_OR_RETURN(const auto rewritten, Apply(text, Piece{text, 0, nullptr}, regexes, growth));
  return rewritten ? rewritten->text : std::string(text);
}

std::string Normalizer::Description() const {
  std::string text;
  for (const auto& step : steps_) text += step->Description() + ";";
  return text;
}

}  // namespace spanwise
