#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>

namespace spanwise {
namespace {

int CategoryOf(char32_t code) { return utf8proc_get_property(static_cast<utf8proc_int32_t>(code))->category; }

template <size_t N>
bool Within(char32_t code, const std::pair<char32_t, char32_t> (&ranges)[N]) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [code](const auto& range) { return code >= range.first && code <= range.second; });
}

}  // namespace

bool IsWhiteSpace(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 0x09 && code <= 0x0D);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool IsPunctuation(char32_t code) {
  if (code < 0x80)
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
           (code >= '{' && code <= '~');
  const int category = CategoryOf(code);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsNumeric(char32_t code) {
  if (code < 0x80) return code >= '0' && code <= '9';
  const int category = CategoryOf(code);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool IsMark(char32_t code) {
  if (code < 0x300) return false;
  const int category = CategoryOf(code);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool IsNonspacingMark(char32_t code) { return code >= 0x300 && CategoryOf(code) == UTF8PROC_CATEGORY_MN; }

bool IsControlLike(char32_t code) {
  if (code < 0x80) return code < 0x20 || code == 0x7F;
  const int category = CategoryOf(code);
  return category >= UTF8PROC_CATEGORY_CC && category <= UTF8PROC_CATEGORY_CO;
}

bool IsWordCharacter(char32_t code) {
  if (code < 0x80)
    return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') || (code >= '0' && code <= '9') || code == '_';
  const int category = CategoryOf(code);
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) return true;  // letters, marks, Nd, Nl
  if (category == UTF8PROC_CATEGORY_PC || code == 0x200C || code == 0x200D) return true;
  // The letters among the symbols: circled and squared ones.
  static constexpr std::pair<char32_t, char32_t> kLetters[] = {
      {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};
  return Within(code, kLetters);
}

bool IsHan(char32_t code) {
  static constexpr std::pair<char32_t, char32_t> kBlocks[] = {
      {0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
      {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  return code >= 0x3400 && Within(code, kBlocks);
}

char32_t LowercaseOf(char32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code;
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

}  // namespace spanwise
