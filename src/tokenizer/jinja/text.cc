#include "tokenizer/jinja/text.h"

#include <utf8proc.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "base/str.h"

namespace spanwise::jinja {
namespace {

using Convert = utf8proc_int32_t (*)(utf8proc_int32_t);

void AppendCase(char32_t code, Convert convert, std::string* out) {
  if (code == 0xDF && convert == utf8proc_toupper) {  // the one common letter whose upper case is two
    *out += "SS";
  } else {
    AppendUtf8(out, static_cast<char32_t>(convert(static_cast<utf8proc_int32_t>(code))));
  }
}

std::string MapCase(std::string_view text, Convert convert) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); i += CharacterBytes(text, i)) AppendCase(CodePointAt(text, i), convert, &out);
  return out;
}

bool IsCased(char32_t code) {
  const auto c = static_cast<utf8proc_int32_t>(code);
  const auto category = utf8proc_get_property(c)->category;
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT ||
         utf8proc_toupper(c) != c || utf8proc_tolower(c) != c;
}

}  // namespace

size_t CharacterBytes(std::string_view text, size_t at) {
  const auto lead = static_cast<uint8_t>(text[at]);
  const size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  return std::min(length, text.size() - at);
}

size_t CharacterCount(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return count;
}

char32_t CodePointAt(std::string_view text, size_t at) {
  utf8proc_int32_t code = 0;
  const auto n = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                                  static_cast<utf8proc_ssize_t>(text.size() - at), &code);
  return n > 0 ? static_cast<char32_t>(code) : U'\uFFFD';
}

size_t FindText(std::string_view text, std::string_view what, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (what.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, what.data(), what.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : std::string_view::npos;
}

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsPrintable(char32_t code) {
  if (code == ' ') return true;
  switch (utf8proc_get_property(static_cast<utf8proc_int32_t>(code))->category) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

std::string_view Strip(std::string_view text, std::string_view characters, Side side) {
  const auto strips = [&](size_t at, size_t length) {
    if (characters.empty()) return IsSpace(CodePointAt(text, at));
    const std::string_view c = text.substr(at, length);
    for (size_t i = 0; i < characters.size(); i += CharacterBytes(characters, i))
      if (characters.substr(i, CharacterBytes(characters, i)) == c) return true;
    return false;
  };
  if (side != Side::kRight)
    while (!text.empty() && strips(0, CharacterBytes(text, 0))) text.remove_prefix(CharacterBytes(text, 0));
  if (side != Side::kLeft)
    while (!text.empty()) {
      size_t last = text.size() - 1;
      while (last > 0 && text.size() - last < 4 && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80) --last;
      if (!strips(last, text.size() - last)) break;
      text.remove_suffix(text.size() - last);
    }
  return text;
}

std::string Upper(std::string_view text) { return MapCase(text, utf8proc_toupper); }
std::string Lower(std::string_view text) { return MapCase(text, utf8proc_tolower); }

std::string Capitalize(std::string_view text) {
  if (text.empty()) return {};
  const size_t first = CharacterBytes(text, 0);
  return MapCase(text.substr(0, first), utf8proc_totitle) + Lower(text.substr(first));
}

std::string TitlePython(std::string_view text) {
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < text.size(); i += CharacterBytes(text, i)) {
    const char32_t code = CodePointAt(text, i);
    AppendCase(code, inside ? utf8proc_tolower : utf8proc_totitle, &out);
    inside = IsCased(code);
  }
  return out;
}

std::string TitleJinja(std::string_view text) {
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < text.size(); i += CharacterBytes(text, i)) {
    const char32_t code = CodePointAt(text, i);
    const bool separator = IsSpace(code) || code == '-' || code == '(' || code == '{' || code == '[' || code == '<';
    AppendCase(code, inside ? utf8proc_tolower : utf8proc_toupper, &out);
    inside = !separator;
  }
  return out;
}

void AppendRepr(std::string_view text, std::string* out) {
  const bool double_quotes = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = double_quotes ? '"' : '\'';
  *out += quote;
  for (size_t i = 0; i < text.size();) {
    const size_t length = CharacterBytes(text, i);
    const char32_t code = CodePointAt(text, i);
    if (code == static_cast<char32_t>(quote) || code == '\\') {
      *out += '\\';
      *out += static_cast<char>(code);
    } else if (code == '\n') {
      *out += "\\n";
    } else if (code == '\r') {
      *out += "\\r";
    } else if (code == '\t') {
      *out += "\\t";
    } else if (IsPrintable(code)) {
      *out += text.substr(i, length);
    } else if (code < 0x100) {
      *out += StrFormat("\\x{:02x}", static_cast<uint32_t>(code));
    } else if (code < 0x10000) {
      *out += StrFormat("\\u{:04x}", static_cast<uint32_t>(code));
    } else {
      *out += StrFormat("\\U{:08x}", static_cast<uint32_t>(code));
    }
    i += length;
  }
  *out += quote;
}

std::string FloatText(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  std::string text = StrFormat("{}", number);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

bool IsAlphabetic(char32_t code) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsNumeric(char32_t code) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

void AppendJsonString(std::string_view text, bool ascii, std::string* out) {
  *out += '"';
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (ascii && static_cast<uint8_t>(c) >= 0x7F) {
      const auto code = static_cast<uint32_t>(CodePointAt(text, i));
      if (code == 0x7F) {
        *out += c;
      } else if (code < 0x10000) {
        *out += StrFormat("\\u{:04x}", code);
      } else {
        *out += StrFormat("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF));
      }
      i += CharacterBytes(text, i) - 1;
      continue;
    }
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\f':
        *out += "\\f";
        break;
      case '\b':
        *out += "\\b";
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20) {
          *out += StrFormat("\\u{:04x}", static_cast<uint32_t>(static_cast<uint8_t>(c)));
        } else {
          *out += c;
        }
    }
  }
  *out += '"';
}

}  // namespace spanwise::jinja
