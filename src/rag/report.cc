#include "rag/report.h"

#include "base/str.h"

namespace spanwise::rag {

json::object ComposeJson(const ComposeReport& report) {
  json::array spans;
  for (const PieceReport& span : report.spans)
    spans.push_back(
        json::object{{"document", span.document.empty() ? json::value(nullptr) : json::value(span.document)},
                     {"tokens", span.tokens},
                     {"cached_tokens", span.cached_tokens},
                     {"source", json::string(KvSourceName(span.source))}});
  return {{"mode", json::string(ComposeModeName(report.mode))},
          {"order", json::string(DocumentOrderName(report.order))},
          {"exactness", report.exactness},
          {"spans", std::move(spans)},
          {"repaired_tokens", report.repaired_tokens}};
}

json::array CitationsJson(const std::vector<Citation>& citations) {
  json::array out;
  for (const Citation& c : citations)
    out.push_back(json::object{{"document", c.document_id},
                               {"title", c.title},
                               {"label", c.label},
                               {"quote", c.quote},
                               {"start", c.begin},
                               {"end", c.end},
                               {"score", c.score}});
  return out;
}

json::object UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"cached_tokens", usage.cached_tokens},
          {"completion_tokens", usage.completion_tokens}};
}

json::object TimingsJson(const Timings& timings) {
  return {{"load_ms", timings.load_ms},
          {"ttft_ms", timings.ttft_ms},
          {"prefill_ms", timings.prefill_ms},
          {"decode_tokens_per_s", timings.decode_tokens_per_s}};
}

std::string TokenJsonText(std::string_view bytes) {
  if (IsValidUtf8(bytes)) return std::string(bytes);
  std::string text = "bytes:";
  for (const char c : bytes) text += StrFormat("\\x{:02x}", static_cast<unsigned char>(c));
  return text;
}

json::object LogprobsJson(const std::vector<TokenReport>& tokens) {
  json::array texts, logprobs, tops, offsets;
  size_t offset = 0;
  for (const TokenReport& token : tokens) {
    texts.push_back(json::string(TokenJsonText(token.token)));
    logprobs.push_back(token.logprob ? json::value(*token.logprob) : json::value(nullptr));
    json::object top;
    for (const TokenAlternative& a : token.alternatives) top[TokenJsonText(a.token)] = a.logprob;
    tops.push_back(token.logprob ? json::value(std::move(top)) : json::value(nullptr));
    offsets.push_back(offset);
    offset += token.token.size();
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

}  // namespace spanwise::rag
