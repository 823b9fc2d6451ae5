#include "prompt/normal_text.h"

#include "base/str.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

class PlainLines final : public NormalizerStep {
 public:
  Status Apply(std::string_view text, RegexRun*, Rewriter* out) const override {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    size_t begin = 0, end = text.size();
    while (end > 0 && IsWhiteSpace(CharacterAt(text, LastCharacter(text.substr(0, end))).code))
      end = LastCharacter(text.substr(0, end));
    while (text.substr(begin, end - begin).starts_with(kByteOrderMark)) begin += kByteOrderMark.size();
    if (begin > 0) out->Replace(0, begin, "");
    for (size_t at = begin; (at = text.find('\r', at)) < end;) {
      const size_t after = at + 1 < text.size() && text[at + 1] == '\n' ? at + 2 : at + 1;
      out->Replace(at, after, "\n");
      at = after;
    }
    if (end < text.size()) out->Replace(end, text.size(), "");
    return Status::Ok();
  }

  std::string Description() const override { return "plain lines"; }
};

}  // namespace

Result<std::unique_ptr<const RewrittenText>> NormalText(std::string_view text) {
  static const Normalizer normalizer({std::make_shared<PlainLines>(), MakeUnicodeForm(UnicodeForm::kNfc)});
  if (text.empty() || !IsValidUtf8(text)) return std::unique_ptr<const RewrittenText>();
  RegexRun no_regexes(0);
  GrowthBudget growth(text.size());
  SW_ASSIGN_OR_RETURN(std::unique_ptr<const RewrittenText> normal,
                      normalizer.Apply(text, Piece{.text = text}, &no_regexes, &growth));
  return normal;
}

}  // namespace spanwise
