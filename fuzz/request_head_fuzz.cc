// Any bytes as the head of a request: what is accepted has one length, one host and no odd bytes, however it arrives.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "server/request_head.h"

namespace {

using namespace spanwise;
using namespace spanwise::server;

HeadScan InPieces(std::string_view bytes, size_t step) {
  HeadScan scan;
  for (size_t n = 0; n < bytes.size() && scan.state == HeadScan::State::kMore;) {
    const size_t checked = n;
    n = std::min(n + step, bytes.size());
    scan = ScanHead(bytes.substr(0, n), checked);
  }
  return scan;
}

// Lines as a lenient reader would take them apart; values lose the spaces around them.
RawHead Lenient(std::string_view bytes) {
  RawHead head;
  size_t n = 0;
  for (std::string_view line : Split(bytes, '\n')) {
    line = Trim(line);
    if (n++ == 0) {
      const std::vector<std::string_view> words = Split(line, ' ');
      head.method = words[0];
      head.target = words.size() > 1 ? words[1] : "";
      head.version = line.ends_with("1.0") ? 10 : 11;
    } else if (!line.empty()) {
      const size_t colon = std::min(line.find(':'), line.size());
      head.fields.emplace_back(line.substr(0, colon), colon < line.size() ? Trim(line.substr(colon + 1)) : "");
    }
  }
  return head;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), std::min<size_t>(size, 1 << 14));
  const HeadScan whole = ScanHead(bytes);
  for (const size_t step : {1, 3, 64}) {
    const HeadScan pieces = InPieces(bytes, step);
    SW_CHECK(whole.state != HeadScan::State::kMore || pieces.state == HeadScan::State::kMore);
    SW_CHECK(whole.state != HeadScan::State::kEnd ||
             (pieces.state == HeadScan::State::kEnd && pieces.size == whole.size));
  }
  if (whole.state == HeadScan::State::kEnd) {
    SW_CHECK(bytes.substr(0, whole.size).ends_with("\r\n\r\n"));
    SW_CHECK(bytes.substr(0, whole.size).find('\0') == std::string_view::npos);
  }

  const RawHead head = Lenient(bytes);
  CheckedHead checked;
  if (const auto error = CheckHead(head, &checked)) {
    SW_CHECK(error->http_status >= 400 && error->http_status < 600 && IsValidUtf8(error->message));
    return 0;
  }
  int n_lengths = 0, n_codings = 0, n_hosts = 0;
  for (const auto& field : head.fields) {
    std::string name(field.first);
    for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    n_lengths += name == "content-length";
    n_codings += name == "transfer-encoding";
    n_hosts += name == "host";
    if (name == "content-length")
      SW_CHECK(!field.second.empty() && field.second.find_first_not_of("0123456789") == std::string_view::npos);
    if (name == "transfer-encoding") SW_CHECK(field.second.size() == 7);
  }
  SW_CHECK(n_lengths + n_codings <= 1 && n_hosts <= 1 && (n_hosts == 1 || head.version == 10));
  SW_CHECK(!checked.target.empty() && (checked.target[0] == '/' || checked.target == "*"));
  SW_CHECK(!checked.has_body || n_lengths + n_codings == 1);
  return 0;
}
