#include "server/response.h"

#include <sys/random.h>

#include <algorithm>
#include <chrono>

#include "base/str.h"
#include "rag/report.h"

namespace spanwise::server {

namespace {

json::value LogprobJson(std::optional<float> logprob) {
  return logprob ? json::value(double{*logprob}) : json::value(nullptr);
}

json::object ChunkHead(const Envelope& envelope, std::string_view object) {
  return {{"id", envelope.id},
          {"object", object},
          {"created", envelope.created},
          {"model", envelope.model},
          {"system_fingerprint", envelope.fingerprint}};
}

json::value FinishJson(std::optional<FinishReason> reason) {
  return reason ? json::value(rag::FinishName(*reason)) : json::value(nullptr);
}

json::value OrNull(std::optional<json::object> object) {
  return object ? json::value(std::move(*object)) : json::value(nullptr);
}

}  // namespace

Envelope NewEnvelope(std::string_view id_prefix, const ModelCard& model) {
  uint64_t random[2] = {};
  // Ids only have to differ; without entropy the clock sees to that.
  if (getentropy(random, sizeof random) != 0)
    random[0] = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {StrFormat("{}-{:016x}{:016x}", id_prefix, random[0], random[1]),
          std::chrono::duration_cast<std::chrono::seconds>(now).count(), model.id, model.fingerprint};
}

json::object UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", json::object{{"cached_tokens", usage.cached_tokens}}}};
}

json::object SpanwiseJson(const Answer& answer) {
  json::object out = rag::ComposeJson(answer.compose);
  out["seed"] = answer.seed;
  out["timings"] = rag::TimingsJson(answer.timings);
  rag::AddPartsJson(answer, &out);
  return out;
}

json::object ChatLogprobs(std::span<const TokenReport> tokens) {
  json::array content;
  for (const TokenReport& token : tokens) {
    json::array top;
    for (const TokenAlternative& a : token.alternatives)
      top.push_back(json::object{
          {"token", rag::TokenJsonText(a.token)}, {"logprob", double{a.logprob}}, {"bytes", TokenBytes(a.token)}});
    content.push_back(json::object{{"token", rag::TokenJsonText(token.token)},
                                   {"logprob", LogprobJson(token.logprob)},
                                   {"bytes", TokenBytes(token.token)},
                                   {"top_logprobs", std::move(top)}});
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

json::object ChatResponse(const Envelope& envelope, const rag::GroundedAnswer& grounded, bool logprobs) {
  const Answer& answer = grounded.answer;
  json::object out = ChunkHead(envelope, "chat.completion");
  json::value logprobs_json = nullptr;
  if (logprobs) logprobs_json = ChatLogprobs(answer.tokens);
  out["choices"] = json::array{json::object{
      {"index", 0},
      {"message",
       json::object{{"role", "assistant"}, {"content", rag::ReplaceInvalidUtf8(answer.text)}, {"refusal", nullptr}}},
      {"logprobs", std::move(logprobs_json)},
      {"finish_reason", rag::FinishName(answer.finish_reason)}}};
  out["usage"] = UsageJson(answer.usage);
  rag::AddCitationsJson(grounded, &out);
  out["spanwise"] = SpanwiseJson(answer);
  return out;
}

json::object CompletionResponse(const Envelope& envelope, const std::vector<Answer>& answers, bool logprobs) {
  json::object out = ChunkHead(envelope, "text_completion");
  json::array choices;
  Usage usage;
  for (size_t i = 0; i < answers.size(); ++i) {
    const Answer& answer = answers[i];
    size_t offset = 0;
    json::value logprobs_json = nullptr;
    if (logprobs) logprobs_json = rag::CompletionLogprobs(answer.tokens, &offset);
    choices.push_back(json::object{{"index", i},
                                   {"text", rag::ReplaceInvalidUtf8(answer.text)},
                                   {"logprobs", std::move(logprobs_json)},
                                   {"finish_reason", rag::FinishName(answer.finish_reason)}});
    usage.prompt_tokens += answer.usage.prompt_tokens;
    usage.cached_tokens += answer.usage.cached_tokens;
    usage.completion_tokens += answer.usage.completion_tokens;
  }
  out["choices"] = std::move(choices);
  out["usage"] = UsageJson(usage);
  if (answers.size() == 1) out["spanwise"] = SpanwiseJson(answers[0]);
  return out;
}

json::object ChatChunk(const Envelope& envelope, Delta delta) {
  json::object message;
  if (delta.role) message["role"] = "assistant";
  if (delta.text) message["content"] = *delta.text;
  json::object out = ChunkHead(envelope, "chat.completion.chunk");
  out["choices"] = json::array{json::object{{"index", delta.index},
                                            {"delta", std::move(message)},
                                            {"logprobs", OrNull(std::move(delta.logprobs))},
                                            {"finish_reason", FinishJson(delta.finish_reason)}}};
  return out;
}

json::object CompletionChunk(const Envelope& envelope, Delta delta) {
  json::object out = ChunkHead(envelope, "text_completion");
  out["choices"] = json::array{json::object{{"index", delta.index},
                                            {"text", std::move(delta.text).value_or("")},
                                            {"logprobs", OrNull(std::move(delta.logprobs))},
                                            {"finish_reason", FinishJson(delta.finish_reason)}}};
  return out;
}

json::object UsageChunk(const Envelope& envelope, bool chat, const Usage& usage) {
  json::object out = ChunkHead(envelope, chat ? "chat.completion.chunk" : "text_completion");
  out["choices"] = json::array();
  out["usage"] = UsageJson(usage);
  return out;
}

json::object ModelJson(const ModelCard& model, int64_t created) {
  return {{"id", model.id},
          {"object", "model"},
          {"created", created},
          {"owned_by", "spanwise"},
          {"context_tokens", model.context_tokens}};
}

json::object TokenizerJson(const ModelCard& model) {
  const auto or_null = [](const std::optional<std::string>& text) {
    return text ? json::value(*text) : json::value(nullptr);
  };
  const TokenizerInfo& info = model.tokenizer;
  return {{"bos_token", or_null(info.bos_token)},         {"eos_token", or_null(info.eos_token)},
          {"pad_token", or_null(info.pad_token)},         {"unk_token", or_null(info.unk_token)},
          {"chat_template", or_null(info.chat_template)}, {"vocab_size", model.vocab_size},
          {"model_max_length", model.context_tokens}};
}

json::array TokenBytes(const std::string& bytes) {
  json::array out;
  for (const char c : bytes) out.push_back(static_cast<unsigned char>(c));
  return out;
}

std::string Event(const json::object& data) { return "data: " + json::serialize(data) + "\n\n"; }

}  // namespace spanwise::server
