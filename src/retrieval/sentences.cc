#include "retrieval/sentences.h"

#include <algorithm>
#include <array>
#include <string>

#include "retrieval/unicode.h"

namespace spanwise::retrieval {
namespace {

// Lower case, without the final stop. Words that often end sentences ("etc", "inc", "no") are left out on purpose or
// need what follows to look like a continuation, which the small-letter rule already covers.
constexpr std::array<std::string_view, 38> kAbbreviations = {
    "mr",  "mrs", "ms",  "dr",  "prof",   "st",   "sr",  "jr",  "rev", "gen", "col", "capt", "lt",
    "sgt", "hon", "gov", "sen", "rep",    "vs",   "e.g", "i.e", "cf",  "al",  "fig", "figs", "eq",
    "vol", "pp",  "ed",  "eds", "approx", "dept", "est", "mt",  "nr",  "ca",  "bzw", "z.b"};

bool IsTerminator(char32_t c) { return c == '.' || c == '!' || c == '?' || c == 0x2026; }
bool IsUnspacedTerminator(char32_t c) { return c == 0x3002 || c == 0xFF01 || c == 0xFF1F || c == 0xFF61; }
bool IsCloser(char32_t c) {
  return c == '"' || c == '\'' || c == ')' || c == ']' || c == '*' || c == '_' || c == 0x201D || c == 0x2019 ||
         c == 0xBB || c == 0x300D || c == 0x300F || c == 0xFF09;
}

// Whether the stop at `dot` belongs to the word before it.
bool StopBelongsToWord(std::string_view text, size_t sentence, size_t dot) {
  size_t begin = dot;
  while (begin > sentence && (IsAsciiAlpha(text[begin - 1]) || IsAsciiDigit(text[begin - 1]) ||
                              text[begin - 1] == '.' || static_cast<unsigned char>(text[begin - 1]) >= 0x80))
    --begin;
  const std::string_view word = text.substr(begin, dot - begin);
  if (word.empty() || word.size() > 8) return false;
  if (word.size() == 1 && IsAsciiUpper(word[0])) return true;
  if (begin == sentence && std::all_of(word.begin(), word.end(), IsAsciiDigit)) return true;
  std::string lower(word);
  for (char& c : lower)
    if (IsAsciiUpper(c)) c = static_cast<char>(c + 32);
  return std::find(kAbbreviations.begin(), kAbbreviations.end(), lower) != kAbbreviations.end();
}

// Offset just past a line break that a second one follows with only blanks between; npos where `offset` starts none.
size_t BlankLineAfter(std::string_view text, size_t offset) {
  if (text[offset] != '\n') return std::string_view::npos;
  const size_t next = text.find_first_not_of(" \t\r", offset + 1);
  return next != std::string_view::npos && text[next] == '\n' ? next + 1 : std::string_view::npos;
}

}  // namespace

std::vector<ByteRange> SplitSentences(std::string_view text) {
  std::vector<ByteRange> sentences;
  size_t begin = 0, last = 0;  // the sentence so far, and the end of its last byte that is no space
  const auto close = [&] {
    if (last > begin) sentences.push_back({begin, last});
    begin = last;
  };
  for (size_t i = 0; i < text.size();) {
    const auto [c, bytes] = DecodeAt(text, i);
    if (IsSpace(c)) {
      if (BlankLineAfter(text, i) != std::string_view::npos) close();
      i += bytes;
      if (last == begin) begin = last = i;
      continue;
    }
    const size_t stop = i;
    i += bytes;
    last = i;
    if (!IsTerminator(c) && !IsUnspacedTerminator(c)) continue;
    bool unspaced = IsUnspacedTerminator(c);
    while (i < text.size()) {
      const auto [next, next_bytes] = DecodeAt(text, i);
      if (!IsTerminator(next) && !IsUnspacedTerminator(next) && !IsCloser(next)) break;
      unspaced = unspaced || IsUnspacedTerminator(next);
      i += next_bytes;
    }
    last = i;
    if (i >= text.size()) break;
    if (!unspaced) {
      if (!IsSpace(DecodeAt(text, i).value)) continue;
      if (c == '.' && i == stop + 1 && StopBelongsToWord(text, begin, stop)) continue;
      size_t follows = i;
      while (follows < text.size()) {
        const auto [next, next_bytes] = DecodeAt(text, follows);
        if (!IsSpace(next)) break;
        follows += next_bytes;
      }
      if (follows < text.size() && IsAsciiLower(text[follows])) continue;
    }
    close();
    begin = last = i;
  }
  close();
  return sentences;
}

}  // namespace spanwise::retrieval
