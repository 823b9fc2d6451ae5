// The JSON forms of answers that the command line and the server share (docs: README, docs/http.md).
#pragma once

#include <span>

#include "base/json.h"
#include "rag/answerer.h"

namespace spanwise::rag {

json::object ComposeJson(const ComposeReport& report);
json::array CitationsJson(const std::vector<Citation>& citations);
json::object UsageJson(const Usage& usage);
json::object TimingsJson(const Timings& timings);
// {"tokens", "token_logprobs", "top_logprobs", "text_offset"} as in the completions API. Bytes that are no UTF-8
// character of their own are written as bytes:\xNN. text_offset counts characters from *offset, which moves on.
json::object CompletionLogprobs(std::span<const TokenReport> tokens, size_t* offset);
// The text of one token for JSON: as it is when valid UTF-8, else bytes:\xNN...
std::string TokenJsonText(std::string_view bytes);

}  // namespace spanwise::rag
