// The arguments of a call, and how they meet a signature.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja/value.h"

namespace spanwise::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// One value for each of `names`, absent where the call does not give it. Too many, unknown, repeated or missing
// arguments (of the first `required`) are errors that begin with `what`.
Result<std::vector<std::optional<Value>>> Bind(std::string_view what, const Arguments& arguments,
                                               std::initializer_list<std::string_view> names, size_t required);

// Typed reads of a bound argument.
Result<std::string> StringArgument(std::string_view what, const Value& value);
Result<int64_t> IntArgument(std::string_view what, const Value& value);

}  // namespace spanwise::jinja
