// Runs a parsed template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/jinja/arguments.h"
#include "tokenizer/jinja/ast.h"

namespace spanwise::jinja {

// One rendering. Thread-compatible; the template and `source` must outlive it.
class Renderer {
 public:
  Renderer(std::string_view source, const json::object& variables, size_t max_output_bytes, size_t max_steps);
  ~Renderer();

  Result<std::string> Run(const Block& block);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  using Scope = std::unordered_map<std::string_view, Value>;

  Result<Flow> Exec(const Block& block);
  Result<Flow> ExecOne(const Stmt& stmt);
  Status ExecPrint(const Stmt& stmt);
  Status Print(const Stmt& stmt, const Value& value);
  Result<Flow> ExecIf(const Stmt& stmt);
  Result<Flow> ExecFor(const Stmt& stmt);
  Status ExecSetBlock(const Stmt& stmt);
  Result<Value> FilteredBody(const Stmt& stmt);  // the body's text through the filters in expr
  Result<Flow> ExecScope(const Stmt& stmt);
  Status Assign(const Stmt& stmt, const Expr& target, const Value& value);
  // Runs `block` with its output taken aside.
  Result<std::string> Capture(const Block& block);
  Status Write(const Stmt& stmt, std::string_view text);

  Result<Value> Eval(const Expr& expr);
  Result<Value> EvalKind(const Expr& expr);
  Result<Value> EvalCompare(const Expr& expr);
  Result<Value> EvalCall(const Expr& expr, const Value* caller = nullptr);
  Result<Value> EvalContainer(const Expr& expr);
  Result<Arguments> EvalArguments(const Expr& expr);
  // A macro as a value: with the names of the scopes it stands in, if it does not stand at the top.
  Result<Value> Close(const Macro* macro);
  // `caller`: what a call block gives the macro under this name, or null. `sees`: scopes on top that the body sees.
  Result<Value> CallMacro(const Expr& call, const Macro& macro, Arguments arguments, const Value* caller,
                          size_t sees = 0);
  Result<Value> CallClosure(const Expr& call, const Value& callee, Arguments arguments, const Value* caller);
  Result<Value> CallBuiltin(const Expr& call, Value::Builtin builtin, const Arguments& arguments);
  Value Lookup(const std::string& name) const;

  // The failure of a value operation, with the place where the template asked for it.
  Status At(uint32_t offset, const Status& status) const;
  template <typename T>
  Result<T> At(uint32_t offset, Result<T> result) const {
    return result.ok() ? std::move(result) : Result<T>(At(offset, result.status()));
  }

  const std::string_view source_;
  const json::object& variables_;
  const size_t max_output_bytes_;
  Budget budget_;
  int depth_ = 0;  // of Eval and Exec on the stack
  std::vector<Scope> scopes_;
  size_t visible_from_ = 1;  // scopes_[0] is global; those between it and here belong to a macro's callers
  std::string output_;
  Value block_text_;                                    // the value of the name "", for filters of a set block
  std::vector<std::shared_ptr<Namespace>> namespaces_;  // to be emptied: they are where cycles could hide
};

}  // namespace spanwise::jinja
