// Answers from typed values to the OpenAI API's JSON. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "rag/answerer.h"
#include "server/backend.h"

namespace spanwise::server {

// What every object of one answer repeats.
struct Envelope {
  std::string id;  // "chatcmpl-..." or "cmpl-..."
  int64_t created = 0;
  std::string model;
  std::string fingerprint;
};
Envelope NewEnvelope(std::string_view id_prefix, const ModelCard& model);

json::object UsageJson(const Usage& usage);
// The "spanwise" member: how the prompt was composed, the seed, the timings, what branches and steps came to.
json::object SpanwiseJson(const Answer& answer);

// {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
json::object ChatLogprobs(std::span<const TokenReport> tokens);

json::object ChatResponse(const Envelope& envelope, const rag::GroundedAnswer& grounded, bool logprobs);
json::object CompletionResponse(const Envelope& envelope, const std::vector<Answer>& answers, bool logprobs);

// One piece of a streamed answer, before it is wrapped into an event.
struct Delta {
  int index = 0;      // of the choice
  bool role = false;  // chat: name the role
  std::optional<std::string> text;
  std::optional<json::object> logprobs;
  std::optional<FinishReason> finish_reason;
};
json::object ChatChunk(const Envelope& envelope, Delta delta);
json::object CompletionChunk(const Envelope& envelope, Delta delta);
// The last piece when usage was asked for: no choices.
json::object UsageChunk(const Envelope& envelope, bool chat, const Usage& usage);

json::object ModelJson(const ModelCard& model, int64_t created);

// What vLLM's /tokenizer_info tells, under the names of tokenizer_config.json.
json::object TokenizerJson(const ModelCard& model);
// The bytes of a token as numbers.
json::array TokenBytes(const std::string& bytes);

// A server-sent event.
std::string Event(const json::object& data);

}  // namespace spanwise::server
