#include "server/response.h"

#include <sys/random.h>

#include <algorithm>
#include <chrono>

#include "base/str.h"
#include "rag/report.h"

namespace spanwise::server {

namespace {

std::string_view FinishName(FinishReason reason) { return reason == FinishReason::kStop ? "stop" : "length"; }

json::array TokenBytes(const std::string& bytes) {
  json::array out;
  for (const char c : bytes) out.push_back(static_cast<unsigned char>(c));
  return out;
}

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
  return reason ? json::value(FinishName(*reason)) : json::value(nullptr);
}

json::array BranchesJson(const std::vector<BranchAnswer>& branches) {
  json::array out;
  for (const BranchAnswer& branch : branches) {
    json::object one{{"text", ReplaceInvalidUtf8(branch.text)},
                     {"finish_reason", FinishName(branch.finish_reason)},
                     {"usage", rag::UsageJson(branch.usage)},
                     {"recomputed_tokens", branch.recomputed_tokens}};
    if (size_t offset = 0; !branch.tokens.empty()) one["logprobs"] = rag::CompletionLogprobs(branch.tokens, &offset);
    out.push_back(std::move(one));
  }
  return out;
}

json::array StepsJson(const std::vector<StepAnswer>& steps) {
  json::array out;
  for (const StepAnswer& step : steps) {
    json::object one{{"text", ReplaceInvalidUtf8(step.text)},
                     {"finish_reason", FinishName(step.finish_reason)},
                     {"completion_tokens", step.completion_tokens}};
    if (size_t offset = 0; !step.tokens.empty()) one["logprobs"] = rag::CompletionLogprobs(step.tokens, &offset);
    out.push_back(std::move(one));
  }
  return out;
}

json::object PruningJson(const PruningReport& pruning) {
  return {{"lists", pruning.lists},
          {"tokens", pruning.tokens},
          {"reencoded_tokens", pruning.reencoded_tokens},
          {"peak_position", pruning.peak_position}};
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

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string out;
  size_t bad = 0;
  while (!IsValidUtf8(bytes, &bad)) {
    out += bytes.substr(0, bad);
    AppendUtf8(&out, 0xFFFD);
    bytes.remove_prefix(bad + 1);
  }
  return out += bytes;
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
  if (!answer.branches.empty()) out["branches"] = BranchesJson(answer.branches);
  if (!answer.steps.empty()) out["steps"] = StepsJson(answer.steps);
  if (answer.pruning) out["pruning"] = PruningJson(*answer.pruning);
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
       json::object{{"role", "assistant"}, {"content", ReplaceInvalidUtf8(answer.text)}, {"refusal", nullptr}}},
      {"logprobs", std::move(logprobs_json)},
      {"finish_reason", FinishName(answer.finish_reason)}}};
  out["usage"] = UsageJson(answer.usage);
  out["citations"] = rag::CitationsJson(grounded.citations);
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
                                   {"text", ReplaceInvalidUtf8(answer.text)},
                                   {"logprobs", std::move(logprobs_json)},
                                   {"finish_reason", FinishName(answer.finish_reason)}});
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

std::string Event(const json::object& data) { return "data: " + json::serialize(data) + "\n\n"; }

}  // namespace spanwise::server
