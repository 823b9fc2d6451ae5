// The parsed template: expressions and statements. Immutable once parsed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/jinja/value.h"

namespace spanwise::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

struct Expr {
  enum class Kind : uint8_t {
    kLiteral,    // literal
    kName,       // text
    kList,       // kids
    kTuple,      // kids
    kDict,       // kids: key, value, key, value, ...
    kAttribute,  // kids[0].text
    kItem,       // kids[0][kids[1]]
    kSlice,      // kids[0][kids[1]:kids[2]:kids[3]], null where left out
    kCall,       // kids[0](kids[1..], named)
    kFilter,     // kids[0] | text(kids[1..], named)
    kTest,       // kids[0] is text(kids[1..], named)
    kNot,        // kids[0]
    kNegate,
    kPlus,
    kAnd,  // kids, two or more
    kOr,
    kConcat,
    kArithmetic,  // kids[0] op kids[1]
    kCompare,     // kids[0] operators[0] kids[1] operators[1] kids[2] ...
    kIf,          // kids[0] if kids[1] else kids[2], which may be null
  };
  Kind kind = Kind::kLiteral;
  char op = 0;          // kArithmetic: + - * / % f (//) p (**)
  uint32_t offset = 0;  // in the source, for messages
  int depth = 1;        // of the tree below, bounded by the parser
  std::string text;
  Value literal;
  std::vector<ExprPtr> kids;
  std::vector<std::pair<std::string, ExprPtr>> named;  // "*" and "**" name the arguments that a value spreads into
  std::vector<std::string> operators;
};

struct Macro {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  Block body;
};

struct Stmt {
  enum class Kind : uint8_t {
    kText,      // text
    kPrint,     // expr
    kIf,        // branches
    kFor,       // target in expr, filter; body; orelse
    kSet,       // target = expr
    kSetBlock,  // target, body; filters of an expression whose innermost value is the body's text: expr or null
    kMacro,     // macro
    kScope,     // body in a scope of its own ("with"): target = expr pairs in assignments
    kFilter,    // body, through expr as of kSetBlock
    kCall,      // expr, a call; macro: what it calls "caller"
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  uint32_t offset = 0;
  std::string text;
  ExprPtr expr, filter;
  ExprPtr target;                                   // kName, kAttribute of a name, or kTuple of names
  std::vector<std::pair<ExprPtr, Block>> branches;  // condition (null: else), body
  std::vector<std::pair<std::string, ExprPtr>> assignments;
  Block body, orelse;
  std::unique_ptr<Macro> macro;
};

}  // namespace spanwise::jinja
