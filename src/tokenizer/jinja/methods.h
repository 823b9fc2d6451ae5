// Methods of strings, lists, dicts and loops, and the functions that every template has.
#pragma once

#include <string_view>

#include "tokenizer/jinja/arguments.h"
#include "tokenizer/jinja/value.h"

namespace spanwise::jinja {

bool HasMethod(const Value& self, std::string_view name);
Result<Value> CallMethod(const Method& method, const Arguments& arguments, Budget* budget);

// range, dict and strftime_now, in local time. (namespace and raise_exception belong to the renderer.)
Result<Value> CallRange(const Arguments& arguments, Budget* budget);
Result<Value> CallDict(const Arguments& arguments, Budget* budget);
Result<Value> CallStrftimeNow(const Arguments& arguments, Budget* budget);

}  // namespace spanwise::jinja
