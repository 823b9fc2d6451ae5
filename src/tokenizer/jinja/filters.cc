#include "tokenizer/jinja/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/str.h"
#include "tokenizer/jinja/methods.h"
#include "tokenizer/jinja/text.h"

namespace spanwise::jinja {
namespace {

using Kind = Value::Kind;

constexpr int64_t kMaxIndent = 1024;

using Handler = Result<Value> (*)(std::string_view name, const Value& value, const Arguments& arguments,
                                  Budget* budget);

// Most text filters accept anything and work on its text.
Result<Value> OnText(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(std::string text, TextOf(value, budget));
  const auto as_before = [&](std::string changed) {
    return value.is_markup() ? Value::Markup(std::move(changed)) : Value::String(std::move(changed));
  };
  if (name == "trim") {
    SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"chars"}, 0));
    std::string characters;
    if (bound[0] && !bound[0]->is_none()) {
      SW_ASSIGN_OR_RETURN(characters, StringArgument(name, *bound[0]));
      if (characters.empty()) return as_before(std::move(text));
    }
    return as_before(std::string(Strip(text, characters, Side::kBoth)));
  }
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  if (name == "upper") return as_before(Upper(text));
  if (name == "lower") return as_before(Lower(text));
  if (name == "title") return Value::String(TitleJinja(text));
  if (name == "capitalize") return as_before(Capitalize(text));
  return name == "safe" ? Value::Markup(std::move(text)) : as_before(std::move(text));
}

Result<Value> Escape(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  const bool again = name == "forceescape" && value.is_markup();
  SW_ASSIGN_OR_RETURN(std::string text, EscapedText(again ? Value::String(value.string()) : value, budget));
  return Value::Markup(std::move(text));
}

Result<Value> Replace(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(std::string text, TextOf(value, budget));
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"old", "new", "count"}, 2));
  Arguments texts;
  for (size_t i = 0; i < 2; ++i) {
    SW_ASSIGN_OR_RETURN(std::string part, TextOf(*bound[i], budget));
    texts.positional.push_back(Value::String(std::move(part)));
  }
  if (bound[2]) texts.positional.push_back(*bound[2]);
  return CallMethod(Method{Value::String(std::move(text)), "replace"}, texts, budget);
}

Result<Value> Length(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  switch (value.kind()) {
    case Kind::kUndefined:
      return Value::Int(0);
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return Value::Int(static_cast<int64_t>(value.items().size()));
    case Kind::kDict:
      return Value::Int(static_cast<int64_t>(value.dict().items.size()));
    case Kind::kString:
      SW_RETURN_IF_ERROR(budget->ChargeString(value.string().size()));
      return Value::Int(static_cast<int64_t>(CharacterCount(value.string())));
    default:
      return InvalidArgument(StrFormat("{} has no length", KindName(value)));
  }
}

Result<Value> Default(std::string_view name, const Value& value, const Arguments& arguments, Budget*) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"default_value", "boolean"}, 0));
  const bool also_false = bound[1] && bound[1]->Truthy();
  if (value.is_undefined() || (also_false && !value.Truthy())) return bound[0].value_or(Value::String(""));
  return value;
}

// A dotted path, or an index, as map(attribute=...) and its kin take it.
Result<Value> FollowPath(Value value, const Value& path, Budget* budget) {
  if (path.is_integral()) return GetItem(value, path, budget);
  SW_ASSIGN_OR_RETURN(const std::string text, StringArgument("attribute", path));
  for (const std::string_view part : Split(text, '.')) {
    const bool digits =
        !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos && part.size() < 10;
    const Value key = digits ? Value::Int(std::atoi(std::string(part).c_str())) : Value::String(std::string(part));
    SW_ASSIGN_OR_RETURN(value, GetItem(value, key, budget));
  }
  return value;
}

Result<Value> Join(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"d", "attribute"}, 0));
  std::string separator;
  if (bound[0]) SW_RETURN_IF_ERROR(AppendText(*bound[0], budget, &separator));
  SW_ASSIGN_OR_RETURN(auto items, Iterate(value, budget));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (bound[1] && !bound[1]->is_none()) {
      SW_ASSIGN_OR_RETURN(items[i], FollowPath(items[i], *bound[1], budget));
    }
    if (i > 0) out += separator;
    SW_RETURN_IF_ERROR(AppendText(items[i], budget, &out));
    SW_RETURN_IF_ERROR(budget->Charge(1 + separator.size() / 64));
    if (out.size() > budget->max_string_bytes) return budget->ChargeString(out.size());
  }
  return Value::String(std::move(out));
}

Result<Value> FirstOrLast(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  if (name == "last" && value.kind() == Kind::kGenerator)
    return InvalidArgument("last: a generator cannot be reversed");
  if (name == "first" && value.kind() == Kind::kGenerator && value.generated() < value.items().size())
    return value.items()[value.generated()++];  // the others are left to give
  SW_ASSIGN_OR_RETURN(const auto items, Iterate(value, budget));
  if (items.empty()) return Value::Undefined(StrFormat("the {} item of an empty sequence", name));
  return name == "first" ? items.front() : items.back();
}

Result<Value> ToList(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  SW_ASSIGN_OR_RETURN(auto items, Iterate(value, budget));
  return Value::MakeList(std::move(items), Kind::kList, budget);
}

Result<Value> Reverse(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  SW_ASSIGN_OR_RETURN(auto items, Iterate(value, budget));
  std::reverse(items.begin(), items.end());
  if (!value.is_string()) return Value::MakeList(std::move(items), Kind::kGenerator, budget);
  std::string text;
  for (const Value& c : items) text += c.string();
  return value.is_markup() ? Value::Markup(std::move(text)) : Value::String(std::move(text));
}

Result<Value> Items(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  std::vector<Value> items;
  if (!value.is_undefined()) {
    if (value.kind() != Kind::kDict)
      return InvalidArgument(StrFormat("items expects a mapping, found {}", KindName(value)));
    for (const auto& [key, item] : value.dict().items) {
      SW_ASSIGN_OR_RETURN(Value pair, Value::MakeList({key, item}, Kind::kTuple, budget));
      items.push_back(std::move(pair));
    }
  }
  return Value::MakeList(std::move(items), Kind::kGenerator, budget);
}

struct SortEntry {
  Value key, value;
};

Value IgnoreCase(const Value& key, bool with_case) {
  return key.is_string() && !with_case ? Value::String(Lower(key.string())) : key;
}

// The values in the order of their keys; equal ones stay in theirs.
Result<Value> Sorted(std::vector<SortEntry> entries, bool reverse, Budget* budget) {
  // Checked first, because a comparison inside std::sort cannot report.
  for (size_t i = 1; i < entries.size(); ++i)
    SW_RETURN_IF_ERROR(Compare(entries[0].key, entries[i].key, budget).status());
  Status failure;
  std::stable_sort(entries.begin(), entries.end(), [&](const SortEntry& a, const SortEntry& b) {
    if (!failure.ok()) return false;
    const auto order = Compare(a.key, b.key, budget);
    if (!order.ok()) {
      failure = order.status();
      return false;
    }
    return reverse ? *order > 0 : *order < 0;
  });
  SW_RETURN_IF_ERROR(failure);
  std::vector<Value> sorted;
  for (SortEntry& entry : entries) sorted.push_back(std::move(entry.value));
  return Value::MakeList(std::move(sorted), Kind::kList, budget);
}

Result<Value> DictSort(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"case_sensitive", "by", "reverse"}, 0));
  const bool with_case = bound[0] && bound[0]->Truthy(), reverse = bound[2] && bound[2]->Truthy();
  const std::string by = bound[1] && bound[1]->is_string() ? bound[1]->string() : bound[1] ? "" : "key";
  if (by != "key" && by != "value") return InvalidArgument("dictsort: 'by' is neither 'key' nor 'value'");
  if (value.is_undefined()) return UndefinedError(value);
  if (value.kind() != Kind::kDict)
    return InvalidArgument(StrFormat("dictsort expects a mapping, found {}", KindName(value)));
  std::vector<SortEntry> entries;
  for (const auto& item : value.dict().items) {
    SW_ASSIGN_OR_RETURN(Value pair, Value::MakeList({item.first, item.second}, Kind::kTuple, budget));
    entries.push_back({IgnoreCase(by == "key" ? item.first : item.second, with_case), std::move(pair)});
  }
  return Sorted(std::move(entries), reverse, budget);
}

// map('filter', ...) or map(attribute='path', default=...).
Result<Value> Map(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  if (!value.Truthy()) return Value::MakeList({}, Kind::kGenerator, budget);  // None too
  SW_ASSIGN_OR_RETURN(auto items, Iterate(value, budget));
  if (arguments.positional.empty()) {
    SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"attribute", "default"}, 1));
    for (Value& item : items) {
      SW_ASSIGN_OR_RETURN(item, FollowPath(item, *bound[0], budget));
      if (item.is_undefined() && bound[1]) item = *bound[1];
    }
  } else {
    SW_ASSIGN_OR_RETURN(const std::string filter, StringArgument(name, arguments.positional[0]));
    if (!HasFilter(filter) || filter == name)
      return Unimplemented(StrFormat("map: no filter named {}", Quoted(filter)));
    Arguments rest = arguments;
    rest.positional.erase(rest.positional.begin());
    for (Value& item : items) {
      SW_ASSIGN_OR_RETURN(item, ApplyFilter(filter, item, rest, budget));
    }
  }
  return Value::MakeList(std::move(items), Kind::kGenerator, budget);
}

// select, reject, selectattr, rejectattr: those that pass (or fail) a test; without a test, their truth.
Result<Value> Select(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  if (!value.Truthy()) return Value::MakeList({}, Kind::kGenerator, budget);  // None too
  const bool by_attribute = name.ends_with("attr");
  const bool keep = name.starts_with("select");
  Arguments rest = arguments;
  Value path;
  if (by_attribute) {
    if (rest.positional.empty()) return InvalidArgument(StrFormat("{} needs the name of an attribute", name));
    path = rest.positional.front();
    rest.positional.erase(rest.positional.begin());
  }
  std::string test;
  if (!rest.positional.empty()) {
    SW_ASSIGN_OR_RETURN(test, StringArgument(name, rest.positional.front()));
    if (!HasTest(test)) return Unimplemented(StrFormat("{}: no test named {}", name, Quoted(test)));
    rest.positional.erase(rest.positional.begin());
  }
  SW_ASSIGN_OR_RETURN(const auto items, Iterate(value, budget));
  std::vector<Value> kept;
  for (const Value& item : items) {
    Value subject = item;
    if (by_attribute) {
      SW_ASSIGN_OR_RETURN(subject, FollowPath(item, path, budget));
    }
    bool passes = subject.Truthy();
    if (!test.empty()) {
      SW_ASSIGN_OR_RETURN(passes, ApplyTest(test, subject, rest, budget));
    }
    if (passes == keep) kept.push_back(item);
  }
  return Value::MakeList(std::move(kept), Kind::kGenerator, budget);
}

std::optional<int64_t> ParseInt(std::string_view text, int base) {
  text = Strip(text, "", Side::kBoth);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || text.front() == '-') return std::nullopt;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return negative ? -number : number;
}

std::optional<double> ParseFloat(std::string_view text) {
  const std::string copy(Strip(text, "", Side::kBoth));
  if (copy.empty() || copy.find_first_of("xXpP") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double number = std::strtod(copy.c_str(), &end);
  if (end != copy.c_str() + copy.size()) return std::nullopt;
  return number;
}

Result<Value> ToNumber(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  const bool to_int = name == "int";
  SW_ASSIGN_OR_RETURN(const auto bound,
                      to_int ? Bind(name, arguments, {"default", "base"}, 0) : Bind(name, arguments, {"default"}, 0));
  int64_t base = 10;
  if (to_int && bound[1]) {
    SW_ASSIGN_OR_RETURN(base, IntArgument(name, *bound[1]));
    if (base < 2 || base > 36) return InvalidArgument(StrFormat("int: base {} is not from 2 to 36", base));
  }
  if (value.is_undefined()) return UndefinedError(value);
  std::optional<double> number;
  if (value.is_number()) {
    if (to_int && value.is_integral()) return Value::Int(value.integer());
    number = value.number();
  } else if (value.is_string()) {
    SW_RETURN_IF_ERROR(budget->ChargeString(value.string().size()));
    if (to_int)
      if (const auto whole = ParseInt(value.string(), static_cast<int>(base))) return Value::Int(*whole);
    number = ParseFloat(value.string());
  }
  if (!number) return bound[0].value_or(to_int ? Value::Int(0) : Value::Float(0));
  if (!to_int) return Value::Float(*number);
  if (!(std::abs(*number) < 9.2e18))
    return std::isfinite(*number) ? Result<Value>(InvalidArgument("an integer exceeds 64 bits"))
                                  : bound[0].value_or(Value::Int(0));
  return Value::Int(static_cast<int64_t>(*number));
}

Result<Value> Abs(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  if (value.is_undefined()) return UndefinedError(value);
  if (!value.is_number()) return InvalidArgument(StrFormat("abs expects a number, found {}", KindName(value)));
  if (!value.is_integral()) return Value::Float(std::abs(value.number()));
  return value.integer() < 0 ? Arithmetic('-', Value::Int(0), value, budget) : Value::Int(value.integer());
}

Result<Value> Round(std::string_view name, const Value& value, const Arguments& arguments, Budget*) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"precision", "method"}, 0));
  int64_t precision = 0;
  if (bound[0]) {
    SW_ASSIGN_OR_RETURN(precision, IntArgument(name, *bound[0]));
  }
  std::string method = "common";
  if (bound[1]) {
    SW_ASSIGN_OR_RETURN(method, StringArgument(name, *bound[1]));
  }
  if (value.is_undefined()) return UndefinedError(value);
  if (!value.is_number()) return InvalidArgument(StrFormat("round expects a number, found {}", KindName(value)));
  if (precision < 0 || precision > 300) return Unimplemented(StrFormat("round: a precision of {}", precision));
  if (method != "common" && method != "ceil" && method != "floor")
    return InvalidArgument("round: the method is not common, ceil or floor");
  if (method == "common") {
    if (value.is_integral()) return Value::Int(value.integer());
    if (!std::isfinite(value.number())) return value;
    char text[700];  // rounded as decimal, as Python does
    std::snprintf(text, sizeof(text), "%.*f", static_cast<int>(precision), value.number());
    return Value::Float(std::strtod(text, nullptr));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.number() * scale;
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Result<Value> JsonText(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound,
                      Bind(name, arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0));
  JsonStyle style;
  style.ascii = bound[0] && bound[0]->Truthy();
  style.sort_keys = bound[3] && bound[3]->Truthy();
  if (bound[1] && bound[1]->is_string()) {
    style.indent = bound[1]->string();
  } else if (bound[1] && !bound[1]->is_none()) {
    SW_ASSIGN_OR_RETURN(const int64_t width, IntArgument(name, *bound[1]));
    style.indent = std::string(static_cast<size_t>(std::clamp<int64_t>(width, 0, kMaxIndent + 1)), ' ');
  }
  if (style.indent && style.indent->size() > kMaxIndent)
    return ResourceExhausted(StrFormat("tojson: the indent exceeds {}", kMaxIndent));
  if (style.indent) style.between_items = ",";  // no space before a line break
  if (bound[2] && !bound[2]->is_none()) {
    SW_ASSIGN_OR_RETURN(const auto separators, Iterate(*bound[2], budget));
    if (separators.size() != 2) return InvalidArgument("tojson: separators are two texts");
    SW_ASSIGN_OR_RETURN(style.between_items, StringArgument(name, separators[0]));
    SW_ASSIGN_OR_RETURN(style.after_key, StringArgument(name, separators[1]));
    if (style.between_items.size() > kMaxIndent || style.after_key.size() > kMaxIndent)
      return ResourceExhausted(StrFormat("tojson: a separator exceeds {} bytes", kMaxIndent));
  }
  SW_ASSIGN_OR_RETURN(std::string text, ToJson(value, style, budget));
  return Value::String(std::move(text));
}

Result<Value> Indent(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"width", "first", "blank"}, 0));
  std::string space(4, ' ');
  if (bound[0] && bound[0]->is_string()) {
    space = bound[0]->string();
  } else if (bound[0]) {
    SW_ASSIGN_OR_RETURN(const int64_t width, IntArgument(name, *bound[0]));
    if (width > kMaxIndent) return ResourceExhausted(StrFormat("indent: the width exceeds {}", kMaxIndent));
    space.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  const bool first = bound[1] && bound[1]->Truthy(), blank = bound[2] && bound[2]->Truthy();
  SW_ASSIGN_OR_RETURN(const std::string text, TextOf(value, budget));
  std::string out;
  SW_RETURN_IF_ERROR(budget->ChargeElements(static_cast<size_t>(std::count(text.begin(), text.end(), '\n'))));
  const auto lines = Split(text, '\n');
  SW_RETURN_IF_ERROR(budget->ChargeString(text.size() + lines.size() * space.size()));
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i == 0 ? first : (blank || !lines[i].empty())) out += space;
    out += lines[i];
  }
  return value.is_markup() ? Value::Markup(std::move(out)) : Value::String(std::move(out));
}

Result<Value> Sort(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"reverse", "case_sensitive", "attribute"}, 0));
  const bool reverse = bound[0] && bound[0]->Truthy(), with_case = bound[1] && bound[1]->Truthy();
  SW_ASSIGN_OR_RETURN(const auto items, Iterate(value, budget));
  std::vector<Value> paths;  // "a,b.c" sorts by both
  if (bound[2] && bound[2]->is_string()) {
    for (const std::string_view path : Split(bound[2]->string(), ','))
      paths.push_back(Value::String(std::string(path)));
  } else if (bound[2] && !bound[2]->is_none()) {
    paths.push_back(*bound[2]);
  }
  std::vector<SortEntry> entries;
  for (const Value& item : items) {
    std::vector<Value> keys;  // a list, as Jinja2 compares: members that equal each other need no order
    if (paths.empty()) keys.push_back(IgnoreCase(item, with_case));
    for (const Value& path : paths) {
      SW_ASSIGN_OR_RETURN(const Value key, FollowPath(item, path, budget));
      keys.push_back(IgnoreCase(key, with_case));
    }
    SW_ASSIGN_OR_RETURN(Value key, Value::MakeList(std::move(keys), Kind::kList, budget));
    entries.push_back({std::move(key), item});
  }
  return Sorted(std::move(entries), reverse, budget);
}

Result<Value> Unique(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  SW_ASSIGN_OR_RETURN(const auto items, Iterate(value, budget));
  std::vector<Value> kept, seen;
  for (const Value& item : items) {
    const Value key = item.is_string() ? Value::String(Lower(item.string())) : item;
    SW_ASSIGN_OR_RETURN(Value so_far, Value::MakeList(seen, Kind::kList, budget));
    SW_ASSIGN_OR_RETURN(const bool known, Contains(so_far, key, budget));
    if (known) continue;
    kept.push_back(item);
    seen.push_back(key);
  }
  return Value::MakeList(std::move(kept), Kind::kGenerator, budget);
}

Result<Value> Sum(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"attribute", "start"}, 0));
  SW_ASSIGN_OR_RETURN(const auto items, Iterate(value, budget));
  Value total = bound[1].value_or(Value::Int(0));
  for (Value item : items) {
    if (bound[0] && !bound[0]->is_none()) {
      SW_ASSIGN_OR_RETURN(item, FollowPath(item, *bound[0], budget));
    }
    SW_ASSIGN_OR_RETURN(total, Add(total, item, budget));
  }
  return total;
}

Result<Value> Extreme(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  SW_ASSIGN_OR_RETURN(const auto items, Iterate(value, budget));
  if (items.empty()) return Value::Undefined(StrFormat("the {} of an empty sequence", name));
  const auto key = [](const Value& v) { return v.is_string() ? Value::String(Lower(v.string())) : v; };
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    SW_ASSIGN_OR_RETURN(const int order, Compare(key(items[i]), key(items[best]), budget));
    if (name == "min" ? order < 0 : order > 0) best = i;
  }
  return items[best];
}

struct Row {
  std::string_view name;
  Handler handler;
};

constexpr Row kFilters[] = {
    {"trim", OnText},       {"upper", OnText},       {"lower", OnText},      {"title", OnText},
    {"capitalize", OnText}, {"string", OnText},      {"safe", OnText},       {"escape", Escape},
    {"e", Escape},          {"forceescape", Escape}, {"round", Round},       {"replace", Replace},
    {"length", Length},     {"count", Length},       {"default", Default},   {"d", Default},
    {"join", Join},         {"first", FirstOrLast},  {"last", FirstOrLast},  {"list", ToList},
    {"reverse", Reverse},   {"items", Items},        {"dictsort", DictSort}, {"map", Map},
    {"select", Select},     {"reject", Select},      {"selectattr", Select}, {"rejectattr", Select},
    {"int", ToNumber},      {"float", ToNumber},     {"abs", Abs},           {"tojson", JsonText},
    {"indent", Indent},     {"sort", Sort},          {"unique", Unique},     {"sum", Sum},
    {"min", Extreme},       {"max", Extreme},
};

Handler FindFilter(std::string_view name) {
  for (const Row& row : kFilters)
    if (row.name == name) return row.handler;
  return nullptr;
}

}  // namespace

bool HasFilter(std::string_view name) { return FindFilter(name) != nullptr; }

Result<Value> ApplyFilter(std::string_view name, const Value& value, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->Charge(1));
  const Handler handler = FindFilter(name);
  if (!handler) return Unimplemented(StrFormat("the filter '{}' is not done", name));
  return handler(name, value, arguments, budget);
}

}  // namespace spanwise::jinja
