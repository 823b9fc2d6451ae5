#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/str.h"

namespace spanwise {
namespace {

constexpr size_t kMaxPatternBytes = size_t{64} << 10;
constexpr uint32_t kCheapSteps = 2000;  // a match this short is not charged: its cost is within the per-byte cost
// A match looks at so much text first, and at more only when it reaches the end of that, for which it is charged: some
// expressions look through all the rest of the text at every place, and that takes no steps.
constexpr size_t kCheapBytes = 2048;
constexpr size_t kJitStackBytes = size_t{8} << 20;

// Unicode White_Space, which is what Oniguruma's \s means. PCRE2's own \s adds U+180E.
constexpr std::string_view kSpaceRanges =
    R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
// Oniguruma's word characters, with the Latin-1 numbers that only its table for bytes counts among them.
constexpr std::string_view kWordClasses = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";

// Rewrites Ruby syntax to PCRE2 syntax where the two differ in a way that published patterns could meet, and refuses
// the differences that they do not.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> Run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        SW_RETURN_IF_ERROR(Escape());
      } else if (in_class_) {
        SW_RETURN_IF_ERROR(InClass(c));
      } else {
        SW_RETURN_IF_ERROR(Outside(c));
      }
    }
    return std::move(out_);
  }

 private:
  Status Refuse(std::string_view what) const {
    return Unimplemented(StrFormat("regular expression {}: {} at byte {}", Quoted(in_), what, at_));
  }
  char Peek(size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  void Copy(size_t n) {
    out_ += in_.substr(at_, n);
    at_ += n;
  }
  void Replace(size_t n, std::string_view with) {
    out_ += with;
    at_ += n;
  }

  Status Escape() {
    switch (const char c = Peek(1)) {
      case '\0':
        return InvalidArgument(StrFormat("regular expression {}: ends in a backslash", Quoted(in_)));
      case 's':
        Replace(2, in_class_ ? std::string(kSpaceRanges) : StrFormat("[{}]", kSpaceRanges));
        break;
      case 'S':
        Replace(2, in_class_ ? std::string(R"(\P{White_Space})") : StrFormat("[^{}]", kSpaceRanges));
        break;
      case 'w':
        Replace(2, in_class_ ? std::string(kWordClasses) : StrFormat("[{}]", kWordClasses));
        break;
      case 'W':
        if (in_class_) return Refuse("\\W inside a character class");
        Replace(2, StrFormat("[^{}]", kWordClasses));
        break;
      case 'u': {
        const std::string_view hex = in_.substr(at_ + 2 < in_.size() ? at_ + 2 : in_.size(), 4);
        if (hex.size() < 4 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos)
          return Refuse("\\u without four hexadecimal digits");
        Replace(6, StrFormat("\\x{{{}}}", hex));
        break;
      }
      case 'd':
      case 'D':
      case 'p':
      case 'P':
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'v':
      case 'a':
      case 'e':
      case 'x':
      case 'A':
      case 'z':
      case 'Z':
      case 'b':
      case 'B':
      case '0':
        if (c == 'v') {  // one character in Ruby, a class in PCRE2
          Replace(2, "\\x0b");
        } else if ((c == 'p' || c == 'P' || c == 'x') && Peek(2) == '{') {
          const size_t close = in_.find('}', at_);
          if (close == std::string_view::npos) return Refuse("'{' without '}'");
          Copy(close + 1 - at_);
        } else {
          Copy(2);
        }
        break;
      default:
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9'))
          return Refuse(StrFormat("\\{} is not done", c));
        Copy(2);
    }
    return Status::Ok();
  }

  Status InClass(char c) {
    if (c == '[' && Peek(1) != ':') return Refuse("a class inside a class is not done");
    if (c == '[') {
      const size_t end = in_.find(":]", at_ + 2);
      if (end == std::string_view::npos) return Refuse("'[:' without ':]'");
      Copy(end + 2 - at_);
      return Status::Ok();
    }
    if (c == '&' && Peek(1) == '&') return Refuse("the intersection of classes is not done");
    if (c == ']' && at_ != class_first_) in_class_ = false;
    Copy(1);
    return Status::Ok();
  }

  Status Outside(char c) {
    if (c == '[') {
      in_class_ = true;
      Copy(Peek(1) == '^' ? 2 : 1);
      class_first_ = at_;
      return Status::Ok();
    }
    if (c == '(' && Peek(1) == '*') return Refuse("a verb is not done");
    if (c == '(' && Peek(1) == '?') return Group();
    if (c == '{' && Peek(1) == ',') return Refuse("a repeat without its lower bound is not done");
    // "x{1,3}+" is possessive in PCRE2 and a repeated repeat in Ruby.
    if (c == '}' && Peek(1) == '+') return Refuse("a counted repeat followed by '+' is not done");
    Copy(1);
    return Status::Ok();
  }

  Status Group() {
    const char kind = Peek(2);
    if (kind == ':' || kind == '=' || kind == '!' || kind == '>') {
      Copy(3);
      return Status::Ok();
    }
    if (kind == '<' && (Peek(3) == '=' || Peek(3) == '!')) {
      Copy(4);
      return Status::Ok();
    }
    size_t n = 2;
    while (Peek(n) == 'i' || Peek(n) == 'x' || Peek(n) == '-') ++n;
    if (n == 2 || (Peek(n) != ':' && Peek(n) != ')')) return Refuse("a group of this kind is not done");
    Copy(n + 1);
    return Status::Ok();
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
  size_t class_first_ = 0;
};

struct ContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

std::string ErrorText(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// The bytes that a match may begin with. PCRE2 finds that out only for expressions that are not anchored.
std::array<bool, 256> FirstBytes(std::string_view translated, uint32_t options, pcre2_compile_context* context) {
  std::array<bool, 256> all;
  all.fill(true);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* const code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options,
                                         &error, &offset, context);
  if (!code) return all;
  const uint8_t* bits = nullptr;  // null where it is not known, or an empty match is possible
  if (pcre2_pattern_info(code, PCRE2_INFO_FIRSTBITMAP, &bits) == 0 && bits)
    for (size_t byte = 0; byte < all.size(); ++byte) all[byte] = bits[byte / 8] >> (byte % 8) & 1;
  uint32_t type = 0, unit = 0;  // type 1: one byte, of either case where an option says so
  if (!bits && translated.find("(?") == std::string_view::npos &&
      pcre2_pattern_info(code, PCRE2_INFO_FIRSTCODETYPE, &type) == 0 && type == 1 &&
      pcre2_pattern_info(code, PCRE2_INFO_FIRSTCODEUNIT, &unit) == 0) {
    all.fill(false);
    all[unit & 0xFF] = true;
  }
  pcre2_code_free(code);
  return all;
}

}  // namespace

Result<std::shared_ptr<const Regex>> Regex::Compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    return InvalidArgument(
        StrFormat("regular expression of {} bytes, at most {} are read", pattern.size(), kMaxPatternBytes));
  if (!IsValidUtf8(pattern))
    return InvalidArgument(StrFormat("regular expression {}: not valid UTF-8", Quoted(pattern)));
  SW_ASSIGN_OR_RETURN(const std::string translated, Translator(pattern).Run());
  const std::unique_ptr<pcre2_compile_context, ContextDeleter> context(pcre2_compile_context_create(nullptr));
  SW_CHECK(context);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 64);
  // Anchored: the caller walks the text itself, because PCRE2 limits the steps from one starting point only.
  // Multi-line: in Ruby ^ and $ always mean lines.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), kOptions, &error,
                                   &offset, context.get());
  if (!code)
    return InvalidArgument(
        StrFormat("regular expression {}: {} (byte {} of its PCRE2 form)", Quoted(pattern), ErrorText(error), offset));
  std::shared_ptr<Regex> regex(new Regex);
  regex->may_begin_ = FirstBytes(translated, kOptions & ~uint32_t{PCRE2_ANCHORED}, context.get());
  regex->pattern_ = pattern;
  regex->code_ = code;
  regex->jit_ = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
  return std::shared_ptr<const Regex>(std::move(regex));
}

Regex::~Regex() { pcre2_code_free(static_cast<pcre2_code*>(code_)); }

struct RegexMatcher::State {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  uint32_t limit = 0;

  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  void SetLimit(uint32_t steps) {
    if (limit == steps) return;
    limit = steps;
    pcre2_set_match_limit(context, steps);
  }
};

RegexMatcher::RegexMatcher(std::shared_ptr<const Regex> regex)
    : regex_(std::move(regex)), state_(std::make_unique<State>()) {
  state_->data = pcre2_match_data_create_from_pattern(static_cast<const pcre2_code*>(regex_->code_), nullptr);
  state_->context = pcre2_match_context_create(nullptr);
  SW_CHECK(state_->data && state_->context);
  pcre2_set_heap_limit(state_->context, 64 << 10);  // KiB
}

RegexMatcher::~RegexMatcher() = default;
RegexMatcher::RegexMatcher(RegexMatcher&&) noexcept = default;

size_t RegexRun::MatcherOf(const std::shared_ptr<const Regex>& regex) {
  for (const auto& [known, matcher] : known_)
    if (known == regex.get()) return matcher;
  matchers_.emplace_back(regex);
  known_.emplace_back(regex.get(), matchers_.size() - 1);
  return matchers_.size() - 1;
}

namespace {

// begin + window, or the next boundary between characters.
size_t WindowEnd(std::string_view subject, size_t begin, size_t window) {
  if (window >= subject.size() - begin) return subject.size();
  size_t end = begin + window;
  while (end < subject.size() && (static_cast<uint8_t>(subject[end]) & 0xC0) == 0x80) ++end;
  return end;
}

}  // namespace

Result<std::optional<size_t>> RegexMatcher::MatchAt(std::string_view subject, size_t begin, RegexBudget* budget) {
  const auto* code = static_cast<const pcre2_code*>(regex_->code_);
  const auto* text = reinterpret_cast<PCRE2_SPTR>(subject.data());
  state_->SetLimit(kCheapSteps);
  size_t window = kCheapBytes, end = WindowEnd(subject, begin, window);
  while (true) {
    const uint32_t partial = end < subject.size() ? PCRE2_PARTIAL_HARD : 0;
    const int rc =
        regex_->jit_ ? pcre2_jit_match(code, text, end, begin, partial, state_->data, state_->context)
                     : pcre2_match(code, text, end, begin, partial | PCRE2_NO_UTF_CHECK, state_->data, state_->context);
    if (rc == PCRE2_ERROR_PARTIAL) {
      window = std::min(window * 4, subject.size() - begin);
      if (window > budget->steps)
        return ResourceExhausted(StrFormat("regular expression {}: looks at too much text at byte {} of {}",
                                           Quoted(regex_->pattern()), begin, subject.size()));
      budget->steps -= window;
      end = WindowEnd(subject, begin, window);
      continue;
    }
    if (rc >= 0) {
      const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state_->data);
      return std::optional<size_t>(std::max<size_t>(ends[1], begin));
    }
    if (rc == PCRE2_ERROR_NOMATCH) return std::optional<size_t>();
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !state_->stack) {
      state_->stack = pcre2_jit_stack_create(size_t{32} << 10, kJitStackBytes, nullptr);
      if (state_->stack) {
        pcre2_jit_stack_assign(state_->context, nullptr, state_->stack);
        continue;
      }
    }
    const bool may_raise = rc == PCRE2_ERROR_MATCHLIMIT && state_->limit < (uint32_t{1} << 30);
    const uint32_t raised = may_raise ? state_->limit * 8 : 0;
    if (!may_raise || raised > budget->steps)
      return ResourceExhausted(StrFormat("regular expression {}: {} at byte {} of a text of {} bytes",
                                         Quoted(regex_->pattern()), ErrorText(rc), begin, subject.size()));
    budget->steps -= raised;
    state_->SetLimit(raised);
  }
}

}  // namespace spanwise
