// Python's string functions on UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace spanwise::jinja {

// Bytes of the character at `at`; 1 where the text is not UTF-8.
size_t CharacterBytes(std::string_view text, size_t at);
size_t CharacterCount(std::string_view text);
char32_t CodePointAt(std::string_view text, size_t at);

// Offset of `what`, or npos. Linear, unlike std::string_view::find.
size_t FindText(std::string_view text, std::string_view what, size_t from = 0);

bool IsSpace(char32_t code);      // str.isspace()
bool IsPrintable(char32_t code);  // str.isprintable()

enum class Side { kLeft, kRight, kBoth };
// str.strip() and its kin; `characters` empty: white space.
std::string_view Strip(std::string_view text, std::string_view characters, Side side);

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Capitalize(std::string_view text);
std::string TitlePython(std::string_view text);  // str.title(): after every character without case
std::string TitleJinja(std::string_view text);   // the filter: after white space and opening brackets

// repr() of a string and of a float.
void AppendRepr(std::string_view text, std::string* out);
std::string FloatText(double number);

bool IsAlphabetic(char32_t code);  // str.isalpha()
bool IsNumeric(char32_t code);     // what str.isalnum() takes beside it

// json.dumps(text, ensure_ascii=ascii).
void AppendJsonString(std::string_view text, bool ascii, std::string* out);

}  // namespace spanwise::jinja
