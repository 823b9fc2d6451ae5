#include "retrieval/words.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "retrieval/unicode.h"

namespace spanwise::retrieval {
namespace {

using Code = utf8proc_int32_t;

struct Replacement {
  char32_t code;
  std::u32string_view text;  // empty: passed over
};

// What normal form KC with case folding leaves apart and readers do not, by code point.
constexpr std::array kReplacements = std::to_array<Replacement>({
    // Latin letters with strokes and of older alphabets have no decomposition; the customary transliteration.
    {0xE6, U"ae"},
    {0xF0, U"d"},
    {0xF8, U"o"},
    {0xFE, U"th"},
    {0x111, U"d"},
    {0x127, U"h"},
    {0x131, U"i"},  // with it I, ı, İ and i are one letter, since the language of a text is not known
    {0x142, U"l"},
    {0x14B, U"n"},
    {0x153, U"oe"},
    {0x167, U"t"},
    {0x180, U"b"},
    {0x19A, U"l"},
    {0x1B6, U"z"},
    {0x1E5, U"g"},
    {0x2BB, U" "},  // letters that are often written as an apostrophe, which parts words
    {0x2BC, U" "},
    // Hebrew letters have another form at a word's end; an ending after it brings the usual one back.
    {0x5DA, U"\u05DB"},
    {0x5DD, U"\u05DE"},
    {0x5DF, U"\u05E0"},
    {0x5E3, U"\u05E4"},
    {0x5E5, U"\u05E6"},
    // Arabic letters that writers exchange, and those of Persian and Urdu that look the same.
    {0x629, U"\u0647"},  // teh marbuta
    {0x640, U""},        // tatweel
    {0x649, U"\u064A"},  // alef maksura
    {0x671, U"\u0627"},  // alef wasla
    {0x6A9, U"\u0643"},  // keheh
    {0x6BE, U"\u0647"},  // heh doachashmee
    {0x6C1, U"\u0647"},  // heh goal
    {0x6C3, U"\u0647"},  // teh marbuta goal
    {0x6CC, U"\u064A"},  // Farsi yeh
    {0x6D5, U"\u0647"},  // ae
});

bool In(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }
bool IsHangulSyllable(char32_t c) { return In(c, 0xAC00, 0xD7A3); }
bool IsArabic(char32_t c) { return In(c, 0x600, 0x6FF) || In(c, 0x750, 0x77F) || In(c, 0x8A0, 0x8FF); }
bool IsHebrew(char32_t c) { return In(c, 0x5D0, 0x5EA); }
bool IsCyrillic(char32_t c) { return In(c, 0x400, 0x52F) || In(c, 0x1C80, 0x1C8F) || In(c, 0xA640, 0xA69F); }
// Characters that no normal form changes and no mark joins to another letter.
bool IsPlain(char32_t c) {
  return In(c, 0x3400, 0x4DBF) || In(c, 0x4E00, 0x9FFF) || IsHangulSyllable(c) ||
         (In(c, 0x20000, 0x3FFFD) && !In(c, 0x2F800, 0x2FA1F));
}

const utf8proc_property_t& PropertyOf(char32_t c) { return *utf8proc_get_property(static_cast<Code>(c)); }
bool IsMark(char32_t c) {
  const auto category = PropertyOf(c).category;
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
}

// Whether a reader takes the letter for the same without the mark.
bool IsDropped(char32_t mark, char32_t letter) {
  if (In(mark, 0x300, 0x36F) && IsCyrillic(letter)) {
    constexpr char32_t kGrave = 0x300, kAcute = 0x301, kDiaeresis = 0x308;
    const bool stress = mark == kGrave || (mark == kAcute && letter != U'г' && letter != U'к');  // ѓ and ќ are letters
    return stress || (mark == kDiaeresis && letter == U'е');
  }
  return In(mark, 0x300, 0x36F) || In(mark, 0x1AB0, 0x1AFF) || In(mark, 0x1DC0, 0x1DFF) || In(mark, 0x20D0, 0x20FF) ||
         In(mark, 0xFE20, 0xFE2F) ||                                                        // of any letter
         In(mark, 0x483, 0x489) ||                                                          // Cyrillic
         In(mark, 0x591, 0x5C7) ||                                                          // Hebrew
         In(mark, 0x610, 0x61A) || In(mark, 0x64B, 0x65F) || mark == 0x670 ||               // Arabic
         In(mark, 0x6D6, 0x6ED) || In(mark, 0x8CA, 0x8FF) || In(mark, 0x10EFD, 0x10EFF) ||  // Arabic, of the Quran
         mark == 0x711 || In(mark, 0x730, 0x74A) ||                                         // Syriac
         mark == 0x93C;                                                                     // Devanagari's nukta
}

class Folder {
 public:
  explicit Folder(size_t n_bytes) { out_.reserve(n_bytes); }

  void Take(char32_t c) {
    if (IsPlain(c)) return Put(c);
    constexpr char32_t kNonJoiner = 0x200C, kFractionSlash = 0x2044;
    if (c == kNonJoiner && IsArabic(letter_)) return Part();
    Code parts[32];
    int boundary = 0;
    const auto n = utf8proc_decompose_char(static_cast<Code>(c), parts, static_cast<utf8proc_ssize_t>(std::size(parts)),
                                           kOptions, &boundary);
    SW_CHECK(n >= 0 && n <= static_cast<utf8proc_ssize_t>(std::size(parts)));
    // "2½" is no 21/2.
    if (std::find(parts, parts + n, static_cast<Code>(kFractionSlash)) != parts + n) Part();
    for (utf8proc_ssize_t i = 0; i < n; ++i) TakePart(static_cast<char32_t>(parts[i]));
  }

  void TakeAscii(char c) {
    if (IsAsciiUpper(static_cast<char32_t>(c))) {
      Put(static_cast<char32_t>(c) + 32);
    } else if (IsAsciiAlpha(static_cast<char32_t>(c)) || IsAsciiDigit(static_cast<char32_t>(c))) {
      Put(static_cast<char32_t>(c));
    } else {
      Part();
    }
  }

  // The end of a word.
  void Part() {
    if (!out_.empty() && out_.back() != ' ') out_.push_back(' ');
    letter_ = ' ';
  }

  std::u32string Finish() {
    if (!out_.empty() && out_.back() == ' ') out_.pop_back();
    if (composes_) Compose();
    return {out_.begin(), out_.end()};
  }

 private:
  static constexpr auto kOptions =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);

  void Put(char32_t c) {
    out_.push_back(static_cast<Code>(c));
    letter_ = c;
  }

  void TakePart(char32_t c) {
    if (c < 0x80) return TakeAscii(static_cast<char>(c));
    const auto* const replacement = std::lower_bound(kReplacements.begin(), kReplacements.end(), c,
                                                     [](const Replacement& r, char32_t code) { return r.code < code; });
    if (replacement != kReplacements.end() && replacement->code == c) {
      for (const char32_t other : replacement->text) other == ' ' ? Part() : Put(other);
      return;
    }
    switch (PropertyOf(c).category) {
      case UTF8PROC_CATEGORY_LU:
      case UTF8PROC_CATEGORY_LL:
      case UTF8PROC_CATEGORY_LT:
      case UTF8PROC_CATEGORY_LM:
      case UTF8PROC_CATEGORY_LO:
      case UTF8PROC_CATEGORY_NL:
      case UTF8PROC_CATEGORY_NO:
      case UTF8PROC_CATEGORY_CO:
        composes_ = composes_ || In(c, 0x1100, 0x11FF);  // Hangul in letters
        return Put(c);
      case UTF8PROC_CATEGORY_ND: {
        // Every script's ten digits begin at a multiple of 16, or six behind one.
        const char32_t block = c & ~char32_t{15};
        const bool first = PropertyOf(block).category == UTF8PROC_CATEGORY_ND;
        return Put('0' + (c - block - (first ? 0 : 6)) % 10);
      }
      case UTF8PROC_CATEGORY_MN:
      case UTF8PROC_CATEGORY_MC:
      case UTF8PROC_CATEGORY_ME:
        if (out_.empty() || out_.back() == ' ' || IsDropped(c, letter_)) return;
        composes_ = true;
        out_.push_back(static_cast<Code>(c));
        return;
      default:
        return Part();
    }
  }

  void Compose() {
    const auto order = [](Code c) { return PropertyOf(static_cast<char32_t>(c)).combining_class; };
    for (size_t i = 0; i < out_.size();) {
      size_t end = i;
      while (end < out_.size() && order(out_[end]) != 0) ++end;
      // utf8proc's own reordering is quadratic in a run of marks.
      std::stable_sort(out_.begin() + static_cast<ptrdiff_t>(i), out_.begin() + static_cast<ptrdiff_t>(end),
                       [&](Code a, Code b) { return order(a) < order(b); });
      i = end + 1;
    }
    constexpr auto kCompose = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    const auto n = utf8proc_normalize_utf32(out_.data(), static_cast<utf8proc_ssize_t>(out_.size()), kCompose);
    SW_CHECK(n >= 0);
    out_.resize(static_cast<size_t>(n));
  }

  std::vector<Code> out_;
  char32_t letter_ = ' ';  // the last one that is no mark
  bool composes_ = false;
};

// How many characters at the front of a word may be an article or particles; several ways where it is not clear.
std::vector<size_t> Fronts(std::u32string_view word) {
  constexpr size_t kMinRest = 3;  // a root
  std::vector<size_t> fronts;
  if (IsArabic(word[0])) {
    // The article, with "and", "so", "with", "like" and "for" before it.
    constexpr std::array kArticles = std::to_array<std::u32string_view>({U"وال", U"فال", U"بال", U"كال", U"لل", U"ال"});
    for (const std::u32string_view article : kArticles)
      if (word.starts_with(article) && word.size() >= article.size() + kMinRest) return {article.size()};
  } else if (IsHebrew(word[0])) {
    // "the", "and", "in", "to", "from", "that", "as", one or two of them. Many words begin so without any.
    constexpr std::u32string_view kParticles = U"הובלמשכ";
    for (size_t n = 1; n <= 2 && word.size() >= n + kMinRest; ++n) {
      if (kParticles.find(word[n - 1]) == std::u32string_view::npos) break;
      fronts.push_back(n);
    }
  }
  return fronts;
}

}  // namespace

std::u32string Fold(std::string_view text) {
  Folder folder(text.size());
  for (size_t i = 0; i < text.size();) {
    if (static_cast<uint8_t>(text[i]) < 0x80) {
      folder.TakeAscii(text[i++]);
      continue;
    }
    const CodePoint c = DecodeAt(text, i);
    i += c.bytes;
    const bool valid = c.bytes > 1 && c.value >= 0x80 && c.value <= 0x10FFFF && !In(c.value, 0xD800, 0xDFFF);
    valid ? folder.Take(c.value) : folder.Part();
  }
  return folder.Finish();
}

std::string ToUtf8(std::u32string_view text) {
  std::string bytes;
  for (const char32_t c : text) AppendUtf8(&bytes, c);
  return bytes;
}

bool IsCutInPairs(char32_t c) {
  return IsUnspaced(c) || IsHangulSyllable(c) || In(c, 0x1100, 0x11FF) || In(c, 0x3005, 0x3007) || c == 0x303B ||
         In(c, 0x3105, 0x312F) || In(c, 0xA9E0, 0xA9FE) || In(c, 0xAA60, 0xAA7F);
}

void ForEachTerm(std::u32string_view folded, const std::function<void(const Term&)>& take) {
  const auto run_end = [&](size_t begin) {
    const bool pairs = IsCutInPairs(folded[begin]);
    size_t end = begin;
    while (end < folded.size() && folded[end] != ' ' && (IsCutInPairs(folded[end]) == pairs || IsMark(folded[end])))
      ++end;
    return end;
  };
  const auto character_end = [&](size_t begin, size_t end) {
    size_t next = begin + 1;
    while (next < end && IsMark(folded[next])) ++next;
    return next;
  };
  for (size_t i = 0; i < folded.size();) {
    if (folded[i] == ' ') {
      ++i;
      continue;
    }
    const size_t end = run_end(i);
    if (!IsCutInPairs(folded[i])) {
      const std::u32string_view word = folded.substr(i, end - i);
      take({Term::kWord, word});
      for (const size_t front : Fronts(word)) take({Term::kStripped, word.substr(front)});
    } else {
      size_t last = i, next = character_end(i, end);
      if (next == end) take({Term::kCharacter, folded.substr(i, end - i)});
      for (; next < end; last = next, next = character_end(next, end)) {
        const size_t pair_end = character_end(next, end);
        take({Term::kPair, folded.substr(last, pair_end - last)});
        if (pair_end == end) take({Term::kLast, folded.substr(next, end - next)});
      }
    }
    i = end;
  }
}

}  // namespace spanwise::retrieval
