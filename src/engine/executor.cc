#include "engine/executor.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace spanwise {

int Sequence::n_ready_prompt_tokens() const {
  int n = 0;
  for (size_t i = 0; i < runs.size(); ++i)
    n += std::min(runs[i]->n_ready(), static_cast<int>(plan.runs[i].tokens.size()));
  return n;
}

Executor::Executor(std::shared_ptr<const ModelWeights> weights, DType kv_dtype, size_t kv_budget_bytes, int step_tokens,
                   int n_threads)
    : pool_(n_threads),
      transformer_(std::move(weights), kv_dtype, pool_),
      store_(transformer_.kv_geometry(), kv_budget_bytes),
      step_tokens_(step_tokens) {}

Result<Sequence> Executor::Begin(Plan plan, bool use_cache, bool whole_tail) {
  Sequence sequence{.plan = std::move(plan), .use_cache = use_cache, .runs = {}, .reused = {}};
  for (size_t i = 0; i < sequence.plan.runs.size(); ++i) {
    const PlannedRun& planned = sequence.plan.runs[i];
    auto run = std::make_shared<Run>(planned.root);
    const int n = static_cast<int>(planned.tokens.size()), tail = i + 1 == sequence.plan.runs.size();
    int reused = 0;
    if (use_cache) {
      SW_ASSIGN_OR_RETURN(reused, run->Reuse(store_, planned.tokens, !tail ? n : whole_tail ? 0 : n - 1));
    }
    sequence.runs.push_back(std::move(run));
    sequence.reused.push_back(reused);
  }
  return sequence;
}

std::vector<KvRun> Executor::View(const Sequence& sequence, size_t run) const {
  std::vector<KvRun> views;
  for (const int seen : sequence.plan.runs[run].visible) {
    const auto i = static_cast<size_t>(seen);
    views.push_back(sequence.runs[i]->View(sequence.plan.runs[i].base, sequence.runs[i]->n_ready()));
  }
  views.push_back(sequence.runs[run]->View(sequence.plan.runs[run].base, sequence.runs[run]->n_tokens()));
  return views;
}

Result<bool> Executor::PrefillStep(Sequence& sequence, bool all_logits, const LogitSink& sink) {
  struct Part {
    size_t run;
    int first, n;
    std::vector<KvRun> view;
    std::vector<int> logit_rows;
  };
  const auto n_planned = [&](size_t i) { return static_cast<int>(sequence.plan.runs[i].tokens.size()); };
  const auto complete = [&](int i) {
    return sequence.runs[static_cast<size_t>(i)]->n_ready() == n_planned(static_cast<size_t>(i));
  };
  std::vector<Part> parts;
  int room = step_tokens_;
  for (size_t i = 0; i < sequence.runs.size() && room > 0; ++i) {
    if (complete(static_cast<int>(i)) || !std::ranges::all_of(sequence.plan.runs[i].visible, complete)) continue;
    Run& run = *sequence.runs[i];
    const int first = run.n_ready(), n = std::min(room, n_planned(i) - first);
    SW_RETURN_IF_ERROR(run.Extend(
        store_, std::span(sequence.plan.runs[i].tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(n))));
    Part& part =
        parts.emplace_back(Part{.run = i, .first = first, .n = n, .view = View(sequence, i), .logit_rows = {}});
    if (i + 1 == sequence.runs.size()) {
      if (all_logits) {
        part.logit_rows.resize(static_cast<size_t>(n));
        std::iota(part.logit_rows.begin(), part.logit_rows.end(), 0);
      } else if (first + n == n_planned(i)) {
        part.logit_rows = {n - 1};
      }
    }
    room -= n;
  }

  std::vector<ForwardSequence> batch;
  for (const Part& part : parts) {
    Run& run = *sequence.runs[part.run];
    batch.push_back({.tokens = run.tokens().subspan(static_cast<size_t>(part.first), static_cast<size_t>(part.n)),
                     .runs = part.view,
                     .tail_blocks = run.writable_blocks(),
                     .logit_rows = part.logit_rows});
  }
  const std::span<const float> logits = transformer_.Forward(batch);
  for (const Part& part : parts) {
    Run& run = *sequence.runs[part.run];
    run.MarkReady(part.n);
    if (sequence.use_cache && run.n_ready() == n_planned(part.run)) run.Seal(store_);
    if (!part.logit_rows.empty()) sink(part.first + part.logit_rows.front(), logits);
  }
  return sequence.n_ready_prompt_tokens() < sequence.n_prompt_tokens();
}

Result<std::span<const float>> Executor::DecodeStep(Sequence& sequence, int32_t token) {
  Run& run = sequence.tail();
  SW_RETURN_IF_ERROR(run.Extend(store_, std::span(&token, 1)));
  const std::vector<KvRun> view = View(sequence, sequence.runs.size() - 1);
  const int row = 0;
  const ForwardSequence step{
      .tokens = run.tokens().last(1), .runs = view, .tail_blocks = run.writable_blocks(), .logit_rows = {&row, 1}};
  const std::span<const float> logits = transformer_.Forward({&step, 1});
  run.MarkReady(1);
  return logits;
}

void Executor::Seal(Sequence& sequence) {
  if (sequence.use_cache) sequence.tail().Seal(store_);
}

}  // namespace spanwise
