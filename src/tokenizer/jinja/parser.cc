#include "tokenizer/jinja/parser.h"

#include <algorithm>
#include <initializer_list>

#include "base/str.h"
#include "tokenizer/jinja/expression_parser.h"

namespace spanwise::jinja {
namespace {

// Statements. Expressions are ExpressionParser's.
class Parser {
 public:
  Parser(std::string_view source, TokenStream* tokens) : source_(source), tokens_(*tokens), expressions_(tokens) {}

  Result<Block> Run() {
    SW_ASSIGN_OR_RETURN(Block block, ParseBlock({}));
    return block;
  }

 private:
  using Names = std::initializer_list<std::string_view>;

  // Statements up to a tag of one of `ends`, whose name stays the current token; with no ends, up to the end of the
  // source.
  Result<Block> ParseBlock(Names ends) {
    Block block;
    if (++depth_ > kMaxNesting) return tokens_.Fail(StrFormat("blocks nested deeper than {}", kMaxNesting));
    while (true) {
      const Token& token = tokens_.Current();
      if (token.kind == Token::Kind::kEnd) {
        if (ends.size() > 0)
          return tokens_.Fail(StrFormat("the template ends, expected {{% {} %}}", *(ends.end() - 1)));
        break;
      }
      if (token.kind == Token::Kind::kText) {
        auto stmt = New(Stmt::Kind::kText);
        stmt->text = token.text;
        tokens_.Advance();
        block.push_back(std::move(stmt));
      } else if (token.kind == Token::Kind::kPrintBegin) {
        tokens_.Advance();
        auto stmt = New(Stmt::Kind::kPrint);
        SW_ASSIGN_OR_RETURN(stmt->expr, expressions_.ParseTuple());
        SW_RETURN_IF_ERROR(tokens_.Expect(Token::Kind::kPrintEnd, "'}}'"));
        block.push_back(std::move(stmt));
      } else {
        tokens_.Advance();  // "{%"
        const Token& name = tokens_.Current();
        if (name.kind != Token::Kind::kName) return tokens_.Fail("expected the name of a tag");
        if (std::find(ends.begin(), ends.end(), name.text) != ends.end()) break;
        SW_ASSIGN_OR_RETURN(StmtPtr stmt, ParseTag());
        block.push_back(std::move(stmt));
      }
    }
    --depth_;
    return block;
  }

  StmtPtr New(Stmt::Kind kind) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->offset = tokens_.Current().offset;
    return stmt;
  }

  Status EndTag() { return tokens_.Expect(Token::Kind::kBlockEnd, "'%}'"); }
  // The name of the closing tag is the current token.
  Status CloseTag() {
    tokens_.Advance();
    return EndTag();
  }

  Result<StmtPtr> ParseTag() {
    const std::string name = tokens_.Current().text;
    if (name == "if") return ParseIf();
    if (name == "for") return ParseFor();
    if (name == "set") return ParseSet();
    if (name == "macro") return ParseMacro();
    if (name == "with") return ParseWith();
    if (name == "filter") return ParseFilter();
    if (name == "call") return ParseCall();
    if (name == "break" || name == "continue") {
      if (loops_ == 0) return tokens_.Fail(StrFormat("'{}' outside a loop", name));
      auto stmt = New(name == "break" ? Stmt::Kind::kBreak : Stmt::Kind::kContinue);
      SW_RETURN_IF_ERROR(CloseTag());
      return stmt;
    }
    if (name == "generation") {
      auto stmt = New(Stmt::Kind::kScope);  // transformers calls its body as a macro
      SW_RETURN_IF_ERROR(CloseTag());
      SW_ASSIGN_OR_RETURN(stmt->body, ParseBody("endgeneration"));
      return stmt;
    }
    for (const std::string_view known : {"include", "import", "from", "extends", "block", "autoescape", "do"})
      if (name == known)
        return Unimplemented(
            StrFormat("{}: the tag '{}' is not done", PlaceOf(source_, tokens_.Current().offset), name));
    return tokens_.Fail(StrFormat("unknown tag {}", Quoted(name)));
  }

  Result<StmtPtr> ParseIf() {
    auto stmt = New(Stmt::Kind::kIf);
    bool open = true;
    while (open) {
      const bool has_condition = !tokens_.Current().IsName("else");
      tokens_.Advance();
      ExprPtr condition;
      if (has_condition) {
        SW_ASSIGN_OR_RETURN(condition, expressions_.ParseTuple());
      }
      SW_RETURN_IF_ERROR(EndTag());
      Result<Block> body = has_condition ? ParseBlock({"elif", "else", "endif"}) : ParseBlock({"endif"});
      if (!body.ok()) return body.status();
      stmt->branches.emplace_back(std::move(condition), std::move(*body));
      open = !tokens_.Current().IsName("endif");
    }
    SW_RETURN_IF_ERROR(CloseTag());
    return stmt;
  }

  Result<StmtPtr> ParseFor() {
    auto stmt = New(Stmt::Kind::kFor);
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(stmt->target, ParseTarget(false));
    if (!tokens_.Current().IsName("in")) return tokens_.Fail("expected 'in'");
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(stmt->expr, expressions_.ParseTuple(/*with_condition=*/false));
    if (tokens_.Current().IsName("if")) {
      tokens_.Advance();
      SW_ASSIGN_OR_RETURN(stmt->filter, expressions_.Parse());
    }
    if (tokens_.Current().IsName("recursive"))
      return Unimplemented(StrFormat("{}: a recursive loop is not done", PlaceOf(source_, tokens_.Current().offset)));
    SW_RETURN_IF_ERROR(EndTag());
    ++loops_;
    SW_ASSIGN_OR_RETURN(stmt->body, ParseBlock({"else", "endfor"}));
    --loops_;
    if (tokens_.Current().IsName("else")) {
      SW_RETURN_IF_ERROR(CloseTag());
      SW_ASSIGN_OR_RETURN(stmt->orelse, ParseBlock({"endfor"}));
    }
    SW_RETURN_IF_ERROR(CloseTag());
    return stmt;
  }

  // A name, a tuple of names, or (where allowed) an attribute of a namespace.
  Result<ExprPtr> ParseTarget(bool with_attribute) {
    auto target = expressions_.New(Expr::Kind::kTuple);
    const bool brackets = tokens_.Current().Is("(");
    if (brackets) tokens_.Advance();
    while (true) {
      SW_ASSIGN_OR_RETURN(ExprPtr name, ParseTargetName());
      target->kids.push_back(std::move(name));
      if (!tokens_.Current().Is(",")) break;
      tokens_.Advance();
      if (tokens_.Current().kind != Token::Kind::kName || tokens_.Current().IsName("in")) break;
    }
    if (brackets) SW_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    if (target->kids.size() > 1 || brackets) return target;
    ExprPtr only = std::move(target->kids[0]);
    if (!with_attribute || !tokens_.Current().Is(".")) return only;
    tokens_.Advance();
    auto attribute = expressions_.New(Expr::Kind::kAttribute);
    if (tokens_.Current().kind != Token::Kind::kName) return tokens_.Fail("expected the name of an attribute");
    attribute->text = tokens_.Current().text;
    tokens_.Advance();
    attribute->kids.push_back(std::move(only));
    return attribute;
  }

  Result<ExprPtr> ParseTargetName() {
    const Token& token = tokens_.Current();
    if (token.kind != Token::Kind::kName) return tokens_.Fail("expected a name to assign to");
    for (const std::string_view constant : {"true", "True", "false", "False", "none", "None", "loop"})
      if (token.text == constant) return tokens_.Fail(StrFormat("'{}' cannot be assigned to", constant));
    auto name = expressions_.New(Expr::Kind::kName);
    name->text = token.text;
    tokens_.Advance();
    return name;
  }

  Result<StmtPtr> ParseSet() {
    auto stmt = New(Stmt::Kind::kSet);
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(stmt->target, ParseTarget(true));
    if (tokens_.Current().Is("=")) {
      tokens_.Advance();
      SW_ASSIGN_OR_RETURN(stmt->expr, expressions_.ParseTuple());
      SW_RETURN_IF_ERROR(EndTag());
      return stmt;
    }
    stmt->kind = Stmt::Kind::kSetBlock;
    if (tokens_.Current().Is("|")) {
      auto body = expressions_.New(Expr::Kind::kName);  // an empty name stands for the text of the block
      SW_ASSIGN_OR_RETURN(stmt->expr, expressions_.ParseFilters(std::move(body)));
    }
    SW_RETURN_IF_ERROR(EndTag());
    SW_ASSIGN_OR_RETURN(stmt->body, ParseBlock({"endset"}));
    SW_RETURN_IF_ERROR(CloseTag());
    return stmt;
  }

  Result<StmtPtr> ParseMacro() {
    auto stmt = New(Stmt::Kind::kMacro);
    stmt->macro = std::make_unique<Macro>();
    tokens_.Advance();
    SW_ASSIGN_OR_RETURN(const ExprPtr name, ParseTargetName());
    stmt->macro->name = name->text;
    SW_RETURN_IF_ERROR(ParseParameters(stmt->macro.get()));
    SW_RETURN_IF_ERROR(EndTag());
    SW_ASSIGN_OR_RETURN(stmt->macro->body, ParseBody("endmacro"));
    return stmt;
  }

  // {% filter name(...) | ... %} body {% endfilter %}
  Result<StmtPtr> ParseFilter() {
    auto stmt = New(Stmt::Kind::kFilter);
    auto body = expressions_.New(Expr::Kind::kName);  // an empty name stands for the text of the block
    SW_ASSIGN_OR_RETURN(ExprPtr first, expressions_.ParseFilter(std::move(body)));  // the tag stands where "|" would
    SW_ASSIGN_OR_RETURN(stmt->expr, expressions_.ParseFilters(std::move(first)));
    SW_RETURN_IF_ERROR(EndTag());
    SW_ASSIGN_OR_RETURN(stmt->body, ParseBody("endfilter"));
    return stmt;
  }

  // {% call(parameters) macro(...) %} body {% endcall %}
  Result<StmtPtr> ParseCall() {
    auto stmt = New(Stmt::Kind::kCall);
    stmt->macro = std::make_unique<Macro>();
    tokens_.Advance();
    if (tokens_.Current().Is("(")) SW_RETURN_IF_ERROR(ParseParameters(stmt->macro.get()));
    SW_ASSIGN_OR_RETURN(stmt->expr, expressions_.Parse());
    if (stmt->expr->kind != Expr::Kind::kCall) return tokens_.Fail("expected the call of a macro");
    SW_RETURN_IF_ERROR(EndTag());
    SW_ASSIGN_OR_RETURN(stmt->macro->body, ParseBody("endcall"));
    return stmt;
  }

  // A body that loops outside cannot be left from, and its closing tag.
  Result<Block> ParseBody(std::string_view end) {
    const int loops_outside = std::exchange(loops_, 0);
    SW_ASSIGN_OR_RETURN(Block body, ParseBlock({end}));
    loops_ = loops_outside;
    SW_RETURN_IF_ERROR(CloseTag());
    return body;
  }

  // (a, b=1)
  Status ParseParameters(Macro* parsed) {
    Macro& macro = *parsed;
    SW_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
    while (!tokens_.Current().Is(")")) {
      if (!macro.parameters.empty()) SW_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
      auto named = ParseTargetName();
      if (!named.ok()) return named.status();
      const ExprPtr parameter = std::move(*named);
      if (std::find(macro.parameters.begin(), macro.parameters.end(), parameter->text) != macro.parameters.end())
        return tokens_.Fail(StrFormat("the parameter {} occurs twice", Quoted(parameter->text)));
      macro.parameters.push_back(parameter->text);
      if (tokens_.Current().Is("=")) {
        tokens_.Advance();
        auto value = expressions_.Parse();
        if (!value.ok()) return value.status();
        macro.defaults.push_back(std::move(*value));
      } else if (!macro.defaults.empty()) {
        return tokens_.Fail("a parameter without a default after one with");
      }
    }
    tokens_.Advance();
    return Status::Ok();
  }

  Result<StmtPtr> ParseWith() {
    auto stmt = New(Stmt::Kind::kScope);
    tokens_.Advance();
    while (tokens_.Current().kind != Token::Kind::kBlockEnd) {
      if (!stmt->assignments.empty()) SW_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
      SW_ASSIGN_OR_RETURN(const ExprPtr name, ParseTargetName());
      SW_RETURN_IF_ERROR(tokens_.ExpectOperator("="));
      SW_ASSIGN_OR_RETURN(ExprPtr value, expressions_.Parse());
      stmt->assignments.emplace_back(name->text, std::move(value));
    }
    SW_RETURN_IF_ERROR(EndTag());
    SW_ASSIGN_OR_RETURN(stmt->body, ParseBlock({"endwith"}));
    SW_RETURN_IF_ERROR(CloseTag());
    return stmt;
  }

  const std::string_view source_;
  TokenStream& tokens_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Result<Block> Parse(std::string_view source) {
  SW_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  TokenStream stream(source, std::move(tokens));
  return Parser(source, &stream).Run();
}

}  // namespace spanwise::jinja
