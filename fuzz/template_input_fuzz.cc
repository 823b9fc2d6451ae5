// The input of a chat template: JSON of any shape for a template that looks into all of it.
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto source =
      spanwise::ChatTemplate::Parse(
          "{% for m in messages %}{{ loop.index }}{{ m.role | upper }}{{ m['content'] | trim }}{% if m.tool_calls %}{% "
          "for c in "
          "m.tool_calls %}{{ c | tojson(indent=2) }}{{ c.function.name ~ c }}{% endfor %}{% endif %}{% endfor %}"
          "{% for k, v in x.items() %}{{ k }}={{ v }}{% endfor %}{{ y[1:3] }}{{ y | sort | join(',') }}{{ y | length "
          "}}{{ z == y }}"
          "{{ z < y }}{{ y[z] }}{{ z | int + 1 }}{{ z.split('a') | map('title') | list }}")
          .value();
  const auto variables = spanwise::ParseJson(std::string_view(reinterpret_cast<const char*>(data), size), "input");
  if (!variables.ok() || !variables->is_object()) return 0;
  const auto output = source->Render(variables->get_object(), 1 << 16, 50'000);
  if (output.ok()) SW_CHECK(output->size() <= 1 << 16);
  return 0;
}
