#include "server/fields.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/str.h"

namespace spanwise::server {

namespace {

// A number as messages show it.
std::string Shown(const json::value& number) {
  if (number.is_int64()) return std::to_string(number.get_int64());
  if (number.is_uint64()) return std::to_string(number.get_uint64());
  const double d = number.get_double();
  if (std::isnan(d)) return "not a number";
  return std::isfinite(d) ? JsonNumber(d) : "a number of more than 308 digits";
}

// As == does, but 1 and 1.0 are one number.
bool Same(const json::value& a, const json::value& b) {
  if (a.is_number() && b.is_number()) return a.to_number<double>() == b.to_number<double>();
  return a == b;
}

}  // namespace

const KnownField* FindField(FieldTable table, std::string_view name) {
  const auto found = std::ranges::find(table, name, &KnownField::name);
  return found == table.end() ? nullptr : &*found;
}

std::optional<int64_t> IntegerOf(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (!value.is_double()) return {};
  const double d = value.get_double();
  if (!(std::abs(d) < 0x1p63) || std::trunc(d) != d) return {};
  return static_cast<int64_t>(d);
}

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

void Fields::Missing(std::string_view key, std::string_view expected) {
  Fail(StrFormat("'{}' is {}, expected {}", PathOf(key), object_.contains(key) ? "null" : "missing", expected), key,
       "missing_field");
}

const json::value* Fields::Find(std::string_view key) {
  const KnownField* known = FindField(known_, key);
  SW_CHECK(known && known->use == KnownField::Use::kRead);
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

std::optional<double> Fields::Number(std::string_view key, double least, double most) {
  const json::value* value = Find(key);
  if (!value) return {};
  const bool bounded = least != std::numeric_limits<double>::lowest() || most != std::numeric_limits<double>::max();
  const std::string expected = bounded ? StrFormat("a number of {} to {}", least, most) : "a number";
  if (!value->is_number()) {
    WrongType(key, *value, expected);
    return {};
  }
  const auto number = value->to_number<double>();
  if (number >= least && number <= most) return number;
  Fail(StrFormat("'{}' is {}, expected {}", PathOf(key), Shown(*value), expected), key);
  return {};
}

std::optional<int> Fields::Int(std::string_view key, int least, int most) {
  const json::value* value = Find(key);
  if (!value) return {};
  const std::string expected = StrFormat("an integer of {} to {}", least, most);
  if (!value->is_number()) {
    WrongType(key, *value, expected);
    return {};
  }
  const auto number = IntegerOf(*value);
  if (number && *number >= least && *number <= most) return static_cast<int>(*number);
  Fail(StrFormat("'{}' is {}, expected {}", PathOf(key), Shown(*value), expected), key);
  return {};
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

void Fields::Unknown(std::string_view key) {
  constexpr size_t kMostNames = 64, kMostBytes = 128;
  key = key.substr(0, kMostBytes);
  key = key.substr(0, CompleteUtf8Prefix(key));
  std::vector<std::string>& ignored = unknown_->ignored;
  if (unknown_->refuse) {
    Fail(StrFormat("{} is not a field that is known here", Quoted(PathOf(key))), key, "unknown_parameter");
  } else if (ignored.size() <= kMostNames) {
    ignored.push_back(ignored.size() < kMostNames ? PathOf(key) : "...");
  }
}

bool Fields::Finish() {
  for (const auto& member : object_) {
    if (error_) break;
    const std::string_view key = member.key();
    const KnownField* known = FindField(known_, key);
    if (!known) {
      Unknown(key);
    } else if (known->use == KnownField::Use::kOnly && !member.value().is_null()) {
      const auto only = ParseJson(known->only, key);
      SW_CHECK(only.ok() && only->is_array());
      const json::array& values = only->get_array();
      if (std::ranges::any_of(values, [&](const json::value& v) { return Same(v, member.value()); })) continue;
      std::string message = StrFormat("'{}' is not supported", PathOf(key));
      message += values.empty() ? "; leave it out" : " with this value; leave it out";
      for (const json::value& v : values) message += " or give " + json::serialize(v);
      Fail(std::move(message), key, "unsupported_parameter");
    }
  }
  if (error_ && parent_) parent_->Fail(*error_);
  return !error_;
}

}  // namespace spanwise::server
