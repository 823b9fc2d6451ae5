// Which pages of other origins may call the server: the protocol that browsers keep to (Fetch Standard, "CORS
// protocol").
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spanwise/status.h"

namespace spanwise::server {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

// What a browser asks before it sends a request that a page made; empty where it does not ask.
struct Preflight {
  std::string method, headers;
  bool private_network = false;
};

// Thread-safe.
class CorsPolicy {
 public:
  CorsPolicy() = default;  // no page

  // Each a list with commas of "scheme://host", "scheme://host:port", "null" (pages without an origin) or "*" (any
  // page). A slash at the end is taken off. InvalidArgument: anything else; the message shows the right form.
  static Result<CorsPolicy> Parse(const std::vector<std::string>& origins);

  bool empty() const { return !any_ && origins_.empty(); }
  bool Allows(std::string_view origin) const;

  // Of every answer to a request from `origin` (empty: it names none), errors included, so that pages can read them.
  HeaderList AnswerHeaders(std::string_view origin) const;
  // Of the answer to a preflight from an origin that is allowed, beside these.
  HeaderList PreflightHeaders(const Preflight& preflight) const;

 private:
  bool any_ = false;
  std::vector<std::string> origins_;  // as browsers write them
};

}  // namespace spanwise::server
