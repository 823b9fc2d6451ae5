// The words of a text as search and quotes compare them.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace spanwise::retrieval {

// The text as it is compared: letters, marks, digits and symbols of private use, and single spaces between what
// punctuation, white space, other symbols and bytes that are no UTF-8 part. The same for texts that a reader takes for
// the same words:
//   - Unicode's NFKC with full case folding; what is invisible (soft hyphen, zero-width characters, directions) is
//   gone,
//     but in Arabic script a zero-width non-joiner parts words, as where Persian sets an ending apart.
//   - No marks on Latin and Greek letters, no vowel points in Hebrew, Arabic and Syriac, no stress on Cyrillic ones, no
//     nukta in Devanagari. Marks that make another letter stay: й, ї and ў, the voicing of kana, and the vowel signs of
//     all scripts that write vowels so.
//   - One form for letters that are written differently: those of the table in words.cc.
//   - Decimal digits of every script as 0 to 9.
// Idempotent over its own UTF-8. Linear in the text.
std::u32string Fold(std::string_view text);

std::string ToUtf8(std::u32string_view text);

// Scripts in which words are not parted by spaces, or carry their particles (Hangul): cut into pairs of neighbouring
// characters.
bool IsCutInPairs(char32_t c);

struct Term {
  enum Kind {
    kWord,       // from space to space, or to where a script begins that is cut in pairs
    kStripped,   // the word before it without an article or particles at its front (Arabic, Hebrew)
    kPair,       // two neighbouring characters, each with the marks on it, of a run that is cut in pairs
    kCharacter,  // such a run's only character
    kLast,       // the last character of a longer run
  };
  Kind kind;
  std::u32string_view text;  // of the folded text
};

// The terms of folded text in order.
void ForEachTerm(std::u32string_view folded, const std::function<void(const Term&)>& take);

}  // namespace spanwise::retrieval
