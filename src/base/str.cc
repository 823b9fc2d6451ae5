#include "base/str.h"

#include <cstdint>

namespace spanwise {

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string_view::npos; begin = end + 1)
    pieces.push_back(text.substr(begin, end - begin));
  pieces.push_back(text.substr(begin));
  return pieces;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kWhite = " \t\r\n";
  const size_t begin = text.find_first_not_of(kWhite);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhite) - begin + 1);
}

std::string_view WithoutByteOrderMark(std::string_view text) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  if (text.starts_with(kMark)) text.remove_prefix(kMark.size());
  return text;
}

bool IsUtf16(std::string_view bytes) { return bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF"); }

namespace {

// Length of the well-formed UTF-8 sequence at the start of `text`; 0 when bad, -1 when cut short but good so far.
int SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  int length = 0;
  uint8_t low = 0x80, high = 0xBF;  // bounds of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) >= text.size()) return -1;
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return 0;
  }
  return length;
}

// Appends `text` as Printable says, and a backslash before each character of `marked`.
void AppendEscaped(std::string* out, std::string_view text, std::string_view keep, std::string_view marked) {
  for (size_t i = 0; i < text.size();) {
    const int length = SequenceLength(text.substr(i));
    const auto lead = static_cast<uint8_t>(text[i]);
    if (length <= 0) {
      *out += StrFormat("\\x{:02x}", lead);
      ++i;
      continue;
    }
    const std::string_view character = text.substr(i, static_cast<size_t>(length));
    i += character.size();
    char32_t c = lead;
    if (length == 2) c = lead & 0x1F;
    if (length == 3) c = lead & 0x0F;
    for (const char more : character.substr(1)) c = c << 6 | (static_cast<uint8_t>(more) & 0x3F);
    if (length == 1 && keep.find(character[0]) != std::string_view::npos) {
      *out += character;
    } else if (c == '\n' || c == '\r' || c == '\t') {
      *out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (c < 0x20 || c == 0x7F) {
      *out += StrFormat("\\x{:02x}", lead);
    } else if (length < 4 &&
               ((c >= 0x80 && c < 0xA0) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069))) {
      *out += StrFormat("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      if (length == 1 && marked.find(character[0]) != std::string_view::npos) *out += '\\';
      *out += character;
    }
  }
}

}  // namespace

std::string Printable(std::string_view text, std::string_view keep) {
  std::string out;
  out.reserve(text.size());
  AppendEscaped(&out, text, keep, {});
  return out;
}

std::string Quoted(std::string_view text, size_t max_bytes) {
  const bool cut = text.size() > max_bytes;
  if (cut) text = text.substr(0, max_bytes);
  if (cut) text = text.substr(0, CompleteUtf8Prefix(text));
  std::string out = "\"";
  AppendEscaped(&out, text, {}, "\"\\");
  return out + (cut ? "...\"" : "\"");
}

bool IsValidUtf8(std::string_view text, size_t* bad_offset) {
  for (size_t i = 0; i < text.size();) {
    const int length = SequenceLength(text.substr(i));
    if (length <= 0) {
      if (bad_offset) *bad_offset = i;
      return false;
    }
    i += static_cast<size_t>(length);
  }
  return true;
}

size_t CompleteUtf8Prefix(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<uint8_t>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // a continuation byte: look further back for its lead
    return byte >= 0xC0 && SequenceLength(text.substr(text.size() - back)) == -1 ? text.size() - back : text.size();
  }
  return text.size();
}

void AppendUtf8(std::string* out, char32_t c) {
  const auto put = [&](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

}  // namespace spanwise
