#include <utf8proc.h>

#include <algorithm>

#include "base/check.h"
#include "base/str.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

bool IsHangulVowelOrFinal(char32_t code) { return code >= 0x1160 && code <= 0x11FF; }

class UnicodeFormStep final : public NormalizerStep {
 public:
  explicit UnicodeFormStep(UnicodeForm form)
      : compose_(form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc),
        compatible_(form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd),
        // Text of smaller code points is in every form, or in NFC.
        first_unstable_(form == UnicodeForm::kNfc ? 0x300 : 0x80),
        first_unstable_lead_(form == UnicodeForm::kNfc ? 0xCC : 0xC2) {}

  Status Apply(std::string_view text, RegexRun*, Rewriter* out) const override {
    std::string normal;
    const auto low = [&](size_t at) { return static_cast<uint8_t>(text[at]) < first_unstable_lead_; };
    for (size_t begin = 0; begin < text.size();) {
      const size_t low_run = begin;
      while (begin < text.size() && low(begin)) ++begin;
      if (begin == text.size()) break;
      if (begin > low_run)  // the last character of the run may combine with what follows
        while (--begin > low_run && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) {
        }
      const Character first = CharacterAt(text, begin);
      size_t end = begin + first.length;
      bool stable = first.code < first_unstable_;
      while (end < text.size() && !low(end)) {
        const Character next = CharacterAt(text, end);
        if (!JoinsPrevious(next.code)) break;
        stable = false;
        end += next.length;
      }
      if (!stable) {
        const std::string_view segment = text.substr(begin, end - begin);
        normal.clear();
        AppendNormal(segment, &normal);
        if (normal != segment && !ReplaceEach(text, begin, end, normal, out)) out->Replace(begin, end, normal);
      }
      begin = end;
    }
    return Status::Ok();
  }

  std::string Description() const override { return StrFormat("NF{}{}", compatible_ ? "K" : "", compose_ ? "C" : "D"); }

 private:
  // Whether the character may combine with, or be reordered against, what stands before it. A text may be normalised
  // segment by segment if cut only before other characters.
  bool JoinsPrevious(char32_t code) const {
    if (code < 0x300) return false;
    if (IsHangulVowelOrFinal(code) || IsMark(code)) return true;
    if (!compatible_) return false;
    utf8proc_int32_t parts[32];
    return Decompose(code, parts) > 0 &&
           (IsMark(static_cast<char32_t>(parts[0])) || IsHangulVowelOrFinal(static_cast<char32_t>(parts[0])));
  }

  size_t Decompose(char32_t code, utf8proc_int32_t (&parts)[32]) const {
    const auto options =
        static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible_ ? UTF8PROC_COMPAT : UTF8PROC_NULLTERM));
    int boundary = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), parts, 32, options, &boundary);
    SW_CHECK(n >= 0 && n <= 32);
    return static_cast<size_t>(n);
  }

  // Replaces text[begin, end) character by character, where `normal` is no more than that: then each keeps its place.
  bool ReplaceEach(std::string_view text, size_t begin, size_t end, std::string_view normal, Rewriter* out) const {
    std::vector<std::string> parts;
    size_t n_bytes = 0;
    for (size_t i = begin; i < end; i += CharacterAt(text, i).length) {
      AppendNormal(text.substr(i, CharacterAt(text, i).length), &parts.emplace_back());
      if (normal.substr(std::min(n_bytes, normal.size()), parts.back().size()) != parts.back()) return false;
      n_bytes += parts.back().size();
    }
    if (n_bytes != normal.size()) return false;
    size_t n = 0;
    for (size_t i = begin; i < end; ++n) {
      const uint32_t length = CharacterAt(text, i).length;
      out->Replace(i, i + length, parts[n]);
      i += length;
    }
    return true;
  }

  void AppendNormal(std::string_view segment, std::string* out) const {
    std::vector<utf8proc_int32_t> codes;
    for (size_t i = 0; i < segment.size();) {
      const Character c = CharacterAt(segment, i);
      utf8proc_int32_t parts[32];
      codes.insert(codes.end(), parts, parts + Decompose(c.code, parts));
      i += c.length;
    }
    // utf8proc's own reordering is quadratic in a run of marks; a stable sort of each run is not.
    const auto mark = [](utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; };
    for (size_t i = 0; i < codes.size();) {
      size_t end = i;
      while (end < codes.size() && mark(codes[end]) != 0) ++end;
      std::stable_sort(codes.begin() + static_cast<ptrdiff_t>(i), codes.begin() + static_cast<ptrdiff_t>(end),
                       [&](auto a, auto b) { return mark(a) < mark(b); });
      i = end + 1;
    }
    if (compose_) {
      constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
      const auto n = utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()), kOptions);
      SW_CHECK(n >= 0);
      codes.resize(static_cast<size_t>(n));
    }
    for (const utf8proc_int32_t code : codes) AppendUtf8(out, static_cast<char32_t>(code));
  }

  const bool compose_, compatible_;
  const char32_t first_unstable_;
  const uint8_t first_unstable_lead_;
};

}  // namespace

std::shared_ptr<const NormalizerStep> MakeUnicodeForm(UnicodeForm form) {
  return std::make_shared<UnicodeFormStep>(form);
}

}  // namespace spanwise
