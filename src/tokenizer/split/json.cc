// The "pre_tokenizer" of tokenizer.json.
#include "base/str.h"
#include "tokenizer/component_json.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

using Steps = std::vector<std::shared_ptr<const SplitStep>>;

constexpr int64_t kMaxFixedLength = 1 << 20;

Result<SplitBehavior> ReadBehavior(const json::object& definition, std::string_view type) {
  SW_ASSIGN_OR_RETURN(const auto name, GetString(definition, "behavior"));
  if (!name && type == "Punctuation") return SplitBehavior::kIsolated;
  using enum SplitBehavior;
  for (const auto& [known, behavior] :
       {std::pair{"Removed", kRemoved}, std::pair{"Isolated", kIsolated},
        std::pair{"MergedWithPrevious", kMergedWithPrevious}, std::pair{"MergedWithNext", kMergedWithNext},
        std::pair{"Contiguous", kContiguous}})
    if (name == known) return behavior;
  return Unimplemented(
      StrFormat("{} behavior is {}, expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous", type,
                Quoted(name.value_or(""))));
}

Status AddSplit(const json::object& definition, Steps* steps) {
  SW_ASSIGN_OR_RETURN(JsonPattern pattern, ReadPattern(definition, "Split"));
  SW_ASSIGN_OR_RETURN(const SplitBehavior behavior, ReadBehavior(definition, "Split"));
  SW_ASSIGN_OR_RETURN(const auto invert, GetBool(definition, "invert"));
  steps->push_back(pattern.regex ? MakeRegexSplit(std::move(pattern.regex), behavior, invert.value_or(false))
                                 : MakeTextSplit(std::move(pattern.text), behavior, invert.value_or(false)));
  return Status::Ok();
}

Status AddByteLevel(const json::object& definition, bool bytes_stay, Steps* steps) {
  SW_ASSIGN_OR_RETURN(const auto prefix_space, GetBool(definition, "add_prefix_space"));
  SW_ASSIGN_OR_RETURN(const auto use_regex, GetBool(definition, "use_regex"));
  if (prefix_space.value_or(true)) steps->push_back(MakePrefixSpace());
  if (use_regex.value_or(true)) {
    SW_ASSIGN_OR_RETURN(auto regex, Regex::Compile(kGpt2Pattern));
    steps->push_back(MakeRegexSplit(std::move(regex), SplitBehavior::kIsolated, false));
  }
  if (!bytes_stay) steps->push_back(MakeByteSymbolSplit());
  return Status::Ok();
}

Status AddMetaspace(const json::object& definition, Steps* steps) {
  SW_ASSIGN_OR_RETURN(auto replacement, ReadCharacter(definition, "replacement", "\u2581"));
  SW_ASSIGN_OR_RETURN(const auto scheme_name, GetString(definition, "prepend_scheme"));
  SW_ASSIGN_OR_RETURN(const auto prefix_space, GetBool(definition, "add_prefix_space"));  // as older files say it
  SW_ASSIGN_OR_RETURN(const auto split, GetBool(definition, "split"));
  PrependScheme scheme = PrependScheme::kAlways;
  if (scheme_name == "first") {
    scheme = PrependScheme::kFirst;
  } else if (scheme_name == "never") {
    scheme = PrependScheme::kNever;
  } else if (scheme_name && scheme_name != "always") {
    return InvalidArgument(
        StrFormat("Metaspace: 'prepend_scheme' is {}, expected always, first or never", Quoted(*scheme_name)));
  }
  if (prefix_space == false) {
    if (scheme_name && scheme != PrependScheme::kNever)
      return InvalidArgument(
          StrFormat("Metaspace: 'add_prefix_space' is false, but 'prepend_scheme' is {}", Quoted(*scheme_name)));
    scheme = PrependScheme::kNever;
  }
  steps->push_back(MakeMetaspace(std::move(replacement), scheme, split.value_or(true)));
  return Status::Ok();
}

Status AddStep(std::string_view type, const json::object& definition, bool bytes_stay, Steps* steps) {
  const auto add = [&](std::shared_ptr<const SplitStep> step) {
    steps->push_back(std::move(step));
    return Status::Ok();
  };
  if (type == "Split") return AddSplit(definition, steps);
  if (type == "ByteLevel") return AddByteLevel(definition, bytes_stay, steps);
  if (type == "Metaspace") return AddMetaspace(definition, steps);
  if (type == "Whitespace") return add(MakeWordSplit());
  if (type == "WhitespaceSplit") return add(MakeCharacterSplit(IsWhiteSpace, "space", SplitBehavior::kRemoved));
  if (type == "BertPreTokenizer") {
    steps->push_back(MakeCharacterSplit(IsWhiteSpace, "space", SplitBehavior::kRemoved));
    return add(MakeCharacterSplit(IsPunctuation, "punctuation", SplitBehavior::kIsolated));
  }
  if (type == "Punctuation") {
    SW_ASSIGN_OR_RETURN(const SplitBehavior behavior, ReadBehavior(definition, "Punctuation"));
    return add(MakeCharacterSplit(IsPunctuation, "punctuation", behavior));
  }
  if (type == "Digits") {
    SW_ASSIGN_OR_RETURN(const auto individual, GetBool(definition, "individual_digits"));
    return add(MakeCharacterSplit(IsNumeric, "numeric",
                                  individual.value_or(false) ? SplitBehavior::kIsolated : SplitBehavior::kContiguous));
  }
  if (type == "CharDelimiterSplit") {
    SW_ASSIGN_OR_RETURN(auto delimiter, ReadCharacter(definition, "delimiter", ""));
    return add(MakeTextSplit(std::move(delimiter), SplitBehavior::kRemoved, false));
  }
  if (type == "FixedLength") {
    SW_ASSIGN_OR_RETURN(const auto length, GetInt(definition, "length"));
    if (length.value_or(5) < 1 || length.value_or(5) > kMaxFixedLength)
      return InvalidArgument(StrFormat("FixedLength: 'length' is {}, expected 1 to {}", *length, kMaxFixedLength));
    return add(MakeFixedLength(static_cast<size_t>(length.value_or(5))));
  }
  return Unimplemented(
      StrFormat("type is {}, expected Sequence, ByteLevel, Split, Digits, Metaspace, Whitespace, WhitespaceSplit, "
                "BertPreTokenizer, Punctuation, CharDelimiterSplit or FixedLength",
                Quoted(type)));
}

}  // namespace

Result<PreTokenizer> PreTokenizer::FromJson(const json::value& definition, bool* bytes_stay) {
  Steps steps;
  if (bytes_stay) *bytes_stay = false;
  if (definition.is_null()) return PreTokenizer();
  int n_byte_level = 0;
  bool ends_in_byte_level = false;
  SW_RETURN_IF_ERROR(EachStep(definition, "pretokenizers", [&](std::string_view type, const json::object&) {
    ends_in_byte_level = type == "ByteLevel";
    n_byte_level += ends_in_byte_level;
    return Status::Ok();
  }));
  const bool stay = bytes_stay && ends_in_byte_level && n_byte_level == 1;
  if (bytes_stay) *bytes_stay = stay;
  SW_RETURN_IF_ERROR(EachStep(definition, "pretokenizers", [&](std::string_view type, const json::object& step) {
    return AddStep(type, step, stay, &steps);
  }));
  return PreTokenizer(std::move(steps));
}

}  // namespace spanwise
