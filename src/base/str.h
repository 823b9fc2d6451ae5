// Text: formatting and the small questions asked of strings.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

namespace spanwise {

template <typename... Args>
std::string StrFormat(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}

// The pieces between separators; "" gives one empty piece.
std::vector<std::string_view> Split(std::string_view text, char separator);

// Without white space (space, tab, CR, LF) at both ends.
std::string_view Trim(std::string_view text);

// Without the byte order mark of UTF-8, which Windows programs put in front.
std::string_view WithoutByteOrderMark(std::string_view text);

// Whether the bytes begin with a byte order mark of UTF-16 (or UTF-32), which nothing here reads.
bool IsUtf16(std::string_view bytes);

// Foreign text (a file's name, a title) as a terminal can show it: control characters, line and paragraph separators
// and those that turn the direction of writing are escaped (\n, \x1b, \u009b), and so are bytes that are not UTF-8. The
// characters in `keep` stay. Text without such characters is as it was.
std::string Printable(std::string_view text, std::string_view keep = {});

// The same in quotation marks, with " and \ escaped, cut after max_bytes with "...".
std::string Quoted(std::string_view text, size_t max_bytes = 80);

// Whether the bytes are well-formed UTF-8 (no surrogates, no overlong forms); if not, *bad_offset is the first bad
// byte.
bool IsValidUtf8(std::string_view text, size_t* bad_offset = nullptr);

// The longest prefix of `text` that ends on a UTF-8 character boundary, in bytes: a cut never halves a character.
size_t CompleteUtf8Prefix(std::string_view text);

// Appends the UTF-8 form of one code point. REQUIRES: code_point <= 0x10FFFF and no surrogate.
void AppendUtf8(std::string* out, char32_t code_point);

}  // namespace spanwise
