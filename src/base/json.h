// JSON in and out: Boost.JSON behind limits, with typed reads that name the field that is wrong.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "spanwise/status.h"

namespace spanwise {

namespace json = boost::json;

// Parses one UTF-8 JSON text; a byte order mark in front is passed over. Rejects trailing bytes, invalid UTF-8, and
// nesting deeper than max_depth. `what` begins every message ("request body", a path). The value lies in `storage`,
// which must outlive it.
Result<json::value> ParseJson(std::string_view text, std::string_view what, size_t max_depth = 64,
                              json::storage_ptr storage = {});

// The same as Python's json module writes it: NaN, Infinity and -Infinity are numbers too. Whoever reads a number that
// may be one of these checks its range.
Result<json::value> ParsePythonJson(std::string_view text, std::string_view what);

// Typed reads of object members. Absent and null count as missing: Get* then returns nullopt.
// A member of another type is InvalidArgument naming `key`, what was found, and what was expected.
Result<std::optional<std::string>> GetString(const json::object& object, std::string_view key);
Result<std::optional<int64_t>> GetInt(const json::object& object, std::string_view key);
Result<std::optional<double>> GetNumber(const json::object& object, std::string_view key);
Result<std::optional<bool>> GetBool(const json::object& object, std::string_view key);

// Object or array member, nullptr when missing.
Result<const json::object*> GetObject(const json::object& object, std::string_view key);
Result<const json::array*> GetArray(const json::object& object, std::string_view key);

std::string_view JsonKindName(const json::value& value);

// Shortest decimal text that reads back to the same double; infinities and NaN become null (JSON has none).
std::string JsonNumber(double value);

}  // namespace spanwise
