#include "base/json.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/str.h"

namespace spanwise {

Result<json::value> ParseJson(std::string_view text, std::string_view what, size_t max_depth,
                              json::storage_ptr storage) {
  if (IsUtf16(text)) return InvalidArgument(StrFormat("{}: is UTF-16 text, expected UTF-8; save it as UTF-8", what));
  text = WithoutByteOrderMark(text);
  json::parse_options options;
  options.max_depth = max_depth;
  json::stream_parser parser({}, options);
  parser.reset(std::move(storage));
  boost::system::error_code error;
  const size_t used = parser.write_some(text.data(), text.size(), error);
  if (error == json::error::too_deep)
    return InvalidArgument(StrFormat("{}: JSON nested deeper than {} at byte {}", what, max_depth, used));
  if (error) return InvalidArgument(StrFormat("{}: not valid JSON near byte {}: {}", what, used, error.message()));
  if (const auto rest = Trim(text.substr(used)); !rest.empty())
    return InvalidArgument(StrFormat("{}: {} follows the JSON value at byte {}", what, Quoted(rest, 20), used));
  parser.finish(error);
  if (error) return InvalidArgument(StrFormat("{}: JSON ends too early, after {} bytes", what, text.size()));
  return parser.release();
}

namespace {

struct Constant {
  std::string_view name;
  double value;
};
constexpr Constant kPythonConstants[] = {
    {"NaN", std::numeric_limits<double>::quiet_NaN()},
    {"Infinity", std::numeric_limits<double>::infinity()},
    {"-Infinity", -std::numeric_limits<double>::infinity()},
};

// A constant on its way through the parser, which knows none: a text that nobody writes.
std::string StandIn(std::string_view name) { return StrFormat("\uE000{}\uE000", name); }

// `text` with a string in place of each constant. A constant is whatever stands outside strings and has its name.
std::string WithStandIns(std::string_view text) {
  std::string out;
  for (bool in_string = false; !text.empty();) {
    size_t n = 1;
    if (in_string && text[0] == '\\') {
      n = std::min<size_t>(2, text.size());
    } else if (text[0] == '"') {
      in_string = !in_string;
    } else if (!in_string && (text[0] == 'N' || text[0] == 'I' || text[0] == '-')) {
      bool replaced = false;
      for (const Constant& constant : kPythonConstants) {
        if (!text.starts_with(constant.name)) continue;
        out += StrFormat("\"{}\"", StandIn(constant.name));
        text.remove_prefix(constant.name.size());
        replaced = true;
        break;
      }
      if (replaced) continue;
    }
    out += text.substr(0, n);
    text.remove_prefix(n);
  }
  return out;
}

// False: one stands where a key should. REQUIRES: what ParseJson gave, whose depth is bounded.
bool PutConstants(json::value* value) {
  if (json::object* object = value->if_object()) {
    for (auto& member : *object) {
      for (const Constant& constant : kPythonConstants)
        if (member.key() == StandIn(constant.name)) return false;
      if (!PutConstants(&member.value())) return false;
    }
  } else if (json::array* array = value->if_array()) {
    for (json::value& item : *array)
      if (!PutConstants(&item)) return false;
  } else if (const json::string* text = value->if_string()) {
    for (const Constant& constant : kPythonConstants)
      if (*text == StandIn(constant.name)) {
        *value = constant.value;
        break;
      }
  }
  return true;
}

}  // namespace

Result<json::value> ParsePythonJson(std::string_view text, std::string_view what) {
  auto plain = ParseJson(text, what);
  const bool constants = text.find("NaN") != std::string_view::npos || text.find("Infinity") != std::string_view::npos;
  if (plain.ok() || !constants) return plain;
  auto value = ParseJson(WithStandIns(text), what);
  if (!value.ok() || !PutConstants(&*value)) return plain;  // whose offsets are those of the text
  return value;
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
