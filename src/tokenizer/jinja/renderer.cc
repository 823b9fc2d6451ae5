#include "tokenizer/jinja/renderer.h"

#include <algorithm>

#include "base/str.h"
#include "tokenizer/jinja/filters.h"
#include "tokenizer/jinja/lexer.h"
#include "tokenizer/jinja/methods.h"

namespace spanwise::jinja {
namespace {

// Nested evaluations on the stack, over all macros: each takes a few hundred bytes, some kilobytes in sanitizer builds.
constexpr int kMaxStackDepth = 500;
constexpr size_t kNamespaceSteps = 50;  // they are kept until the end

}  // namespace

Renderer::Renderer(std::string_view source, const json::object& variables, size_t max_output_bytes, size_t max_steps)
    : source_(source), variables_(variables), max_output_bytes_(max_output_bytes) {
  budget_.steps = max_steps;
  budget_.max_string_bytes = max_output_bytes;
}

Renderer::~Renderer() {
  for (const auto& name_space : namespaces_) name_space->attributes.clear();
}

Status Renderer::At(uint32_t offset, const Status& status) const {
  return status.ok() ? status : status.WithContext(PlaceOf(source_, offset));
}

Result<std::string> Renderer::Run(const Block& block) {
  scopes_.emplace_back();
  for (const auto& variable : variables_) {
    auto value = Value::FromJson(variable.value(), &budget_);
    if (!value.ok()) return value.status().WithContext(StrFormat("variable {}", Quoted(variable.key())));
    scopes_[0].emplace(variable.key(), std::move(*value));
  }
  SW_RETURN_IF_ERROR(Exec(block).status());
  return std::move(output_);
}

Result<Renderer::Flow> Renderer::Exec(const Block& block) {
  for (const StmtPtr& stmt : block) {
    SW_ASSIGN_OR_RETURN(const Flow flow, ExecOne(*stmt));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Renderer::Flow> Renderer::ExecOne(const Stmt& stmt) {
  SW_RETURN_IF_ERROR(At(stmt.offset, budget_.Charge(1)));
  if (depth_ >= kMaxStackDepth)
    return At(stmt.offset, ResourceExhausted(StrFormat("calls nested deeper than {}", kMaxStackDepth)));
  ++depth_;
  const auto run = [&]() -> Result<Flow> {
    switch (stmt.kind) {
      case Stmt::Kind::kText:
        SW_RETURN_IF_ERROR(Write(stmt, stmt.text));
        return Flow::kNext;
      case Stmt::Kind::kPrint:
        SW_RETURN_IF_ERROR(ExecPrint(stmt));
        return Flow::kNext;
      case Stmt::Kind::kIf:
        return ExecIf(stmt);
      case Stmt::Kind::kFor:
        return ExecFor(stmt);
      case Stmt::Kind::kSet: {
        SW_ASSIGN_OR_RETURN(const Value value, Eval(*stmt.expr));
        SW_RETURN_IF_ERROR(Assign(stmt, *stmt.target, value));
        return Flow::kNext;
      }
      case Stmt::Kind::kSetBlock:
        SW_RETURN_IF_ERROR(ExecSetBlock(stmt));
        return Flow::kNext;
      case Stmt::Kind::kMacro: {
        SW_ASSIGN_OR_RETURN(scopes_.back()[stmt.macro->name], At(stmt.offset, Close(stmt.macro.get())));
        return Flow::kNext;
      }
      case Stmt::Kind::kFilter: {
        SW_ASSIGN_OR_RETURN(const Value text, FilteredBody(stmt));
        SW_RETURN_IF_ERROR(Print(stmt, text));
        return Flow::kNext;
      }
      case Stmt::Kind::kCall: {
        SW_ASSIGN_OR_RETURN(Value caller, At(stmt.offset, Close(stmt.macro.get())));
        SW_ASSIGN_OR_RETURN(const Value text, EvalCall(*stmt.expr, &caller));
        SW_RETURN_IF_ERROR(Print(stmt, text));
        return Flow::kNext;
      }
      case Stmt::Kind::kScope:
        return ExecScope(stmt);
      case Stmt::Kind::kBreak:
        return Flow::kBreak;
      case Stmt::Kind::kContinue:
        return Flow::kContinue;
    }
    return Internal("unknown statement");
  };
  auto flow = run();
  --depth_;
  return flow;
}

Status Renderer::Write(const Stmt& stmt, std::string_view text) {
  if (text.size() > max_output_bytes_ - output_.size())
    return At(stmt.offset, ResourceExhausted(StrFormat("the output exceeds {} bytes", max_output_bytes_)));
  SW_RETURN_IF_ERROR(At(stmt.offset, budget_.ChargeString(text.size())));
  output_ += text;
  return Status::Ok();
}

Status Renderer::ExecPrint(const Stmt& stmt) {
  const auto value = Eval(*stmt.expr);
  return value.ok() ? Print(stmt, *value) : value.status();
}

Status Renderer::Print(const Stmt& stmt, const Value& value) {
  if (value.is_string()) return Write(stmt, value.string());
  const auto text = At(stmt.offset, TextOf(value, &budget_));
  return text.ok() ? Write(stmt, *text) : text.status();
}

Result<Renderer::Flow> Renderer::ExecIf(const Stmt& stmt) {
  for (const auto& [condition, body] : stmt.branches) {
    if (condition) {
      SW_ASSIGN_OR_RETURN(const Value value, Eval(*condition));
      if (!value.Truthy()) continue;
    }
    return Exec(body);
  }
  return Flow::kNext;
}

Result<Renderer::Flow> Renderer::ExecFor(const Stmt& stmt) {
  SW_ASSIGN_OR_RETURN(const Value sequence, Eval(*stmt.expr));
  SW_ASSIGN_OR_RETURN(std::vector<Value> items, At(stmt.offset, Iterate(sequence, &budget_)));
  if (stmt.filter) {  // it sees the target, but no loop
    std::vector<Value> kept;
    for (Value& item : items) {
      scopes_.emplace_back();
      const Status assigned = Assign(stmt, *stmt.target, item);
      auto passes = assigned.ok() ? Eval(*stmt.filter) : Result<Value>(assigned);
      scopes_.pop_back();
      if (!passes.ok()) return passes.status();
      if (passes->Truthy()) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    scopes_.emplace_back();
    auto flow = Exec(stmt.orelse);
    scopes_.pop_back();
    return flow;
  }
  auto loop = std::make_shared<Loop>();
  for (const Value& item : items) loop->depth = std::max(loop->depth, item.depth() + 1);
  if (loop->depth > Value::kMaxDepth)
    return At(stmt.offset, ResourceExhausted(StrFormat("values nested deeper than {}", Value::kMaxDepth)));
  loop->items = std::move(items);
  const Value loop_value = Value::Of(loop);
  scopes_.emplace_back();
  Status failure;
  for (; loop->index0 < loop->items.size(); ++loop->index0) {
    scopes_.back().clear();  // what one round sets the next does not see
    scopes_.back().emplace("loop", loop_value);
    failure = Assign(stmt, *stmt.target, loop->items[loop->index0]);
    if (!failure.ok()) break;
    const auto flow = Exec(stmt.body);
    failure = flow.status();
    if (!failure.ok() || *flow == Flow::kBreak) break;
  }
  scopes_.pop_back();
  SW_RETURN_IF_ERROR(failure);
  return Flow::kNext;
}

Status Renderer::ExecSetBlock(const Stmt& stmt) {
  const auto value = FilteredBody(stmt);
  return value.ok() ? Assign(stmt, *stmt.target, *value) : value.status();
}

Result<Value> Renderer::FilteredBody(const Stmt& stmt) {
  scopes_.emplace_back();
  auto text = Capture(stmt.body);
  scopes_.pop_back();
  if (!text.ok()) return text.status();
  Value value = Value::String(std::move(*text));
  if (stmt.expr) {
    const Value outer = std::exchange(block_text_, std::move(value));
    auto filtered = Eval(*stmt.expr);
    block_text_ = outer;
    if (!filtered.ok()) return filtered.status();
    value = std::move(*filtered);
  }
  return value;
}

Result<Renderer::Flow> Renderer::ExecScope(const Stmt& stmt) {
  Scope scope;
  for (const auto& [name, expr] : stmt.assignments) {  // the values do not see each other
    SW_ASSIGN_OR_RETURN(Value value, Eval(*expr));
    scope[name] = std::move(value);
  }
  scopes_.push_back(std::move(scope));
  auto flow = Exec(stmt.body);
  scopes_.pop_back();
  return flow;
}

Result<std::string> Renderer::Capture(const Block& block) {
  std::string outer = std::exchange(output_, {});
  const auto flow = Exec(block);
  std::string text = std::exchange(output_, std::move(outer));
  if (!flow.ok()) return flow.status();
  return text;
}

Status Renderer::Assign(const Stmt& stmt, const Expr& target, const Value& value) {
  if (target.kind == Expr::Kind::kName) {
    scopes_.back()[target.text] = value;
    return Status::Ok();
  }
  if (target.kind == Expr::Kind::kAttribute) {
    const Value object = Lookup(target.kids[0]->text);
    if (object.kind() != Value::Kind::kNamespace)
      return At(target.offset, InvalidArgument(StrFormat("{} is {}, expected a namespace to set an attribute of",
                                                         Quoted(target.kids[0]->text), KindName(object))));
    object.name_space().attributes[target.text] = value;
    return Status::Ok();
  }
  const auto parts = At(stmt.offset, Iterate(value, &budget_));
  if (!parts.ok()) return parts.status();
  if (parts->size() != target.kids.size())
    return At(target.offset, InvalidArgument(StrFormat("{} values for {} names", parts->size(), target.kids.size())));
  for (size_t i = 0; i < parts->size(); ++i) SW_RETURN_IF_ERROR(Assign(stmt, *target.kids[i], (*parts)[i]));
  return Status::Ok();
}

Value Renderer::Lookup(const std::string& name) const {
  if (name.empty()) return block_text_;
  for (size_t i = scopes_.size(); i > visible_from_; --i)
    if (const auto found = scopes_[i - 1].find(name); found != scopes_[i - 1].end()) return found->second;
  if (const auto found = scopes_[0].find(name); found != scopes_[0].end()) return found->second;
  if (name == "range") return Value::Of(Value::Builtin::kRange);
  if (name == "dict") return Value::Of(Value::Builtin::kDict);
  if (name == "namespace") return Value::Of(Value::Builtin::kNamespace);
  if (name == "raise_exception") return Value::Of(Value::Builtin::kRaiseException);
  if (name == "strftime_now") return Value::Of(Value::Builtin::kStrftimeNow);
  return Value::Undefined(Quoted(name));
}

Result<Value> Renderer::Eval(const Expr& expr) {
  SW_RETURN_IF_ERROR(At(expr.offset, budget_.Charge(1)));
  if (depth_ >= kMaxStackDepth)
    return At(expr.offset, ResourceExhausted(StrFormat("calls nested deeper than {}", kMaxStackDepth)));
  ++depth_;
  auto value = EvalKind(expr);
  --depth_;
  return value;
}

Result<Value> Renderer::EvalKind(const Expr& expr) {
  using Kind = Expr::Kind;
  switch (expr.kind) {
    case Kind::kLiteral:
      return expr.literal;
    case Kind::kName:
      return Lookup(expr.text);
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
      return EvalContainer(expr);
    case Kind::kAttribute: {
      SW_ASSIGN_OR_RETURN(const Value object, Eval(*expr.kids[0]));
      return At(expr.offset, GetAttribute(object, expr.text, &budget_));
    }
    case Kind::kItem: {
      SW_ASSIGN_OR_RETURN(const Value object, Eval(*expr.kids[0]));
      SW_ASSIGN_OR_RETURN(const Value key, Eval(*expr.kids[1]));
      return At(expr.offset, GetItem(object, key, &budget_));
    }
    case Kind::kSlice: {
      Value parts[4];
      for (size_t i = 0; i < 4; ++i) {
        if (!expr.kids[i]) continue;
        SW_ASSIGN_OR_RETURN(parts[i], Eval(*expr.kids[i]));
      }
      return At(expr.offset, GetSlice(parts[0], parts[1], parts[2], parts[3], &budget_));
    }
    case Kind::kCall:
      return EvalCall(expr);
    case Kind::kFilter:
    case Kind::kTest: {
      SW_ASSIGN_OR_RETURN(const Value value, Eval(*expr.kids[0]));
      SW_ASSIGN_OR_RETURN(const Arguments arguments, EvalArguments(expr));
      if (expr.kind == Kind::kFilter) return At(expr.offset, ApplyFilter(expr.text, value, arguments, &budget_));
      SW_ASSIGN_OR_RETURN(const bool passes, At(expr.offset, ApplyTest(expr.text, value, arguments, &budget_)));
      return Value::Bool(passes);
    }
    case Kind::kNot: {
      SW_ASSIGN_OR_RETURN(const Value value, Eval(*expr.kids[0]));
      return Value::Bool(!value.Truthy());
    }
    case Kind::kNegate:
    case Kind::kPlus: {
      SW_ASSIGN_OR_RETURN(const Value value, Eval(*expr.kids[0]));
      if (value.kind() == Value::Kind::kFloat) return expr.kind == Kind::kPlus ? value : Value::Float(-value.number());
      return At(expr.offset, Arithmetic(expr.kind == Kind::kPlus ? '+' : '-', Value::Int(0), value, &budget_));
    }
    case Kind::kAnd:
    case Kind::kOr: {
      Value value;
      for (const ExprPtr& kid : expr.kids) {
        SW_ASSIGN_OR_RETURN(value, Eval(*kid));
        if (value.Truthy() == (expr.kind == Kind::kOr)) break;
      }
      return value;
    }
    case Kind::kConcat: {
      std::string text;
      for (const ExprPtr& kid : expr.kids) {
        SW_ASSIGN_OR_RETURN(const Value value, Eval(*kid));
        SW_RETURN_IF_ERROR(At(expr.offset, AppendText(value, &budget_, &text)));
        if (text.size() > max_output_bytes_) return At(expr.offset, budget_.ChargeString(text.size()));
      }
      return Value::String(std::move(text));
    }
    case Kind::kArithmetic: {
      SW_ASSIGN_OR_RETURN(const Value a, Eval(*expr.kids[0]));
      SW_ASSIGN_OR_RETURN(const Value b, Eval(*expr.kids[1]));
      return At(expr.offset, expr.op == '+' ? Add(a, b, &budget_) : Arithmetic(expr.op, a, b, &budget_));
    }
    case Kind::kCompare:
      return EvalCompare(expr);
    case Kind::kIf: {
      SW_ASSIGN_OR_RETURN(const Value condition, Eval(*expr.kids[1]));
      if (condition.Truthy()) return Eval(*expr.kids[0]);
      if (expr.kids[2]) return Eval(*expr.kids[2]);
      return Value::Undefined("the value of an if without else");
    }
  }
  return Internal("unknown expression");
}

Result<Value> Renderer::EvalContainer(const Expr& expr) {
  std::vector<Value> items;
  for (const ExprPtr& kid : expr.kids) {
    SW_ASSIGN_OR_RETURN(Value value, Eval(*kid));
    items.push_back(std::move(value));
  }
  if (expr.kind != Expr::Kind::kDict) {
    const auto kind = expr.kind == Expr::Kind::kList ? Value::Kind::kList : Value::Kind::kTuple;
    return At(expr.offset, Value::MakeList(std::move(items), kind, &budget_));
  }
  std::vector<std::pair<Value, Value>> pairs;
  for (size_t i = 0; i + 1 < items.size(); i += 2) pairs.emplace_back(std::move(items[i]), std::move(items[i + 1]));
  return At(expr.offset, Value::MakeDict(std::move(pairs), &budget_));
}

Result<Value> Renderer::EvalCompare(const Expr& expr) {
  SW_ASSIGN_OR_RETURN(Value left, Eval(*expr.kids[0]));
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    SW_ASSIGN_OR_RETURN(Value right, Eval(*expr.kids[i + 1]));
    const std::string& op = expr.operators[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      SW_ASSIGN_OR_RETURN(holds, At(expr.offset, Equal(left, right, &budget_)));
      holds = holds == (op == "==");
    } else if (op == "in" || op == "not in") {
      SW_ASSIGN_OR_RETURN(holds, At(expr.offset, Contains(right, left, &budget_)));
      holds = holds == (op == "in");
    } else {
      SW_ASSIGN_OR_RETURN(const int order, At(expr.offset, Compare(left, right, &budget_)));
      holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Result<Arguments> Renderer::EvalArguments(const Expr& expr) {
  Arguments arguments;
  for (size_t i = 1; i < expr.kids.size(); ++i) {
    SW_ASSIGN_OR_RETURN(Value value, Eval(*expr.kids[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, kid] : expr.named) {
    SW_ASSIGN_OR_RETURN(Value value, Eval(*kid));
    if (name == "*") {
      SW_ASSIGN_OR_RETURN(const auto items, At(kid->offset, Iterate(value, &budget_)));
      arguments.positional.insert(arguments.positional.end(), items.begin(), items.end());
    } else if (name == "**") {
      if (value.kind() != Value::Kind::kDict)
        return At(kid->offset, InvalidArgument(StrFormat("'**' expects a mapping, found {}", KindName(value))));
      SW_RETURN_IF_ERROR(At(kid->offset, budget_.ChargeElements(value.dict().items.size())));
      for (const auto& [key, item] : value.dict().items) {
        if (!key.is_string()) return At(kid->offset, InvalidArgument("'**' expects names of arguments"));
        arguments.named.emplace_back(key.string(), item);
      }
    } else {
      arguments.named.emplace_back(name, std::move(value));
    }
  }
  return arguments;
}

Result<Value> Renderer::EvalCall(const Expr& expr, const Value* caller) {
  SW_ASSIGN_OR_RETURN(const Value callee, Eval(*expr.kids[0]));
  SW_ASSIGN_OR_RETURN(Arguments arguments, EvalArguments(expr));
  const bool macro = callee.kind() == Value::Kind::kMacro || callee.kind() == Value::Kind::kClosure;
  if (caller && !macro)
    return At(expr.offset, InvalidArgument(StrFormat("a {} takes no 'caller', expected a macro", KindName(callee))));
  switch (callee.kind()) {
    case Value::Kind::kMethod:
      return At(expr.offset, CallMethod(callee.method(), arguments, &budget_));
    case Value::Kind::kMacro:
      return CallMacro(expr, callee.macro(), std::move(arguments), caller);
    case Value::Kind::kClosure:
      return CallClosure(expr, callee, std::move(arguments), caller);
    case Value::Kind::kFunction:
      return CallBuiltin(expr, callee.builtin(), arguments);
    case Value::Kind::kUndefined:
      return At(expr.offset, UndefinedError(callee));
    default:
      return At(expr.offset, InvalidArgument(StrFormat("a {} cannot be called", KindName(callee))));
  }
}

Result<Value> Renderer::CallBuiltin(const Expr& call, Value::Builtin builtin, const Arguments& arguments) {
  switch (builtin) {
    case Value::Builtin::kRange:
      return At(call.offset, CallRange(arguments, &budget_));
    case Value::Builtin::kDict:
      return At(call.offset, CallDict(arguments, &budget_));
    case Value::Builtin::kNamespace: {
      SW_ASSIGN_OR_RETURN(const Value from, At(call.offset, CallDict(arguments, &budget_)));
      SW_RETURN_IF_ERROR(At(call.offset, budget_.Charge(kNamespaceSteps)));
      auto name_space = std::make_shared<Namespace>();
      for (const auto& [key, value] : from.dict().items)
        if (key.is_string()) name_space->attributes[key.string()] = value;
      namespaces_.push_back(name_space);
      return Value::Of(std::move(name_space));
    }
    case Value::Builtin::kStrftimeNow:
      return At(call.offset, CallStrftimeNow(arguments, &budget_));
    case Value::Builtin::kRaiseException: {
      SW_ASSIGN_OR_RETURN(const auto bound, At(call.offset, Bind("raise_exception", arguments, {"message"}, 1)));
      SW_ASSIGN_OR_RETURN(std::string text, At(call.offset, TextOf(*bound[0], &budget_)));
      return InvalidArgument(std::move(text));
    }
  }
  return Internal("unknown function");
}

Result<Value> Renderer::Close(const Macro* macro) {
  if (scopes_.size() <= visible_from_) return Value::Of(macro);  // what is global it sees anyway
  auto closure = std::make_shared<Closure>();
  closure->macro = macro;
  for (size_t i = scopes_.size(); i > visible_from_; --i) {
    SW_RETURN_IF_ERROR(budget_.ChargeElements(scopes_[i - 1].size()));
    closure->names.insert(scopes_[i - 1].begin(), scopes_[i - 1].end());  // what is there stays: inner names first
  }
  return Value::Of(std::move(closure), &budget_);
}

Result<Value> Renderer::CallClosure(const Expr& call, const Value& callee, Arguments arguments, const Value* caller) {
  const Closure& closure = callee.closure();
  SW_RETURN_IF_ERROR(At(call.offset, budget_.ChargeElements(closure.names.size())));
  const size_t outer_visible = std::exchange(visible_from_, scopes_.size());
  scopes_.push_back(closure.names);
  if (!closure.macro->name.empty()) scopes_.back().emplace(closure.macro->name, callee);  // it may call itself
  auto value = CallMacro(call, *closure.macro, std::move(arguments), caller, /*sees=*/1);
  scopes_.pop_back();
  visible_from_ = outer_visible;
  return value;
}

Result<Value> Renderer::CallMacro(const Expr& call, const Macro& macro, Arguments arguments, const Value* caller,
                                  size_t sees) {
  const size_t n = macro.parameters.size();
  if (arguments.positional.size() > n)
    return At(call.offset, InvalidArgument(StrFormat("macro {} takes at most {} arguments, found {}",
                                                     Quoted(macro.name), n, arguments.positional.size())));
  Scope scope;
  for (size_t i = 0; i < arguments.positional.size(); ++i)
    scope[macro.parameters[i]] = std::move(arguments.positional[i]);
  for (auto& [name, value] : arguments.named) {
    size_t i = 0;
    while (i < n && macro.parameters[i] != name) ++i;
    if (i == n || i < arguments.positional.size())
      return At(call.offset, InvalidArgument(StrFormat("macro {} got the argument {} {}", Quoted(macro.name),
                                                       Quoted(name), i == n ? "which it does not have" : "twice")));
    scope[macro.parameters[i]] = std::move(value);
  }
  if (caller) scope["caller"] = *caller;
  // The body sees its parameters, what stood around it and what is global, not the scopes of its caller.
  const size_t outer_visible = std::exchange(visible_from_, scopes_.size() - sees);
  scopes_.push_back(std::move(scope));
  Status failure;
  for (size_t i = 0; i < n && failure.ok(); ++i) {
    if (scopes_.back().contains(macro.parameters[i])) continue;
    const size_t first_default = n - macro.defaults.size();
    if (i < first_default) {
      scopes_.back()[macro.parameters[i]] = Value::Undefined(StrFormat("parameter {}", Quoted(macro.parameters[i])));
      continue;
    }
    auto value = Eval(*macro.defaults[i - first_default]);
    failure = value.status();
    if (value.ok()) scopes_.back()[macro.parameters[i]] = std::move(*value);
  }
  auto text = failure.ok() ? Capture(macro.body) : Result<std::string>(failure);
  scopes_.pop_back();
  visible_from_ = outer_visible;
  if (!text.ok()) return text.status();
  return Value::String(std::move(*text));
}

}  // namespace spanwise::jinja
