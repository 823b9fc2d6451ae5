// One line of tokens on its way: a sequence and what is generated at its end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "decode/subtask_pruner.h"
#include "engine/course.h"
#include "engine/executor.h"
#include "engine/generation.h"
#include "engine/pointers.h"
#include "prompt/plan.h"
#include "spanwise/engine.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

extern const RequestObserver kNobody;

// Begins, takes part in steps, may rest in between, and ends. Between Begin and its end it holds KV memory unless it
// rests. Belongs to the engine's thread.
class Lane {
 public:
  using Runs = std::span<const std::shared_ptr<Run>>;
  struct Setup {
    Plan plan;
    Generation::Setup generation;
    bool use_cache = true;
    std::optional<int> echo_from = {};  // report the prompt's tokens first: the tail's from this one on
    std::optional<Course> course = {};  // more text in the same line
    std::optional<std::vector<PointedDocument>> pointed = {};  // count the attention paid to them
    bool without_tail = false;                                 // ends when all before the tail is read
  };

  // Takes runs of the plan that `held` has, and finds what it can of the others. `tokenizer` and `observer` must
  // outlive the lane.
  Status Begin(Executor& executor, const Tokenizer& tokenizer, Setup setup, const RequestObserver& observer,
               Runs held = {});
  // Lets go of all KV. What was ready is found again, or computed again with the same bits.
  void Rest(Executor& executor);
  // Takes up a lane that rests; nothing for any other.
  void Resume(Executor& executor, Runs held = {});

  Executor::Turn Turn();  // valid until the next one
  // Takes what a step made.
  Status Advance(Executor& executor, const Executor::Turn& turn);
  // Offers what it holds to the store.
  void Seal(Executor& executor);

  bool begun() const { return generation_.has_value(); }
  bool ended() const { return ended_; }
  bool rests() const { return sequence_.runs.empty(); }
  // All that it has read and written has KV. Not so where it had to let go of it.
  bool complete() const { return !rests() && sequence_.prompt_is_ready(); }
  bool has_sampled() const { return has_sampled_; }  // a token, in any passage
  bool decodes() const { return token_.has_value(); }

  const Sequence& sequence() const { return sequence_; }
  // Leading tokens of a run that it has not encoded itself. REQUIRES: ended.
  int n_cached(int run) const { return n_cached_[static_cast<size_t>(run)]; }
  // Where these tokens of a run were found: the farthest place that any of them came from. REQUIRES: ended.
  KvSource found_in(int run, int begin, int end) const {
    const Loaded& loaded = loaded_[static_cast<size_t>(run)];
    return loaded.from_remote.Meets(begin, end) ? KvSource::kRemote
           : loaded.from_disk.Meets(begin, end) ? KvSource::kDisk
                                                : KvSource::kRam;
  }
  Runs runs() const { return sequence_.runs; }
  // Of its last passage.
  const Generation& generation() const { return *generation_; }
  Generation& generation() { return *generation_; }
  // What the passages before the last came to.
  std::vector<StepAnswer> TakePassages() { return std::move(passages_); }
  size_t n_passages() const { return n_passages_; }  // of the course that have begun
  bool has_passages_left() const { return n_passages_ < course_.passages.size(); }
  const PruningReport& pruning() const { return pruning_; }
  const std::optional<Pointers>& pointers() const { return pointers_; }

  // Of the last run: the prompt's part of it and what was generated, but for a token that ends the text.
  std::vector<int32_t> Tokens() const;

 private:
  // The first row of the tail whose logits an echo needs: the one before the first token that has such a row.
  std::optional<int> logits_from() const {
    if (!echo_from_ || pending_ || (!logprobs_ && !observer_->on_logits)) return {};
    return std::max(0, *echo_from_ - 1);
  }
  void End();
  Status EchoPrompt(const Executor::Turn& turn);
  Status AfterToken(Executor& executor);
  Status NextPassage(Executor& executor);
  std::vector<int32_t> TailTokens() const;
  void Watch(int32_t token);
  int Cut(std::vector<int32_t>* tail);
  void NotePeak(size_t n_tail);
  Status NewGeneration(Generation::Setup setup, std::span<const int32_t> tail);

  std::optional<int> echo_from_;
  bool logprobs_ = false;
  size_t vocab_ = 0;
  const Tokenizer* tokenizer_ = nullptr;
  const RequestObserver* observer_ = nullptr;
  Course course_;
  size_t n_passages_ = 0;             // of the course that have begun
  std::vector<StepAnswer> passages_;  // that have ended
  std::optional<decode::SubtaskPruner> pruner_;
  size_t n_unwatched_ = 0;  // tokens of the tail before those that the pruner knows
  PruningReport pruning_;
  std::optional<Pointers> pointers_;
  std::optional<Generation> generation_;
  Sequence sequence_;                       // without runs while it rests
  std::optional<int32_t> token_, pending_;  // to feed next; or once what it had to let go of is read again
  size_t n_echoed_ = 0;                     // tokens of the tail that were reported, or are not to be
  std::vector<int> n_cached_;               // by run, once it has ended
  struct Loaded {
    TokenRange from_disk, from_remote;
  };
  std::vector<Loaded> loaded_;  // the same
  bool ended_ = false, has_sampled_ = false;
};

}  // namespace spanwise
