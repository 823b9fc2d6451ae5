// The source of a chat template, rendered with a fixed conversation and a small budget.
#include <string_view>

#include "base/check.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const spanwise::json::value variables =
      spanwise::ParseJson(R"({"messages":[{"role":"system","content":" Be é brief.\n"},{"role":"user","content":"a"},
        {"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{"x":[1,2.5,true,null]}}}]}],
        "documents":[{"id":1,"title":"t","text":"x"}],"bos_token":"<s>","n":3,"f":0.5,"words":["b","A","c"],"d":{"k":1,"l":[]}})",
                          "variables")
          .value();
  const auto parsed = spanwise::ChatTemplate::Parse(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!parsed.ok()) return 0;
  const auto output = (*parsed)->Render(variables.get_object(), 1 << 16, 20'000);
  if (output.ok()) SW_CHECK(output->size() <= 1 << 16);
  return 0;
}
