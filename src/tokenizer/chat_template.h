// Chat templates: a bounded subset of Jinja2, as tokenizer_config.json carries it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "spanwise/status.h"

namespace spanwise {

// A parsed template. Immutable, thread-safe.
class ChatTemplate {
 public:
  // InvalidArgument with line and column for what does not parse; Unimplemented names a construct outside the subset.
  static Result<std::shared_ptr<const ChatTemplate>> Parse(std::string_view source);
  virtual ~ChatTemplate() = default;

  // Renders with the members of `variables` as top-level names (messages, documents, tools, add_generation_prompt,
  // bos_token, ...), as Jinja2 does with trim_blocks and lstrip_blocks on (the setting of transformers).
  // Bounded: output at most max_output_bytes, work at most max_steps; past either it is ResourceExhausted.
  // raise_exception('text') gives InvalidArgument with that text.
  virtual Result<std::string> Render(const json::object& variables, size_t max_output_bytes = size_t{64} << 20,
                                     size_t max_steps = 10'000'000) const = 0;
};

}  // namespace spanwise
