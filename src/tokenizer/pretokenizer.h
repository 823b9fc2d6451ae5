// Splits a text into the words that a model's tokens never cross: the pre_tokenizer of tokenizer.json.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "spanwise/status.h"
#include "tokenizer/piece.h"
#include "tokenizer/regex.h"
#include "tokenizer/rewriter.h"

namespace spanwise {

// Receives pieces in order. They are valid during the call, and those that are slices of the input or of the caller's
// RewrittenText for as long as these.
using PieceSink = std::function<Status(const Piece&)>;

// What all steps of one call share.
struct SplitRun {
  std::string_view input;
  RegexRun* regexes;
  GrowthBudget* growth;
};

// Immutable, thread-safe.
class SplitStep {
 public:
  virtual ~SplitStep() = default;
  // REQUIRES: `piece` is not empty. No piece given to `sink` is.
  virtual Status Split(const Piece& piece, const SplitRun& run, const PieceSink& sink) const = 0;
  // What determines the splits, for hashing.
  virtual std::string Description() const = 0;
};

// Steps in order. Immutable, thread-safe.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<std::shared_ptr<const SplitStep>> steps) : steps_(std::move(steps)) {}

  // `definition` is the value of "pre_tokenizer"; null is no step. Where `bytes_stay` is given and the last step is
  // ByteLevel, and the only one, it is set and the words are the text's own bytes; else ByteLevel turns every byte into
  // its character of the alphabet. Unimplemented names a type or option that is not done.
  static Result<PreTokenizer> FromJson(const json::value& definition, bool* bytes_stay);

  void Append(std::shared_ptr<const SplitStep> step) { steps_.push_back(std::move(step)); }
  std::string Description() const;
  bool empty() const { return steps_.empty(); }

  // Gives the words of `piece` to `sink`, none empty.
  Status Split(const Piece& piece, const SplitRun& run, const PieceSink& sink) const {
    return piece.text.empty() ? Status::Ok() : SplitFrom(0, piece, run, sink);
  }

 private:
  Status SplitFrom(size_t step, const Piece& piece, const SplitRun& run, const PieceSink& sink) const;

  std::vector<std::shared_ptr<const SplitStep>> steps_;
};

// What becomes of the matches of a pattern.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// One file for each of these in split/. `invert` splits between the matches instead.
std::shared_ptr<const SplitStep> MakeRegexSplit(std::shared_ptr<const Regex> regex, SplitBehavior behavior,
                                                bool invert);
std::shared_ptr<const SplitStep> MakeTextSplit(std::string text, SplitBehavior behavior, bool invert);
using CharacterTest = bool (*)(char32_t);
// Every character that passes is a match. `name` tells tests apart, for hashing.
std::shared_ptr<const SplitStep> MakeCharacterSplit(CharacterTest test, std::string_view name, SplitBehavior behavior);
std::shared_ptr<const SplitStep> MakeWordSplit();  // runs of \w, and of what is neither \w nor white space
std::shared_ptr<const SplitStep> MakeFixedLength(size_t n_characters);
std::shared_ptr<const SplitStep> MakePrefixSpace();  // a space in front of a piece that has none
std::shared_ptr<const SplitStep> MakeByteSymbolSplit();
enum class PrependScheme { kAlways, kFirst, kNever };
std::shared_ptr<const SplitStep> MakeMetaspace(std::string replacement, PrependScheme scheme, bool split);
// Cuts before each run of `mark` that follows something else.
std::shared_ptr<const SplitStep> MakeCutBefore(std::string mark);

// The expression that ByteLevel splits by unless told not to (GPT-2's).
extern const std::string_view kGpt2Pattern;

}  // namespace spanwise
