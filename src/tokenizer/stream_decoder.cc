#include "base/str.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

// Moves the text at the front of `bytes` to `out`, each ill-formed part as U+FFFD. What could still become a character
// is left in `bytes` unless `all`.
void Release(std::string* bytes, bool all, std::string* out) {
  std::string_view rest = *bytes;
  while (!rest.empty()) {
    size_t good = rest.size();
    if (IsValidUtf8(rest, &good)) good = rest.size();
    out->append(rest.substr(0, good));
    rest.remove_prefix(good);
    if (rest.empty()) break;
    // The longest run that begins a character counts as one error, as the Unicode standard recommends.
    size_t bad = 1;
    while (bad < rest.size() && bad < 4 && CompleteUtf8Prefix(rest.substr(0, bad)) == 0 &&
           CompleteUtf8Prefix(rest.substr(0, bad + 1)) == 0)
      ++bad;
    if (bad == rest.size() && CompleteUtf8Prefix(rest) == 0 && !all) break;
    out->append(kReplacement);
    rest.remove_prefix(bad);
  }
  *bytes = std::string(rest);
}

}  // namespace

std::string Tokenizer::Decode(const std::vector<int32_t>& ids, bool keep_special) const {
  std::string bytes, text;
  for (const int32_t id : ids) bytes += TokenBytes(id, keep_special);
  Release(&bytes, true, &text);
  return text;
}

std::string StreamDecoder::Push(int32_t id) {
  pending_ += tokenizer_.TokenBytes(id);
  std::string text;
  Release(&pending_, false, &text);
  return text;
}

std::string StreamDecoder::Finish() {
  std::string text;
  Release(&pending_, true, &text);
  return text;
}

}  // namespace spanwise
