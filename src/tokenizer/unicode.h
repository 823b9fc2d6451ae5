// Characters and the classes that tokenizers ask about.
#pragma once

#include <cstdint>
#include <string_view>

namespace spanwise {

struct Character {
  char32_t code = 0;
  uint32_t length = 0;  // bytes
};

// The character at `at`. REQUIRES: at < text.size(), `text` is valid UTF-8 and `at` is on a character boundary.
inline Character CharacterAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<uint8_t>(text[at + i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

// The first byte of the last character. REQUIRES: `text` is valid UTF-8 and not empty.
inline size_t LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

// Punctuation, stripped marks and controls are those of the older tables that the Hugging Face library uses.
bool IsWhiteSpace(char32_t code);              // Unicode's White_Space
bool IsPunctuation(char32_t code);             // general category P, and all of ASCII's
bool IsNumeric(char32_t code);                 // N
bool IsMark(char32_t code);                    // M
bool IsStrippedMark(char32_t code);            // M
bool IsStrippedNonspacingMark(char32_t code);  // Mn
bool IsControlLike(char32_t code);             // Cc, Cf, Co, Cs
bool IsWordCharacter(char32_t code);           // \w of Unicode regular expressions
bool IsHan(char32_t code);                     // the blocks that BERT puts spaces around
char32_t LowercaseOf(char32_t code);           // the simple mapping: one character

}  // namespace spanwise
