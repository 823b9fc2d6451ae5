// Arithmetic on template values, with Python's rules.
#include <cmath>

#include "base/checked.h"
#include "base/str.h"
#include "tokenizer/jinja/value.h"

namespace spanwise::jinja {
namespace {

Status NoOperator(char op, const Value& a, const Value& b) {
  const std::string_view name = op == 'f' ? "//" : op == 'p' ? "**" : std::string_view(&op, 1);
  return InvalidArgument(StrFormat("{} {} {} is not done", KindName(a), name, KindName(b)));
}

Status Overflow() { return InvalidArgument("an integer exceeds 64 bits"); }

Result<Value> Repeat(const Value& value, int64_t times, Budget* budget) {
  const auto n = static_cast<uint64_t>(std::max<int64_t>(times, 0));
  if (value.is_string()) {
    const auto bytes = CheckedMul(value.string().size(), n);
    if (!bytes) return ResourceExhausted("a repeated text is too long");
    SW_RETURN_IF_ERROR(budget->ChargeString(*bytes));
    std::string text;
    text.reserve(*bytes);
    if (*bytes > 0)
      for (uint64_t i = 0; i < n; ++i) text += value.string();
    return value.is_markup() ? Value::Markup(std::move(text)) : Value::String(std::move(text));
  }
  const auto count = CheckedMul(value.items().size(), n);
  if (!count) return ResourceExhausted("a repeated list is too long");
  SW_RETURN_IF_ERROR(budget->ChargeElements(*count));
  std::vector<Value> items;
  items.reserve(*count);
  if (*count > 0)
    for (uint64_t i = 0; i < n; ++i) items.insert(items.end(), value.items().begin(), value.items().end());
  return Value::MakeList(std::move(items), value.kind(), budget);
}

bool Repeatable(const Value& value) {
  return value.is_string() || value.kind() == Value::Kind::kList || value.kind() == Value::Kind::kTuple;
}

int64_t FloorDivide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }

Result<Value> Power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (int64_t i = 0; i < exponent; ++i) {
    if (result == 0 || (result == 1 && base == 1)) break;
    if (base == -1) return Value::Int(exponent % 2 == 0 ? 1 : -1);
    if (__builtin_mul_overflow(result, base, &result)) return Overflow();
  }
  return Value::Int(result);
}

Result<Value> OnIntegers(char op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case '+':
      return __builtin_add_overflow(a, b, &result) ? Result<Value>(Overflow()) : Value::Int(result);
    case '-':
      return __builtin_sub_overflow(a, b, &result) ? Result<Value>(Overflow()) : Value::Int(result);
    case '*':
      return __builtin_mul_overflow(a, b, &result) ? Result<Value>(Overflow()) : Value::Int(result);
    case '/':
      if (b == 0) return InvalidArgument("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case 'f':
    case '%':
      if (b == 0) return InvalidArgument("division by zero");
      if (b == -1) return op == '%' ? Value::Int(0) : OnIntegers('-', 0, a);  // INT64_MIN / -1 overflows
      return Value::Int(op == 'f' ? FloorDivide(a, b) : a - FloorDivide(a, b) * b);
    default:
      if (b < 0)
        return a == 0 ? Result<Value>(InvalidArgument("division by zero"))
                      : Value::Float(std::pow(static_cast<double>(a), static_cast<double>(b)));
      return Power(a, b);
  }
}

Result<Value> OnFloats(char op, double a, double b) {
  switch (op) {
    case '+':
      return Value::Float(a + b);
    case '-':
      return Value::Float(a - b);
    case '*':
      return Value::Float(a * b);
    case 'p':
      return Value::Float(std::pow(a, b));
    default:
      break;
  }
  if (b == 0) return InvalidArgument("division by zero");
  if (op == '/') return Value::Float(a / b);
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  return Value::Float(op == '%' ? rest : std::floor((a - rest) / b + 0.5));
}

}  // namespace

Result<Value> Arithmetic(char op, const Value& a, const Value& b, Budget* budget) {
  SW_RETURN_IF_ERROR(budget->Charge(1));
  if (a.is_undefined()) return UndefinedError(a);
  if (b.is_undefined()) return UndefinedError(b);
  if (a.is_integral() && b.is_integral()) return OnIntegers(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return OnFloats(op, a.number(), b.number());
  if (op == '*' && Repeatable(a) && b.is_integral()) return Repeat(a, b.integer(), budget);
  if (op == '*' && a.is_integral() && Repeatable(b)) return Repeat(b, a.integer(), budget);
  return NoOperator(op, a, b);
}

Result<Value> Add(const Value& a, const Value& b, Budget* budget) {
  if (a.is_string() && b.is_string()) {
    if (a.is_markup() || b.is_markup()) {
      SW_ASSIGN_OR_RETURN(std::string text, EscapedText(a, budget));
      SW_ASSIGN_OR_RETURN(const std::string more, EscapedText(b, budget));
      SW_RETURN_IF_ERROR(budget->ChargeString(text.size() + more.size()));
      return Value::Markup(std::move(text) + more);
    }
    SW_RETURN_IF_ERROR(budget->ChargeString(a.string().size() + b.string().size()));
    return Value::String(a.string() + b.string());
  }
  if (a.kind() == b.kind() && (a.kind() == Value::Kind::kList || a.kind() == Value::Kind::kTuple)) {
    SW_RETURN_IF_ERROR(budget->ChargeElements(a.items().size() + b.items().size()));
    std::vector<Value> items = a.items();
    items.insert(items.end(), b.items().begin(), b.items().end());
    return Value::MakeList(std::move(items), a.kind(), budget);
  }
  return Arithmetic('+', a, b, budget);
}

}  // namespace spanwise::jinja
