// What a JSON document tree cannot tell: whether an object named a member twice.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace spanwise {

// The first member name that occurs twice in one object of `text`, if any. REQUIRES: ParseJson accepted `text`.
std::optional<std::string> FindDuplicateKey(std::string_view text);

}  // namespace spanwise
