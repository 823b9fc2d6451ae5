#include "tokenizer/pretokenizer.h"

#include <utf8proc.h>

#include "base/str.h"

namespace spanwise {
namespace {

constexpr int kMaxNesting = 4;
constexpr size_t kMaxSteps = 32;
// The split that ByteLevel does itself unless use_regex is false (GPT-2's).
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Result<std::string> TypeOf(const json::object& definition) {
  SW_ASSIGN_OR_RETURN(const auto type, GetString(definition, "type"));
  if (!type) return InvalidArgument("'type' is missing");
  return *type;
}

Result<PreTokenizer::Behavior> ParseBehavior(std::string_view name) {
  using enum PreTokenizer::Behavior;
  for (const auto& [known, behavior] :
       {std::pair{"Removed", kRemoved}, std::pair{"Isolated", kIsolated},
        std::pair{"MergedWithPrevious", kMergedWithPrevious}, std::pair{"MergedWithNext", kMergedWithNext},
        std::pair{"Contiguous", kContiguous}})
    if (name == known) return behavior;
  return Unimplemented(
      StrFormat("Split behavior is {}, expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
                "Contiguous",
                Quoted(name)));
}

size_t CharacterLength(std::string_view text, size_t at) {
  size_t end = at + 1;
  while (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) ++end;
  return end - at;
}

}  // namespace

Status PreTokenizer::AddSplit(const json::object& definition) {
  SW_ASSIGN_OR_RETURN(const json::object* const pattern, GetObject(definition, "pattern"));
  if (!pattern) return InvalidArgument("Split: 'pattern' is missing, expected {\"Regex\": ...} or {\"String\": ...}");
  SW_ASSIGN_OR_RETURN(const auto regex, GetString(*pattern, "Regex"));
  SW_ASSIGN_OR_RETURN(const auto literal, GetString(*pattern, "String"));
  SW_ASSIGN_OR_RETURN(const auto behavior, GetString(definition, "behavior"));
  SW_ASSIGN_OR_RETURN(const auto invert, GetBool(definition, "invert"));
  Step step;
  SW_ASSIGN_OR_RETURN(step.behavior, ParseBehavior(behavior.value_or("")));
  step.invert = invert.value_or(false);
  if (regex) {
    SW_ASSIGN_OR_RETURN(step.regex, Regex::Compile(*regex));
  } else if (literal && !literal->empty()) {
    step.kind = Step::Kind::kLiteral;
    step.literal = *literal;
  } else {
    return InvalidArgument("Split: 'pattern' has neither a 'Regex' nor a 'String' that is not empty");
  }
  steps_.push_back(std::move(step));
  return Status::Ok();
}

Status PreTokenizer::AddByteLevel(const json::object& definition) {
  SW_ASSIGN_OR_RETURN(const auto prefix_space, GetBool(definition, "add_prefix_space"));
  SW_ASSIGN_OR_RETURN(const auto use_regex, GetBool(definition, "use_regex"));
  if (prefix_space.value_or(true)) {
    Step step;
    step.kind = Step::Kind::kPrefixSpace;
    steps_.push_back(std::move(step));
  }
  if (use_regex.value_or(true)) {
    Step step;
    SW_ASSIGN_OR_RETURN(step.regex, Regex::Compile(kGpt2Pattern));
    steps_.push_back(std::move(step));
  }
  has_byte_level_ = true;
  return Status::Ok();
}

Status PreTokenizer::Add(const json::value& value, int depth) {
  if (!value.is_object()) return InvalidArgument(StrFormat("is {}, expected an object", JsonKindName(value)));
  const json::object& definition = value.get_object();
  SW_ASSIGN_OR_RETURN(const std::string type, TypeOf(definition));
  if (steps_.size() >= kMaxSteps) return InvalidArgument(StrFormat("more than {} steps", kMaxSteps));
  if (type == "Sequence") {
    if (depth >= kMaxNesting) return InvalidArgument(StrFormat("Sequence nested deeper than {}", kMaxNesting));
    SW_ASSIGN_OR_RETURN(const json::array* const members, GetArray(definition, "pretokenizers"));
    if (!members) return InvalidArgument("Sequence: 'pretokenizers' is missing, expected an array");
    for (const json::value& member : *members) SW_RETURN_IF_ERROR(Add(member, depth + 1));
    return Status::Ok();
  }
  if (has_byte_level_) return Unimplemented(StrFormat("{} after ByteLevel, expected ByteLevel last", Quoted(type)));
  if (type == "Split") return AddSplit(definition);
  if (type == "ByteLevel") return AddByteLevel(definition);
  if (type == "Digits") {
    SW_ASSIGN_OR_RETURN(const auto individual, GetBool(definition, "individual_digits"));
    Step step;
    step.kind = Step::Kind::kDigits;
    step.behavior = individual.value_or(false) ? Behavior::kIsolated : Behavior::kContiguous;
    steps_.push_back(std::move(step));
    return Status::Ok();
  }
  return Unimplemented(StrFormat("type is {}, expected Sequence, Split, Digits or ByteLevel", Quoted(type)));
}

Result<PreTokenizer> PreTokenizer::FromJson(const json::value& definition) {
  PreTokenizer result;
  SW_RETURN_IF_ERROR(result.Add(definition, 0));
  if (!result.has_byte_level_) return Unimplemented("has no ByteLevel step, expected one at the end");
  return result;
}

std::string PreTokenizer::Description() const {
  std::string text;
  for (const Step& step : steps_) {
    const std::string& what = step.regex ? step.regex->pattern() : step.literal;
    text += StrFormat("{}:{}:{}:{}:{};", static_cast<int>(step.kind), static_cast<int>(step.behavior), step.invert,
                      what.size(), what);
  }
  return text;
}

// Turns matches and the text between them into pieces, as the step's behaviour says.
class PreTokenizerRun::Splitter {
 public:
  Splitter(PreTokenizerRun* run, size_t step, const Piece& piece)
      : run_(run), step_(step), piece_(piece), definition_(run->definition_.steps()[step]) {}

  // The next stretch of the text, in order; `is_match` before inversion.
  Status Add(size_t begin, size_t end, bool is_match) {
    is_match = is_match != definition_.invert;
    if (begin == end) return Status::Ok();
    switch (definition_.behavior) {
      case Behavior::kIsolated:
        return Emit(begin, end);
      case Behavior::kRemoved:
        return is_match ? Status::Ok() : Emit(begin, end);
      case Behavior::kContiguous:
        return Hold(begin, end, is_match, held_ && held_match_ == is_match);
      // A match joins the stretch before it, but not a match before it.
      case Behavior::kMergedWithPrevious:
        return Hold(begin, end, is_match, held_ && is_match && !held_match_);
      case Behavior::kMergedWithNext:
        return Hold(begin, end, is_match, held_ && !is_match && held_match_);
    }
    return Status::Ok();
  }
  Status Finish() { return held_ ? Emit(held_begin_, held_end_) : Status::Ok(); }

 private:
  using Behavior = PreTokenizer::Behavior;

  Status Emit(size_t begin, size_t end) { return run_->Apply(step_ + 1, piece_.Slice(begin, end)); }
  Status Hold(size_t begin, size_t end, bool is_match, bool joins) {
    if (held_ && !joins) SW_RETURN_IF_ERROR(Emit(held_begin_, held_end_));
    if (!joins) held_begin_ = begin;
    held_end_ = end;
    held_match_ = is_match;
    held_ = true;
    return Status::Ok();
  }

  PreTokenizerRun* const run_;
  const size_t step_;
  const Piece& piece_;
  const PreTokenizer::Step& definition_;
  bool held_ = false, held_match_ = false;
  size_t held_begin_ = 0, held_end_ = 0;
};

PreTokenizerRun::PreTokenizerRun(const PreTokenizer& definition, std::string_view input, Sink sink)
    : definition_(definition), input_(input), sink_(std::move(sink)), budget_(input.size()) {
  for (const PreTokenizer::Step& step : definition.steps()) {
    matcher_of_step_.push_back(matchers_.size());
    if (step.kind == PreTokenizer::Step::Kind::kRegex) matchers_.emplace_back(step.regex);
  }
}

Status PreTokenizerRun::Apply(size_t step, const Piece& piece) {
  if (piece.text.empty()) return Status::Ok();
  if (step == definition_.steps().size()) return sink_(piece);
  switch (definition_.steps()[step].kind) {
    case PreTokenizer::Step::Kind::kRegex:
      return SplitByRegex(step, piece);
    case PreTokenizer::Step::Kind::kLiteral:
      return SplitByLiteral(step, piece);
    case PreTokenizer::Step::Kind::kDigits:
      return SplitDigits(step, piece);
    case PreTokenizer::Step::Kind::kPrefixSpace:
      return PrefixSpace(step, piece);
  }
  return Status::Ok();
}

Status PreTokenizerRun::SplitByRegex(size_t step, const Piece& piece) {
  RegexMatcher& matcher = matchers_[matcher_of_step_[step]];
  Splitter splitter(this, step, piece);
  size_t done = 0;
  for (size_t at = 0; at < piece.text.size();) {
    SW_ASSIGN_OR_RETURN(const auto end, matcher.MatchAt(piece.text, at, &budget_));
    if (end && *end > at) {
      SW_RETURN_IF_ERROR(splitter.Add(done, at, false));
      SW_RETURN_IF_ERROR(splitter.Add(at, *end, true));
      at = done = *end;
      continue;
    }
    if (end) {  // an empty match still cuts the text
      SW_RETURN_IF_ERROR(splitter.Add(done, at, false));
      done = at;
    }
    at += CharacterLength(piece.text, at);
  }
  SW_RETURN_IF_ERROR(splitter.Add(done, piece.text.size(), false));
  return splitter.Finish();
}

Status PreTokenizerRun::SplitByLiteral(size_t step, const Piece& piece) {
  const std::string& literal = definition_.steps()[step].literal;
  Splitter splitter(this, step, piece);
  size_t done = 0;
  for (size_t at; (at = piece.text.find(literal, done)) != std::string_view::npos; done = at + literal.size()) {
    SW_RETURN_IF_ERROR(splitter.Add(done, at, false));
    SW_RETURN_IF_ERROR(splitter.Add(at, at + literal.size(), true));
  }
  SW_RETURN_IF_ERROR(splitter.Add(done, piece.text.size(), false));
  return splitter.Finish();
}

Status PreTokenizerRun::SplitDigits(size_t step, const Piece& piece) {
  Splitter splitter(this, step, piece);
  size_t done = 0;
  for (size_t at = 0; at < piece.text.size();) {
    utf8proc_int32_t code = 0;
    const auto length =
        static_cast<size_t>(utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(piece.text.data()) + at,
                                             static_cast<utf8proc_ssize_t>(piece.text.size() - at), &code));
    const auto category = utf8proc_get_property(code)->category;
    if (category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO) {
      SW_RETURN_IF_ERROR(splitter.Add(done, at, false));
      SW_RETURN_IF_ERROR(splitter.Add(at, at + length, true));
      done = at + length;
    }
    at += length;
  }
  SW_RETURN_IF_ERROR(splitter.Add(done, piece.text.size(), false));
  return splitter.Finish();
}

Status PreTokenizerRun::PrefixSpace(size_t step, const Piece& piece) {
  if (piece.text.front() == ' ') return Apply(step + 1, piece);
  RewrittenText spaced;
  spaced.text.reserve(piece.text.size() + 1);
  spaced.text += ' ';
  spaced.text += piece.text;
  spaced.sources.reserve(spaced.text.size());
  spaced.sources.push_back(piece.Source(input_, 0, 1));  // the space counts as a part of the first character
  for (size_t i = 0; i < piece.text.size(); ++i) spaced.sources.push_back(piece.Source(input_, i, i + 1));
  return Apply(step + 1, Piece{spaced.text, 0, &spaced});
}

}  // namespace spanwise
