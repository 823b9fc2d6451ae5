// A request's head, checked before anything acts on it: where it ends, whom it is for, and how its body is framed. What
// two readers could frame differently is refused, because bytes that one takes for a body another would take for the
// next request (RFC 9112, sections 2.2, 3.2, 5 and 6). Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/error.h"

namespace spanwise::server {

struct HeadScan {
  enum class State {
    kMore,     // the head goes on behind these bytes
    kEnd,      // `size` bytes are it, the empty line included
    kInvalid,  // no head begins so: `reason` says why
  };
  State state = State::kMore;
  size_t size = 0;
  std::string_view reason;
};

// Looks for the end of the head in `bytes`, of which the first `checked` were looked at before (a former call's
// bytes.size()). Lines end with CR LF and nothing else; there is no other control byte but tabs, and no folded line.
HeadScan ScanHead(std::string_view bytes, size_t checked = 0);

// A head as a parser of HTTP/1 gives it: values without space around them.
struct RawHead {
  std::string_view method, target;
  int version = 11;                                                   // 10 or 11
  std::vector<std::pair<std::string_view, std::string_view>> fields;  // in their order, repeated ones too
};

struct CheckedHead {
  std::string target;  // path and query; "*" with OPTIONS
  std::string host;    // with its port, of an absolute target or else of the Host field; empty: not given
  bool has_body = false;
  bool expects_continue = false;
};

// nullopt: *checked says what the head means. Else what the request is answered with; its connection then ends, because
// where the next request begins is not known.
std::optional<ApiError> CheckHead(const RawHead& head, CheckedHead* checked);

}  // namespace spanwise::server
