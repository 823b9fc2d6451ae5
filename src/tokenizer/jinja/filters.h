// Filters (value | name) and tests (value is name).
#pragma once

#include <string_view>

#include "tokenizer/jinja/arguments.h"
#include "tokenizer/jinja/value.h"

namespace spanwise::jinja {

bool HasFilter(std::string_view name);
bool HasTest(std::string_view name);

// REQUIRES: HasFilter(name), HasTest(name).
Result<Value> ApplyFilter(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget);
Result<bool> ApplyTest(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget);

}  // namespace spanwise::jinja
