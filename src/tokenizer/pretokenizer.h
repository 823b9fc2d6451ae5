// Splits text into the words that BPE merges within: the pre_tokenizer of tokenizer.json.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "spanwise/status.h"
#include "tokenizer/piece.h"
#include "tokenizer/regex.h"

namespace spanwise {

// A chain of splitting steps that ends in ByteLevel. Immutable, thread-safe.
class PreTokenizer {
 public:
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  struct Step {
    enum class Kind { kRegex, kLiteral, kDigits, kPrefixSpace } kind = Kind::kRegex;
    std::shared_ptr<const Regex> regex;  // kRegex
    std::string literal;                 // kLiteral, not empty
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;  // split between the matches instead
  };

  // `definition` is the value of "pre_tokenizer". Unimplemented names a type or option that is not done.
  static Result<PreTokenizer> FromJson(const json::value& definition);

  // What determines the splits, for hashing.
  std::string Description() const;

  const std::vector<Step>& steps() const { return steps_; }

 private:
  Status Add(const json::value& definition, int depth);
  Status AddSplit(const json::object& definition);
  Status AddByteLevel(const json::object& definition);

  std::vector<Step> steps_;
  bool has_byte_level_ = false;
};

// One pass of a PreTokenizer over one text. Thread-compatible.
class PreTokenizerRun {
 public:
  using Sink = std::function<Status(const Piece&)>;

  // `sink` receives the words in order; they are valid during the call, and words that are slices of the input or of
  // the caller's RewrittenText for as long as those.
  PreTokenizerRun(const PreTokenizer& definition, std::string_view input, Sink sink);

  Status Feed(const Piece& piece) { return Apply(0, piece); }

 private:
  class Splitter;
  Status Apply(size_t step, const Piece& piece);
  Status SplitByRegex(size_t step, const Piece& piece);
  Status SplitByLiteral(size_t step, const Piece& piece);
  Status SplitDigits(size_t step, const Piece& piece);
  Status PrefixSpace(size_t step, const Piece& piece);

  const PreTokenizer& definition_;
  const std::string_view input_;
  const Sink sink_;
  std::vector<RegexMatcher> matchers_;  // one for each kRegex step, in order
  std::vector<size_t> matcher_of_step_;
  RegexBudget budget_;
};

}  // namespace spanwise
