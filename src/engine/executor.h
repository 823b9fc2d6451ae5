// Carries out plans: finds kept KV, encodes what is missing, decodes. Owned by the engine's thread.
#pragma once

#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kv/run.h"
#include "kv/span_store.h"
#include "model/transformer.h"
#include "prompt/plan.h"

namespace spanwise {

// What is learnt of a set's documents before it is settled what of them is recomputed.
struct RepairProbe {
  // The question, read to learn which tokens it attends to.
  std::shared_ptr<Run> run;
  std::vector<int> visible;      // what the question sees up to the set's end
  std::vector<KeyRange> ranges;  // every token of the set's runs at their source, as `visible` counts runs
  std::vector<int64_t> mass;     // of each range; see ForwardSequence
  // Of the set's runs at their source, the first n_runs and of the next n_rows tokens.
  RepairInput input;
  size_t n_runs = 0;
  int n_rows = 0;
};

// Documents of a set that were recomputed in part, until it is settled whether that is kept.
struct RepairTrial {
  std::vector<size_t> runs;
  std::vector<std::shared_ptr<Run>> sources;  // the runs as they were kept, and how much of each was found
  std::vector<int> reused;
  std::vector<std::vector<int32_t>> chosen;  // what is recomputed
};

// A plan being carried out. Its runs stay pinned while it lives.
struct Sequence {
  Plan plan;
  bool use_cache = true;
  std::vector<std::shared_ptr<Run>> runs;  // one for each planned run
  std::vector<int> reused;                 // leading tokens of each run that were found
  std::vector<uint64_t> looked;            // how many spans the store had been given when the run was looked up
  int most_reused = 0;                     // of the tail: the rest must be computed, for its logits
  bool without_tail = false;               // the tail is not read
  bool provisional = false;                // what the tail comes to hold may go again: only Seal gives it to the store

  // Repair. A run with a planned source holds that first, until it is settled what of it is recomputed.
  std::vector<bool> at_source;  // of each run
  int n_repaired = 0;           // tokens recomputed so far, but those that were not kept
  // The largest change of a recomputed token; see ComposeOptions::repair_threshold.
  std::optional<double> repair_change;
  // What the plan's policy wants to know, as far as it is known; gone once that is settled.
  std::optional<RepairProbe> probe;
  // Runs on trial are seen by each other alone.
  std::optional<RepairTrial> trial;
  bool on_trial(size_t run) const;

  // Of a sequence that was suspended: the parts of each run that it had found and that it held, before the last time.
  struct Before {
    int cached = 0, ready = 0;
  };
  std::vector<Before> before;

  Run& tail() { return *runs.back(); }
  const PlannedRun& tail_plan() const { return plan.runs.back(); }
  int n_prompt_tokens() const;
  int n_ready_prompt_tokens() const;
  bool prompt_is_ready() const { return n_ready_prompt_tokens() == n_prompt_tokens(); }
  // Leading tokens of a run that this sequence has not encoded itself.
  int n_cached(size_t run) const;
};

// KV that an executor moved, in bytes.
struct KvTraffic {
  uint64_t read_bytes = 0;     // that rows see, once a step and run they belong to
  uint64_t written_bytes = 0;  // of the rows encoded
  uint64_t copied_bytes = 0;   // of blocks that others hold too and that were to be continued or repaired

  KvTraffic operator-(const KvTraffic& other) const {
    return {read_bytes - other.read_bytes, written_bytes - other.written_bytes, copied_bytes - other.copied_bytes};
  }
};

// Thread-compatible.
class Executor {
 public:
  Executor(std::shared_ptr<const ModelWeights> weights, DType kv_dtype, size_t kv_budget_bytes, int n_threads,
           std::string_view cache_policy = kDefaultEvictionPolicy);

  // Takes from the store what it knows of every run; at least the last token of the tail is left to be computed, and
  // all behind the first most_reused (their logits are wanted). Runs in `held`, which nobody continues meanwhile, are
  // taken as they are where the plan has them or begins one with them.
  Sequence Begin(Plan plan, bool use_cache, std::span<const std::shared_ptr<Run>> held = {},
                 int most_reused = std::numeric_limits<int>::max());

  // Lets a sequence rest: what is ready of it is offered to the store, if it uses that, and all its memory is let go.
  // Tokens that were appended count as prompt from now on.
  void Suspend(Sequence& sequence);

  // Takes up a suspended sequence as Begin would: what is not in the store any more will be encoded again, which gives
  // the same bits. Only tokens whose logits have not been given yet are computed in any case.
  void Resume(Sequence& sequence, std::span<const std::shared_ptr<Run>> held = {});

  // Writes the tail anew: its first n_kept tokens stay as they are, `rest` is to be encoded behind them and counts as
  // prompt. Without want_logits those of the last row are not needed. REQUIRES: the sequence does not rest; n_kept
  // tokens of its tail are ready.
  Status Rewrite(Sequence& sequence, int n_kept, std::span<const int32_t> rest, bool want_logits);

  // What one sequence does in a step, and what came of it.
  struct Turn {
    Sequence* sequence = nullptr;
    std::optional<int32_t> token = {};  // appended to the tail; absent: missing prompt tokens are encoded
    // Logits are wanted of the tail's rows from this one on, not only of the last.
    std::optional<int> logits_from = {};
    // The attention of the tail's last row, where the step gives its logits: see ForwardSequence. Ranges of the runs
    // that the tail sees, in that order, then of the tail as it is after the step.
    std::span<const KeyRange> ranges = {};
    std::span<int64_t> mass = {};
    int mass_layer = 0;

    Status status = Status::Ok();        // ResourceExhausted: the sequence can only be dropped
    int first = 0;                       // tail index of the first row with logits
    std::span<const float> logits = {};  // [rows, vocab_size], empty or valid until the next step
    int n_encoded = 0;                   // what was read through some layers alone, for repair, counts as much less
  };

  // One pass of the model over several sequences: every token given, and up to `room` missing prompt tokens, of earlier
  // turns first and of several independent runs at once where there are. Whole blocks of prompts are kept in the store
  // as they get ready. What another living sequence is encoding already is waited for and then taken from the store. A
  // sequence's results depend on that sequence alone, to the bit. Returns how many tokens were encoded.
  int Step(std::span<Turn> turns, int room);

  // Keeps all that the sequence's tail holds.
  void Seal(Sequence& sequence);

  const Transformer& transformer() const { return transformer_; }
  SpanStore& store() { return store_; }
  KvTraffic traffic() const;

 private:
  struct Part;
  // A run that a sequence has begun to encode for the store.
  struct Encoding {
    std::weak_ptr<const Run> run;
    std::span<const int32_t> planned;  // lives as long as the run
  };
  // Fills the runs of a sequence that has none from what is held, or from the store.
  void Find(Sequence& sequence, std::span<const std::shared_ptr<Run>> held);
  // What a run standing at `base` sees: the visible runs where they are planned, itself the last.
  static std::vector<KvRun> View(const Sequence& sequence, std::span<const int> visible, int base, const Run& run);
  static std::vector<KvRun> View(const Sequence& sequence, size_t i);  // of the sequence's run i, as it is held now
  // How the runs of View enter attention.
  static std::vector<RunGroup> Groups(const Plan& plan, size_t run);
  Status AddMissing(Turn& turn, int* room, std::vector<Part>* parts);
  // Settles what is recomputed of the runs at their source, set by set, once all of a set are ready; false when a part
  // was added to learn that, or there is no room for one.
  Result<bool> Repair(Turn& turn, int* room, std::vector<Part>* parts);
  // Puts a choice into effect.
  Status Recompute(Sequence& sequence, std::span<const size_t> runs, std::vector<std::vector<int32_t>> chosen);
  // Once all runs on trial are ready: keeps them, or what they were made of.
  void SettleTrial(Sequence& sequence);
  // Reads those runs through some layers, as far as there is room, if the plan's policy asks for it; whether all are.
  bool MeasureForRepair(Turn& turn, std::span<const size_t> runs, int* room);
  static void SplitLastRow(const Turn& turn, std::vector<Part>* parts);
  Status AddToken(Turn& turn, std::vector<Part>* parts);
  void RecordStep(std::span<const Part> parts, double seconds);
  // Whether another sequence is encoding tokens that this run needs next.
  bool MustWait(const Sequence& sequence, size_t run, int limit) const;
  // Takes from the store what it knows by now of a run that has encoded nothing itself.
  void Retake(Sequence& sequence, size_t run, int limit);

  ThreadPool pool_;
  Transformer transformer_;
  SpanStore store_;
  std::vector<Encoding> encodings_;
  uint64_t n_read_ = 0, n_written_ = 0;  // tokens: see KvTraffic
};

}  // namespace spanwise
