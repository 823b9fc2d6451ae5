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
      observer_(&observer) {
  if (setup_.copy_of) copier_.emplace(*setup_.copy_of);
}

TokenReport Generation::Report(const decode::SampledToken& token) const {
  const auto bytes = [&](int32_t id) { return tokenizer_->TokenBytes(id, /*keep_special=*/true); };
  TokenReport report{.id = token.id,
                     .token = bytes(token.id),
                     .special = tokenizer_->IsSpecial(token.id),
                     .logprob = token.logprob,
                     .alternatives = {}};
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
  if (copier_) {
    // Where it may end anything may come, for whatever is no copy ends it.
    const bool may_end = copier_->may_end() && n_generated_ >= setup_.sampling.min_tokens;
    return sampler_.Sample(logits, n_generated_, may_end ? std::span<const int32_t>() : copier_->next());
  }
  if (setup_.forced_tokens.empty()) return sampler_.Sample(logits, n_generated_);
  const int32_t id = setup_.forced_tokens[static_cast<size_t>(n_generated_)];
  if (setup_.sampling.logprobs) return decode::LogprobsOf(logits, id, *setup_.sampling.logprobs);
  return decode::SampledToken{.id = id, .logprob = {}, .alternatives = {}};
}

// Whether the token is no part of the text, and so the end of it.
bool Generation::Ends(int32_t token) const {
  if (copier_ && !std::ranges::binary_search(copier_->next(), token)) return true;
  return setup_.forced_tokens.empty() && !setup_.sampling.ignore_eos &&
         std::ranges::find(setup_.eos_ids, token) != setup_.eos_ids.end();
}

Result<std::optional<int32_t>> Generation::Next(std::span<const float> logits) {
  if (n_generated_ >= setup_.max_tokens) return std::optional<int32_t>();
  const bool forced = !setup_.forced_tokens.empty();
  SW_ASSIGN_OR_RETURN(const decode::SampledToken token, Choose(logits));
  if (observer_->on_logits) observer_->on_logits(token.id, logits);
  sampler_.Accept(token.id);
  ++n_generated_;
  if (Ends(token.id)) {
    reason_ = FinishReason::kStop;
    return std::optional<int32_t>();
  }
  if (copier_) copier_->Accept(token.id);
  std::optional<TokenReport> report;
  if (setup_.sampling.logprobs) report = Report(token);
  Emit(stop_.Push(decoder_.Push(token.id), !forced && n_generated_ >= setup_.sampling.min_tokens), std::move(report));
  if (stop_.matched()) reason_ = FinishReason::kStop;
  if (!stop_.matched() && n_generated_ < setup_.max_tokens) return std::optional(token.id);
  unread_ = token.id;
  return std::optional<int32_t>();
}

void Generation::Finish(Answer* answer) {
  std::string rest = stop_.Push(decoder_.Finish()) + stop_.Finish();
  if (copier_ && n_generated_ > 0) {
    auto [source, begin, end] = copier_->place();
    // Some decoders drop the space that a text begins with.
    if (source->text[begin] == ' ' && !(text_ + rest).starts_with(' ')) ++begin;
    const std::string_view copied = std::string_view(source->text).substr(begin, end - begin);
    // What max_tokens ends may be half a character.
    while (!rest.empty() && !copied.starts_with(text_ + rest)) rest.pop_back();
    answer->extraction = {.document = source->name, .begin = begin, .end = begin + text_.size() + rest.size()};
  }
  Emit(rest, std::nullopt);
  answer->text = std::move(text_);
  answer->tokens = std::move(reports_);
  answer->finish_reason = reason_;
  answer->seed = sampler_.seed();
  answer->usage.completion_tokens = n_generated_;
}

}  // namespace spanwise
