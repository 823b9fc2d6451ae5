// One line of tokens on its way: a sequence and what is generated at its end.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/executor.h"
#include "engine/generation.h"
#include "prompt/plan.h"
#include "spanwise/engine.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

// Begins, takes part in steps, may rest in between, and ends. Between Begin and its end it holds KV memory unless it
// rests. Belongs to the engine's thread.
class Lane {
 public:
  using Runs = std::span<const std::shared_ptr<Run>>;
  struct Setup {
    Plan plan;
    Generation::Setup generation;
    bool use_cache = true;
    bool echo = false;  // report the prompt's tokens first
  };

  // Takes runs of the plan that `held` has, and finds what it can of the others. `tokenizer` and `observer` must
  // outlive the lane.
  Status Begin(Executor& executor, const Tokenizer& tokenizer, Setup setup, const RequestObserver& observer,
               Runs held = {});
  // Lets go of all KV. What was ready is found again, or computed again with the same bits.
  void Rest(Executor& executor);
  // Takes up a lane that rests; nothing for any other.
  Status Resume(Executor& executor, Runs held = {});

  Executor::Turn Turn();
  // Takes what a step made.
  Status Advance(const Executor::Turn& turn);
  // Offers what it holds to the store.
  void Seal(Executor& executor);

  bool begun() const { return generation_.has_value(); }
  bool ended() const { return ended_; }
  bool rests() const { return sequence_.runs.empty(); }
  // All that it has read and written has KV. Not so where it had to let go of it.
  bool complete() const { return !rests() && sequence_.prompt_is_ready(); }
  bool decodes() const { return token_.has_value(); }

  const Sequence& sequence() const { return sequence_; }
  // Leading tokens of a run that it has not encoded itself. REQUIRES: ended.
  int n_cached(int run) const { return n_cached_[static_cast<size_t>(run)]; }
  Runs runs() const { return sequence_.runs; }
  const Generation& generation() const { return *generation_; }
  Generation& generation() { return *generation_; }
  // Of the last run: the prompt's part of it and what was generated, but for a token that ends the text.
  std::vector<int32_t> Tokens() const;

 private:
  bool all_logits() const { return echo_ && logprobs_ && !pending_; }
  Status EchoPrompt(const Executor::Turn& turn);

  bool echo_ = false, logprobs_ = false;
  size_t vocab_ = 0;
  std::optional<Generation> generation_;
  Sequence sequence_;                       // without runs while it rests
  std::optional<int32_t> token_, pending_;  // to feed next; or once what it had to let go of is read again
  size_t n_echoed_ = 1;
  std::vector<int> n_cached_;  // by run, once it has ended
  bool ended_ = false;
};

}  // namespace spanwise
