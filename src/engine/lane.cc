#include "engine/lane.h"

#include <utility>

namespace spanwise {

Status Lane::Begin(Executor& executor, const Tokenizer& tokenizer, Setup setup, const RequestObserver& observer,
                   Runs held) {
  echo_ = setup.echo;
  logprobs_ = setup.generation.sampling.logprobs.has_value();
  vocab_ = static_cast<size_t>(executor.transformer().config().vocab_size);
  if (setup.generation.sampling.repetition_penalty != 1.0f)
    for (const PlannedRun& run : setup.plan.runs)
      setup.generation.prompt.insert(setup.generation.prompt.end(), run.tokens.begin(), run.tokens.end());
  SW_ASSIGN_OR_RETURN(generation_,
                      Generation::Create(tokenizer, static_cast<int>(vocab_), std::move(setup.generation), observer));
  SW_ASSIGN_OR_RETURN(sequence_, executor.Begin(std::move(setup.plan), setup.use_cache, all_logits(), held));
  return echo_ ? generation_->Echo(sequence_.tail_plan().tokens[0], {}) : Status::Ok();
}

void Lane::Rest(Executor& executor) {
  if (!begun() || rests()) return;
  executor.Suspend(sequence_);
  if (token_) pending_ = std::exchange(token_, std::nullopt);
}

Status Lane::Resume(Executor& executor, Runs held) {
  if (!rests()) return Status::Ok();
  SW_RETURN_IF_ERROR(executor.Resume(sequence_, held));
  if (pending_ && sequence_.prompt_is_ready()) token_ = std::exchange(pending_, std::nullopt);
  return Status::Ok();
}

Executor::Turn Lane::Turn() { return {.sequence = &sequence_, .token = token_, .all_logits = all_logits()}; }

Status Lane::EchoPrompt(const Executor::Turn& turn) {
  const std::span<const int32_t> prompt = sequence_.tail_plan().tokens;
  const size_t n = all_logits() ? turn.logits.size() / vocab_ : 0;
  for (size_t i = 0; i < n; ++i)
    if (const size_t next = static_cast<size_t>(turn.first) + i + 1; next >= n_echoed_ && next < prompt.size()) {
      SW_RETURN_IF_ERROR(generation_->Echo(prompt[next], turn.logits.subspan(i * vocab_, vocab_)));
      ++n_echoed_;
    }
  if (!sequence_.prompt_is_ready() || pending_) return Status::Ok();
  for (; n_echoed_ < prompt.size(); ++n_echoed_) SW_RETURN_IF_ERROR(generation_->Echo(prompt[n_echoed_], {}));
  return Status::Ok();
}

Status Lane::Advance(const Executor::Turn& turn) {
  if (!token_) {
    if (echo_) SW_RETURN_IF_ERROR(EchoPrompt(turn));
    if (!sequence_.prompt_is_ready() || ended_) return Status::Ok();
    if (pending_) {
      token_ = std::exchange(pending_, std::nullopt);
      return Status::Ok();
    }
  }
  SW_ASSIGN_OR_RETURN(token_, generation_->Next(turn.logits.last(vocab_)));
  ended_ = !token_;
  for (size_t i = 0; ended_ && i < sequence_.runs.size(); ++i) n_cached_.push_back(sequence_.n_cached(i));
  return Status::Ok();
}

void Lane::Seal(Executor& executor) {
  if (begun() && !rests()) executor.Seal(sequence_);
}

std::vector<int32_t> Lane::Tokens() const {
  const std::span<const int32_t> fed =
      rests() ? std::span(sequence_.tail_plan().tokens) : sequence_.runs.back()->tokens();
  std::vector<int32_t> tokens(fed.begin(), fed.end());
  if (const auto unread = generation_->unread()) tokens.push_back(*unread);
  return tokens;
}

}  // namespace spanwise
