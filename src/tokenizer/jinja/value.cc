#include "tokenizer/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/str.h"
#include "tokenizer/jinja/methods.h"
#include "tokenizer/jinja/text.h"

namespace spanwise::jinja {
namespace {

constexpr size_t kBytesPerStep = 64;
constexpr size_t kStepsPerElement = 2;
constexpr size_t kCharacterElements = 4;  // a character as a value of its own takes as much memory as so many members

// Equal keys give equal texts, across the kinds that Python holds equal.
Result<std::string> KeyOf(const Value& key) {
  switch (key.kind()) {
    case Value::Kind::kString:
      return "s" + key.string();
    case Value::Kind::kBool:
    case Value::Kind::kInt:
      return StrFormat("i{}", key.integer());
    case Value::Kind::kFloat: {
      const double d = key.number();
      if (d == std::floor(d) && std::abs(d) < 9e15) return StrFormat("i{}", static_cast<int64_t>(d));
      return StrFormat("f{}", d);
    }
    case Value::Kind::kNone:
      return std::string("n");
    default:
      return InvalidArgument(StrFormat("unhashable key of type {}", KindName(key)));
  }
}

}  // namespace

Status Budget::Charge(size_t n) {
  if (n > steps) {
    steps = 0;
    return ResourceExhausted("the template takes more steps than it may");
  }
  steps -= n;
  return Status::Ok();
}

Status Budget::ChargeString(size_t bytes) {
  if (bytes > max_string_bytes)
    return ResourceExhausted(StrFormat("a text of {} bytes, at most {} may be made", bytes, max_string_bytes));
  return Charge(1 + bytes / kBytesPerStep);
}

Status Budget::ChargeElements(size_t n) { return Charge(n > steps ? n : 1 + n * kStepsPerElement); }

Value Value::Undefined(std::string what) {
  Value value = String(std::move(what));
  value.kind_ = Kind::kUndefined;
  return value;
}

Value Value::Bool(bool b) {
  Value value = Int(b ? 1 : 0);
  value.kind_ = Kind::kBool;
  return value;
}

Value Value::Int(int64_t i) {
  Value value;
  value.kind_ = Kind::kInt;
  value.scalar_.integer = i;
  return value;
}

Value Value::Float(double d) {
  Value value;
  value.kind_ = Kind::kFloat;
  value.scalar_.number = d;
  return value;
}

Value Value::String(std::string text) {
  Value value;
  value.kind_ = Kind::kString;
  value.object_ = std::make_shared<const std::string>(std::move(text));
  return value;
}

Value Value::Markup(std::string text) {
  Value value = String(std::move(text));
  value.scalar_.integer = 1;
  return value;
}

Result<Value> Value::MakeView(std::vector<Value> items, View view, Budget* budget) {
  SW_ASSIGN_OR_RETURN(Value value, MakeList(std::move(items), Kind::kView, budget));
  value.scalar_.integer = static_cast<int64_t>(view);
  return value;
}

Result<Value> Value::MakeList(std::vector<Value> items, Kind kind, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->ChargeElements(items.size()));
  auto list = std::make_shared<List>();
  for (const Value& item : items) list->depth = std::max(list->depth, item.depth() + 1);
  if (list->depth > kMaxDepth) return ResourceExhausted(StrFormat("a list nested deeper than {}", kMaxDepth));
  list->items = std::move(items);
  Value value;
  value.kind_ = kind;
  value.object_ = std::move(list);
  return value;
}

Result<Value> Value::MakeDict(std::vector<std::pair<Value, Value>> items, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->ChargeElements(items.size()));
  auto dict = std::make_shared<Dict>();
  for (std::pair<Value, Value>& item : items) {
    SW_ASSIGN_OR_RETURN(std::string name, KeyOf(item.first));
    dict->depth = std::max(dict->depth, item.second.depth() + 1);
    const auto [at, fresh] = dict->index.emplace(std::move(name), dict->items.size());
    if (fresh) {
      dict->items.push_back(std::move(item));
    } else {
      dict->items[at->second].second = std::move(item.second);
    }
  }
  if (dict->depth > kMaxDepth) return ResourceExhausted(StrFormat("a dict nested deeper than {}", kMaxDepth));
  Value value;
  value.kind_ = Kind::kDict;
  value.object_ = std::move(dict);
  return value;
}

Value Value::Of(std::shared_ptr<Namespace> object) {
  Value value;
  value.kind_ = Kind::kNamespace;
  value.object_ = std::move(object);
  return value;
}

Value Value::Of(std::shared_ptr<Loop> object) {
  Value value;
  value.kind_ = Kind::kLoop;
  value.object_ = std::move(object);
  return value;
}

Value Value::Of(const Macro* macro) {
  Value value;
  value.kind_ = Kind::kMacro;
  value.object_ = std::shared_ptr<const void>(std::shared_ptr<const void>(), macro);  // the template owns it
  return value;
}

Result<Value> Value::Of(std::shared_ptr<Closure> object, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->ChargeElements(object->names.size()));
  for (const auto& [name, held] : object->names) object->depth = std::max(object->depth, held.depth() + 1);
  if (object->depth > kMaxDepth) return ResourceExhausted(StrFormat("values nested deeper than {}", kMaxDepth));
  Value value;
  value.kind_ = Kind::kClosure;
  value.object_ = std::move(object);
  return value;
}

Value Value::Of(Builtin builtin) {
  Value value = Int(static_cast<int64_t>(builtin));
  value.kind_ = Kind::kFunction;
  return value;
}

Value Value::MethodOf(Value self, std::string_view name) {
  Value value;
  value.kind_ = Kind::kMethod;
  value.object_ = std::make_shared<const Method>(Method{std::move(self), std::string(name)});
  return value;
}

Result<Value> Value::FromJson(const json::value& source, Budget* budget, int depth) {
  if (depth > kMaxDepth) return ResourceExhausted(StrFormat("an input nested deeper than {}", kMaxDepth));
  switch (source.kind()) {
    case json::kind::null:
      return Value();
    case json::kind::bool_:
      return Bool(source.get_bool());
    case json::kind::int64:
      return Int(source.get_int64());
    case json::kind::uint64:
      return Float(static_cast<double>(source.get_uint64()));
    case json::kind::double_:
      return Float(source.get_double());
    case json::kind::string:
      return String(std::string(source.get_string()));
    case json::kind::array: {
      std::vector<Value> items;
      items.reserve(source.get_array().size());
      for (const json::value& item : source.get_array()) {
        SW_ASSIGN_OR_RETURN(Value value, FromJson(item, budget, depth + 1));
        items.push_back(std::move(value));
      }
      return MakeList(std::move(items), Kind::kList, budget);
    }
    case json::kind::object: {
      std::vector<std::pair<Value, Value>> items;
      items.reserve(source.get_object().size());
      for (const auto& item : source.get_object()) {
        SW_ASSIGN_OR_RETURN(Value value, FromJson(item.value(), budget, depth + 1));
        items.emplace_back(String(std::string(item.key())), std::move(value));
      }
      return MakeDict(std::move(items), budget);
    }
  }
  return Internal("unknown kind of JSON value");
}

const std::vector<Value>& Value::items() const { return static_cast<const List*>(object_.get())->items; }
const Dict& Value::dict() const { return *static_cast<const Dict*>(object_.get()); }
Namespace& Value::name_space() const { return *const_cast<Namespace*>(static_cast<const Namespace*>(object_.get())); }
const Loop& Value::loop() const { return *static_cast<const Loop*>(object_.get()); }
const Closure& Value::closure() const { return *static_cast<const Closure*>(object_.get()); }
size_t& Value::generated() const { return static_cast<const List*>(object_.get())->generated; }
const Method& Value::method() const { return *static_cast<const Method*>(object_.get()); }

int Value::depth() const {
  if (is_sequence()) return static_cast<const List*>(object_.get())->depth;
  if (kind_ == Kind::kDict) return dict().depth;
  if (kind_ == Kind::kLoop) return loop().depth;
  if (kind_ == Kind::kMethod) return method().self.depth() + 1;
  if (kind_ == Kind::kClosure) return closure().depth;
  return 0;
}

bool Value::Truthy() const {
  switch (kind_) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return scalar_.integer != 0;
    case Kind::kFloat:
      return scalar_.number != 0;
    case Kind::kString:
      return !string().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return !items().empty();
    case Kind::kDict:
      return !dict().items.empty();
    default:
      return true;
  }
}

const Value* Dict::Find(std::string_view key) const {
  const auto found = index.find("s" + std::string(key));
  return found == index.end() ? nullptr : &items[found->second].second;
}

const Value* Dict::Find(const Value& key) const {
  const auto name = KeyOf(key);
  if (!name.ok()) return nullptr;
  const auto found = index.find(*name);
  return found == index.end() ? nullptr : &items[found->second].second;
}

std::string_view KindName(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return "undefined";
    case Value::Kind::kNone:
      return "None";
    case Value::Kind::kBool:
      return "bool";
    case Value::Kind::kInt:
      return "int";
    case Value::Kind::kFloat:
      return "float";
    case Value::Kind::kString:
      return "str";
    case Value::Kind::kList:
      return "list";
    case Value::Kind::kTuple:
      return "tuple";
    case Value::Kind::kGenerator:
      return "generator";
    case Value::Kind::kView:
      return value.view() == Value::View::kKeys     ? "dict_keys"
             : value.view() == Value::View::kValues ? "dict_values"
                                                    : "dict_items";
    case Value::Kind::kDict:
      return "dict";
    case Value::Kind::kNamespace:
      return "namespace";
    case Value::Kind::kLoop:
      return "loop";
    case Value::Kind::kMacro:
    case Value::Kind::kClosure:
      return "macro";
    case Value::Kind::kFunction:
      return "function";
    case Value::Kind::kMethod:
      return "method";
  }
  return "unknown";
}

Status UndefinedError(const Value& value) {
  return InvalidArgument(StrFormat("{} is undefined", value.undefined_name()));
}

Result<bool> Equal(const Value& a, const Value& b, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->Charge(1));
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
    return a.number() == b.number();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kNone:
      return true;
    case Value::Kind::kString:
      SW_RETURN_IF_ERROR(budget->Charge(std::min(a.string().size(), b.string().size()) / kBytesPerStep));
      return a.string() == b.string();
    case Value::Kind::kList:
    case Value::Kind::kTuple: {
      if (a.items().size() != b.items().size()) return false;
      for (size_t i = 0; i < a.items().size(); ++i) {
        SW_ASSIGN_OR_RETURN(const bool same, Equal(a.items()[i], b.items()[i], budget));
        if (!same) return false;
      }
      return true;
    }
    case Value::Kind::kDict: {
      if (a.dict().items.size() != b.dict().items.size()) return false;
      for (const auto& [key, item] : a.dict().items) {
        const Value* other = b.dict().Find(key);
        if (!other) return false;
        SW_ASSIGN_OR_RETURN(const bool same, Equal(item, *other, budget));
        if (!same) return false;
      }
      return true;
    }
    case Value::Kind::kFunction:
      return a.builtin() == b.builtin();
    default:
      return a.identity() == b.identity();
  }
}

Result<int> Compare(const Value& a, const Value& b, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->Charge(1));
  if (a.is_undefined()) return UndefinedError(a);
  if (b.is_undefined()) return UndefinedError(b);
  const auto order = [](const auto& x, const auto& y) { return x < y ? -1 : (y < x ? 1 : 0); };
  if (a.is_integral() && b.is_integral()) return order(a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return order(a.number(), b.number());
  if (a.is_string() && b.is_string()) {
    SW_RETURN_IF_ERROR(budget->Charge(std::min(a.string().size(), b.string().size()) / kBytesPerStep));
    return order(a.string(), b.string());  // UTF-8 bytes sort as code points do
  }
  if (a.kind() == b.kind() && (a.kind() == Value::Kind::kList || a.kind() == Value::Kind::kTuple)) {
    for (size_t i = 0; i < std::min(a.items().size(), b.items().size()); ++i) {
      SW_ASSIGN_OR_RETURN(const bool same, Equal(a.items()[i], b.items()[i], budget));
      if (!same) return Compare(a.items()[i], b.items()[i], budget);
    }
    return order(a.items().size(), b.items().size());
  }
  return InvalidArgument(StrFormat("{} and {} have no order", KindName(a), KindName(b)));
}

Result<bool> Contains(const Value& container, const Value& item, Budget* budget) {
  switch (container.kind()) {
    case Value::Kind::kUndefined:
      return false;
    case Value::Kind::kString:
      if (item.is_undefined()) return UndefinedError(item);
      if (!item.is_string())
        return InvalidArgument(StrFormat("'in <string>' needs a str on its left, found {}", KindName(item)));
      SW_RETURN_IF_ERROR(budget->ChargeString(container.string().size()));
      return FindText(container.string(), item.string()) != std::string_view::npos;
    case Value::Kind::kDict: {
      SW_RETURN_IF_ERROR(KeyOf(item).status());
      return container.dict().Find(item) != nullptr;
    }
    case Value::Kind::kList:
    case Value::Kind::kTuple:
    case Value::Kind::kView:
      for (const Value& member : container.items()) {
        SW_ASSIGN_OR_RETURN(const bool same, Equal(member, item, budget));
        if (same) return true;
      }
      return false;
    case Value::Kind::kGenerator:
      while (container.generated() < container.items().size()) {
        SW_ASSIGN_OR_RETURN(const bool same, Equal(container.items()[container.generated()++], item, budget));
        if (same) return true;
      }
      return false;
    default:
      return InvalidArgument(StrFormat("{} is not iterable", KindName(container)));
  }
}

Result<std::vector<Value>> Iterate(const Value& value, Budget* budget) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return items;
    case Value::Kind::kGenerator: {
      const size_t from = std::exchange(value.generated(), value.items().size());
      SW_RETURN_IF_ERROR(budget->ChargeElements(value.items().size() - from));
      items.assign(value.items().begin() + static_cast<std::ptrdiff_t>(from), value.items().end());
      return items;
    }
    case Value::Kind::kList:
    case Value::Kind::kTuple:
    case Value::Kind::kView:
      SW_RETURN_IF_ERROR(budget->ChargeElements(value.items().size()));
      return value.items();
    case Value::Kind::kDict:
      SW_RETURN_IF_ERROR(budget->ChargeElements(value.dict().items.size()));
      for (const auto& item : value.dict().items) items.push_back(item.first);
      return items;
    case Value::Kind::kString: {
      const std::string_view text = value.string();
      SW_RETURN_IF_ERROR(budget->ChargeElements(text.size() * kCharacterElements));
      for (size_t i = 0; i < text.size();) {
        const size_t length = CharacterBytes(text, i);
        items.push_back(Value::String(std::string(text.substr(i, length))));
        i += length;
      }
      return items;
    }
    default:
      return InvalidArgument(StrFormat("{} is not iterable", KindName(value)));
  }
}

namespace {

Value LoopAttribute(const Loop& loop, std::string_view name) {
  const auto n = static_cast<int64_t>(loop.items.size()), i = static_cast<int64_t>(loop.index0);
  if (name == "index") return Value::Int(i + 1);
  if (name == "index0") return Value::Int(i);
  if (name == "revindex") return Value::Int(n - i);
  if (name == "revindex0") return Value::Int(n - i - 1);
  if (name == "first") return Value::Bool(i == 0);
  if (name == "last") return Value::Bool(i + 1 == n);
  if (name == "length") return Value::Int(n);
  if (name == "depth") return Value::Int(1);  // only recursive loops are deeper
  if (name == "depth0") return Value::Int(0);
  if (name == "previtem" && i > 0) return loop.items[static_cast<size_t>(i - 1)];
  if (name == "nextitem" && i + 1 < n) return loop.items[static_cast<size_t>(i + 1)];
  return Value::Undefined(StrFormat("loop attribute {}", Quoted(name)));
}

}  // namespace

Result<Value> GetAttribute(const Value& value, std::string_view name, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->Charge(1));
  if (value.is_undefined()) return UndefinedError(value);
  if (value.kind() == Value::Kind::kLoop && !HasMethod(value, name)) return LoopAttribute(value.loop(), name);
  if (value.kind() == Value::Kind::kNamespace) {
    const auto& attributes = value.name_space().attributes;
    if (const auto found = attributes.find(std::string(name)); found != attributes.end()) return found->second;
  }
  if (HasMethod(value, name)) return Value::MethodOf(value, name);
  if (value.kind() == Value::Kind::kDict)
    if (const Value* found = value.dict().Find(name)) return *found;
  return Value::Undefined(StrFormat("attribute {} of a {}", Quoted(name), KindName(value)));
}

Result<Value> GetItem(const Value& value, const Value& key, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->Charge(1));
  if (value.is_undefined()) return UndefinedError(value);
  if (value.kind() == Value::Kind::kDict)
    if (const Value* found = value.dict().Find(key)) return *found;
  if (key.is_integral()) {
    const bool list = value.kind() == Value::Kind::kList || value.kind() == Value::Kind::kTuple;
    if (list) {
      const auto n = static_cast<int64_t>(value.items().size());
      const int64_t at = key.integer() < 0 ? key.integer() + n : key.integer();
      if (at >= 0 && at < n) return value.items()[static_cast<size_t>(at)];
    } else if (value.is_string()) {
      const std::string_view text = value.string();
      SW_RETURN_IF_ERROR(budget->ChargeString(text.size()));
      const auto n = static_cast<int64_t>(CharacterCount(text));
      const int64_t at = key.integer() < 0 ? key.integer() + n : key.integer();
      if (at >= 0 && at < n) {
        size_t byte = 0;
        for (int64_t i = 0; i < at; ++i) byte += CharacterBytes(text, byte);
        std::string character(text.substr(byte, CharacterBytes(text, byte)));
        return value.is_markup() ? Value::Markup(std::move(character)) : Value::String(std::move(character));
      }
    }
    return Value::Undefined(StrFormat("item {} of a {}", key.integer(), KindName(value)));
  }
  if (key.is_string()) {
    if (value.kind() == Value::Kind::kDict && !HasMethod(value, key.string()))
      return Value::Undefined(StrFormat("item {} of a dict", Quoted(key.string())));
    return GetAttribute(value, key.string(), budget);
  }
  return Value::Undefined(StrFormat("an item of a {}", KindName(value)));
}

namespace {

// The indices that begin:end:step selects of n members: those of a loop from first to last, exclusive, by stride.
struct Selection {
  int64_t first = 0, last = 0, stride = 1;

  template <typename Each>
  void ForEach(const Each& each) const {
    for (int64_t i = first; stride > 0 ? i < last : i > last; i += stride) each(static_cast<size_t>(i));
  }
};

Result<Selection> Select(int64_t n, const Value& begin, const Value& end, const Value& step) {
  for (const Value* bound : {&begin, &end, &step})
    if (!bound->is_none() && !bound->is_integral())
      return InvalidArgument(StrFormat("a slice bound is {}, expected an int", KindName(*bound)));
  const int64_t stride = step.is_none() ? 1 : step.integer();
  if (stride == 0) return InvalidArgument("the step of a slice is 0");
  const auto clamp = [&](const Value& bound, int64_t otherwise) {
    if (bound.is_none()) return otherwise;
    const int64_t at = bound.integer() < 0 ? std::max(bound.integer(), -n - 1) + n : std::min(bound.integer(), n);
    return stride > 0 ? std::clamp<int64_t>(at, 0, n) : std::clamp<int64_t>(at, -1, n - 1);
  };
  Selection selection;
  selection.first = clamp(begin, stride > 0 ? 0 : n - 1);
  selection.last = clamp(end, stride > 0 ? n : -1);
  selection.stride = std::clamp<int64_t>(stride, -n - 1, n + 1);  // so that the loop cannot overflow
  return selection;
}

}  // namespace

Result<Value> GetSlice(const Value& value, const Value& begin, const Value& end, const Value& step, Budget* budget) {
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_string()) {
    const std::string_view text = value.string();
    SW_RETURN_IF_ERROR(budget->ChargeString(text.size()));
    SW_ASSIGN_OR_RETURN(const Selection selection,
                        Select(static_cast<int64_t>(CharacterCount(text)), begin, end, step));
    std::vector<uint32_t> starts;  // of the characters
    for (size_t i = 0; i < text.size(); i += CharacterBytes(text, i)) starts.push_back(static_cast<uint32_t>(i));
    std::string kept;
    selection.ForEach([&](size_t i) { kept += text.substr(starts[i], CharacterBytes(text, starts[i])); });
    return value.is_markup() ? Value::Markup(std::move(kept)) : Value::String(std::move(kept));
  }
  if (value.kind() != Value::Kind::kList && value.kind() != Value::Kind::kTuple)
    return Value::Undefined(StrFormat("a slice of a {}", KindName(value)));
  const std::vector<Value>& items = value.items();
  SW_ASSIGN_OR_RETURN(const Selection selection, Select(static_cast<int64_t>(items.size()), begin, end, step));
  SW_RETURN_IF_ERROR(budget->ChargeElements(items.size()));
  std::vector<Value> kept;
  selection.ForEach([&](size_t i) { kept.push_back(items[i]); });
  return Value::MakeList(std::move(kept), value.kind(), budget);
}

}  // namespace spanwise::jinja
