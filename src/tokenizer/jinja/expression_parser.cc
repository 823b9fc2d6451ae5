#include "tokenizer/jinja/expression_parser.h"

#include <algorithm>

#include "base/str.h"
#include "tokenizer/jinja/filters.h"
#include "tokenizer/jinja/parser.h"

namespace spanwise::jinja {
namespace {

// Left-associative chains make deep trees without nesting.
constexpr int kMaxTreeDepth = 300;

std::string Describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kText:
      return "text";
    case Token::Kind::kPrintBegin:
      return "'{{'";
    case Token::Kind::kPrintEnd:
      return "'}}'";
    case Token::Kind::kBlockBegin:
      return "'{%'";
    case Token::Kind::kBlockEnd:
      return "'%}'";
    case Token::Kind::kEnd:
      return "the end of the template";
    default:
      return Quoted(token.text, 40);
  }
}

}  // namespace

Status TokenStream::Fail(std::string_view what) const {
  return InvalidArgument(StrFormat("{}: {} at {}", PlaceOf(source_, Current().offset), what, Describe(Current())));
}

Status TokenStream::Expect(Token::Kind kind, std::string_view expected) {
  if (Current().kind != kind) return Fail(StrFormat("expected {}", expected));
  Advance();
  return Status::Ok();
}

Status TokenStream::ExpectOperator(std::string_view op) {
  if (!Current().Is(op)) return Fail(StrFormat("expected '{}'", op));
  Advance();
  return Status::Ok();
}

ExprPtr ExpressionParser::New(Expr::Kind kind) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->offset = tokens_.Current().offset;
  return expr;
}

Status ExpressionParser::Adopt(Expr* parent, ExprPtr kid) {
  if (kid) parent->depth = std::max(parent->depth, kid->depth + 1);
  parent->kids.push_back(std::move(kid));
  if (parent->depth > kMaxTreeDepth) return tokens_.Fail(StrFormat("an expression deeper than {}", kMaxTreeDepth));
  return Status::Ok();
}

Result<ExprPtr> ExpressionParser::ParseTuple(bool with_condition) {
  const auto one = [&] { return with_condition ? ParseIf() : ParseOr(); };
  auto tuple = New(Expr::Kind::kTuple);
  SW_ASSIGN_OR_RETURN(ExprPtr first, one());
  if (!tokens_.Current().Is(",")) return first;
  SW_RETURN_IF_ERROR(Adopt(tuple.get(), std::move(first)));
  while (tokens_.Current().Is(",")) {
    tokens_.Advance();
    const Token& token = tokens_.Current();
    if (token.kind == Token::Kind::kPrintEnd || token.kind == Token::Kind::kBlockEnd || token.Is(")")) break;
    SW_ASSIGN_OR_RETURN(ExprPtr next, one());
    SW_RETURN_IF_ERROR(Adopt(tuple.get(), std::move(next)));
  }
  return tuple;
}

Result<ExprPtr> ExpressionParser::ParseIf() {
  if (++depth_ > kMaxNesting) return tokens_.Fail(StrFormat("expressions nested deeper than {}", kMaxNesting));
  SW_ASSIGN_OR_RETURN(ExprPtr value, ParseOr());
  while (tokens_.Current().IsName("if")) {
    auto choice = New(Expr::Kind::kIf);
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(ExprPtr condition, ParseOr());
    ExprPtr otherwise;
    if (tokens_.Current().IsName("else")) {
      tokens_.Advance();
      SW_ASSIGN_OR_RETURN(otherwise, ParseIf());
    }
    SW_RETURN_IF_ERROR(Adopt(choice.get(), std::move(value)));
    SW_RETURN_IF_ERROR(Adopt(choice.get(), std::move(condition)));
    SW_RETURN_IF_ERROR(Adopt(choice.get(), std::move(otherwise)));
    value = std::move(choice);
  }
  --depth_;
  return value;
}

Result<ExprPtr> ExpressionParser::ParseSeveral(Level level, Expr::Kind kind, std::string_view separator) {
  SW_ASSIGN_OR_RETURN(ExprPtr first, (this->*level)());
  const auto follows = [&] { return tokens_.Current().IsName(separator) || tokens_.Current().Is(separator); };
  if (!follows()) return first;
  auto all = New(kind);
  SW_RETURN_IF_ERROR(Adopt(all.get(), std::move(first)));
  while (follows()) {
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(ExprPtr next, (this->*level)());
    SW_RETURN_IF_ERROR(Adopt(all.get(), std::move(next)));
  }
  return all;
}

Result<ExprPtr> ExpressionParser::ParseOr() { return ParseSeveral(&ExpressionParser::ParseAnd, Expr::Kind::kOr, "or"); }
Result<ExprPtr> ExpressionParser::ParseAnd() {
  return ParseSeveral(&ExpressionParser::ParseNot, Expr::Kind::kAnd, "and");
}

Result<ExprPtr> ExpressionParser::ParseNot() {
  if (!tokens_.Current().IsName("not")) return ParseCompare();
  auto negation = New(Expr::Kind::kNot);
  tokens_.Advance();
  if (++depth_ > kMaxNesting) return tokens_.Fail(StrFormat("expressions nested deeper than {}", kMaxNesting));
  SW_ASSIGN_OR_RETURN(ExprPtr value, ParseNot());
  --depth_;
  SW_RETURN_IF_ERROR(Adopt(negation.get(), std::move(value)));
  return negation;
}

Result<ExprPtr> ExpressionParser::ParseCompare() {
  SW_ASSIGN_OR_RETURN(ExprPtr value, ParseSum());
  ExprPtr compare;
  while (true) {
    const Token& token = tokens_.Current();
    std::string op;
    for (const std::string_view known : {"==", "!=", "<=", ">=", "<", ">"})
      if (token.Is(known)) op = known;
    if (token.IsName("in")) op = "in";
    if (token.IsName("not") && tokens_.Next().IsName("in")) op = "not in";
    if (op.empty()) break;
    if (!compare) {
      compare = New(Expr::Kind::kCompare);
      SW_RETURN_IF_ERROR(Adopt(compare.get(), std::move(value)));
    }
    tokens_.Advance();
    if (op == "not in") tokens_.Advance();
    SW_ASSIGN_OR_RETURN(ExprPtr next, ParseSum());
    compare->operators.push_back(std::move(op));
    SW_RETURN_IF_ERROR(Adopt(compare.get(), std::move(next)));
  }
  return compare ? std::move(compare) : std::move(value);
}

Result<ExprPtr> ExpressionParser::ParseSum() {
  SW_ASSIGN_OR_RETURN(ExprPtr value, ParseConcat());
  while (tokens_.Current().Is("+") || tokens_.Current().Is("-")) {
    auto sum = New(Expr::Kind::kArithmetic);
    sum->op = tokens_.Current().text[0];
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(ExprPtr next, ParseConcat());
    SW_RETURN_IF_ERROR(Adopt(sum.get(), std::move(value)));
    SW_RETURN_IF_ERROR(Adopt(sum.get(), std::move(next)));
    value = std::move(sum);
  }
  return value;
}

Result<ExprPtr> ExpressionParser::ParseConcat() {
  return ParseSeveral(&ExpressionParser::ParseProduct, Expr::Kind::kConcat, "~");
}

Result<ExprPtr> ExpressionParser::ParseProduct() {
  SW_ASSIGN_OR_RETURN(ExprPtr value, ParsePower());
  while (true) {
    const Token& token = tokens_.Current();
    if (!token.Is("*") && !token.Is("/") && !token.Is("//") && !token.Is("%")) break;
    auto product = New(Expr::Kind::kArithmetic);
    product->op = token.text == "//" ? 'f' : token.text[0];
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(ExprPtr next, ParsePower());
    SW_RETURN_IF_ERROR(Adopt(product.get(), std::move(value)));
    SW_RETURN_IF_ERROR(Adopt(product.get(), std::move(next)));
    value = std::move(product);
  }
  return value;
}

Result<ExprPtr> ExpressionParser::ParsePower() {
  SW_ASSIGN_OR_RETURN(ExprPtr value, ParseUnary(true));
  while (tokens_.Current().Is("**")) {
    auto power = New(Expr::Kind::kArithmetic);
    power->op = 'p';
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(ExprPtr next, ParseUnary(true));
    SW_RETURN_IF_ERROR(Adopt(power.get(), std::move(value)));
    SW_RETURN_IF_ERROR(Adopt(power.get(), std::move(next)));
    value = std::move(power);
  }
  return value;
}

Result<ExprPtr> ExpressionParser::ParseUnary(bool with_filters) {
  ExprPtr value;
  if (tokens_.Current().Is("-") || tokens_.Current().Is("+")) {
    auto sign = New(tokens_.Current().Is("-") ? Expr::Kind::kNegate : Expr::Kind::kPlus);
    tokens_.Advance();
    if (++depth_ > kMaxNesting) return tokens_.Fail(StrFormat("expressions nested deeper than {}", kMaxNesting));
    SW_ASSIGN_OR_RETURN(ExprPtr inner, ParseUnary(false));
    --depth_;
    SW_RETURN_IF_ERROR(Adopt(sign.get(), std::move(inner)));
    value = std::move(sign);
  } else {
    SW_ASSIGN_OR_RETURN(value, ParsePrimary());
  }
  SW_ASSIGN_OR_RETURN(value, ParsePostfix(std::move(value)));
  return with_filters ? ParseFiltersAndTests(std::move(value)) : Result<ExprPtr>(std::move(value));
}

Result<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr value) {
  while (true) {
    const Token& token = tokens_.Current();
    if (token.Is(".")) {
      tokens_.Advance();
      const Token& name = tokens_.Current();
      if (name.kind == Token::Kind::kName) {
        auto attribute = New(Expr::Kind::kAttribute);
        attribute->text = name.text;
        SW_RETURN_IF_ERROR(Adopt(attribute.get(), std::move(value)));
        value = std::move(attribute);
      } else if (name.kind == Token::Kind::kInt) {
        auto item = New(Expr::Kind::kItem);
        auto index = New(Expr::Kind::kLiteral);
        index->literal = Value::Int(name.integer);
        SW_RETURN_IF_ERROR(Adopt(item.get(), std::move(value)));
        SW_RETURN_IF_ERROR(Adopt(item.get(), std::move(index)));
        value = std::move(item);
      } else {
        return tokens_.Fail("expected a name after '.'");
      }
      tokens_.Advance();
    } else if (token.Is("[")) {
      SW_ASSIGN_OR_RETURN(value, ParseSubscript(std::move(value)));
    } else if (token.Is("(")) {
      auto call = New(Expr::Kind::kCall);
      SW_RETURN_IF_ERROR(Adopt(call.get(), std::move(value)));
      SW_RETURN_IF_ERROR(ParseArguments(call.get()));
      value = std::move(call);
    } else {
      return value;
    }
  }
}

Result<ExprPtr> ExpressionParser::ParseSubscript(ExprPtr value) {
  auto item = New(Expr::Kind::kItem);
  tokens_.Advance();
  std::vector<ExprPtr> parts;
  bool slice = false, wants_part = true;
  while (!tokens_.Current().Is("]")) {
    if (tokens_.Current().Is(":")) {
      if (wants_part) parts.push_back(nullptr);
      slice = wants_part = true;
      tokens_.Advance();
      continue;
    }
    if (!wants_part) return tokens_.Fail("expected ']'");
    SW_ASSIGN_OR_RETURN(ExprPtr part, Parse());
    parts.push_back(std::move(part));
    wants_part = false;
  }
  tokens_.Advance();
  if (slice && wants_part) parts.push_back(nullptr);
  if (parts.size() > 3 || parts.empty() || (!slice && parts.size() != 1))
    return tokens_.Fail("a subscript that is not understood before this");
  item->kind = slice ? Expr::Kind::kSlice : Expr::Kind::kItem;
  if (slice) parts.resize(3);
  SW_RETURN_IF_ERROR(Adopt(item.get(), std::move(value)));
  for (ExprPtr& part : parts) SW_RETURN_IF_ERROR(Adopt(item.get(), std::move(part)));
  return item;
}

Status ExpressionParser::ParseArguments(Expr* call) {
  SW_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
  bool first = true;
  while (!tokens_.Current().Is(")")) {
    if (!first) {
      SW_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
      if (tokens_.Current().Is(")")) break;
    }
    first = false;
    const bool spread = tokens_.Current().Is("*") || tokens_.Current().Is("**");
    if (spread || (tokens_.Current().kind == Token::Kind::kName && tokens_.Next().Is("="))) {
      std::string name = tokens_.Current().text;
      const auto given = [&](std::string_view what) {
        return std::any_of(call->named.begin(), call->named.end(), [&](const auto& arg) { return arg.first == what; });
      };
      if (given("**") || (name == "*" && given("*"))) return tokens_.Fail("an argument after '*' arguments");
      tokens_.Advance();
      if (!spread) tokens_.Advance();
      auto value = Parse();
      if (!value.ok()) return value.status();
      call->depth = std::max(call->depth, (*value)->depth + 1);
      call->named.emplace_back(std::move(name), std::move(*value));
    } else {
      if (!call->named.empty()) return tokens_.Fail("a positional argument after a named one");
      auto value = Parse();
      if (!value.ok()) return value.status();
      SW_RETURN_IF_ERROR(Adopt(call, std::move(*value)));
    }
  }
  tokens_.Advance();
  return Status::Ok();
}

Result<ExprPtr> ExpressionParser::ParseFiltersAndTests(ExprPtr value) {
  while (true) {
    if (tokens_.Current().Is("|")) {
      SW_ASSIGN_OR_RETURN(value, ParseFilter(std::move(value)));
    } else if (tokens_.Current().IsName("is")) {
      SW_ASSIGN_OR_RETURN(value, ParseTest(std::move(value)));
    } else if (tokens_.Current().Is("(")) {
      auto call = New(Expr::Kind::kCall);
      SW_RETURN_IF_ERROR(Adopt(call.get(), std::move(value)));
      SW_RETURN_IF_ERROR(ParseArguments(call.get()));
      value = std::move(call);
    } else {
      return value;
    }
  }
}

Result<ExprPtr> ExpressionParser::ParseFilters(ExprPtr value) {
  while (tokens_.Current().Is("|")) {
    SW_ASSIGN_OR_RETURN(value, ParseFilter(std::move(value)));
  }
  return value;
}

Result<ExprPtr> ExpressionParser::ParseFilter(ExprPtr value) {
  auto filter = New(Expr::Kind::kFilter);
  tokens_.Advance();
  if (tokens_.Current().kind != Token::Kind::kName) return tokens_.Fail("expected the name of a filter");
  filter->text = tokens_.Current().text;
  filter->offset = tokens_.Current().offset;
  tokens_.Advance();
  SW_RETURN_IF_ERROR(Adopt(filter.get(), std::move(value)));
  if (tokens_.Current().Is("(")) SW_RETURN_IF_ERROR(ParseArguments(filter.get()));
  return filter;
}

Result<ExprPtr> ExpressionParser::ParseTest(ExprPtr value) {
  auto test = New(Expr::Kind::kTest);
  auto negation = New(Expr::Kind::kNot);
  tokens_.Advance();
  const bool negated = tokens_.Current().IsName("not");
  if (negated) tokens_.Advance();
  if (tokens_.Current().kind != Token::Kind::kName) return tokens_.Fail("expected the name of a test");
  test->text = tokens_.Current().text;
  test->offset = tokens_.Current().offset;
  tokens_.Advance();
  SW_RETURN_IF_ERROR(Adopt(test.get(), std::move(value)));
  const Token& token = tokens_.Current();
  const auto is_literal = [&] {
    if (token.kind == Token::Kind::kName)
      return !token.IsName("else") && !token.IsName("or") && !token.IsName("and") && !token.IsName("is") &&
             !token.IsName("if") && !token.IsName("in") && !token.IsName("not") && !token.IsName("recursive");
    return token.kind == Token::Kind::kString || token.kind == Token::Kind::kInt || token.kind == Token::Kind::kFloat ||
           token.Is("[") || token.Is("{");
  };
  if (token.Is("(")) {
    SW_RETURN_IF_ERROR(ParseArguments(test.get()));
  } else if (is_literal()) {
    SW_ASSIGN_OR_RETURN(ExprPtr argument, ParsePrimary());
    SW_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    SW_RETURN_IF_ERROR(Adopt(test.get(), std::move(argument)));
  }
  if (!negated) return test;
  SW_RETURN_IF_ERROR(Adopt(negation.get(), std::move(test)));
  return negation;
}

Result<ExprPtr> ExpressionParser::ParseName() {
  const Token& token = tokens_.Current();
  auto literal = New(Expr::Kind::kLiteral);
  if (token.text == "true" || token.text == "True") {
    literal->literal = Value::Bool(true);
  } else if (token.text == "false" || token.text == "False") {
    literal->literal = Value::Bool(false);
  } else if (token.text != "none" && token.text != "None") {
    for (const std::string_view word : {"in", "is", "and", "or", "not", "if", "else"})
      if (token.text == word) return tokens_.Fail("expected a value");
    literal->kind = Expr::Kind::kName;
    literal->text = token.text;
  }
  tokens_.Advance();
  return literal;
}

Result<ExprPtr> ExpressionParser::ParsePrimary() {
  const Token& token = tokens_.Current();
  if (token.kind == Token::Kind::kName) return ParseName();
  auto expr = New(Expr::Kind::kLiteral);
  if (token.kind == Token::Kind::kString) {
    std::string text;
    while (tokens_.Current().kind == Token::Kind::kString) {  // adjacent strings are one
      text += tokens_.Current().text;
      tokens_.Advance();
    }
    expr->literal = Value::String(std::move(text));
    return expr;
  }
  if (token.kind == Token::Kind::kInt || token.kind == Token::Kind::kFloat) {
    expr->literal = token.kind == Token::Kind::kInt ? Value::Int(token.integer) : Value::Float(token.number);
    tokens_.Advance();
    return expr;
  }
  if (token.Is("(")) {
    tokens_.Advance();
    if (tokens_.Current().Is(")")) {
      expr->kind = Expr::Kind::kTuple;
    } else {
      SW_ASSIGN_OR_RETURN(expr, ParseTuple());
    }
    SW_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    return expr;
  }
  const bool dict = token.Is("{");
  if (!dict && !token.Is("[")) return tokens_.Fail("expected a value");
  const std::string_view close = dict ? "}" : "]";
  expr->kind = dict ? Expr::Kind::kDict : Expr::Kind::kList;
  tokens_.Advance();
  while (!tokens_.Current().Is(close)) {
    if (!expr->kids.empty()) {
      SW_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
      if (tokens_.Current().Is(close)) break;
    }
    SW_ASSIGN_OR_RETURN(ExprPtr item, Parse());
    SW_RETURN_IF_ERROR(Adopt(expr.get(), std::move(item)));
    if (!dict) continue;
    SW_RETURN_IF_ERROR(tokens_.ExpectOperator(":"));
    SW_ASSIGN_OR_RETURN(ExprPtr member, Parse());
    SW_RETURN_IF_ERROR(Adopt(expr.get(), std::move(member)));
  }
  tokens_.Advance();
  return expr;
}

}  // namespace spanwise::jinja
