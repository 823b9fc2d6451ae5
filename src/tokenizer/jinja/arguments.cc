#include "tokenizer/jinja/arguments.h"

#include "base/str.h"

namespace spanwise::jinja {

Result<std::vector<std::optional<Value>>> Bind(std::string_view what, const Arguments& arguments,
                                               std::initializer_list<std::string_view> names, size_t required) {
  std::vector<std::optional<Value>> bound(names.size());
  if (arguments.positional.size() > names.size())
    return InvalidArgument(
        StrFormat("{} takes at most {} arguments, found {}", what, names.size(), arguments.positional.size()));
  for (size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    size_t i = 0;
    while (i < names.size() && names.begin()[i] != name) ++i;
    if (i == names.size()) return InvalidArgument(StrFormat("{} has no argument {}", what, Quoted(name)));
    if (bound[i]) return InvalidArgument(StrFormat("{} got the argument {} twice", what, Quoted(name)));
    bound[i] = value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!bound[i]) return InvalidArgument(StrFormat("{} needs the argument '{}'", what, names.begin()[i]));
  return bound;
}

Result<std::string> StringArgument(std::string_view what, const Value& value) {
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_string()) return value.string();
  return InvalidArgument(StrFormat("{} expects a str, found {}", what, KindName(value)));
}

Result<int64_t> IntArgument(std::string_view what, const Value& value) {
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_integral()) return value.integer();
  return InvalidArgument(StrFormat("{} expects an int, found {}", what, KindName(value)));
}

}  // namespace spanwise::jinja
