// Errors as OpenAI's API words them, and the one table from StatusCode to HTTP.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "spanwise/status.h"

namespace spanwise::server {

struct ApiError {
  int http_status = 500;
  std::string message;
  std::string param;            // the request's field, as a path such as messages[0].content; empty: none
  std::string code;             // a word for programs; empty: none
  int retry_after_s = 1;        // with 429 and 503
  std::string request_id = {};  // of the request that it answers; empty: not known
};

// InvalidArgument and ContextExceeded 400, NotFound 404, ResourceExhausted 429, Cancelled 499, Unavailable 503,
// DeadlineExceeded 504, and so on. Unimplemented is 400 rather than 501, because clients repeat what failed with 5xx.
int HttpStatusOf(StatusCode code);
ApiError ErrorOf(const Status& status, std::string param = {});
ApiError BadRequest(std::string message, std::string param = {}, std::string code = {});

// {"error": {"message", "type", "param", "code", "request_id"}}, the last one where it is known
json::object ErrorJson(const ApiError& error);

std::string_view HttpReason(int http_status);

}  // namespace spanwise::server
