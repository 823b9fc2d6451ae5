// Carries out plans: finds kept KV, encodes what is missing, decodes. Owned by the engine's thread.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kv/run.h"
#include "kv/span_store.h"
#include "model/transformer.h"
#include "prompt/plan.h"

namespace spanwise {

// A plan being carried out. Its runs stay pinned while it lives.
struct Sequence {
  Plan plan;
  bool use_cache = true;
  std::vector<std::shared_ptr<Run>> runs;  // one for each planned run
  std::vector<int> reused;                 // leading tokens of each run that were found

  Run& tail() { return *runs.back(); }
  const PlannedRun& tail_plan() const { return plan.runs.back(); }
  int n_prompt_tokens() const { return plan.n_tokens(); }
  int n_ready_prompt_tokens() const;
};

// Thread-compatible.
class Executor {
 public:
  Executor(std::shared_ptr<const ModelWeights> weights, DType kv_dtype, size_t kv_budget_bytes, int step_tokens,
           int n_threads);

  // Takes from the store what it knows of every run; at least the last token of the tail is left to be computed. With
  // whole_tail nothing of the tail is reused (its logits are wanted). ResourceExhausted when KV memory is all in use.
  Result<Sequence> Begin(Plan plan, bool use_cache, bool whole_tail);

  // Logits of consecutive tail rows, from tail index `first` on: [n, vocab_size].
  using LogitSink = std::function<void(int first, std::span<const float> logits)>;

  // Encodes up to step_tokens missing tokens, of several independent runs at once where there are; keeps finished runs
  // in the store. Calls `sink` for the tail's last prompt row, or for all its rows with all_logits. Returns whether
  // tokens are still missing. On ResourceExhausted the sequence can only be dropped.
  Result<bool> PrefillStep(Sequence& sequence, bool all_logits, const LogitSink& sink);

  // Appends one token and returns the logits of the next: [vocab_size], valid until the next call.
  Result<std::span<const float>> DecodeStep(Sequence& sequence, int32_t token);

  // Keeps all that the sequence's tail holds.
  void Seal(Sequence& sequence);

  const Transformer& transformer() const { return transformer_; }
  SpanStore& store() { return store_; }

 private:
  std::vector<KvRun> View(const Sequence& sequence, size_t run) const;

  ThreadPool pool_;
  Transformer transformer_;
  SpanStore store_;
  int step_tokens_;
};

}  // namespace spanwise
