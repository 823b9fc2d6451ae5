#include "base/json.h"

#include <cmath>

#include "base/str.h"

namespace spanwise {

Result<json::value> ParseJson(std::string_view text, std::string_view what, size_t max_depth,
                              json::storage_ptr storage) {
  json::parse_options options;
  options.max_depth = max_depth;
  json::stream_parser parser({}, options);
  parser.reset(std::move(storage));
  boost::system::error_code error;
  const size_t used = parser.write_some(text.data(), text.size(), error);
  if (error) return InvalidArgument(StrFormat("{}: not valid JSON near byte {}: {}", what, used, error.message()));
  if (const auto rest = Trim(text.substr(used)); !rest.empty())
    return InvalidArgument(StrFormat("{}: {} follows the JSON value at byte {}", what, Quoted(rest, 20), used));
  parser.finish(error);
  if (error) return InvalidArgument(StrFormat("{}: JSON ends too early, after {} bytes", what, text.size()));
  return parser.release();
}

std::string_view JsonKindName(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return "an integer";
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    case json::kind::object:
      return "an object";
  }
  return "unknown";
}

namespace {

const json::value* Find(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && !value->is_null() ? value : nullptr;
}

Status WrongKind(std::string_view key, const json::value& value, std::string_view expected) {
  return InvalidArgument(StrFormat("'{}' is {}, expected {}", key, JsonKindName(value), expected));
}

}  // namespace

Result<std::optional<std::string>> GetString(const json::object& object, std::string_view key) {
  const json::value* value = Find(object, key);
  if (!value) return std::optional<std::string>();
  if (!value->is_string()) return WrongKind(key, *value, "a string");
  return std::optional<std::string>(value->get_string());
}

Result<std::optional<int64_t>> GetInt(const json::object& object, std::string_view key) {
  const json::value* value = Find(object, key);
  if (!value) return std::optional<int64_t>();
  if (value->is_int64()) return std::optional<int64_t>(value->get_int64());
  if (value->is_double()) {  // 3.0 is an integer to most JSON writers
    const double d = value->get_double();
    if (std::nearbyint(d) == d && std::abs(d) < 9e15) return std::optional<int64_t>(static_cast<int64_t>(d));
  }
  return WrongKind(key, *value, "an integer");
}

Result<std::optional<double>> GetNumber(const json::object& object, std::string_view key) {
  const json::value* value = Find(object, key);
  if (!value) return std::optional<double>();
  if (!value->is_number()) return WrongKind(key, *value, "a number");
  return std::optional<double>(value->to_number<double>());
}

Result<std::optional<bool>> GetBool(const json::object& object, std::string_view key) {
  const json::value* value = Find(object, key);
  if (!value) return std::optional<bool>();
  if (!value->is_bool()) return WrongKind(key, *value, "a boolean");
  return std::optional<bool>(value->get_bool());
}

Result<const json::object*> GetObject(const json::object& object, std::string_view key) {
  const json::value* value = Find(object, key);
  if (!value) return static_cast<const json::object*>(nullptr);
  if (!value->is_object()) return WrongKind(key, *value, "an object");
  return &value->get_object();
}

Result<const json::array*> GetArray(const json::object& object, std::string_view key) {
  const json::value* value = Find(object, key);
  if (!value) return static_cast<const json::array*>(nullptr);
  if (!value->is_array()) return WrongKind(key, *value, "an array");
  return &value->get_array();
}

std::string JsonNumber(double value) { return std::isfinite(value) ? StrFormat("{}", value) : "null"; }

}  // namespace spanwise
