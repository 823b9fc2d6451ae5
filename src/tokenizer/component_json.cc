#include "tokenizer/component_json.h"

#include <vector>

#include "base/str.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

constexpr int kMaxNesting = 4;
constexpr size_t kMaxSteps = 64;
constexpr size_t kMaxPatternTextBytes = 4096;  // looking for a text takes time in proportion to its length

struct Step {
  std::string type;
  const json::object* definition;
};

Status Collect(const json::value& component, std::string_view members, int depth, std::vector<Step>* steps) {
  if (!component.is_object()) return InvalidArgument(StrFormat("is {}, expected an object", JsonKindName(component)));
  const json::object& definition = component.get_object();
  SW_ASSIGN_OR_RETURN(auto type, GetString(definition, "type"));
  if (!type) return InvalidArgument("'type' is missing");
  if (*type != "Sequence") {
    if (steps->size() >= kMaxSteps) return InvalidArgument(StrFormat("more than {} steps", kMaxSteps));
    steps->push_back({std::move(*type), &definition});
    return Status::Ok();
  }
  if (depth >= kMaxNesting) return InvalidArgument(StrFormat("Sequence nested deeper than {}", kMaxNesting));
  SW_ASSIGN_OR_RETURN(const json::array* const list, GetArray(definition, members));
  if (!list) return InvalidArgument(StrFormat("Sequence: '{}' is missing, expected an array", members));
  for (const json::value& member : *list) SW_RETURN_IF_ERROR(Collect(member, members, depth + 1, steps));
  return Status::Ok();
}

}  // namespace

Status EachStep(const json::value& component, std::string_view members,
                const std::function<Status(std::string_view, const json::object&)>& each) {
  std::vector<Step> steps;
  SW_RETURN_IF_ERROR(Collect(component, members, 0, &steps));
  for (const Step& step : steps) SW_RETURN_IF_ERROR(each(step.type, *step.definition));
  return Status::Ok();
}

Result<JsonPattern> ReadPattern(const json::object& definition, std::string_view type) {
  JsonPattern pattern;
  const json::value* const value = definition.if_contains("pattern");
  if (value && value->is_string()) {
    pattern.text = value->get_string();
  } else {
    SW_ASSIGN_OR_RETURN(const json::object* const object, GetObject(definition, "pattern"));
    if (!object)
      return InvalidArgument(
          StrFormat("{}: 'pattern' is missing, expected {{\"Regex\": ...}} or {{\"String\": ...}}", type));
    SW_ASSIGN_OR_RETURN(const auto regex, GetString(*object, "Regex"));
    SW_ASSIGN_OR_RETURN(auto text, GetString(*object, "String"));
    if (regex) {
      SW_ASSIGN_OR_RETURN(pattern.regex, Regex::Compile(*regex));
      return pattern;
    }
    if (text) pattern.text = std::move(*text);
  }
  if (pattern.text.empty())
    return InvalidArgument(StrFormat("{}: 'pattern' has neither a 'Regex' nor a 'String' that is not empty", type));
  if (pattern.text.size() > kMaxPatternTextBytes)
    return InvalidArgument(
        StrFormat("{}: 'pattern' has {} bytes, expected at most {}", type, pattern.text.size(), kMaxPatternTextBytes));
  return pattern;
}

Result<std::string> ReadCharacter(const json::object& definition, std::string_view key, std::string_view otherwise) {
  SW_ASSIGN_OR_RETURN(auto text, GetString(definition, key));
  std::string character = text ? std::move(*text) : std::string(otherwise);
  if (character.empty() || !IsValidUtf8(character) || CharacterAt(character, 0).length != character.size())
    return InvalidArgument(StrFormat("'{}' is {}, expected one character", key, Quoted(character)));
  return character;
}

}  // namespace spanwise
