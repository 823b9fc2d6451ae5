#include "server/request_head.h"

#include <strings.h>

#include <algorithm>

#include "base/str.h"

namespace spanwise::server {

namespace {

bool Equal(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool IsDigits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool IsToken(std::string_view text) {
  constexpr std::string_view kChars = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  return !text.empty() && text.find_first_not_of(kChars) == std::string_view::npos;
}

// host[:port]. The characters of a name, not its sense.
bool IsAuthority(std::string_view text) {
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos || end < 3) return false;
    if (text.substr(1, end - 1).find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos) return false;
    if (end + 1 == text.size()) return true;
    if (text[end + 1] != ':') return false;
    port = text.substr(end + 2);
  } else {
    const size_t colon = text.find(':');
    const std::string_view name = text.substr(0, colon);
    constexpr std::string_view kChars = "-._~!$&'()*+;=%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (name.empty() || name.find_first_not_of(kChars) != std::string_view::npos) return false;
    if (colon == std::string_view::npos) return true;
    port = text.substr(colon + 1);
  }
  return port.empty() || (IsDigits(port) && port.size() <= 5);
}

// The bounds of what a message repeats of a request.
std::string Shown(std::string_view text) { return Quoted(text, 40); }

ApiError Malformed(std::string message) { return {400, std::move(message), {}, "malformed_http"}; }

// The codings of all Transfer-Encoding fields. "chunked" alone is known, once and last.
std::optional<ApiError> CheckCodings(const std::vector<std::string_view>& values) {
  std::vector<std::string_view> codings;
  for (const std::string_view value : values)
    for (const std::string_view piece : Split(value, ',')) codings.push_back(Trim(piece));
  std::string_view unknown;
  for (const std::string_view coding : codings) {
    const size_t end = coding.find_first_of("; \t");
    const std::string_view name = coding.substr(0, end);
    if (!IsToken(name)) return Malformed(StrFormat("Transfer-Encoding has {}, which names no coding", Shown(coding)));
    if (!Equal(name, "chunked")) {
      unknown = name;
      if (end != std::string_view::npos && Trim(coding.substr(end))[0] != ';')
        return Malformed(StrFormat("Transfer-Encoding has {}, which names no coding", Shown(coding)));
    } else if (end != std::string_view::npos) {
      return Malformed(StrFormat("Transfer-Encoding has {}; chunked has no parameters", Shown(coding)));
    }
  }
  const auto n_chunked = std::ranges::count_if(codings, [](std::string_view c) { return Equal(c, "chunked"); });
  if (n_chunked > 1) return Malformed("Transfer-Encoding has chunked more than once");
  if (n_chunked == 1 && !Equal(codings.back(), "chunked"))
    return Malformed("Transfer-Encoding has a coding behind chunked, so that the body has no end");
  if (!unknown.empty())
    return ApiError{
        501,
        StrFormat("the transfer coding {} is not known here; send the body plain or chunked", Shown(unknown)),
        {},
        "unsupported_coding"};
  return std::nullopt;
}

// Of a target that is neither a path nor "*".
std::optional<ApiError> ReadAbsolute(std::string_view target, CheckedHead* checked) {
  size_t begin = 0;
  for (const std::string_view scheme : {"http://", "https://"})
    if (target.size() > scheme.size() && Equal(target.substr(0, scheme.size()), scheme)) begin = scheme.size();
  const std::string_view rest = target.substr(begin);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  if (begin == 0 || !IsAuthority(authority))
    return Malformed(StrFormat("the request's target is {}, expected a path such as /v1/models", Shown(target)));
  const std::string_view path = rest.substr(authority.size());
  checked->host = authority;
  checked->target = path.starts_with('/') ? std::string(path) : "/" + std::string(path);
  return std::nullopt;
}

}  // namespace

HeadScan ScanHead(std::string_view bytes, size_t checked) {
  // Empty lines before the request line are passed over: some clients send one behind a body.
  size_t begin = 0;
  while (begin < 8 && bytes.substr(begin).starts_with("\r\n")) begin += 2;
  const auto invalid = [](std::string_view reason) { return HeadScan{HeadScan::State::kInvalid, 0, reason}; };
  for (size_t i = std::max(checked, size_t{1}) - 1; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (c == '\r') {
      if (i + 1 < bytes.size() && bytes[i + 1] != '\n') return invalid("a carriage return stands alone");
    } else if (c == '\n') {
      if (i == 0 || bytes[i - 1] != '\r') return invalid("a line ends without carriage return");
      if (i >= begin + 3 && bytes[i - 2] == '\n') return {HeadScan::State::kEnd, i + 1, {}};
    } else if (static_cast<unsigned char>(c) < ' ' ? c != '\t' : c == 127) {
      return invalid("a control byte stands in the head");
    } else if ((c == ' ' || c == '\t') && i > 0 && bytes[i - 1] == '\n') {
      return invalid("a line begins with a space");
    }
  }
  return {};
}

std::optional<ApiError> CheckHead(const RawHead& head, CheckedHead* checked) {
  std::vector<std::string_view> lengths, codings, hosts;
  std::string_view encoding, expectation;
  for (const auto& [name, value] : head.fields) {
    if (!IsToken(name)) return Malformed(StrFormat("the header field {} has no valid name", Shown(name)));
    if (Equal(name, "Content-Length")) lengths.push_back(value);
    if (Equal(name, "Transfer-Encoding")) codings.push_back(value);
    if (Equal(name, "Host")) hosts.push_back(value);
    if (Equal(name, "Content-Encoding") && !value.empty() && !Equal(value, "identity")) encoding = value;
    if (Equal(name, "Expect")) expectation = value;
  }

  if (!codings.empty()) {
    if (head.version < 11) return Malformed("HTTP/1.0 has no Transfer-Encoding");
    if (!lengths.empty()) return Malformed("both Transfer-Encoding and Content-Length are given");
    if (auto error = CheckCodings(codings)) return error;
  }
  if (lengths.size() > 1) return Malformed("Content-Length is given more than once");
  if (!lengths.empty() && (!IsDigits(lengths[0]) || lengths[0].size() > 18))
    return Malformed(StrFormat("Content-Length is {}, expected a number", Shown(lengths[0])));
  checked->has_body = !codings.empty() || (!lengths.empty() && lengths[0].find_first_not_of('0') != std::string::npos);

  if (hosts.size() > 1) return Malformed("Host is given more than once");
  if (hosts.empty() && head.version >= 11) return Malformed("Host is missing");
  if (!hosts.empty() && !hosts[0].empty() && !IsAuthority(hosts[0]))
    return Malformed(StrFormat("Host is {}, expected a name or an address, and perhaps a port", Shown(hosts[0])));

  if (head.method == "CONNECT")
    return ApiError{501, "this server is no proxy: it does not do CONNECT", {}, "method_not_allowed"};
  checked->host = hosts.empty() ? std::string() : std::string(hosts[0]);
  checked->target = head.target;
  if (!head.target.starts_with('/') && !(head.target == "*" && head.method == "OPTIONS"))
    if (auto error = ReadAbsolute(head.target, checked)) return error;

  if (!encoding.empty() && checked->has_body)
    return ApiError{415,
                    StrFormat("the body comes in Content-Encoding {}; send it as it is", Shown(encoding)),
                    {},
                    "unsupported_encoding"};
  // HTTP/1.0 has no expectations and no interim answers.
  if (!expectation.empty() && head.version >= 11) {
    if (!Equal(expectation, "100-continue"))
      return ApiError{417, StrFormat("cannot meet the expectation {}", Shown(expectation)), {}, "expectation_failed"};
    checked->expects_continue = checked->has_body;
  }
  return std::nullopt;
}

}  // namespace spanwise::server
