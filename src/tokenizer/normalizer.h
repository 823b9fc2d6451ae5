// Steps that rewrite a text before it is split: the normalizer of tokenizer.json.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "spanwise/status.h"
#include "tokenizer/regex.h"
#include "tokenizer/rewriter.h"

namespace spanwise {

// Immutable, thread-safe.
class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  // Tells `out`, from front to back, what of `text` changes. REQUIRES: `text` is valid UTF-8 and not empty.
  virtual Status Apply(std::string_view text, RegexRun* regexes, Rewriter* out) const = 0;
  // What determines the result, for hashing.
  virtual std::string Description() const = 0;
};

// Steps in order. Immutable, thread-safe.
class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<std::shared_ptr<const NormalizerStep>> steps) : steps_(std::move(steps)) {}

  // `definition` is the value of "normalizer"; null is no step. Unimplemented names a type that is not done.
  static Result<Normalizer> FromJson(const json::value& definition);

  // The rewritten text, or null when `piece`, of `input`, stays as it is.
  Result<std::unique_ptr<RewrittenText>> Apply(std::string_view input, const Piece& piece, RegexRun* regexes,
                                               GrowthBudget* growth) const;
  // The normal form of a text of its own.
  Result<std::string> ApplyTo(std::string_view text, RegexRun* regexes, GrowthBudget* growth) const;

  std::string Description() const;
  bool empty() const { return steps_.empty(); }

 private:
  std::vector<std::shared_ptr<const NormalizerStep>> steps_;
};

// One file for each of these in normalizer/.
enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };
std::shared_ptr<const NormalizerStep> MakeUnicodeForm(UnicodeForm form);
enum class CharacterRule {
  kLowercase,
  kStripMarks,            // all marks
  kStripNonspacingMarks,  // Mn only
  kNmt,                   // what Google's NMT systems drop or make a space
  kBertClean,             // controls go, white space becomes a space
  kBertHan,               // spaces around Han characters
};
std::shared_ptr<const NormalizerStep> MakeCharacterRule(CharacterRule rule);
std::shared_ptr<const NormalizerStep> MakeStrip(bool left, bool right);
std::shared_ptr<const NormalizerStep> MakePrepend(std::string text);
std::shared_ptr<const NormalizerStep> MakeReplaceText(std::string text, std::string with);
std::shared_ptr<const NormalizerStep> MakeReplaceRegex(std::shared_ptr<const Regex> regex, std::string with);
std::shared_ptr<const NormalizerStep> MakeByteSymbols();
// SentencePiece's white space: runs of spaces become one U+2581 (`merge`) or one each, and one is put in front
// (`prepend`).
std::shared_ptr<const NormalizerStep> MakeSentencePieceSpaces(bool prepend, bool merge);
// SentencePiece's table of replacements. tokenizer.json takes the shortest entry that begins a grapheme or character;
// SentencePiece itself the longest at each place. Corruption says what is wrong with the table.
enum class CharsmapMatch { kShortestOfGrapheme, kLongest };
Result<std::shared_ptr<const NormalizerStep>> MakePrecompiled(std::string_view charsmap, CharsmapMatch match);

// A base-64 text's bytes, or nullopt.
std::optional<std::string> DecodeBase64(std::string_view text);

}  // namespace spanwise
