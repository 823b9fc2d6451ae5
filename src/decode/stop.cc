#include "decode/stop.h"

#include <algorithm>

#include "base/check.h"
#include "base/str.h"

namespace spanwise::decode {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    SW_CHECK(!stop.empty());
    Pattern p{stop, std::vector<size_t>(stop.size() + 1, 0)};
    for (size_t n = 1, k = 0; n < stop.size(); ++n) {
      while (k > 0 && stop[n] != stop[k]) k = p.border[k];
      if (stop[n] == stop[k]) ++k;
      p.border[n + 1] = k;
    }
    patterns_.push_back(std::move(p));
  }
}

std::string StopMatcher::Push(std::string_view text, bool honour) {
  if (matched_) return {};
  for (const char c : text) {
    pending_.push_back(c);
    for (size_t i = 0; i < patterns_.size(); ++i) {
      Pattern& p = patterns_[i];
      while (p.state > 0 && p.text[p.state] != c) p.state = p.border[p.state];
      if (p.text[p.state] == c) ++p.state;
      if (p.state < p.text.size()) continue;
      if (honour && (!matched_ || p.text.size() > patterns_[*matched_].text.size())) matched_ = i;
      p.state = p.border[p.state];
    }
    if (matched_) {
      std::string out = pending_.substr(0, pending_.size() - patterns_[*matched_].text.size());
      pending_.clear();
      return out;
    }
  }
  size_t held = 0;
  for (const Pattern& p : patterns_) held = std::max(held, p.state);
  const size_t released = CompleteUtf8Prefix(std::string_view(pending_).substr(0, pending_.size() - held));
  std::string out = pending_.substr(0, released);
  pending_.erase(0, released);
  return out;
}

std::string StopMatcher::Finish() {
  std::string out = std::move(pending_);
  pending_.clear();
  if (const size_t complete = CompleteUtf8Prefix(out); complete < out.size()) {
    out.resize(complete);
    AppendUtf8(&out, 0xFFFD);
  }
  return out;
}

}  // namespace spanwise::decode
