#include "server/error.h"

#include <utility>

namespace spanwise::server {

namespace {

struct Row {
  StatusCode status;
  int http;
  std::string_view code;
};
constexpr Row kTable[] = {
    {StatusCode::kOk, 200, ""},
    {StatusCode::kInvalidArgument, 400, "invalid_value"},
    {StatusCode::kNotFound, 404, "not_found"},
    {StatusCode::kCorruption, 500, "corruption"},
    {StatusCode::kResourceExhausted, 429, "rate_limit_exceeded"},
    {StatusCode::kContextExceeded, 400, "context_length_exceeded"},
    {StatusCode::kDeadlineExceeded, 504, "timeout"},
    {StatusCode::kCancelled, 499, "cancelled"},
    {StatusCode::kUnavailable, 503, "unavailable"},
    {StatusCode::kUnimplemented, 400, "unsupported"},
    {StatusCode::kInternal, 500, "internal_error"},
};

const Row& RowOf(StatusCode code) {
  for (const Row& row : kTable)
    if (row.status == code) return row;
  return kTable[std::size(kTable) - 1];
}

std::string_view TypeOf(int http_status) {
  if (http_status == 429) return "rate_limit_error";
  if (http_status == 401) return "authentication_error";
  if (http_status == 403) return "permission_error";
  return http_status < 500 ? "invalid_request_error" : "server_error";
}

json::value StringOrNull(const std::string& s) { return s.empty() ? json::value(nullptr) : json::value(s); }

}  // namespace

int HttpStatusOf(StatusCode code) { return RowOf(code).http; }

ApiError ErrorOf(const Status& status, std::string param) {
  const Row& row = RowOf(status.code());
  return {
      .http_status = row.http, .message = status.message(), .param = std::move(param), .code = std::string(row.code)};
}

ApiError BadRequest(std::string message, std::string param, std::string code) {
  return {400, std::move(message), std::move(param), code.empty() ? "invalid_value" : std::move(code)};
}

json::object ErrorJson(const ApiError& error) {
  json::object out{{"message", error.message},
                   {"type", TypeOf(error.http_status)},
                   {"param", StringOrNull(error.param)},
                   {"code", StringOrNull(error.code)}};
  if (!error.request_id.empty()) out["request_id"] = error.request_id;
  return {{"error", std::move(out)}};
}

std::string_view HttpReason(int http_status) {
  switch (http_status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
  }
  return "Unknown";
}

}  // namespace spanwise::server
