// The expressions of a template, by recursive descent with Jinja2's precedences.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/lexer.h"

namespace spanwise::jinja {

// Tokens with a place in them. Reading past the end gives kEnd again and again.
class TokenStream {
 public:
  TokenStream(std::string_view source, std::vector<Token> tokens) : source_(source), tokens_(std::move(tokens)) {}

  const Token& Current() const { return tokens_[at_]; }
  const Token& Next() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  void Advance() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  Status Expect(Token::Kind kind, std::string_view expected);
  Status ExpectOperator(std::string_view op);
  // InvalidArgument at the current token, naming it.
  Status Fail(std::string_view what) const;
  std::string_view source() const { return source_; }

 private:
  const std::string_view source_;
  const std::vector<Token> tokens_;
  size_t at_ = 0;
};

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream* tokens) : tokens_(*tokens) {}

  Result<ExprPtr> Parse() { return ParseIf(); }
  // One expression, or several with commas, which make a tuple.
  Result<ExprPtr> ParseTuple(bool with_condition = true);
  // "| name(...)" as often as it follows.
  Result<ExprPtr> ParseFilters(ExprPtr value);
  // "name(...)" after the current token.
  Result<ExprPtr> ParseFilter(ExprPtr value);
  ExprPtr New(Expr::Kind kind) const;

 private:
  using Level = Result<ExprPtr> (ExpressionParser::*)();

  Result<ExprPtr> ParseIf();
  Result<ExprPtr> ParseOr();
  Result<ExprPtr> ParseAnd();
  Result<ExprPtr> ParseNot();
  Result<ExprPtr> ParseCompare();
  Result<ExprPtr> ParseSum();
  Result<ExprPtr> ParseConcat();
  Result<ExprPtr> ParseProduct();
  Result<ExprPtr> ParsePower();
  Result<ExprPtr> ParseUnary(bool with_filters);
  Result<ExprPtr> ParsePostfix(ExprPtr value);
  Result<ExprPtr> ParseFiltersAndTests(ExprPtr value);
  Result<ExprPtr> ParsePrimary();
  Result<ExprPtr> ParseName();
  Result<ExprPtr> ParseSubscript(ExprPtr value);
  Result<ExprPtr> ParseTest(ExprPtr value);
  Result<ExprPtr> ParseSeveral(Level level, Expr::Kind kind, std::string_view separator);
  Status ParseArguments(Expr* call);
  // Adds a kid and keeps track of the depth of the tree.
  Status Adopt(Expr* parent, ExprPtr kid);

  TokenStream& tokens_;
  int depth_ = 0;
};

}  // namespace spanwise::jinja
