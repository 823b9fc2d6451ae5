#include "engine/lane.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace spanwise {

const RequestObserver kNobody;

Status Lane::Begin(Executor& executor, const Tokenizer& tokenizer, Setup setup, const RequestObserver& observer,
                   Runs held) {
  echo_from_ = setup.echo_from;
  logprobs_ = setup.generation.sampling.logprobs.has_value();
  vocab_ = static_cast<size_t>(executor.transformer().config().vocab_size);
  tokenizer_ = &tokenizer;
  observer_ = &observer;
  course_ = std::move(setup.course).value_or(Course());
  if (setup.pointed) pointers_.emplace(setup.plan, *setup.pointed, executor.transformer().config());
  const int logits_from = setup.without_tail ? 0 : this->logits_from().value_or(std::numeric_limits<int>::max());
  sequence_ = executor.Begin(std::move(setup.plan), setup.use_cache, held, logits_from);
  sequence_.without_tail = setup.without_tail;
  const std::span<const int32_t> tail = sequence_.tail_plan().tokens;
  SW_RETURN_IF_ERROR(NewGeneration(std::move(setup.generation), tail));
  if (course_.keep_subtasks) {
    pruner_.emplace(*course_.keep_subtasks);
    n_unwatched_ = tail.size() - course_.n_watched;
    // The prompt is read as it is; what is done in it already goes with the first token.
    for (const int32_t token : tail.last(course_.n_watched)) Watch(token);
  }
  NotePeak(tail.size());
  if (!echo_from_) return Status::Ok();
  n_echoed_ = static_cast<size_t>(std::max(1, *echo_from_));
  return *echo_from_ == 0 ? generation_->Echo(tail[0], {}) : Status::Ok();
}

Status Lane::NewGeneration(Generation::Setup setup, std::span<const int32_t> tail) {
  if (setup.sampling.repetition_penalty != 1.0f) {
    setup.prompt.clear();
    for (const PlannedRun& run : std::span(sequence_.plan.runs).first(sequence_.plan.runs.size() - 1))
      setup.prompt.insert(setup.prompt.end(), run.tokens.begin(), run.tokens.end());
    setup.prompt.insert(setup.prompt.end(), tail.begin(), tail.end());
  }
  SW_ASSIGN_OR_RETURN(generation_, Generation::Create(*tokenizer_, static_cast<int>(vocab_), std::move(setup),
                                                      has_passages_left() ? kNobody : *observer_));
  return Status::Ok();
}

void Lane::Rest(Executor& executor) {
  if (!begun() || rests()) return;
  executor.Suspend(sequence_);
  if (token_) pending_ = std::exchange(token_, std::nullopt);
}

void Lane::Resume(Executor& executor, Runs held) {
  if (!rests()) return;
  executor.Resume(sequence_, held);
  if (pending_ && sequence_.prompt_is_ready()) token_ = std::exchange(pending_, std::nullopt);
}

Executor::Turn Lane::Turn() {
  Executor::Turn turn{.sequence = &sequence_, .token = token_, .logits_from = logits_from()};
  if (pointers_ && !pending_) {  // what was read before does not count again
    turn.ranges = pointers_->Ranges(token_ ? sequence_.tail().n_tokens() + 1
                                           : static_cast<int>(sequence_.tail_plan().tokens.size()));
    turn.mass = pointers_->Mass();
    turn.mass_layer = pointers_->first_layer();
  }
  return turn;
}

Status Lane::EchoPrompt(const Executor::Turn& turn) {
  const std::span<const int32_t> prompt = sequence_.tail_plan().tokens;
  const size_t n = logits_from() ? turn.logits.size() / vocab_ : 0;
  for (size_t i = 0; i < n; ++i)
    if (const size_t next = static_cast<size_t>(turn.first) + i + 1; next >= n_echoed_ && next < prompt.size()) {
      SW_RETURN_IF_ERROR(generation_->Echo(prompt[next], turn.logits.subspan(i * vocab_, vocab_)));
      ++n_echoed_;
    }
  if (!sequence_.prompt_is_ready() || pending_) return Status::Ok();
  for (; n_echoed_ < prompt.size(); ++n_echoed_) SW_RETURN_IF_ERROR(generation_->Echo(prompt[n_echoed_], {}));
  return Status::Ok();
}

Status Lane::Advance(Executor& executor, const Executor::Turn& turn) {
  if (!token_) {
    if (echo_from_) SW_RETURN_IF_ERROR(EchoPrompt(turn));
    if (!sequence_.prompt_is_ready() || ended_) return Status::Ok();
    if (pending_) {
      token_ = std::exchange(pending_, std::nullopt);
      return Status::Ok();
    }
  }
  if (sequence_.without_tail) {
    End();
    return Status::Ok();
  }
  SW_ASSIGN_OR_RETURN(token_, generation_->Next(turn.logits.last(vocab_)));
  has_sampled_ = has_sampled_ || generation_->n_generated() > 0;
  if (const auto sampled = token_ ? token_ : generation_->unread()) {
    Watch(*sampled);
    if (pointers_) pointers_->Count();
  }
  if (token_) {
    SW_RETURN_IF_ERROR(AfterToken(executor));
  } else if (has_passages_left()) {
    SW_RETURN_IF_ERROR(NextPassage(executor));
  } else {
    ended_ = true;
  }
  if (ended_) End();
  return Status::Ok();
}

void Lane::End() {
  ended_ = true;
  for (size_t i = 0; i < sequence_.runs.size(); ++i) {
    n_cached_.push_back(sequence_.n_cached(i));
    loaded_.push_back({sequence_.runs[i]->from_disk(), sequence_.runs[i]->from_remote()});
  }
}

void Lane::Watch(int32_t token) {
  if (pruner_) pruner_->Push(tokenizer_->TokenBytes(token, /*keep_special=*/true));
}

void Lane::NotePeak(size_t n_tail) {
  pruning_.peak_position = std::max(pruning_.peak_position, sequence_.tail_plan().base + static_cast<int>(n_tail));
}

std::vector<int32_t> Lane::TailTokens() const {
  const std::span<const int32_t> tokens =
      rests() || !sequence_.prompt_is_ready() ? sequence_.tail_plan().tokens : sequence_.runs.back()->tokens();
  return {tokens.begin(), tokens.end()};
}

// Drops what has to go; returns how many leading tokens stay as they are, with their KV.
int Lane::Cut(std::vector<int32_t>* tail) {
  int live = sequence_.tail().n_ready(), kept = live;
  while (const auto cut = pruner_ ? pruner_->Next() : std::nullopt) {
    const int begin = static_cast<int>(n_unwatched_ + cut->begin), end = static_cast<int>(n_unwatched_ + cut->end);
    tail->erase(tail->begin() + begin, tail->begin() + end);
    live -= std::max(0, std::min(end, live) - begin);
    kept = std::min(kept, begin);
    ++pruning_.lists;
    pruning_.tokens += end - begin;
  }
  pruning_.reencoded_tokens += live - kept;
  return kept;
}

// The token is not fed yet: what is cut lies before it.
Status Lane::AfterToken(Executor& executor) {
  size_t n_tail = static_cast<size_t>(sequence_.tail().n_tokens()) + 1;
  if (pruner_ && pruner_->has_cut()) {
    std::vector<int32_t> tail = TailTokens();
    tail.push_back(*token_);
    const int kept = Cut(&tail);
    n_tail = tail.size();
    tail.pop_back();
    SW_RETURN_IF_ERROR(
        executor.Rewrite(sequence_, kept, std::span(tail).subspan(static_cast<size_t>(kept)), /*want_logits=*/false));
    if (!sequence_.prompt_is_ready()) pending_ = std::exchange(token_, std::nullopt);
  }
  NotePeak(n_tail);
  if (n_tail < static_cast<size_t>(course_.most_tokens)) return Status::Ok();
  ended_ = true;
  token_ = pending_ = std::nullopt;
  return Status::Ok();
}

Status Lane::NextPassage(Executor& executor) {
  std::vector<int32_t> tail = TailTokens();
  if (const auto unread = generation_->unread()) tail.push_back(*unread);
  Passage& passage = course_.passages[n_passages_];
  tail.insert(tail.end(), passage.given.begin(), passage.given.end());
  for (const int32_t token : passage.given) Watch(token);
  const int kept = Cut(&tail);
  if (tail.size() >= static_cast<size_t>(course_.most_tokens)) {
    ended_ = true;
    return Status::Ok();
  }
  NotePeak(tail.size());
  Answer made;
  generation_->Finish(&made);
  passages_.push_back({.text = std::move(made.text),
                       .finish_reason = made.finish_reason,
                       .tokens = std::move(made.tokens),
                       .completion_tokens = made.usage.completion_tokens});
  ++n_passages_;
  SW_RETURN_IF_ERROR(NewGeneration(std::move(passage.setup), tail));
  return executor.Rewrite(sequence_, kept, std::span(tail).subspan(static_cast<size_t>(kept)), /*want_logits=*/true);
}

void Lane::Seal(Executor& executor) {
  if (begun() && !rests()) executor.Seal(sequence_);
}

std::vector<int32_t> Lane::Tokens() const {
  std::vector<int32_t> tokens = TailTokens();
  if (const auto unread = generation_->unread()) tokens.push_back(*unread);
  return tokens;
}

}  // namespace spanwise
