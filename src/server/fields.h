// Typed reads of a JSON object's members that remember which were read, so that what is left over can be refused by
// name.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/json.h"
#include "server/error.h"

namespace spanwise::server {

// A member that is accepted only with values that ask for nothing. `allowed` is JSON text: an array of those values.
struct RestrictedField {
  std::string_view name;
  std::string_view allowed;  // "": any value, the field cannot change the answer
};

// The first error sticks: afterwards every read returns "absent", and error() says what was wrong. Null counts as
// absent. Thread-compatible; the object must outlive it.
class Fields {
 public:
  // `path` begins the names in messages: "" for the body, "messages[0]" for a part of it.
  Fields(const json::object& object, std::string path) : object_(object), path_(std::move(path)) {}

  std::optional<std::string> String(std::string_view key);
  std::optional<bool> Bool(std::string_view key);
  std::optional<double> Number(std::string_view key);
  // Within int's range, for all of the engine's counts are ints.
  std::optional<int> Int(std::string_view key);
  const json::object* Object(std::string_view key);
  const json::array* Array(std::string_view key);
  const json::value* Any(std::string_view key);

  void Restrict(std::initializer_list<RestrictedField> fields);

  // Call last: refuses members that nothing has read.
  void RefuseRest();

  void Fail(std::string message, std::string_view key, std::string code = {});
  void Fail(ApiError error);
  const std::optional<ApiError>& error() const { return error_; }
  std::string PathOf(std::string_view key) const;

 private:
  const json::value* Find(std::string_view key);
  void WrongType(std::string_view key, const json::value& value, std::string_view expected);

  const json::object& object_;
  std::string path_;
  std::set<std::string, std::less<>> read_;
  std::optional<ApiError> error_;
};

}  // namespace spanwise::server
