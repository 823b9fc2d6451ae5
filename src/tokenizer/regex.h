// The regular expressions of tokenizer.json (Oniguruma's Ruby syntax), run by PCRE2 with bounded work.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

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

 private:
  friend class RegexMatcher;
  Regex() = default;
  std::string pattern_;
  void* code_ = nullptr;  // pcre2_code
  bool jit_ = false;
};

// Steps that all matches of one call may take together beyond the cheap ones. Linear in the text, so that an
// expression with exponential backtracking ends in ResourceExhausted instead of running on.
struct RegexBudget {
  explicit RegexBudget(size_t text_bytes) : steps(10'000'000 + uint64_t{1000} * text_bytes) {}
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

}  // namespace spanwise
