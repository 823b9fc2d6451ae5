#include "rag/report.h"

#include "base/str.h"

namespace spanwise::rag {
namespace {

json::array BranchesJson(const std::vector<BranchAnswer>& branches) {
  json::array out;
  for (const BranchAnswer& branch : branches) {
    json::object one{{"text", ReplaceInvalidUtf8(branch.text)},
                     {"finish_reason", FinishName(branch.finish_reason)},
                     {"usage", UsageJson(branch.usage)},
                     {"recomputed_tokens", branch.recomputed_tokens}};
    if (size_t offset = 0; !branch.tokens.empty()) one["logprobs"] = CompletionLogprobs(branch.tokens, &offset);
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
    if (size_t offset = 0; !step.tokens.empty()) one["logprobs"] = CompletionLogprobs(step.tokens, &offset);
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

}  // namespace

json::object ComposeJson(const ComposeReport& report) {
  json::array spans;
  for (const PieceReport& span : report.spans)
    spans.push_back(
        json::object{{"document", span.document.empty() ? json::value(nullptr) : json::value(span.document)},
                     {"tokens", span.tokens},
                     {"cached_tokens", span.cached_tokens},
                     {"source", json::string(KvSourceName(span.source))}});
  json::object out{{"mode", json::string(ComposeModeName(report.mode))},
                   {"order", json::string(DocumentOrderName(report.order))},
                   {"exactness", report.exactness},
                   {"kv_codec", report.kv_codec},
                   {"spans", std::move(spans)},
                   {"repaired_tokens", report.repaired_tokens},
                   {"calibrated", report.calibrated}};
  if (report.repair_change) out["repair_change"] = *report.repair_change;
  if (report.search)
    out["search"] = json::object{{"trials", report.search->trials},
                                 {"tokens", report.search->tokens},
                                 {"given", report.search->given},
                                 {"chosen", report.search->chosen}};
  return out;
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

void AddCitationsJson(const GroundedAnswer& answer, json::object* out) {
  (*out)["citations"] = CitationsJson(answer.citations);
  if (answer.unsupported.empty()) return;
  json::array unsupported;
  for (const UnsupportedCitation& c : answer.unsupported) {
    json::array missing;
    for (const std::string& one : c.missing) missing.emplace_back(ReplaceInvalidUtf8(one));
    unsupported.push_back(json::object{
        {"document", c.document_id}, {"title", c.title}, {"label", c.label}, {"missing", std::move(missing)}});
  }
  (*out)["unsupported_citations"] = std::move(unsupported);
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

std::string_view FinishName(FinishReason reason) { return reason == FinishReason::kStop ? "stop" : "length"; }

void AddPartsJson(const Answer& answer, json::object* out) {
  if (!answer.branches.empty()) (*out)["branches"] = BranchesJson(answer.branches);
  if (!answer.steps.empty()) (*out)["steps"] = StepsJson(answer.steps);
  if (answer.pruning) (*out)["pruning"] = PruningJson(*answer.pruning);
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

std::string TokenJsonText(std::string_view bytes) {
  if (IsValidUtf8(bytes)) return std::string(bytes);
  std::string text = "bytes:";
  for (const char c : bytes) text += StrFormat("\\x{:02x}", static_cast<unsigned char>(c));
  return text;
}

json::object CompletionLogprobs(std::span<const TokenReport> tokens, size_t* offset) {
  json::array texts, logprobs, top, offsets;
  for (const TokenReport& token : tokens) {
    texts.emplace_back(TokenJsonText(token.token));
    logprobs.push_back(token.logprob ? json::value(double{*token.logprob}) : json::value(nullptr));
    offsets.emplace_back(*offset);
    if (!token.special)
      for (const char c : token.token) *offset += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
    if (token.alternatives.empty()) {
      top.push_back(nullptr);
      continue;
    }
    json::object alternatives;  // of two tokens that look alike the more probable one stays
    for (const TokenAlternative& a : token.alternatives)
      alternatives.emplace(TokenJsonText(a.token), double{a.logprob});
    top.push_back(std::move(alternatives));
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(top)},
          {"text_offset", std::move(offsets)}};
}

}  // namespace spanwise::rag
