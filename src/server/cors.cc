#include "server/cors.h"

#include <algorithm>
#include <charconv>

#include "base/str.h"

namespace spanwise::server {

namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

Status NoOrigin(std::string_view text, std::string_view why) {
  return InvalidArgument(StrFormat(
      "--cors-origin {}: {}; expected scheme://host or scheme://host:port, such as https://app.example.org or "
      "http://localhost:5173, or *",
      Quoted(text), why));
}

// As a browser would write it: without upper case and without the scheme's own port.
Result<std::string> ParseOrigin(std::string_view given) {
  std::string text = Lower(given);
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string::npos || scheme_end == 0) return NoOrigin(given, "has no scheme");
  const std::string_view scheme = std::string_view(text).substr(0, scheme_end);
  if (scheme.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789+-.") != std::string_view::npos)
    return NoOrigin(given, "has no valid scheme");
  if (text.ends_with('/') && text.size() > scheme_end + 3) text.pop_back();
  const std::string_view authority = std::string_view(text).substr(scheme_end + 3);
  if (authority.empty()) return NoOrigin(given, "has no host");
  if (authority.find('*') != std::string_view::npos) return NoOrigin(given, "names no single host");
  if (authority.find_first_of("/?#@") != std::string_view::npos) return NoOrigin(given, "is more than an origin");
  std::string_view host = authority, port;
  if (const size_t colon = authority.rfind(':'); colon != std::string_view::npos && !authority.ends_with(']')) {
    host = authority.substr(0, colon);
    port = authority.substr(colon + 1);
    int number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() || number < 1 || number > 65535)
      return NoOrigin(given, "has no valid port");
  }
  const bool v6 = host.starts_with('[') && host.ends_with(']');
  const std::string_view allowed =
      v6 ? "0123456789abcdef:.[]" : "abcdefghijklmnopqrstuvwxyz0123456789-._";  // other scripts as xn--...
  if (host.empty() || host.find_first_not_of(allowed) != std::string_view::npos)
    return NoOrigin(given, "has no valid host");
  if ((scheme == "http" && port == "80") || (scheme == "https" && port == "443"))
    text.resize(text.size() - port.size() - 1);
  return text;
}

}  // namespace

Result<CorsPolicy> CorsPolicy::Parse(const std::vector<std::string>& origins) {
  CorsPolicy policy;
  for (const std::string& list : origins) {
    for (const std::string_view piece : Split(list, ',')) {
      const std::string_view text = Trim(piece);
      if (text == "*") {
        policy.any_ = true;
      } else if (text == "null") {
        policy.origins_.emplace_back(text);
      } else {
        SW_ASSIGN_OR_RETURN(std::string origin, ParseOrigin(text));
        policy.origins_.push_back(std::move(origin));
      }
    }
  }
  return policy;
}

bool CorsPolicy::Allows(std::string_view origin) const {
  return any_ || std::ranges::find(origins_, Lower(origin)) != origins_.end();
}

HeaderList CorsPolicy::AnswerHeaders(std::string_view origin) const {
  if (empty()) return {};
  HeaderList headers;
  if (!any_) headers.emplace_back("Vary", "Origin");
  if (!any_ && (origin.empty() || !Allows(origin))) return headers;
  headers.emplace_back("Access-Control-Allow-Origin", any_ ? std::string("*") : std::string(origin));
  headers.emplace_back("Access-Control-Expose-Headers", "Retry-After, X-Request-Id, X-Spanwise-Ignored");
  return headers;
}

HeaderList CorsPolicy::PreflightHeaders(const Preflight& preflight) const {
  HeaderList headers = {{"Access-Control-Allow-Methods", "GET, HEAD, POST"},
                        {"Access-Control-Max-Age", "7200"},
                        {"Vary", "Access-Control-Request-Headers"}};
  // Clients send headers of their own kind (x-stainless-..., traceparent), which nobody can list.
  if (!preflight.headers.empty()) headers.emplace_back("Access-Control-Allow-Headers", preflight.headers);
  if (preflight.private_network) headers.emplace_back("Access-Control-Allow-Private-Network", "true");
  return headers;
}

}  // namespace spanwise::server
