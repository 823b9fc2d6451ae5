#include "tokenizer/jinja/methods.h"

#include <algorithm>
#include <ctime>

#include "base/str.h"
#include "tokenizer/jinja/text.h"

namespace spanwise::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // Jinja2's sandbox has the same limit
constexpr size_t kMaxTimeFormat = 256;

using Handler = Result<Value> (*)(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget);

Result<Value> Text(std::string text) { return Value::String(std::move(text)); }

Result<Value> StripMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget*) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"chars"}, 0));
  std::string characters;
  if (bound[0] && !bound[0]->is_none()) {
    SW_ASSIGN_OR_RETURN(characters, StringArgument(name, *bound[0]));
    if (characters.empty()) return self;
  }
  const Side side = name == "lstrip" ? Side::kLeft : name == "rstrip" ? Side::kRight : Side::kBoth;
  return Text(std::string(Strip(self.string(), characters, side)));
}

Result<Value> CaseMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget*) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  if (name == "upper") return Text(Upper(self.string()));
  if (name == "lower") return Text(Lower(self.string()));
  if (name == "title") return Text(TitlePython(self.string()));
  return Text(Capitalize(self.string()));
}

Result<std::vector<Value>> SplitAtSpace(std::string_view text, int64_t limit, Budget* budget) {
  std::vector<Value> pieces;
  size_t at = 0;
  const auto skip = [&](bool space) {
    while (at < text.size() && IsSpace(CodePointAt(text, at)) == space) at += CharacterBytes(text, at);
  };
  for (skip(true); at < text.size(); skip(true)) {
    const size_t begin = at;
    SW_RETURN_IF_ERROR(budget->ChargeElements(1));
    if (limit >= 0 && static_cast<int64_t>(pieces.size()) >= limit) {
      pieces.push_back(Value::String(std::string(text.substr(begin))));
      break;
    }
    skip(false);
    pieces.push_back(Value::String(std::string(text.substr(begin, at - begin))));
  }
  return pieces;
}

Result<Value> SplitMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"sep", "maxsplit"}, 0));
  int64_t limit = -1;
  if (bound[1]) {
    SW_ASSIGN_OR_RETURN(limit, IntArgument(name, *bound[1]));
  }
  const std::string_view text = self.string();
  const bool from_right = name == "rsplit";
  if (!bound[0] || bound[0]->is_none()) {
    if (from_right && limit >= 0) return Unimplemented("rsplit at white space with a limit");
    SW_ASSIGN_OR_RETURN(auto pieces, SplitAtSpace(text, limit, budget));
    return Value::MakeList(std::move(pieces), Value::Kind::kList, budget);
  }
  SW_ASSIGN_OR_RETURN(const std::string separator, StringArgument(name, *bound[0]));
  if (separator.empty()) return InvalidArgument(StrFormat("{}: empty separator", name));
  std::vector<size_t> cuts;
  for (size_t at = 0; (at = FindText(text, separator, at)) != std::string_view::npos; at += separator.size()) {
    SW_RETURN_IF_ERROR(budget->ChargeElements(1));
    cuts.push_back(at);
  }
  if (limit >= 0 && cuts.size() > static_cast<size_t>(limit)) {
    const auto excess = static_cast<std::ptrdiff_t>(cuts.size()) - static_cast<std::ptrdiff_t>(limit);
    from_right ? cuts.erase(cuts.begin(), cuts.begin() + excess) : cuts.erase(cuts.end() - excess, cuts.end());
  }
  SW_RETURN_IF_ERROR(budget->ChargeElements(cuts.size() + 1));
  std::vector<Value> pieces;
  size_t begin = 0;
  for (const size_t cut : cuts) {
    pieces.push_back(Value::String(std::string(text.substr(begin, cut - begin))));
    begin = cut + separator.size();
  }
  pieces.push_back(Value::String(std::string(text.substr(begin))));
  return Value::MakeList(std::move(pieces), Value::Kind::kList, budget);
}

Result<Value> SplitLines(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"keepends"}, 0));
  const bool keep = bound[0] && bound[0]->Truthy();
  const std::string_view text = self.string();
  std::vector<Value> lines;
  for (size_t at = 0, begin = 0; at < text.size();) {
    const char32_t c = CodePointAt(text, at);
    const bool ends = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    size_t next = at + CharacterBytes(text, at);
    if (c == '\r' && next < text.size() && text[next] == '\n') ++next;
    if (ends || next == text.size()) {
      SW_RETURN_IF_ERROR(budget->ChargeElements(1));
      lines.push_back(Value::String(std::string(text.substr(begin, (keep || !ends ? next : at) - begin))));
      begin = next;
    }
    at = next;
  }
  return Value::MakeList(std::move(lines), Value::Kind::kList, budget);
}

Result<Value> StartsOrEnds(std::string_view name, const Value& self, const Arguments& arguments, Budget*) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"prefix"}, 1));
  std::vector<Value> candidates{*bound[0]};
  if (bound[0]->kind() == Value::Kind::kTuple) candidates = bound[0]->items();
  for (const Value& candidate : candidates) {
    SW_ASSIGN_OR_RETURN(const std::string text, StringArgument(name, candidate));
    if (name == "startswith" ? self.string().starts_with(text) : self.string().ends_with(text))
      return Value::Bool(true);
  }
  return Value::Bool(false);
}

Result<Value> RemoveAffix(std::string_view name, const Value& self, const Arguments& arguments, Budget*) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"affix"}, 1));
  SW_ASSIGN_OR_RETURN(const std::string affix, StringArgument(name, *bound[0]));
  std::string_view text = self.string();
  if (name == "removeprefix" && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (name == "removesuffix" && text.ends_with(affix)) text.remove_suffix(affix.size());
  return Text(std::string(text));
}

Result<Value> FindMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"sub"}, 1));
  SW_ASSIGN_OR_RETURN(const std::string what, StringArgument(name, *bound[0]));
  const std::string_view text = self.string();
  SW_RETURN_IF_ERROR(budget->ChargeString(text.size()));
  if (name == "count") {
    if (what.empty()) return Value::Int(static_cast<int64_t>(CharacterCount(text)) + 1);
    int64_t n = 0;
    for (size_t at = 0; (at = FindText(text, what, at)) != std::string_view::npos; at += what.size()) ++n;
    return Value::Int(n);
  }
  size_t at = std::string_view::npos;
  if (name == "rfind") {  // the first one of the reversed text: linear, unlike std::string_view::rfind
    const std::string reversed(text.rbegin(), text.rend());
    at = FindText(reversed, std::string(what.rbegin(), what.rend()));
    if (at != std::string_view::npos) at = text.size() - at - what.size();
  } else {
    at = FindText(text, what);
  }
  if (at != std::string_view::npos) return Value::Int(static_cast<int64_t>(CharacterCount(text.substr(0, at))));
  if (name == "index") return InvalidArgument("index: substring not found");
  return Value::Int(-1);
}

Result<Value> ReplaceMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"old", "new", "count"}, 2));
  SW_ASSIGN_OR_RETURN(const std::string old_text, StringArgument(name, *bound[0]));
  SW_ASSIGN_OR_RETURN(const std::string new_text, StringArgument(name, *bound[1]));
  int64_t limit = -1;
  if (bound[2] && !bound[2]->is_none()) {
    SW_ASSIGN_OR_RETURN(limit, IntArgument(name, *bound[2]));
  }
  const std::string_view text = self.string();
  std::string out;
  size_t begin = 0;
  for (size_t at = 0; limit != 0; limit -= limit > 0) {
    at = FindText(text, old_text, at);
    if (at == std::string_view::npos) break;
    out += text.substr(begin, at - begin);
    out += new_text;
    begin = at + old_text.size();
    at = begin;
    if (old_text.empty()) {  // between all characters
      if (at == text.size()) break;
      at += CharacterBytes(text, at);
    }
    if (out.size() > budget->max_string_bytes) return budget->ChargeString(out.size());
    SW_RETURN_IF_ERROR(budget->Charge(1));
  }
  out += text.substr(begin);
  SW_RETURN_IF_ERROR(budget->ChargeString(out.size()));
  return Text(std::move(out));
}

Result<Value> JoinMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"iterable"}, 1));
  SW_ASSIGN_OR_RETURN(const auto items, Iterate(*bound[0], budget));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    SW_ASSIGN_OR_RETURN(const std::string item, StringArgument(name, items[i]));
    if (i > 0) out += self.string();
    out += item;
    SW_RETURN_IF_ERROR(budget->ChargeString(item.size() + self.string().size()));
    if (out.size() > budget->max_string_bytes) return budget->ChargeString(out.size());
  }
  return Text(std::move(out));
}

Result<Value> KindMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  const std::string_view text = self.string();
  SW_RETURN_IF_ERROR(budget->ChargeString(text.size()));
  for (size_t i = 0; i < text.size(); i += CharacterBytes(text, i)) {
    const char32_t c = CodePointAt(text, i);
    if (name == "isdigit" && c >= 0x80) return Unimplemented("isdigit of text that is not ASCII");
    const bool is = name == "isspace"   ? IsSpace(c)
                    : name == "isdigit" ? c >= '0' && c <= '9'
                    : name == "isalpha" ? IsAlphabetic(c)
                                        : IsAlphabetic(c) || IsNumeric(c);
    if (!is) return Value::Bool(false);
  }
  return Value::Bool(!text.empty());
}

// islower and isupper: all letters with case have this one, and there is one.
Result<Value> HasCase(std::string_view name, const Value& self, const Arguments& arguments, Budget*) {
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  const std::string lower = Lower(self.string()), upper = Upper(self.string());
  return Value::Bool(lower != upper && self.string() == (name == "islower" ? lower : upper));
}

Result<Value> PartitionMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"sep"}, 1));
  SW_ASSIGN_OR_RETURN(const std::string separator, StringArgument(name, *bound[0]));
  if (separator.empty()) return InvalidArgument(StrFormat("{}: empty separator", name));
  const std::string_view text = self.string();
  size_t at = std::string_view::npos;
  for (size_t next = 0; (next = FindText(text, separator, next)) != std::string_view::npos; next += 1) {
    SW_RETURN_IF_ERROR(budget->Charge(1));
    at = next;
    if (name == "partition") break;
  }
  std::vector<Value> parts(3, Value::String(""));
  if (at == std::string_view::npos) {
    parts[name == "partition" ? 0 : 2] = self;
  } else {
    parts = {Value::String(std::string(text.substr(0, at))), Value::String(separator),
             Value::String(std::string(text.substr(at + separator.size())))};
  }
  return Value::MakeList(std::move(parts), Value::Kind::kTuple, budget);
}

// ljust, rjust, center and zfill.
Result<Value> PadMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, name == "zfill" ? Bind(name, arguments, {"width"}, 1)
                                                        : Bind(name, arguments, {"width", "fillchar"}, 1));
  SW_ASSIGN_OR_RETURN(const int64_t width, IntArgument(name, *bound[0]));
  std::string fill = name == "zfill" ? "0" : " ";
  if (bound.size() > 1 && bound[1]) {
    SW_ASSIGN_OR_RETURN(fill, StringArgument(name, *bound[1]));
    if (CharacterCount(fill) != 1) return InvalidArgument(StrFormat("{}: the fill is not one character", name));
  }
  const std::string& text = self.string();
  const auto length = static_cast<int64_t>(CharacterCount(text));
  if (width <= length) return self;
  const auto missing = static_cast<size_t>(width - length);
  if (missing > budget->max_string_bytes) return budget->ChargeString(missing);
  SW_RETURN_IF_ERROR(budget->ChargeString(text.size() + missing * fill.size()));
  // Python's: the odd one goes to the left where the width is odd.
  const size_t left = name == "ljust"    ? 0
                      : name == "center" ? missing / 2 + (missing & static_cast<size_t>(width) & 1)
                                         : missing;
  std::string out;
  const size_t sign = name == "zfill" && (text.starts_with('-') || text.starts_with('+')) ? 1 : 0;
  out += text.substr(0, sign);
  for (size_t i = 0; i < left; ++i) out += fill;
  out += text.substr(sign);
  for (size_t i = left; i < missing; ++i) out += fill;
  return Text(std::move(out));
}

Result<Value> LoopMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget*) {
  if (!arguments.named.empty() || arguments.positional.empty())
    return InvalidArgument(StrFormat("{} takes one or more positional arguments", name));
  return arguments.positional[self.loop().index0 % arguments.positional.size()];
}

Result<Value> DictMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  const Dict& dict = self.dict();
  if (name == "get") {
    SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"key", "default"}, 1));
    const Value* found = dict.Find(*bound[0]);
    return found ? *found : bound[1].value_or(Value());
  }
  SW_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  SW_RETURN_IF_ERROR(budget->ChargeElements(dict.items.size()));
  std::vector<Value> items;
  for (const auto& [key, value] : dict.items) {
    if (name == "items") {
      SW_ASSIGN_OR_RETURN(Value pair, Value::MakeList({key, value}, Value::Kind::kTuple, budget));
      items.push_back(std::move(pair));
    } else {
      items.push_back(name == "keys" ? key : value);
    }
  }
  const auto view = name == "items" ? Value::View::kItems : name == "keys" ? Value::View::kKeys : Value::View::kValues;
  return Value::MakeView(std::move(items), view, budget);
}

Result<Value> ListMethod(std::string_view name, const Value& self, const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind(name, arguments, {"value"}, 1));
  int64_t n = 0;
  for (size_t i = 0; i < self.items().size(); ++i) {
    SW_ASSIGN_OR_RETURN(const bool same, Equal(self.items()[i], *bound[0], budget));
    if (same && name == "index") return Value::Int(static_cast<int64_t>(i));
    n += same;
  }
  if (name == "index") return InvalidArgument("index: the value is not in the list");
  return Value::Int(n);
}

struct Row {
  std::string_view name;
  Handler handler;
};

constexpr Row kStringMethods[] = {
    {"strip", StripMethod},         {"lstrip", StripMethod},
    {"rstrip", StripMethod},        {"upper", CaseMethod},
    {"lower", CaseMethod},          {"title", CaseMethod},
    {"capitalize", CaseMethod},     {"split", SplitMethod},
    {"rsplit", SplitMethod},        {"splitlines", SplitLines},
    {"startswith", StartsOrEnds},   {"endswith", StartsOrEnds},
    {"removeprefix", RemoveAffix},  {"removesuffix", RemoveAffix},
    {"find", FindMethod},           {"rfind", FindMethod},
    {"index", FindMethod},          {"count", FindMethod},
    {"replace", ReplaceMethod},     {"join", JoinMethod},
    {"isdigit", KindMethod},        {"isspace", KindMethod},
    {"isalpha", KindMethod},        {"isalnum", KindMethod},
    {"islower", HasCase},           {"isupper", HasCase},
    {"partition", PartitionMethod}, {"rpartition", PartitionMethod},
    {"ljust", PadMethod},           {"rjust", PadMethod},
    {"center", PadMethod},          {"zfill", PadMethod},
};
constexpr Row kDictMethods[] = {
    {"items", DictMethod}, {"keys", DictMethod}, {"values", DictMethod}, {"get", DictMethod}};
constexpr Row kLoopMethods[] = {{"cycle", LoopMethod}};
constexpr Row kListMethods[] = {{"index", ListMethod}, {"count", ListMethod}};

Handler FindHandler(const Value& self, std::string_view name) {
  const auto in = [&](const auto& rows) -> Handler {
    for (const Row& row : rows)
      if (row.name == name) return row.handler;
    return nullptr;
  };
  switch (self.kind()) {
    case Value::Kind::kString:
      return in(kStringMethods);
    case Value::Kind::kDict:
      return in(kDictMethods);
    case Value::Kind::kList:
    case Value::Kind::kTuple:
      return in(kListMethods);
    case Value::Kind::kLoop:
      return in(kLoopMethods);
    default:
      return nullptr;
  }
}

// What a method of markup gives is markup, and what it puts in is escaped.
Result<Value> CallMarkupMethod(const Method& method, Arguments arguments, Budget* budget) {
  if (method.name == "replace" && arguments.positional.size() > 1) {
    SW_ASSIGN_OR_RETURN(std::string text, EscapedText(arguments.positional[1], budget));
    arguments.positional[1] = Value::String(std::move(text));
  } else if (method.name == "join") {
    return Unimplemented("join on a text that is marked as safe");
  }
  SW_ASSIGN_OR_RETURN(Value value, FindHandler(method.self, method.name)(method.name, method.self, arguments, budget));
  if (value.is_string()) return Value::Markup(value.string());
  if (!value.is_sequence()) return value;
  std::vector<Value> items;
  for (const Value& item : value.items()) items.push_back(Value::Markup(item.string()));
  return Value::MakeList(std::move(items), value.kind(), budget);
}

}  // namespace

bool HasMethod(const Value& self, std::string_view name) { return FindHandler(self, name) != nullptr; }

Result<Value> CallMethod(const Method& method, const Arguments& arguments, Budget* budget) {
  if (method.self.is_string()) SW_RETURN_IF_ERROR(budget->ChargeString(method.self.string().size()));
  if (method.self.is_markup()) return CallMarkupMethod(method, arguments, budget);
  return FindHandler(method.self, method.name)(method.name, method.self, arguments, budget);
}

Result<Value> CallStrftimeNow(const Arguments& arguments, Budget* budget) {
  SW_ASSIGN_OR_RETURN(const auto bound, Bind("strftime_now", arguments, {"format"}, 1));
  SW_ASSIGN_OR_RETURN(const std::string format, StringArgument("strftime_now", *bound[0]));
  SW_RETURN_IF_ERROR(budget->ChargeString(format.size()));
  if (format.size() > kMaxTimeFormat)
    return ResourceExhausted(
        StrFormat("strftime_now: a format of {} bytes, at most {}", format.size(), kMaxTimeFormat));
  std::string known;
  for (size_t i = 0; i < format.size(); ++i) {
    known += format[i];
    if (format[i] != '%') continue;
    if (i + 1 < format.size() && format[i + 1] == '-') known += format[++i];
    const char directive = ++i < format.size() ? format[i] : '\0';
    if (std::string_view("aAbBcdDeFgGhHIjklmMnpPrRStTuUVwWxXyY%").find(directive) == std::string_view::npos)
      return Unimplemented(StrFormat("strftime_now: the format {}", Quoted(format)));
    known += directive;
  }
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::string text(kMaxTimeFormat * 16, '\0');
  known += '.';  // so that nothing is not taken for a failure
  text.resize(std::strftime(text.data(), text.size(), known.c_str(), &local));
  if (text.empty()) return ResourceExhausted("strftime_now: the text is too long");
  text.pop_back();
  return Text(std::move(text));
}

Result<Value> CallRange(const Arguments& arguments, Budget* budget) {
  if (arguments.positional.empty() || arguments.positional.size() > 3 || !arguments.named.empty())
    return InvalidArgument("range takes one to three positional arguments");
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    const size_t at = arguments.positional.size() == 1 ? 1 : i;
    SW_ASSIGN_OR_RETURN(bounds[at], IntArgument("range", arguments.positional[i]));
  }
  const auto [begin, end, step] = bounds;
  if (step == 0) return InvalidArgument("range: the step is 0");
  std::vector<Value> items;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange)
      return ResourceExhausted(StrFormat("range of over {} numbers", kMaxRange));
    items.push_back(Value::Int(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::MakeList(std::move(items), Value::Kind::kList, budget);
}

Result<Value> CallDict(const Arguments& arguments, Budget* budget) {
  std::vector<std::pair<Value, Value>> items;
  if (arguments.positional.size() > 1) return InvalidArgument("dict takes at most one positional argument");
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.kind() == Value::Kind::kDict) {
      items = from.dict().items;
    } else {
      SW_ASSIGN_OR_RETURN(const auto pairs, Iterate(from, budget));
      for (const Value& pair : pairs) {
        SW_ASSIGN_OR_RETURN(const auto both, Iterate(pair, budget));
        if (both.size() != 2) return InvalidArgument("dict: expected pairs of a key and a value");
        items.emplace_back(both[0], both[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) items.emplace_back(Value::String(name), value);
  return Value::MakeDict(std::move(items), budget);
}

}  // namespace spanwise::jinja
