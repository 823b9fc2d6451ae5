#include "tokenizer/normalize.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/check.h"
#include "base/str.h"

namespace spanwise {
namespace {

constexpr char32_t kFirstUnstable = 0x300;    // text of smaller code points is always in NFC
constexpr uint8_t kFirstUnstableLead = 0xCC;  // the first byte of U+0300

struct Character {
  char32_t code;
  uint32_t length;
};

Character CharacterAt(std::string_view text, size_t at) {
  utf8proc_int32_t code = 0;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                                       static_cast<utf8proc_ssize_t>(text.size() - at), &code);
  SW_CHECK(length > 0);  // the caller has validated the text
  return {static_cast<char32_t>(code), static_cast<uint32_t>(length)};
}

// Whether the character may combine with, or be reordered against, what stands before it: a mark, or a Hangul vowel or
// final consonant. A text may be normalised segment by segment if cut only before other characters.
bool JoinsPrevious(char32_t code) {
  if (code < kFirstUnstable) return false;
  if (code >= 0x1160 && code <= 0x11FF) return true;
  const auto category = utf8proc_get_property(static_cast<utf8proc_int32_t>(code))->category;
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
}

void AppendNfc(std::string_view segment, std::string* out) {
  std::vector<utf8proc_int32_t> codes;
  for (size_t i = 0; i < segment.size();) {
    const Character c = CharacterAt(segment, i);
    utf8proc_int32_t parts[16];
    int boundary = 0;
    const auto n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code), parts, 16, UTF8PROC_DECOMPOSE, &boundary);
    SW_CHECK(n >= 0 && n <= 16);
    codes.insert(codes.end(), parts, parts + n);
    i += c.length;
  }
  // utf8proc's own reordering is quadratic in a run of marks; a stable sort of each run is not.
  const auto marks = [](utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; };
  for (size_t i = 0; i < codes.size();) {
    size_t end = i;
    while (end < codes.size() && marks(codes[end]) != 0) ++end;
    std::stable_sort(codes.begin() + static_cast<ptrdiff_t>(i), codes.begin() + static_cast<ptrdiff_t>(end),
                     [&](auto a, auto b) { return marks(a) < marks(b); });
    i = end + 1;
  }
  const auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  const auto n = utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()), kOptions);
  SW_CHECK(n >= 0);
  for (utf8proc_ssize_t i = 0; i < n; ++i) AppendUtf8(out, static_cast<char32_t>(codes[static_cast<size_t>(i)]));
}

}  // namespace

std::unique_ptr<RewrittenText> NormalizeNfc(const Piece& piece) {
  const std::string_view text = piece.text;
  std::unique_ptr<RewrittenText> result;
  std::string scratch;
  // Bytes of `text` that the result already holds; those up to the current segment are copied only when one changes.
  size_t copied = 0;
  const auto copy_until = [&](size_t end) {
    for (size_t i = copied; i < end;) {
      const uint32_t length = CharacterAt(text, i).length;
      const auto begin = piece.origin + static_cast<uint32_t>(i);
      result->sources.insert(result->sources.end(), length, ByteRange{begin, begin + length});
      i += length;
    }
    result->text += text.substr(copied, end - copied);
    copied = end;
  };
  for (size_t begin = 0; begin < text.size();) {
    const size_t low_run = begin;
    while (begin < text.size() && static_cast<uint8_t>(text[begin]) < kFirstUnstableLead) ++begin;
    if (begin == text.size()) break;
    if (begin > low_run)  // the last character of the run may combine with what follows
      while (--begin > low_run && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) {
      }
    const Character first = CharacterAt(text, begin);
    size_t end = begin + first.length;
    bool stable = first.code < kFirstUnstable;
    while (end < text.size()) {
      if (static_cast<uint8_t>(text[end]) < kFirstUnstableLead) break;
      const Character next = CharacterAt(text, end);
      if (!JoinsPrevious(next.code)) break;
      stable = false;
      end += next.length;
    }
    if (!stable) {
      const std::string_view segment = text.substr(begin, end - begin);
      scratch.clear();
      AppendNfc(segment, &scratch);
      if (scratch != segment) {
        if (!result) result = std::make_unique<RewrittenText>();
        copy_until(begin);
        result->text += scratch;
        result->sources.insert(
            result->sources.end(), scratch.size(),
            ByteRange{piece.origin + static_cast<uint32_t>(begin), piece.origin + static_cast<uint32_t>(end)});
        copied = end;
      }
    }
    begin = end;
  }
  if (result) copy_until(text.size());
  return result;
}

std::string NfcOf(std::string_view text) {
  const auto rewritten = NormalizeNfc(Piece{text, 0, nullptr});
  return rewritten ? rewritten->text : std::string(text);
}

}  // namespace spanwise
