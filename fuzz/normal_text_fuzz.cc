// A document's text in normal form: every byte of it has its place in the text, in order, and the form of the form is
// itself.
#include <string_view>

#include "base/check.h"
#include "base/str.h"
#include "prompt/normal_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto normal = spanwise::NormalText(text);
  if (!normal.ok() || !*normal) return 0;
  const spanwise::RewrittenText& form = **normal;
  SW_CHECK(spanwise::IsValidUtf8(form.text));
  SW_CHECK(form.text.find('\r') == std::string::npos);
  SW_CHECK(form.sources.size() == form.text.size());
  uint32_t last = 0;
  for (const spanwise::ByteRange& source : form.sources) {
    SW_CHECK(last <= source.begin && source.begin < source.end && source.end <= size);
    last = source.begin;
  }
  const auto again = spanwise::NormalText(form.text);
  SW_CHECK(again.ok() && !*again);
  return 0;
}
