// The values of a template at work: Python's, as far as chat templates use them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.h"
#include "spanwise/status.h"

namespace spanwise::jinja {

struct Macro;  // ast.h
class Value;
struct List;
struct Dict;
struct Namespace;
struct Loop;
struct Method;
struct Closure;

// Work and memory that one rendering may still use. Value operations charge what they do, so that no expression costs
// more than its share, whatever it nests or repeats.
struct Budget {
  size_t steps = 0;
  size_t max_string_bytes = 0;

  Status Charge(size_t n);
  Status ChargeString(size_t bytes);  // for making a string of this size
  Status ChargeElements(size_t n);    // for making a list or dict of this size
};

// What json.dumps takes beside the value.
struct JsonStyle {
  std::optional<std::string> indent;  // of one level; none: all on one line
  std::string between_items = ", ", after_key = ": ";
  bool ascii = false, sort_keys = false;
};

// Lists, tuples, generators and dicts hold what they were made with, so values form no cycles; namespaces change, and
// the renderer empties them when it ends. How deep containers nest is bounded by kMaxDepth.
class Value {
 public:
  enum class Kind : uint8_t {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kTuple,
    kGenerator,  // gives its members once
    kView,       // of a dict: its keys, values or items
    kDict,
    kNamespace,
    kLoop,
    kMacro,
    kClosure,  // a macro with the names around it
    kFunction,
    kMethod
  };
  enum class Builtin : uint8_t { kRange, kDict, kNamespace, kRaiseException, kStrftimeNow };
  enum class View : uint8_t { kKeys, kValues, kItems };
  static constexpr int kMaxDepth = 100;

  Value() = default;                         // None
  static Value Undefined(std::string what);  // `what` names it in messages
  static Value Bool(bool b);
  static Value Int(int64_t i);
  static Value Float(double d);
  static Value String(std::string text);
  static Value Markup(std::string text);  // a string marked as HTML that is not to be escaped (the filter "safe")
  static Result<Value> MakeList(std::vector<Value> items, Kind kind, Budget* budget);  // kList, kTuple or kGenerator
  static Result<Value> MakeView(std::vector<Value> items, View view, Budget* budget);
  static Result<Value> MakeDict(std::vector<std::pair<Value, Value>> items,
                                Budget* budget);  // the last of equal keys counts
  static Value Of(std::shared_ptr<Namespace> object);
  static Value Of(std::shared_ptr<Loop> object);
  static Value Of(const Macro* macro);
  static Result<Value> Of(std::shared_ptr<Closure> object, Budget* budget);
  static Value Of(Builtin builtin);
  static Value MethodOf(Value self, std::string_view name);
  static Result<Value> FromJson(const json::value& source, Budget* budget, int depth = 0);

  Kind kind() const { return kind_; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }
  bool is_markup() const { return is_string() && scalar_.integer != 0; }
  bool is_sequence() const {
    return kind_ == Kind::kList || kind_ == Kind::kTuple || kind_ == Kind::kGenerator || kind_ == Kind::kView;
  }

  // REQUIRES: the fitting kind.
  int64_t integer() const { return scalar_.integer; }  // also of kBool
  double number() const { return kind_ == Kind::kFloat ? scalar_.number : static_cast<double>(scalar_.integer); }
  const std::string& string() const { return *static_cast<const std::string*>(object_.get()); }
  const std::vector<Value>& items() const;
  const Dict& dict() const;
  Namespace& name_space() const;
  const Loop& loop() const;
  const Macro& macro() const { return *static_cast<const Macro*>(object_.get()); }
  const Closure& closure() const;
  const Method& method() const;
  Builtin builtin() const { return static_cast<Builtin>(scalar_.integer); }
  View view() const { return static_cast<View>(scalar_.integer); }
  size_t& generated() const;  // members that a generator has given
  std::string undefined_name() const { return object_ ? string() : "value"; }
  const void* identity() const { return object_.get(); }

  bool Truthy() const;
  int depth() const;

 private:
  Kind kind_ = Kind::kNone;
  union {
    int64_t integer;
    double number;
  } scalar_{0};
  std::shared_ptr<const void> object_;
};

struct List {
  std::vector<Value> items;
  int depth = 1;
  mutable size_t generated = 0;
};

struct Dict {
  std::vector<std::pair<Value, Value>> items;  // in order of insertion
  std::unordered_map<std::string, size_t> index;
  int depth = 1;

  const Value* Find(std::string_view key) const;
  const Value* Find(const Value& key) const;
};

struct Namespace {
  std::map<std::string, Value> attributes;
};

struct Loop {
  std::vector<Value> items;
  size_t index0 = 0;
  int depth = 1;  // a loop over loops holds them as a list would
};

struct Closure {
  const Macro* macro = nullptr;  // the template owns it
  std::unordered_map<std::string_view, Value> names;
  int depth = 1;
};

struct Method {
  Value self;
  std::string name;
};

// What a message calls the kind, in Python's words.
std::string_view KindName(const Value& value);

// str(): None, True, 1.0, text as it is, containers with the repr() of their members. Undefined gives "".
Status AppendText(const Value& value, Budget* budget, std::string* out);
Result<std::string> TextOf(const Value& value, Budget* budget);
// The same with the five characters of HTML escaped, unless it is markup.
Result<std::string> EscapedText(const Value& value, Budget* budget);

// json.dumps(value, ...).
Result<std::string> ToJson(const Value& value, const JsonStyle& style, Budget* budget);

Result<bool> Equal(const Value& a, const Value& b, Budget* budget);
// -1, 0 or 1 for kinds that Python orders.
Result<int> Compare(const Value& a, const Value& b, Budget* budget);
Result<bool> Contains(const Value& container, const Value& item, Budget* budget);

// The members that a for loop visits: of dicts the keys, of strings the characters, of an undefined value none.
Result<std::vector<Value>> Iterate(const Value& value, Budget* budget);

// value.name and value[key], as Jinja2 looks them up; undefined where there is nothing. Of an undefined value it is an
// error.
Result<Value> GetAttribute(const Value& value, std::string_view name, Budget* budget);
Result<Value> GetItem(const Value& value, const Value& key, Budget* budget);
// value[begin:end:step]; None where a bound is left out.
Result<Value> GetSlice(const Value& value, const Value& begin, const Value& end, const Value& step, Budget* budget);

// Arithmetic and "~".
Result<Value> Add(const Value& a, const Value& b, Budget* budget);
Result<Value> Arithmetic(char op, const Value& a, const Value& b,
                         Budget* budget);  // - * / % and 'f' for //, 'p' for **

Status UndefinedError(const Value& value);

}  // namespace spanwise::jinja
