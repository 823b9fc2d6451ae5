#include "engine/generation.h"

#include <algorithm>

namespace spanwise {

Result<Generation> Generation::Create(const Tokenizer& tokenizer, int vocab_size, Setup setup,
                                      const RequestObserver& observer) {
  SW_ASSIGN_OR_RETURN(auto sampler, decode::Sampler::Create(setup.sampling, {.vocab_size = vocab_size,
                                                                             .eos_ids = setup.eos_ids,
                                                                             .prompt = setup.prompt,
                                                                             .stream = setup.stream}));
  return Generation(tokenizer, std::move(setup), std::move(sampler), observer);
}

Generation::Generation(const Tokenizer& tokenizer, Setup setup, decode::Sampler sampler,
                       const RequestObserver& observer)
    : tokenizer_(&tokenizer),
      setup_(std::move(setup)),
      sampler_(std::move(sampler)),
      decoder_(tokenizer),
      stop_(setup_.sampling.stop),
      observer_(&observer) {}

TokenReport Generation::Report(const decode::SampledToken& token) const {
  const auto bytes = [&](int32_t id) { return tokenizer_->TokenBytes(id, /*keep_special=*/true); };
  TokenReport report{.id = token.id, .token = bytes(token.id), .logprob = token.logprob, .alternatives = {}};
  for (const decode::TokenLogprob& a : token.alternatives)
    report.alternatives.push_back({a.id, bytes(a.id), a.logprob});
  return report;
}

void Generation::Emit(const std::string& text, std::optional<TokenReport> report) {
  if (report) reports_.push_back(std::move(*report));
  if (text.empty()) return;
  text_ += text;
  if (observer_->on_text) {
    observer_->on_text(text, {reports_.begin() + static_cast<ptrdiff_t>(n_reported_), reports_.end()});
    n_reported_ = reports_.size();
  }
}

Status Generation::Echo(int32_t token, std::span<const float> logits) {
  decode::SampledToken echoed{.id = token, .logprob = {}, .alternatives = {}};
  if (!logits.empty() && observer_->on_logits) observer_->on_logits(token, logits);
  if (!logits.empty() && setup_.sampling.logprobs) {
    SW_ASSIGN_OR_RETURN(echoed, decode::LogprobsOf(logits, token, *setup_.sampling.logprobs));
  }
  Emit(decoder_.Push(token), Report(echoed));
  return Status::Ok();
}

Result<decode::SampledToken> Generation::Choose(std::span<const float> logits) {
  if (setup_.forced_tokens.empty()) return sampler_.Sample(logits, n_generated_);
  const int32_t id = setup_.forced_tokens[static_cast<size_t>(n_generated_)];
  if (setup_.sampling.logprobs) return decode::LogprobsOf(logits, id, *setup_.sampling.logprobs);
  return decode::SampledToken{.id = id, .logprob = {}, .alternatives = {}};
}

Result<std::optional<int32_t>> Generation::Next(std::span<const float> logits) {
  if (n_generated_ >= setup_.max_tokens) return std::optional<int32_t>();
  const bool forced = !setup_.forced_tokens.empty();
  SW_ASSIGN_OR_RETURN(const decode::SampledToken token, Choose(logits));
  if (observer_->on_logits) observer_->on_logits(token.id, logits);
  sampler_.Accept(token.id);
  ++n_generated_;
  if (!forced && !setup_.sampling.ignore_eos && std::ranges::find(setup_.eos_ids, token.id) != setup_.eos_ids.end()) {
    reason_ = FinishReason::kStop;
    return std::optional<int32_t>();
  }
  std::optional<TokenReport> report;
  if (setup_.sampling.logprobs) report = Report(token);
  Emit(stop_.Push(decoder_.Push(token.id), !forced && n_generated_ >= setup_.sampling.min_tokens), std::move(report));
  if (stop_.matched()) reason_ = FinishReason::kStop;
  if (!stop_.matched() && n_generated_ < setup_.max_tokens) return std::optional(token.id);
  unread_ = token.id;
  return std::optional<int32_t>();
}

void Generation::Finish(Answer* answer) {
  Emit(stop_.Push(decoder_.Finish()) + stop_.Finish(), std::nullopt);
  answer->text = std::move(text_);
  answer->tokens = std::move(reports_);
  answer->finish_reason = reason_;
  answer->seed = sampler_.seed();
  answer->usage.completion_tokens = n_generated_;
}

}  // namespace spanwise
