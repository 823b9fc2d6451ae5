// Values as text: str(), repr() and json.dumps().
#include <algorithm>
#include <cmath>

#include "base/str.h"
#include "tokenizer/jinja/text.h"
#include "tokenizer/jinja/value.h"

namespace spanwise::jinja {
namespace {

// A container that shares its members may be far larger as text than in memory, so every member is charged.
Status AppendReprOf(const Value& value, Budget* budget, std::string* out) {
  SW_RETURN_IF_ERROR(budget->Charge(1));
  if (out->size() > budget->max_string_bytes) return budget->ChargeString(out->size());
  switch (value.kind()) {
    case Value::Kind::kString:
      SW_RETURN_IF_ERROR(budget->ChargeString(value.string().size()));
      if (value.is_markup()) *out += "Markup(";
      AppendRepr(value.string(), out);
      if (value.is_markup()) *out += ')';
      return Status::Ok();
    case Value::Kind::kUndefined:
      *out += "Undefined";
      return Status::Ok();
    case Value::Kind::kView:
    case Value::Kind::kList:
    case Value::Kind::kTuple: {
      const bool view = value.kind() == Value::Kind::kView;
      if (view) *out += StrFormat("{}(", KindName(value));
      const bool tuple = value.kind() == Value::Kind::kTuple;
      *out += tuple ? '(' : '[';
      for (size_t i = 0; i < value.items().size(); ++i) {
        if (i > 0) *out += ", ";
        SW_RETURN_IF_ERROR(AppendReprOf(value.items()[i], budget, out));
      }
      if (tuple && value.items().size() == 1) *out += ',';
      *out += tuple ? ')' : ']';
      if (view) *out += ')';
      return Status::Ok();
    }
    case Value::Kind::kDict: {
      *out += '{';
      bool first = true;
      for (const auto& [key, item] : value.dict().items) {
        if (!first) *out += ", ";
        first = false;
        SW_RETURN_IF_ERROR(AppendReprOf(key, budget, out));
        *out += ": ";
        SW_RETURN_IF_ERROR(AppendReprOf(item, budget, out));
      }
      *out += '}';
      return Status::Ok();
    }
    default:
      return AppendText(value, budget, out);
  }
}

struct JsonWriter {
  const JsonStyle& style;
  Budget* budget;
  std::string* out;

  void Newline(int depth) const {
    if (!style.indent) return;
    *out += '\n';
    for (int i = 0; i < depth; ++i) *out += *style.indent;
  }
  void Separator(bool first, int depth) const {
    if (!first) *out += style.between_items;
    Newline(depth);
  }

  Status Key(const Value& key) const {
    switch (key.kind()) {
      case Value::Kind::kString:
        AppendJsonString(key.string(), style.ascii, out);
        return Status::Ok();
      case Value::Kind::kInt:
      case Value::Kind::kFloat:
      case Value::Kind::kBool:
      case Value::Kind::kNone:
        *out += '"';
        SW_RETURN_IF_ERROR(Write(key, 0));
        *out += '"';
        return Status::Ok();
      default:
        return InvalidArgument(StrFormat("tojson: a key is {}", KindName(key)));
    }
  }

  Status Write(const Value& value, int depth) const {
    SW_RETURN_IF_ERROR(budget->Charge(1));
    if (out->size() > budget->max_string_bytes) return budget->ChargeString(out->size());
    switch (value.kind()) {
      case Value::Kind::kNone:
        *out += "null";
        return Status::Ok();
      case Value::Kind::kBool:
        *out += value.integer() ? "true" : "false";
        return Status::Ok();
      case Value::Kind::kInt:
        *out += StrFormat("{}", value.integer());
        return Status::Ok();
      case Value::Kind::kFloat:
        *out += std::isnan(value.number())   ? "NaN"
                : std::isinf(value.number()) ? (value.number() < 0 ? "-Infinity" : "Infinity")
                                             : FloatText(value.number());
        return Status::Ok();
      case Value::Kind::kString:
        SW_RETURN_IF_ERROR(budget->ChargeString(value.string().size()));
        AppendJsonString(value.string(), style.ascii, out);
        return Status::Ok();
      case Value::Kind::kList:
      case Value::Kind::kTuple:
        *out += '[';
        for (size_t i = 0; i < value.items().size(); ++i) {
          Separator(i == 0, depth + 1);
          SW_RETURN_IF_ERROR(Write(value.items()[i], depth + 1));
        }
        if (!value.items().empty()) Newline(depth);
        *out += ']';
        return Status::Ok();
      case Value::Kind::kDict: {
        std::vector<const std::pair<Value, Value>*> items;
        for (const auto& item : value.dict().items) items.push_back(&item);
        if (style.sort_keys) {
          for (const auto* item : items)
            if (!item->first.is_string()) return Unimplemented("tojson: sort_keys with keys that are not str");
          std::stable_sort(items.begin(), items.end(),
                           [](const auto* a, const auto* b) { return a->first.string() < b->first.string(); });
        }
        *out += '{';
        for (size_t i = 0; i < items.size(); ++i) {
          Separator(i == 0, depth + 1);
          SW_RETURN_IF_ERROR(Key(items[i]->first));
          *out += style.after_key;
          SW_RETURN_IF_ERROR(Write(items[i]->second, depth + 1));
        }
        if (!items.empty()) Newline(depth);
        *out += '}';
        return Status::Ok();
      }
      case Value::Kind::kUndefined:
        return UndefinedError(value);
      default:
        return InvalidArgument(StrFormat("tojson: {} has no JSON form", KindName(value)));
    }
  }
};

}  // namespace

Status AppendText(const Value& value, Budget* budget, std::string* out) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return Status::Ok();
    case Value::Kind::kNone:
      *out += "None";
      return Status::Ok();
    case Value::Kind::kBool:
      *out += value.integer() ? "True" : "False";
      return Status::Ok();
    case Value::Kind::kInt:
      *out += StrFormat("{}", value.integer());
      return Status::Ok();
    case Value::Kind::kFloat:
      *out += FloatText(value.number());
      return Status::Ok();
    case Value::Kind::kString:
      SW_RETURN_IF_ERROR(budget->ChargeString(value.string().size()));
      *out += value.string();
      return Status::Ok();
    case Value::Kind::kList:
    case Value::Kind::kTuple:
    case Value::Kind::kView:
    case Value::Kind::kDict:
      return AppendReprOf(value, budget, out);
    default:
      return Unimplemented(StrFormat("the text of a {} is not done", KindName(value)));
  }
}

Result<std::string> TextOf(const Value& value, Budget* budget) {
  std::string text;
  SW_RETURN_IF_ERROR(AppendText(value, budget, &text));
  return text;
}

Result<std::string> EscapedText(const Value& value, Budget* budget) {
  SW_ASSIGN_OR_RETURN(std::string text, TextOf(value, budget));
  if (value.is_markup()) return text;
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    const char* entity = c == '&'    ? "&amp;"
                         : c == '<'  ? "&lt;"
                         : c == '>'  ? "&gt;"
                         : c == '"'  ? "&#34;"
                         : c == '\'' ? "&#39;"
                                     : nullptr;
    if (entity) {
      escaped += entity;
    } else {
      escaped += c;
    }
  }
  SW_RETURN_IF_ERROR(budget->ChargeString(escaped.size()));
  return escaped;
}

Result<std::string> ToJson(const Value& value, const JsonStyle& style, Budget* budget) {
  std::string text;
  SW_RETURN_IF_ERROR((JsonWriter{style, budget, &text}.Write(value, 0)));
  SW_RETURN_IF_ERROR(budget->ChargeString(text.size()));
  return text;
}

}  // namespace spanwise::jinja
