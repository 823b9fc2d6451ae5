// Typed reads of a JSON object's members, against a table of the members that are known: what the table does not have
// is ignored and noted, or refused where the caller asked for that.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/error.h"

namespace spanwise::server {

// A member that an object of a request may have.
struct KnownField {
  enum class Use {
    kRead,     // does something
    kIgnored,  // accepted with any value, and does nothing
    kOnly,     // accepted with values that ask for nothing, refused with others
  };
  std::string_view name;
  Use use = Use::kRead;
  std::string_view only = "[]";  // of kOnly: those values as a JSON array; null is always one
};
using FieldTable = std::span<const KnownField>;

const KnownField* FindField(FieldTable table, std::string_view name);

// What becomes of members that no table has.
struct UnknownFields {
  bool refuse = false;
  std::vector<std::string> ignored;  // their paths, as met; a long list, and a long name, are cut
};

// The first error sticks: afterwards every read returns "absent", and error() says what was wrong. Null counts as
// absent. A number without a fraction is an integer however it is written. Thread-compatible; the object, the table,
// `unknown` and the parent must outlive it.
class Fields {
 public:
  // The members of a body.
  Fields(const json::object& object, FieldTable known, UnknownFields* unknown)
      : object_(object), known_(known), unknown_(unknown) {}
  // Those of a part of it, `key` in `parent` ("messages[0]").
  Fields(const json::object& object, FieldTable known, Fields* parent, std::string_view key)
      : object_(object), known_(known), unknown_(parent->unknown_), parent_(parent), path_(parent->PathOf(key)) {}

  // `key` must be in the table.
  std::optional<std::string> String(std::string_view key);
  std::optional<bool> Bool(std::string_view key);
  std::optional<double> Number(std::string_view key, double least = std::numeric_limits<double>::lowest(),
                               double most = std::numeric_limits<double>::max());
  std::optional<int> Int(std::string_view key, int least = std::numeric_limits<int>::min(),
                         int most = std::numeric_limits<int>::max());
  const json::object* Object(std::string_view key);
  const json::array* Array(std::string_view key);
  const json::value* Any(std::string_view key);

  // Call last: judges members that are not read. The error, if there is any, becomes the parent's, too; false then.
  bool Finish();

  void Fail(std::string message, std::string_view key, std::string code = {});
  void Fail(ApiError error);
  // `key` is absent or null and may not be.
  void Missing(std::string_view key, std::string_view expected);
  void WrongType(std::string_view key, const json::value& value, std::string_view expected);
  const std::optional<ApiError>& error() const { return error_; }
  std::string PathOf(std::string_view key) const;

 private:
  const json::value* Find(std::string_view key);
  void Unknown(std::string_view key);

  const json::object& object_;
  const FieldTable known_;
  UnknownFields* const unknown_;
  Fields* const parent_ = nullptr;
  const std::string path_;
  std::optional<ApiError> error_;
};

// The integer that a number is, whether written 3 or 3.0; absent where it is none of 64 bits.
std::optional<int64_t> IntegerOf(const json::value& value);

}  // namespace spanwise::server
