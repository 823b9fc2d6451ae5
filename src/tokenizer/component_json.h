// What the components of tokenizer.json have in common: a type, sequences of steps, patterns.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "spanwise/status.h"
#include "tokenizer/regex.h"

namespace spanwise {

// Calls each(type, definition) for the steps of a component, which may be a Sequence (its steps under `members`) that
// holds Sequences. InvalidArgument for what is no object with a type, nests deeply or has very many steps.
Status EachStep(const json::value& component, std::string_view members,
                const std::function<Status(std::string_view type, const json::object& definition)>& each);

// The member "pattern": {"Regex": ...}, {"String": ...}, or a string.
struct JsonPattern {
  std::shared_ptr<const Regex> regex;  // null: `text`, not empty
  std::string text;
};
Result<JsonPattern> ReadPattern(const json::object& definition, std::string_view type);

// A member that is a string of one character; `otherwise` where it is missing, and InvalidArgument where that is empty.
Result<std::string> ReadCharacter(const json::object& definition, std::string_view key, std::string_view otherwise);

}  // namespace spanwise
