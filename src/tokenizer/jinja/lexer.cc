#include "tokenizer/jinja/lexer.h"

#include <array>
#include <charconv>
#include <cstdlib>

#include "base/str.h"
#include "tokenizer/jinja/text.h"

namespace spanwise::jinja {
namespace {

constexpr size_t kMaxTokens = 200'000;

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  Result<std::vector<Token>> Run() {
    while (at_ < source_.size()) {
      SW_RETURN_IF_ERROR(Text());
      if (tokens_.size() > kMaxTokens) return Fail(at_, StrFormat("more than {} tokens", kMaxTokens));
    }
    Push(Token::Kind::kEnd, source_.size());
    return std::move(tokens_);
  }

 private:
  Status Fail(size_t offset, std::string_view what) const {
    return InvalidArgument(StrFormat("{}: {}", PlaceOf(source_, offset), what));
  }
  Token& Push(Token::Kind kind, size_t offset, std::string_view text = {}) {
    tokens_.push_back({kind, static_cast<uint32_t>(offset), std::string(text), 0, 0});
    return tokens_.back();
  }
  std::string_view Rest() const { return source_.substr(at_); }
  char Peek(size_t ahead) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
  void SkipSpace() {
    while (at_ < source_.size() && IsSpace(CodePointAt(source_, at_))) at_ += CharacterBytes(source_, at_);
  }

  // The text up to the next tag, and the tag.
  Status Text() {
    const size_t begin = at_;
    size_t tag = begin;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string_view::npos || tag + 1 >= source_.size()) {
        tag = source_.size();
        break;
      }
      const char kind = source_[tag + 1];
      if (kind == '{' || kind == '%' || kind == '#') break;
      ++tag;
    }
    std::string_view text = source_.substr(begin, tag - begin);
    const bool at_line_start = line_starting_;
    line_starting_ = false;
    if (tag == source_.size()) {
      if (!text.empty()) Push(Token::Kind::kText, begin, text);
      at_ = tag;
      return Status::Ok();
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (sign == '-') {
      text = Strip(text, "", Side::kRight);
    } else if (sign != '+' && kind != '{') {
      const size_t line = text.rfind('\n') == std::string_view::npos ? 0 : text.rfind('\n') + 1;
      if ((line > 0 || at_line_start) && Strip(text.substr(line), "", Side::kLeft).empty()) text = text.substr(0, line);
    }
    if (!text.empty()) Push(Token::Kind::kText, begin, text);
    at_ = tag + (sign == '-' || sign == '+' ? 3 : 2);
    if (kind == '#') return Comment(tag);
    if (kind == '%' && AtRaw()) return Raw(tag);
    Push(kind == '{' ? Token::Kind::kPrintBegin : Token::Kind::kBlockBegin, tag);
    return Inside(kind == '{' ? '}' : '%', tag);
  }

  // After the closing bracket of a tag whose sign before it was `sign`: white space that goes with it.
  void AfterTag(char sign, bool is_print) {
    if (sign == '-') {
      SkipSpace();
    } else if (sign != '+' && !is_print && Peek(0) == '\n') {
      ++at_;
    }
    line_starting_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  Status Comment(size_t begin) {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) return Fail(begin, "a comment does not end, expected '#}'");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    at_ = end + 2;
    AfterTag(sign, false);
    return Status::Ok();
  }

  bool AtRaw() const {
    const std::string_view rest = Strip(Rest(), "", Side::kLeft);
    if (!rest.starts_with("raw")) return false;
    const std::string_view after = Strip(rest.substr(3), "", Side::kLeft);
    return after.starts_with("%}") || after.starts_with("-%}");
  }

  // {% raw %} text {% endraw %}: the text is taken as it is.
  Status Raw(size_t begin) {
    const size_t close = source_.find("%}", at_);
    const char open_sign = source_[close - 1];
    at_ = close + 2;
    if (open_sign == '-') SkipSpace();
    for (size_t from = at_;;) {
      const size_t tag = source_.find("{%", from);
      if (tag == std::string_view::npos) return Fail(begin, "a raw block does not end, expected {% endraw %}");
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      std::string_view rest = Strip(source_.substr(tag + (sign == '-' || sign == '+' ? 3 : 2)), "", Side::kLeft);
      if (!rest.starts_with("endraw")) {
        from = tag + 2;
        continue;
      }
      rest = Strip(rest.substr(6), "", Side::kLeft);
      const char close_sign = rest.empty() ? '\0' : rest.front();
      if (close_sign == '-' || close_sign == '+') rest.remove_prefix(1);
      if (!rest.starts_with("%}")) {
        from = tag + 2;
        continue;
      }
      std::string_view text = source_.substr(at_, tag - at_);
      if (sign == '-') {
        text = Strip(text, "", Side::kRight);
      } else if (sign != '+') {
        const size_t line = text.rfind('\n') == std::string_view::npos ? 0 : text.rfind('\n') + 1;
        if (line > 0 && Strip(text.substr(line), "", Side::kLeft).empty()) text = text.substr(0, line);
      }
      if (!text.empty()) Push(Token::Kind::kText, at_, text);
      at_ = static_cast<size_t>(rest.data() - source_.data()) + 2;
      AfterTag(close_sign, false);
      return Status::Ok();
    }
  }

  // Tokens up to the end of the tag; brackets that are open keep it from ending ("{{ {'a': {}} }}").
  Status Inside(char end, size_t begin) {
    std::string open;
    while (true) {
      SkipSpace();
      if (at_ >= source_.size())
        return Fail(begin, end == '}' ? "'{{' is not closed, expected '}}'" : "'{%' is not closed, expected '%}'");
      if (open.empty()) {
        const size_t sign = Peek(0) == '-' || (Peek(0) == '+' && end == '%') ? 1 : 0;
        if (Peek(sign) == end && Peek(sign + 1) == '}') {
          const char sign_char = sign ? Peek(0) : '\0';
          Push(end == '}' ? Token::Kind::kPrintEnd : Token::Kind::kBlockEnd, at_);
          at_ += sign + 2;
          AfterTag(sign_char, end == '}');
          return Status::Ok();
        }
      }
      SW_RETURN_IF_ERROR(One(&open));
      if (tokens_.size() > kMaxTokens) return Fail(at_, StrFormat("more than {} tokens", kMaxTokens));
    }
  }

  Status One(std::string* open) {
    const char c = Peek(0);
    if (IsNameStart(c)) {
      size_t n = 1;
      while (IsNameStart(Peek(n)) || IsDigit(Peek(n))) ++n;
      Push(Token::Kind::kName, at_, source_.substr(at_, n));
      at_ += n;
      return Status::Ok();
    }
    if (IsDigit(c)) return Number();
    if (c == '"' || c == '\'') return String(c);
    constexpr std::array<std::string_view, 24> kOperators = {"**", "//", "==", "!=", "<=", ">=", "+", "-",
                                                             "*",  "/",  "%",  "~",  "<",  ">",  "=", "(",
                                                             ")",  "[",  "]",  "{",  "}",  ".",  ",", ":"};
    for (const std::string_view op : kOperators)
      if (Rest().starts_with(op)) return Operator(op, open);
    if (c == '|') return Operator("|", open);
    return Fail(at_, StrFormat("unexpected {}", Quoted(source_.substr(at_, CharacterBytes(source_, at_)))));
  }

  Status Operator(std::string_view op, std::string* open) {
    const char c = op.front();
    if (op.size() == 1 && (c == '(' || c == '[' || c == '{')) open->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    if (op.size() == 1 && (c == ')' || c == ']' || c == '}')) {
      if (open->empty() || open->back() != c) return Fail(at_, StrFormat("unexpected '{}'", op));
      open->pop_back();
    }
    Push(Token::Kind::kOperator, at_, op);
    at_ += op.size();
    return Status::Ok();
  }

  Status Number() {
    const size_t begin = at_;
    std::string digits;
    const auto take = [&] {
      while (IsDigit(Peek(0)) || (Peek(0) == '_' && IsDigit(Peek(1)))) {
        if (Peek(0) != '_') digits += Peek(0);
        ++at_;
      }
    };
    if (Peek(0) == '0' && (Peek(1) | 0x20) >= 'a' && (Peek(1) | 0x20) <= 'z')
      return Fail(begin, "only decimal numbers are done");
    take();
    bool is_float = false;
    const bool after_dot = !tokens_.empty() && tokens_.back().Is(".");  // "a.1.0" takes two items
    if (Peek(0) == '.' && IsDigit(Peek(1)) && !after_dot) {
      is_float = true;
      digits += '.';
      ++at_;
      take();
    }
    const size_t sign = Peek(1) == '+' || Peek(1) == '-' ? 1 : 0;
    if ((Peek(0) == 'e' || Peek(0) == 'E') && IsDigit(Peek(1 + sign)) && !after_dot) {
      is_float = true;
      digits += 'e';
      if (sign) digits += Peek(1);
      at_ += 1 + sign;
      take();
    }
    Token& token = Push(is_float ? Token::Kind::kFloat : Token::Kind::kInt, begin, digits);
    if (is_float) {
      token.number = std::strtod(digits.c_str(), nullptr);
    } else if (std::from_chars(digits.data(), digits.data() + digits.size(), token.integer).ec != std::errc()) {
      return Fail(begin, StrFormat("the integer {} exceeds 64 bits", Quoted(digits, 30)));
    }
    return Status::Ok();
  }

  Status String(char quote) {
    const size_t begin = at_++;
    std::string value;
    while (true) {
      if (at_ >= source_.size()) return Fail(begin, "a string does not end");
      const char c = source_[at_++];
      if (c == quote) break;
      if (c != '\\') {
        value += c;
        continue;
      }
      SW_RETURN_IF_ERROR(Escape(&value));
    }
    Push(Token::Kind::kString, begin, value);
    return Status::Ok();
  }

  Status Escape(std::string* value) {
    const size_t begin = at_ - 1;
    const char c = Peek(0);
    ++at_;
    switch (c) {
      case '\n':
        return Status::Ok();
      case '\\':
      case '\'':
      case '"':
        *value += c;
        return Status::Ok();
      case 'a':
        *value += '\a';
        return Status::Ok();
      case 'b':
        *value += '\b';
        return Status::Ok();
      case 'f':
        *value += '\f';
        return Status::Ok();
      case 'n':
        *value += '\n';
        return Status::Ok();
      case 'r':
        *value += '\r';
        return Status::Ok();
      case 't':
        *value += '\t';
        return Status::Ok();
      case 'v':
        *value += '\v';
        return Status::Ok();
      case 'x':
        return CodeEscape(begin, 2, 16, value);
      case 'u':
        return CodeEscape(begin, 4, 16, value);
      case 'U':
        return CodeEscape(begin, 8, 16, value);
      case 'N':
        return Fail(begin, "\\N{...} is not done");
      default:
        break;
    }
    if (c >= '0' && c <= '7') {
      --at_;
      size_t digits = 1;
      while (digits < 3 && Peek(digits) >= '0' && Peek(digits) <= '7') ++digits;
      return CodeEscape(begin, digits, 8, value);
    }
    *value += '\\';  // Python keeps the backslash of an escape that it does not know
    --at_;
    return Status::Ok();
  }

  Status CodeEscape(size_t begin, size_t n_digits, int base, std::string* value) {
    const std::string_view digits = Rest().substr(0, n_digits);
    uint32_t code = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
    if (digits.size() < n_digits || error != std::errc() || end != digits.data() + digits.size() || code > 0x10FFFF ||
        (code >= 0xD800 && code <= 0xDFFF))
      return Fail(begin, "a character escape that names no character");
    AppendUtf8(value, code);
    at_ += n_digits;
    return Status::Ok();
  }

  const std::string_view source_;
  size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::string PlaceOf(std::string_view source, size_t offset) {
  size_t line = 1, begin = 0;
  for (size_t i = 0; i < offset && i < source.size(); ++i)
    if (source[i] == '\n') {
      ++line;
      begin = i + 1;
    }
  return StrFormat("line {}, column {}", line, offset - begin + 1);
}

std::string NormalizeSource(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
      continue;
    }
    text += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

Result<std::vector<Token>> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace spanwise::jinja
