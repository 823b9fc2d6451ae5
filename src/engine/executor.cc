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

int Sequence::n_cached(size_t run) const {
  if (before.empty()) return reused[run];
  // Besides what it had found: what others have encoded while it was suspended.
  return std::min(before[run].cached, reused[run]) + std::max(0, reused[run] - before[run].ready);
}

namespace {

// Tokens of a common beginning for which a sequence waits for another one's next whole block.
constexpr int kWorthWaiting = 16;

// Of the runs that are held the longest with which the planned one begins, or nullptr. One that is `taken` may be
// continued otherwise.
std::shared_ptr<Run> BestHeld(const PlannedRun& planned, int limit, std::span<const std::shared_ptr<Run>> held,
                              std::span<const std::shared_ptr<Run>> taken) {
  std::shared_ptr<Run> best;
  for (const std::shared_ptr<Run>& run : held)
    if (run->root() == planned.root && run->n_ready() == run->n_tokens() && run->n_ready() <= limit &&
        std::ranges::find(taken, run) == taken.end() &&
        std::ranges::equal(run->tokens(), std::span(planned.tokens).first(run->tokens().size())) &&
        (!best || run->n_ready() > best->n_ready()))
      best = run;
  return best;
}

}  // namespace

// Consecutive rows of one run in a step.
struct Executor::Part {
  Turn* turn;
  Run* run;
  int first, n;
  std::vector<KvRun> view;
  std::vector<int> logit_rows;
  bool keep;  // in the store, as far as blocks are whole, or all of it
  bool last;  // the run is complete after it
};

Executor::Executor(std::shared_ptr<const ModelWeights> weights, DType kv_dtype, size_t kv_budget_bytes, int n_threads)
    : pool_(n_threads),
      transformer_(std::move(weights), kv_dtype, pool_),
      store_(transformer_.kv_geometry(), kv_budget_bytes) {}

Result<Sequence> Executor::Begin(Plan plan, bool use_cache, bool whole_tail,
                                 std::span<const std::shared_ptr<Run>> held) {
  Sequence sequence;
  sequence.plan = std::move(plan);
  sequence.use_cache = use_cache;
  sequence.most_reused = whole_tail ? 0 : static_cast<int>(sequence.tail_plan().tokens.size()) - 1;
  SW_RETURN_IF_ERROR(Find(sequence, held));
  return sequence;
}

Status Executor::Find(Sequence& s, std::span<const std::shared_ptr<Run>> held) {
  for (size_t i = 0; i < s.plan.runs.size(); ++i) {
    const PlannedRun& planned = s.plan.runs[i];
    const bool tail = i + 1 == s.plan.runs.size();
    const int limit = tail ? s.most_reused : static_cast<int>(planned.tokens.size());
    std::shared_ptr<Run> run = BestHeld(planned, limit, held, s.runs);
    int reused = run ? run->n_ready() : 0;
    if (!run) {
      run = std::make_shared<Run>(planned.root);
      if (s.use_cache) {
        SW_ASSIGN_OR_RETURN(reused, run->Reuse(store_, planned.tokens, limit));
      }
    }
    s.runs.push_back(std::move(run));
    s.reused.push_back(reused);
    s.looked.push_back(store_.stats().published_spans);
  }
  return Status::Ok();
}

void Executor::Suspend(Sequence& s) {
  std::vector<Sequence::Before> before;
  for (size_t i = 0; i < s.runs.size(); ++i) {
    Run& run = *s.runs[i];
    if (s.use_cache && run.n_ready() > s.reused[i]) run.Seal(store_);
    before.push_back({.cached = s.n_cached(i), .ready = run.n_ready()});
  }
  std::vector<int32_t>& planned = s.plan.runs.back().tokens;
  const std::span<const int32_t> tail = s.tail().tokens();
  // Logits of these rows have been given; before the prompt was ready, those of its last row have not.
  if (const size_t n_ready = static_cast<size_t>(s.tail().n_ready()); n_ready >= planned.size()) {
    planned.insert(planned.end(), tail.begin() + static_cast<ptrdiff_t>(planned.size()),
                   tail.begin() + static_cast<ptrdiff_t>(n_ready));
    s.most_reused = static_cast<int>(n_ready);
  } else {
    s.most_reused = std::max(s.most_reused, static_cast<int>(n_ready));
  }
  s.before = std::move(before);
  s.runs.clear();
  s.reused.clear();
  s.looked.clear();
}

Status Executor::Resume(Sequence& sequence, std::span<const std::shared_ptr<Run>> held) {
  SW_CHECK(sequence.runs.empty());
  return Find(sequence, held);
}

Status Executor::Rewrite(Sequence& s, int n_kept, std::span<const int32_t> rest, bool want_logits) {
  Run& tail = s.tail();
  std::vector<int32_t> planned(tail.tokens().begin(), tail.tokens().begin() + n_kept);
  planned.insert(planned.end(), rest.begin(), rest.end());
  SW_RETURN_IF_ERROR(tail.Truncate(store_, n_kept));
  // Whoever waits for tokens that will never come stops waiting.
  std::erase_if(encodings_, [&](const Encoding& e) { return e.run.lock().get() == &tail; });
  s.plan.runs.back().tokens = std::move(planned);
  s.most_reused = static_cast<int>(s.tail_plan().tokens.size()) - want_logits;
  s.reused.back() = std::min(s.reused.back(), n_kept);
  s.provisional = true;
  return Status::Ok();
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

bool Executor::MustWait(const Sequence& sequence, size_t i, int limit) const {
  const std::shared_ptr<Run>& run = sequence.runs[i];
  const std::vector<int32_t>& tokens = sequence.plan.runs[i].tokens;
  return std::ranges::any_of(encodings_, [&](const Encoding& other) {
    const std::shared_ptr<const Run> its = other.run.lock();
    if (!its || its == run || its->root() != run->root()) return false;
    const auto differ = std::ranges::mismatch(tokens, other.planned);
    const int common = std::min(limit, static_cast<int>(differ.in1 - tokens.begin()));
    const int n_its = its->n_ready(), n_planned = static_cast<int>(other.planned.size());
    const int kept = n_its == n_planned ? n_its : n_its / kKvBlockTokens * kKvBlockTokens;
    const bool worth = common == n_planned || common - run->n_ready() >= kWorthWaiting;
    return worth && common > run->n_ready() && kept < common;
  });
}

Status Executor::Retake(Sequence& sequence, size_t i, int limit) {
  auto fresh = std::make_shared<Run>(sequence.runs[i]->root());
  SW_ASSIGN_OR_RETURN(const int reused, fresh->Reuse(store_, sequence.plan.runs[i].tokens, limit));
  sequence.looked[i] = store_.stats().published_spans;
  if (reused > sequence.reused[i]) {
    sequence.runs[i] = std::move(fresh);
    sequence.reused[i] = reused;
  }
  return Status::Ok();
}

Status Executor::AddMissing(Turn& turn, int* room, std::vector<Part>* parts) {
  Sequence& s = *turn.sequence;
  const auto n_planned = [&](size_t i) { return static_cast<int>(s.plan.runs[i].tokens.size()); };
  const auto complete = [&](int i) {
    return s.runs[static_cast<size_t>(i)]->n_ready() == n_planned(static_cast<size_t>(i));
  };
  for (size_t i = 0; i < s.runs.size() && *room > 0; ++i) {
    if (complete(static_cast<int>(i)) || !std::ranges::all_of(s.plan.runs[i].visible, complete)) continue;
    const bool tail = i + 1 == s.runs.size();
    const std::span<const int32_t> planned = s.plan.runs[i].tokens;
    const int limit = tail ? s.most_reused : n_planned(i);
    const bool keep = s.use_cache && !(tail && s.provisional);
    if (keep && s.runs[i]->n_ready() == s.reused[i] && !(tail && turn.all_logits)) {
      if (MustWait(s, i, limit)) continue;
      if (s.looked[i] != store_.stats().published_spans) SW_RETURN_IF_ERROR(Retake(s, i, limit));
      if (complete(static_cast<int>(i))) continue;
      encodings_.push_back({s.runs[i], planned});
    }
    Run& run = *s.runs[i];
    const int first = run.n_ready(), n = std::min(*room, n_planned(i) - first);
    SW_RETURN_IF_ERROR(run.Extend(store_, planned.subspan(static_cast<size_t>(first), static_cast<size_t>(n))));
    Part& part = parts->emplace_back(Part{.turn = &turn,
                                          .run = &run,
                                          .first = first,
                                          .n = n,
                                          .view = View(s, i),
                                          .logit_rows = {},
                                          .keep = keep,
                                          .last = first + n == n_planned(i)});
    if (tail && turn.all_logits) {
      part.logit_rows.resize(static_cast<size_t>(n));
      std::iota(part.logit_rows.begin(), part.logit_rows.end(), 0);
    } else if (tail && part.last) {
      part.logit_rows = {n - 1};
    }
    *room -= n;
  }
  return Status::Ok();
}

Status Executor::AddToken(Turn& turn, std::vector<Part>* parts) {
  Sequence& s = *turn.sequence;
  Run& run = s.tail();
  SW_RETURN_IF_ERROR(run.Extend(store_, std::span(&*turn.token, 1)));
  parts->push_back({.turn = &turn,
                    .run = &run,
                    .first = run.n_ready(),
                    .n = 1,
                    .view = View(s, s.runs.size() - 1),
                    .logit_rows = {0},
                    .keep = false,
                    .last = false});
  return Status::Ok();
}

int Executor::Step(std::span<Turn> turns, int room) {
  std::erase_if(encodings_, [](const Encoding& e) {
    const auto run = e.run.lock();
    return !run || run->n_ready() >= static_cast<int>(e.planned.size());
  });
  std::vector<Part> parts;
  for (Turn& turn : turns) {
    const size_t before = parts.size();
    turn.status = turn.token ? AddToken(turn, &parts) : AddMissing(turn, &room, &parts);
    if (!turn.status.ok()) parts.erase(parts.begin() + static_cast<ptrdiff_t>(before), parts.end());
  }
  if (parts.empty()) return 0;

  std::vector<ForwardSequence> batch;
  for (const Part& part : parts)
    batch.push_back({.tokens = part.run->tokens().subspan(static_cast<size_t>(part.first), static_cast<size_t>(part.n)),
                     .runs = part.view,
                     .tail_blocks = part.run->writable_blocks(),
                     .logit_rows = part.logit_rows});
  std::span<const float> logits = transformer_.Forward(batch);
  const auto vocab = static_cast<size_t>(transformer_.config().vocab_size);
  int n_encoded = 0;
  for (const Part& part : parts) {
    part.run->MarkReady(part.n);
    const bool block = part.run->n_ready() / kKvBlockTokens > part.first / kKvBlockTokens;
    if (part.keep && (part.last || block)) part.run->Seal(store_);
    part.turn->n_encoded += part.n;
    n_encoded += part.n;
    if (part.logit_rows.empty()) continue;
    part.turn->first = part.first + part.logit_rows.front();
    part.turn->logits = logits.first(part.logit_rows.size() * vocab);
    logits = logits.subspan(part.logit_rows.size() * vocab);
  }
  return n_encoded;
}

void Executor::Seal(Sequence& sequence) {
  if (sequence.use_cache) sequence.tail().Seal(store_);
}

}  // namespace spanwise
