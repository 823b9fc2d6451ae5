// The regular expressions of tokenizer.json (Oniguruma's Ruby syntax), run by PCRE2 with bounded work.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spanwise/status.h"

namespace spanwise {

// A compiled expression. Immutable, thread-safe.
class Regex {
 public:
  // Unimplemented names a construct whose meaning differs between the two engines or that could run unbounded;
  // InvalidArgument gives the place where the expression does not parse.
  static Result<std::shared_ptr<const Regex>> Compile(std::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  const std::string& pattern() const { return pattern_; }
  // Whether a match can begin with this byte; if not, trying is a waste of time.
  bool MayBeginWith(char byte) const { return may_begin_[static_cast<uint8_t>(byte)]; }

 private:
  friend class RegexMatcher;
  Regex() = default;
  std::string pattern_;
  std::array<bool, 256> may_begin_{};
  void* code_ = nullptr;  // pcre2_code
  bool jit_ = false;
};

// Steps, and bytes looked at, that all matches of one call may take together beyond the cheap ones. Linear in the text,
// so that an expression with exponential backtracking ends in ResourceExhausted instead of running on.
struct RegexBudget {
  explicit RegexBudget(size_t text_bytes) : steps(10'000'000) { AddText(text_bytes); }
  void AddText(size_t text_bytes) { steps += uint64_t{1000} * text_bytes; }
  uint64_t steps;
};

// The working memory of one thread for one expression. Thread-compatible.
class RegexMatcher {
 public:
  explicit RegexMatcher(std::shared_ptr<const Regex> regex);
  ~RegexMatcher();
  RegexMatcher(RegexMatcher&&) noexcept;
  RegexMatcher& operator=(RegexMatcher&&) = delete;

  // The end of the match that begins exactly at `begin`, or nullopt. REQUIRES: `subject` is valid UTF-8, `begin` is on
  // a character boundary.
  Result<std::optional<size_t>> MatchAt(std::string_view subject, size_t begin, RegexBudget* budget);

 private:
  struct State;
  std::shared_ptr<const Regex> regex_;
  std::unique_ptr<State> state_;
};

// All matching of one call: the matchers that it needs, and its budget. Thread-compatible.
class RegexRun {
 public:
  explicit RegexRun(size_t text_bytes) : budget_(text_bytes) {}

  // There is more text than the constructor was told.
  void AddText(size_t text_bytes) { budget_.AddText(text_bytes); }

  // Calls each(begin, end) -> Status for the matches in order, none overlapping; an empty match is reported unless a
  // match ends where it is. REQUIRES: `subject` is valid UTF-8.
  template <typename Each>
  Status EachMatch(const std::shared_ptr<const Regex>& regex, std::string_view subject, const Each& each) {
    const size_t matcher = MatcherOf(regex);
    size_t last_end = std::string_view::npos;
    for (size_t at = 0; at <= subject.size();) {
      if (at < subject.size() && !regex->MayBeginWith(subject[at])) {
        ++at;
        while (at < subject.size() && (static_cast<uint8_t>(subject[at]) & 0xC0) == 0x80) ++at;
        continue;
      }
      SW_ASSIGN_OR_RETURN(const auto end, matchers_[matcher].MatchAt(subject, at, &budget_));
      if (end && (*end > at || at != last_end)) SW_RETURN_IF_ERROR(each(at, *end));
      if (end && *end > at) {
        at = last_end = *end;
        continue;
      }
      for (++at; at < subject.size() && (static_cast<uint8_t>(subject[at]) & 0xC0) == 0x80;) ++at;
    }
    return Status::Ok();
  }

 private:
  size_t MatcherOf(const std::shared_ptr<const Regex>& regex);

  std::vector<std::pair<const Regex*, size_t>> known_;
  std::vector<RegexMatcher> matchers_;
  RegexBudget budget_;
};

}  // namespace spanwise
