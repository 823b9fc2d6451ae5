#include "base/str.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

bool NmtDrops(char32_t code) {
  return (code >= 0x01 && code <= 0x08) || code == 0x0B || (code >= 0x0E && code <= 0x1F) || code == 0x7F ||
         code == 0x8F || code == 0x9F;
}

bool NmtMakesSpace(char32_t code) {
  return code == 0x09 || code == 0x0A || code == 0x0C || code == 0x0D || code == 0x1680 ||
         (code >= 0x200B && code <= 0x200F) || code == 0x2028 || code == 0x2029 || code == 0x2581 || code == 0xFEFF ||
         code == 0xFFFD;
}

// What becomes of one character, whatever its neighbours.
class CharacterRuleStep final : public NormalizerStep {
 public:
  explicit CharacterRuleStep(CharacterRule rule) : rule_(rule) {}

  Status Apply(std::string_view text, RegexRun*, Rewriter* out) const override {
    std::string with;
    for (size_t i = 0; i < text.size();) {
      const Character c = CharacterAt(text, i);
      if (c.code >= 0x80 || ChangesAscii(c.code)) {
        with.assign(text.substr(i, c.length));
        if (Rewrite(c.code, &with)) out->Replace(i, i + c.length, with);
      }
      i += c.length;
    }
    return Status::Ok();
  }

  std::string Description() const override { return StrFormat("rule {}", static_cast<int>(rule_)); }

 private:
  bool ChangesAscii(char32_t code) const {
    switch (rule_) {
      case CharacterRule::kLowercase:
        return code >= 'A' && code <= 'Z';
      case CharacterRule::kNmt:
      case CharacterRule::kBertClean:
        return code < 0x20 || code == 0x7F;
      default:
        return false;
    }
  }

  // Whether the character changes; *with holds it, and then what it becomes.
  bool Rewrite(char32_t code, std::string* with) const {
    const auto become = [&](std::string_view text) {
      with->assign(text);
      return true;
    };
    switch (rule_) {
      case CharacterRule::kLowercase: {
        if (code == 0x130) return become("i\u0307");  // the one letter whose lower case is two characters
        const char32_t lower = LowercaseOf(code);
        if (lower == code) return false;
        with->clear();
        AppendUtf8(with, lower);
        return true;
      }
      case CharacterRule::kStripMarks:
        return IsStrippedMark(code) && become("");
      case CharacterRule::kStripNonspacingMarks:
        return IsStrippedNonspacingMark(code) && become("");
      case CharacterRule::kNmt:
        if (NmtDrops(code)) return become("");
        return NmtMakesSpace(code) && become(" ");
      case CharacterRule::kBertClean:
        if (code == '\t' || code == '\n' || code == '\r') return become(" ");
        if (code == 0 || code == 0xFFFD || IsControlLike(code)) return become("");
        return IsWhiteSpace(code) && become(" ");
      case CharacterRule::kBertHan:
        return IsHan(code) && become(" " + *with + " ");
    }
    return false;
  }

  const CharacterRule rule_;
};

}  // namespace

std::shared_ptr<const NormalizerStep> MakeCharacterRule(CharacterRule rule) {
  return std::make_shared<CharacterRuleStep>(rule);
}

}  // namespace spanwise
