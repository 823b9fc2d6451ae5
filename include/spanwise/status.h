// Status and Result<T>: how every fallible call reports. Nothing in the library throws.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace spanwise {

enum class StatusCode {
  kOk,
  kInvalidArgument,    // the caller's data or options are wrong and will stay wrong
  kNotFound,           // a file, document or model that is not there
  kCorruption,         // bytes that contradict themselves
  kResourceExhausted,  // memory, disk or a queue is full
  kContextExceeded,    // the prompt is too long for the model's context or the memory that is there for it
  kDeadlineExceeded,   // it took longer than was allowed
  kCancelled,          // the caller went away
  kUnavailable,        // a peer or device that may come back
  kUnimplemented,      // valid, but this build or engine does not do it
  kInternal,           // our bug
};

std::string_view StatusCodeName(StatusCode code);

// A code and a one-line message: the thing, its value, what was expected, where. Cheap to move; immutable.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}
  static Status Ok() { return {}; }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same failure with "context: " before its message.
  Status WithContext(std::string_view context) const {
    return ok() ? *this : Status(code_, std::string(context) + ": " + message_);
  }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

Status InvalidArgument(std::string message);
Status NotFound(std::string message);
Status Corruption(std::string message);
Status ResourceExhausted(std::string message);
Status ContextExceeded(std::string message);
Status DeadlineExceeded(std::string message);
Status Cancelled(std::string message);
Status Unavailable(std::string message);
Status Unimplemented(std::string message);
Status Internal(std::string message);

// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT(google-explicit-constructor)
  Result(T value) : value_(std::move(value)) {}                                  // NOLINT(google-explicit-constructor)

  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }

  // REQUIRES: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace spanwise

#define SW_CONCAT_INNER(a, b) a##b
#define SW_CONCAT(a, b) SW_CONCAT_INNER(a, b)

// Returns the Status from the enclosing function when it is a failure.
#define SW_RETURN_IF_ERROR(expr)                                                  \
  do {                                                                            \
    if (::spanwise::Status sw_status = (expr); !sw_status.ok()) return sw_status; \
  } while (false)

// SW_ASSIGN_OR_RETURN(auto x, F()): x from the Result, or its Status returned from the enclosing function.
#define SW_ASSIGN_OR_RETURN(lhs, expr) SW_ASSIGN_OR_RETURN_INNER(SW_CONCAT(sw_result_, __LINE__), lhs, expr)
#define SW_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  if (!tmp.ok()) return tmp.status();             \
  lhs = std::move(tmp).value()
