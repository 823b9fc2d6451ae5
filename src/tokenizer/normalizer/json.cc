// The "normalizer" of tokenizer.json.
#include "base/str.h"
#include "tokenizer/component_json.h"
#include "tokenizer/normalizer.h"

namespace spanwise {
namespace {

using Steps = std::vector<std::shared_ptr<const NormalizerStep>>;

Status AddBert(const json::object& definition, Steps* steps) {
  SW_ASSIGN_OR_RETURN(const auto clean, GetBool(definition, "clean_text"));
  SW_ASSIGN_OR_RETURN(const auto han, GetBool(definition, "handle_chinese_chars"));
  SW_ASSIGN_OR_RETURN(const auto strip, GetBool(definition, "strip_accents"));
  SW_ASSIGN_OR_RETURN(const auto lowercase, GetBool(definition, "lowercase"));
  if (clean.value_or(true)) steps->push_back(MakeCharacterRule(CharacterRule::kBertClean));
  if (han.value_or(true)) steps->push_back(MakeCharacterRule(CharacterRule::kBertHan));
  if (strip.value_or(lowercase.value_or(true))) {
    steps->push_back(MakeUnicodeForm(UnicodeForm::kNfd));
    steps->push_back(MakeCharacterRule(CharacterRule::kStripNonspacingMarks));
  }
  if (lowercase.value_or(true)) steps->push_back(MakeCharacterRule(CharacterRule::kLowercase));
  return Status::Ok();
}

Status AddReplace(const json::object& definition, Steps* steps) {
  SW_ASSIGN_OR_RETURN(const auto content, GetString(definition, "content"));
  if (!content) return InvalidArgument("Replace: 'content' is missing, expected a string");
  SW_ASSIGN_OR_RETURN(JsonPattern pattern, ReadPattern(definition, "Replace"));
  steps->push_back(pattern.regex ? MakeReplaceRegex(std::move(pattern.regex), *content)
                                 : MakeReplaceText(std::move(pattern.text), *content));
  return Status::Ok();
}

Status AddPrecompiled(const json::object& definition, Steps* steps) {
  SW_ASSIGN_OR_RETURN(const auto text, GetString(definition, "precompiled_charsmap"));
  if (!text || text->empty()) return Status::Ok();  // no table: nothing to replace
  auto charsmap = DecodeBase64(*text);
  if (!charsmap) return Corruption("Precompiled: 'precompiled_charsmap' is not base64");
  SW_ASSIGN_OR_RETURN(auto step, MakePrecompiled(*charsmap, CharsmapMatch::kShortestOfGrapheme));
  steps->push_back(std::move(step));
  return Status::Ok();
}

Status AddStep(std::string_view type, const json::object& definition, Steps* steps) {
  const auto add = [&](std::shared_ptr<const NormalizerStep> step) {
    steps->push_back(std::move(step));
    return Status::Ok();
  };
  if (type == "NFC") return add(MakeUnicodeForm(UnicodeForm::kNfc));
  if (type == "NFD") return add(MakeUnicodeForm(UnicodeForm::kNfd));
  if (type == "NFKC") return add(MakeUnicodeForm(UnicodeForm::kNfkc));
  if (type == "NFKD") return add(MakeUnicodeForm(UnicodeForm::kNfkd));
  if (type == "Lowercase") return add(MakeCharacterRule(CharacterRule::kLowercase));
  if (type == "StripAccents") return add(MakeCharacterRule(CharacterRule::kStripMarks));
  if (type == "Nmt") return add(MakeCharacterRule(CharacterRule::kNmt));
  if (type == "ByteLevel") return add(MakeByteSymbols());
  if (type == "BertNormalizer") return AddBert(definition, steps);
  if (type == "Replace") return AddReplace(definition, steps);
  if (type == "Precompiled") return AddPrecompiled(definition, steps);
  if (type == "Strip") {
    SW_ASSIGN_OR_RETURN(const auto left, GetBool(definition, "strip_left"));
    SW_ASSIGN_OR_RETURN(const auto right, GetBool(definition, "strip_right"));
    return add(MakeStrip(left.value_or(true), right.value_or(true)));
  }
  if (type == "Prepend") {
    SW_ASSIGN_OR_RETURN(const auto text, GetString(definition, "prepend"));
    if (!text) return InvalidArgument("Prepend: 'prepend' is missing, expected a string");
    return add(MakePrepend(*text));
  }
  return Unimplemented(StrFormat(
      "type is {}, expected Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, Nmt, "
      "BertNormalizer, Precompiled or ByteLevel",
      Quoted(type)));
}

}  // namespace

Result<Normalizer> Normalizer::FromJson(const json::value& definition) {
  Steps steps;
  if (!definition.is_null())
    SW_RETURN_IF_ERROR(EachStep(definition, "normalizers", [&](std::string_view type, const json::object& step) {
      return AddStep(type, step, &steps);
    }));
  return Normalizer(std::move(steps));
}

}  // namespace spanwise
