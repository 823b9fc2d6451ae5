#include "server/fields.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/str.h"

namespace spanwise::server {

std::string Fields::PathOf(std::string_view key) const {
  return path_.empty() ? std::string(key) : StrFormat("{}.{}", path_, key);
}

void Fields::Fail(ApiError error) {
  if (!error_) error_ = std::move(error);
}

void Fields::Fail(std::string message, std::string_view key, std::string code) {
  Fail(BadRequest(std::move(message), PathOf(key), std::move(code)));
}

void Fields::WrongType(std::string_view key, const json::value& value, std::string_view expected) {
  Fail(StrFormat("'{}' is {}, expected {}", PathOf(key), JsonKindName(value), expected), key, "invalid_type");
}

const json::value* Fields::Find(std::string_view key) {
  read_.emplace(key);
  if (error_) return nullptr;
  const json::value* value = object_.if_contains(key);
  return value && !value->is_null() ? value : nullptr;
}

const json::value* Fields::Any(std::string_view key) { return Find(key); }

std::optional<std::string> Fields::String(std::string_view key) {
  const json::value* value = Find(key);
  if (!value) return {};
  if (value->is_string()) return std::string(value->get_string());
  WrongType(key, *value, "a string");
  return {};
}

std::optional<bool> Fields::Bool(std::string_view key) {
  const json::value* value = Find(key);
  if (!value) return {};
  if (value->is_bool()) return value->get_bool();
  WrongType(key, *value, "a boolean");
  return {};
}

std::optional<double> Fields::Number(std::string_view key) {
  const json::value* value = Find(key);
  if (!value) return {};
  if (value->is_number()) return value->to_number<double>();
  WrongType(key, *value, "a number");
  return {};
}

std::optional<int> Fields::Int(std::string_view key) {
  const std::optional<double> number = Number(key);  // exact for every int
  if (!number) return {};
  if (std::nearbyint(*number) != *number) {
    WrongType(key, *Find(key), "an integer");
    return {};
  }
  if (std::abs(*number) > std::numeric_limits<int>::max()) {
    Fail(StrFormat("'{}' is {}, expected an integer of at most {}", PathOf(key), JsonNumber(*number),
                   std::numeric_limits<int>::max()),
         key);
    return {};
  }
  return static_cast<int>(*number);
}

const json::object* Fields::Object(std::string_view key) {
  const json::value* value = Find(key);
  if (!value) return nullptr;
  if (value->is_object()) return &value->get_object();
  WrongType(key, *value, "an object");
  return nullptr;
}

const json::array* Fields::Array(std::string_view key) {
  const json::value* value = Find(key);
  if (!value) return nullptr;
  if (value->is_array()) return &value->get_array();
  WrongType(key, *value, "an array");
  return nullptr;
}

void Fields::Restrict(std::initializer_list<RestrictedField> fields) {
  for (const RestrictedField& field : fields) {
    const json::value* value = Find(field.name);
    if (!value || field.allowed.empty()) continue;
    const auto allowed = ParseJson(field.allowed, field.name);
    SW_CHECK(allowed.ok() && allowed->is_array());
    const json::array& values = allowed->get_array();
    if (std::find(values.begin(), values.end(), *value) != values.end()) continue;
    std::string message = StrFormat("'{}' is not supported", PathOf(field.name));
    if (!values.empty()) {
      message += " with this value; leave it out";
      for (const json::value& v : values) message += " or give " + json::serialize(v);
    }
    Fail(std::move(message), field.name, "unsupported_parameter");
  }
}

void Fields::RefuseRest() {
  if (error_) return;
  for (const auto& member : object_) {
    const std::string_view key = member.key();
    if (read_.contains(key)) continue;
    Fail(StrFormat("{} is not a parameter of this endpoint", Quoted(PathOf(key))), key, "unknown_parameter");
    return;
  }
}

}  // namespace spanwise::server
