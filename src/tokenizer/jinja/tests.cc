#include <cmath>

#include "base/str.h"
#include "tokenizer/jinja/filters.h"
#include "tokenizer/jinja/text.h"

namespace spanwise::jinja {
namespace {

using Kind = Value::Kind;
using Plain = bool (*)(const Value&);

struct PlainRow {
  std::string_view name;
  Plain test;
};

// strftime_now counts as not defined: a template that asks has a fixed date to fall back on, and a prompt that changes
// with the clock cannot be kept.
bool IsDefined(const Value& v) {
  return !v.is_undefined() && !(v.kind() == Kind::kFunction && v.builtin() == Value::Builtin::kStrftimeNow);
}

// Tests of the value alone.
constexpr PlainRow kPlainTests[] = {
    {"defined", [](const Value& v) { return IsDefined(v); }},
    {"undefined", [](const Value& v) { return !IsDefined(v); }},
    {"escaped", [](const Value& v) { return v.is_markup(); }},
    {"none", [](const Value& v) { return v.is_none(); }},
    {"boolean", [](const Value& v) { return v.kind() == Kind::kBool; }},
    {"true", [](const Value& v) { return v.kind() == Kind::kBool && v.integer() != 0; }},
    {"false", [](const Value& v) { return v.kind() == Kind::kBool && v.integer() == 0; }},
    {"integer", [](const Value& v) { return v.kind() == Kind::kInt; }},
    {"float", [](const Value& v) { return v.kind() == Kind::kFloat; }},
    {"number", [](const Value& v) { return v.is_number(); }},
    {"string", [](const Value& v) { return v.is_string(); }},
    {"mapping", [](const Value& v) { return v.kind() == Kind::kDict; }},
    {"iterable",
     [](const Value& v) {
       return v.is_undefined() || v.is_string() || v.is_sequence() || v.kind() == Kind::kDict ||
              v.kind() == Kind::kLoop;
     }},
    // Jinja2 asks for a length and for items by key, which dicts and undefined values have and generators have not.
    {"sequence",
     [](const Value& v) {
       return v.is_undefined() || v.is_string() || v.kind() == Kind::kList || v.kind() == Kind::kTuple ||
              v.kind() == Kind::kDict;
     }},
    {"callable",
     [](const Value& v) {
       return v.kind() == Kind::kFunction || v.kind() == Kind::kMacro || v.kind() == Kind::kClosure ||
              v.kind() == Kind::kMethod || v.kind() == Kind::kLoop || v.is_undefined();
     }},
};

constexpr std::string_view kOtherTests[] = {"equalto", "eq", "==",  "ne",   "!=",          "lt",    "lessthan",
                                            "<",       "le", "<=",  "gt",   "greaterthan", ">",     "ge",
                                            ">=",      "in", "odd", "even", "divisibleby", "lower", "upper"};

Result<bool> Ordered(std::string_view name, const Value& a, const Value& b, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const int order, Compare(a, b, budget));
  if (name == "lt" || name == "lessthan" || name == "<") return order < 0;
  if (name == "le" || name == "<=") return order <= 0;
  if (name == "gt" || name == "greaterthan" || name == ">") return order > 0;
  return order >= 0;
}

Result<bool> Divides(const Value& value, int64_t divisor, bool* divides) {
  if (value.is_undefined()) return UndefinedError(value);
  if (!value.is_integral()) return InvalidArgument(StrFormat("expects an int, found {}", KindName(value)));
  if (divisor == 0) return InvalidArgument("division by zero");
  return *divides = divisor == -1 || value.integer() % divisor == 0;
}

}  // namespace

bool HasTest(std::string_view name) {
  for (const PlainRow& row : kPlainTests)
    if (row.name == name) return true;
  for (const std::string_view known : kOtherTests)
    if (known == name) return true;
  return false;
}

Result<bool> ApplyTest(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->Charge(1));
  for (const PlainRow& row : kPlainTests) {
    if (row.name != name) continue;
    SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
    return row.test(value);
  }
  if (!HasTest(name)) return Unimplemented(StrFormat("the test '{}' is not done", name));
  if (name == "odd" || name == "even") {
    SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
    bool even = false;
    SW_RETURN_IF_ERROR(Divides(value, 2, &even).status());
    return even == (name == "even");
  }
  if (name == "lower" || name == "upper") {
    SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
    SW_ASSIGN_OR_RETURN(const std::string text, TextOf(value, budget));
    const std::string same = name == "lower" ? Lower(text) : Upper(text);
    const std::string other = name == "lower" ? Upper(text) : Lower(text);
    return text == same && text != other;  // there must be a letter with case
  }
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"other"}, 1));
  const Value& other = *bound[0];
  if (name == "equalto" || name == "eq" || name == "==") return Equal(value, other, budget);
  if (name == "ne" || name == "!=") {
    SW_ASSIGN_OR_RETURN(const bool same, Equal(value, other, budget));
    return !same;
  }
  if (name == "in") return Contains(other, value, budget);
  if (name == "divisibleby") {
    SW_ASSIGN_OR_RETURN(const int64_t divisor, IntArgument(name, other));
    bool divides = false;
    return Divides(value, divisor, &divides);
  }
  return Ordered(name, value, other, budget);
}

}  // namespace spanwise::jinja
