#include "engine/executor.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "base/check.h"

namespace spanwise {

int Sequence::n_prompt_tokens() const {
  return plan.n_tokens() - (without_tail ? static_cast<int>(tail_plan().tokens.size()) : 0);
}

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

bool Sequence::on_trial(size_t run) const { return trial && std::ranges::find(trial->runs, run) != trial->runs.end(); }

namespace {

// Tokens of a common beginning for which a sequence waits for another one's next whole block.
constexpr int kWorthWaiting = 16;
// Layers in which repair measures what documents attend to.
constexpr int kNeighbourLayers = 2;

// Of the runs that are held the longest with which the planned one begins, or nullptr. One that is `taken` may be
// continued otherwise.
std::shared_ptr<Run> BestHeld(const RunAddress& address, std::span<const int32_t> tokens, int limit,
                              std::span<const std::shared_ptr<Run>> held, std::span<const std::shared_ptr<Run>> taken) {
  std::shared_ptr<Run> best;
  for (const std::shared_ptr<Run>& run : held)
    if (run->address() == address && run->n_ready() == run->n_tokens() && run->n_ready() <= limit &&
        std::ranges::find(taken, run) == taken.end() &&
        std::ranges::equal(run->tokens(), tokens.first(run->tokens().size())) &&
        (!best || run->n_ready() > best->n_ready()))
      best = run;
  return best;
}

}  // namespace

// Rows of one run in a step.
struct Executor::Part {
  Turn* turn;
  Run* run;
  int first, n;                 // n tokens from first on, or ...
  std::vector<int32_t> at;      // ... those at these indexes
  std::vector<int32_t> tokens;  // those at `at`
  std::vector<KvRun> view;
  std::vector<RunGroup> groups;
  std::vector<int> logit_rows;
  bool keep;  // in the store, as far as blocks are whole, or all of it
  bool last;  // the run is complete after it
  std::span<const KeyRange> ranges = {};
  std::span<int64_t> mass = {};
  int mass_layer = 0;
};

Executor::Executor(std::shared_ptr<const ModelWeights> weights, DType kv_dtype, size_t kv_budget_bytes, int n_threads,
                   std::string_view cache_policy)
    : pool_(n_threads),
      transformer_(std::move(weights), kv_dtype, pool_),
      store_(transformer_.kv_geometry(), kv_budget_bytes, cache_policy) {}

Sequence Executor::Begin(Plan plan, bool use_cache, std::span<const std::shared_ptr<Run>> held, int most_reused) {
  Sequence sequence;
  sequence.plan = std::move(plan);
  sequence.use_cache = use_cache;
  sequence.most_reused = std::min(most_reused, static_cast<int>(sequence.tail_plan().tokens.size()) - 1);
  Find(sequence, held);
  return sequence;
}

void Executor::Find(Sequence& s, std::span<const std::shared_ptr<Run>> held) {
  const size_t n = s.plan.runs.size();
  // Looks for some of the runs, each as it is placed or at its source.
  const auto find = [&](std::span<const size_t> runs, bool at_source) {
    const auto address_of = [&](size_t i) -> const RunAddress& {
      return at_source ? s.plan.runs[i].source->address : s.plan.runs[i].address;
    };
    const auto limit_of = [&](size_t i) {
      return i + 1 == n ? s.most_reused : static_cast<int>(s.plan.runs[i].tokens.size());
    };
    for (const size_t i : runs) {
      const std::span<const int32_t> tokens = s.plan.runs[i].tokens;
      s.runs[i] = BestHeld(address_of(i), tokens, limit_of(i), held, std::span(s.runs).first(i));
      s.reused[i] = s.runs[i] ? s.runs[i]->n_ready() : 0;
      if (s.runs[i]) continue;
      s.runs[i] = std::make_shared<Run>(address_of(i));
      if (s.use_cache) s.reused[i] = s.runs[i]->Reuse(store_, s.plan.runs[i].tokens, limit_of(i));
    }
  };
  s.runs.resize(n);
  s.reused.resize(n);
  s.at_source.assign(n, false);
  std::vector<size_t> all(n), repaired;
  std::iota(all.begin(), all.end(), 0);
  find(all, /*at_source=*/false);
  bool all_repaired = true;
  for (size_t i = 0; i < n; ++i) {
    if (!s.plan.runs[i].source) continue;
    repaired.push_back(i);
    if (s.reused[i] < static_cast<int>(s.plan.runs[i].tokens.size())) all_repaired = false;
  }
  // Where one repaired run is missing, what is recomputed is settled anew for all of them.
  if (!all_repaired) {
    find(repaired, /*at_source=*/true);
    for (const size_t i : repaired) s.at_source[i] = true;
  }
  s.looked.assign(n, store_.stats().published_spans);
}

void Executor::Suspend(Sequence& s) {
  std::vector<Sequence::Before> before;
  for (size_t i = 0; i < s.runs.size(); ++i) {
    Run& run = *s.runs[i];
    if (s.use_cache && !s.on_trial(i) && run.n_ready() > s.reused[i]) run.Seal(store_);
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
  s.at_source.clear();
  s.probe.reset();
  s.trial.reset();
}

void Executor::Resume(Sequence& sequence, std::span<const std::shared_ptr<Run>> held) {
  SW_CHECK(sequence.runs.empty());
  Find(sequence, held);
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

std::vector<KvRun> Executor::View(const Sequence& sequence, std::span<const int> visible, int base, const Run& run) {
  std::vector<KvRun> views;
  for (const int seen : visible) {
    const auto j = static_cast<size_t>(seen);
    const PlannedRun& other = sequence.plan.runs[j];
    views.push_back(sequence.runs[j]->View(other.base, static_cast<int>(other.tokens.size())));
  }
  views.push_back(run.View(base, run.n_tokens()));
  return views;
}

std::vector<KvRun> Executor::View(const Sequence& sequence, size_t i) {
  const PlannedRun& planned = sequence.plan.runs[i];
  return sequence.at_source[i] ? View(sequence, planned.source->visible, planned.source->base, *sequence.runs[i])
                               : View(sequence, planned.visible, planned.base, *sequence.runs[i]);
}

std::vector<RunGroup> Executor::Groups(const Plan& plan, size_t run) {
  if (plan.groups.empty()) return {};
  std::vector<RunGroup> groups;
  int last = -1;
  const auto add = [&](int group) {
    if (group != last) {
      const PlannedGroup planned = group == 0 ? PlannedGroup{} : plan.groups[static_cast<size_t>(group) - 1];
      groups.push_back({.inverse_temperature = static_cast<float>(planned.inverse_temperature),
                        .lse_scale = static_cast<float>(planned.lse_scale)});
    }
    ++groups.back().n_runs;
    last = group;
  };
  for (const int seen : plan.runs[run].visible) add(plan.runs[static_cast<size_t>(seen)].group);
  add(0);
  return groups;
}

bool Executor::MustWait(const Sequence& sequence, size_t i, int limit) const {
  const std::shared_ptr<Run>& run = sequence.runs[i];
  const std::vector<int32_t>& tokens = sequence.plan.runs[i].tokens;
  return std::ranges::any_of(encodings_, [&](const Encoding& other) {
    const std::shared_ptr<const Run> its = other.run.lock();
    if (!its || its == run) return false;
    const auto differ = std::ranges::mismatch(tokens, other.planned);
    const int common =
        std::min({limit, run->address().CommonTokens(its->address()), static_cast<int>(differ.in1 - tokens.begin())});
    const int n_its = its->n_ready(), n_planned = static_cast<int>(other.planned.size());
    const int kept = n_its == n_planned ? n_its : n_its / kKvBlockTokens * kKvBlockTokens;
    const bool worth = common == n_planned || common - run->n_ready() >= kWorthWaiting;
    return worth && common > run->n_ready() && kept < common;
  });
}

void Executor::Retake(Sequence& sequence, size_t i, int limit) {
  auto fresh = std::make_shared<Run>(sequence.runs[i]->address());
  const int reused = fresh->Reuse(store_, sequence.plan.runs[i].tokens, limit);
  sequence.looked[i] = store_.stats().published_spans;
  if (reused > sequence.reused[i]) {
    sequence.runs[i] = std::move(fresh);
    sequence.reused[i] = reused;
  }
}

bool Executor::MeasureForRepair(Turn& turn, std::span<const size_t> runs, int* room) {
  Sequence& s = *turn.sequence;
  RepairProbe& probe = *s.probe;
  const RepairSignals& wanted = s.plan.repair->policy->signals;
  const int n_layers = transformer_.config().n_layers;
  const int n_neighbour_layers = wanted.neighbours ? std::min(n_layers, kNeighbourLayers) : 0;
  const bool deviation = wanted.deviation && n_layers > 1;  // nothing deviates at layer 0
  const int n_read = n_neighbour_layers + deviation;        // layers that a token is read through
  for (; n_read > 0 && probe.n_runs < runs.size(); ++probe.n_runs, probe.n_rows = 0) {
    const size_t i = runs[probe.n_runs];
    const PlannedRun& planned = s.plan.runs[i];
    const int left = static_cast<int>(planned.tokens.size()) - probe.n_rows;
    const int n = static_cast<int>(std::min<int64_t>(left, int64_t{*room} * n_layers / n_read));
    if (n == 0) return false;
    // Where the run will stand, behind the others as they were read.
    const std::vector<KvRun> view = View(s, planned.visible, planned.base, *s.runs[i]);
    std::vector<int32_t> at(static_cast<size_t>(n));
    std::iota(at.begin(), at.end(), probe.n_rows);
    ForwardSequence rows{
        .tokens = std::span(planned.tokens).subspan(static_cast<size_t>(probe.n_rows), static_cast<size_t>(n)),
        .runs = view,
        .tail_blocks = {},
        .logit_rows = {},
        .at = at};
    const auto append = [&](TokenScores* to, const std::vector<float>& scores) {
      to->resize(probe.n_runs + 1);
      to->back().insert(to->back().end(), scores.begin(), scores.end());
    };
    if (deviation) append(&probe.input.deviation, transformer_.ValueDeviation({&rows, 1}));
    if (wanted.neighbours) {
      std::vector<KeyRange> ranges;
      std::vector<int> neighbours;
      for (size_t k = 0; k + 1 < view.size(); ++k) {
        if (std::ranges::find(planned.source->visible, planned.visible[k]) != planned.source->visible.end()) continue;
        neighbours.push_back(view[k].n_tokens);
        ranges.push_back({static_cast<int>(k), 0, view[k].n_tokens});
      }
      ranges.push_back({static_cast<int>(view.size()) - 1, 0, view.back().n_tokens});
      rows.ranges = ranges;
      append(&probe.input.attention, transformer_.RowAttention(rows, n_neighbour_layers));
      probe.input.neighbours.resize(probe.n_runs + 1);
      probe.input.neighbours.back() = std::move(neighbours);
    }
    const int cost = static_cast<int>((int64_t{n} * n_read + n_layers - 1) / n_layers);
    *room -= cost;
    turn.n_encoded += cost;
    for (const KvRun& run : view) n_read_ += static_cast<uint64_t>(int64_t{run.n_tokens} * n_read / n_layers);
    probe.n_rows += n;
    if (n < left) return false;
  }
  return true;
}

Result<bool> Executor::Repair(Turn& turn, int* room, std::vector<Part>* parts) {
  Sequence& s = *turn.sequence;
  if (s.trial) return true;  // later
  const auto n_planned = [&](size_t i) { return static_cast<int>(s.plan.runs[i].tokens.size()); };
  std::vector<size_t> runs;  // those at their source, of the first set that has such
  for (size_t i = 0; i < s.runs.size(); ++i)
    if (s.at_source[i] &&
        (runs.empty() || s.plan.runs[i].source->address.root == s.plan.runs[runs[0]].source->address.root))
      runs.push_back(i);
  if (runs.empty()) return true;
  for (size_t i = 0; i <= runs.back(); ++i)
    if (s.runs[i]->n_ready() < n_planned(i)) return true;  // later

  const PlannedRepair& repair = *s.plan.repair;
  const PlannedRun& question = s.plan.runs[static_cast<size_t>(repair.question_run)];
  const RepairSignals& wanted = repair.policy->signals;
  if (!s.probe) {
    s.probe.emplace();
    if (wanted.question) {
      s.probe->run = std::make_shared<Run>(question.address);
      for (const int seen : question.visible)
        if (static_cast<size_t>(seen) <= runs.back()) s.probe->visible.push_back(seen);
      for (size_t k = 0; k < s.probe->visible.size(); ++k) {
        const auto j = static_cast<size_t>(s.probe->visible[k]);
        for (int t = 0; s.at_source[j] && t < s.runs[j]->n_tokens(); ++t)
          s.probe->ranges.push_back({static_cast<int>(k), t, t + 1});
      }
      s.probe->mass.resize(s.probe->ranges.size());
    }
  }
  if (wanted.question) {
    const auto tokens = std::span(question.tokens).first(static_cast<size_t>(repair.question_tokens));
    Run& run = *s.probe->run;
    const int first = run.n_ready(), n = std::min(*room, static_cast<int>(tokens.size()) - first);
    if (first < static_cast<int>(tokens.size())) {
      if (n == 0) return false;
      SW_RETURN_IF_ERROR(run.Extend(store_, tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(n))));
      parts->push_back({.turn = &turn,
                        .run = &run,
                        .first = first,
                        .n = n,
                        .at = {},
                        .tokens = {},
                        .view = View(s, s.probe->visible, question.base, run),
                        .groups = {},
                        .logit_rows = {},
                        .keep = false,
                        .last = false,
                        .ranges = s.probe->ranges,
                        .mass = s.probe->mass});
      *room -= n;
      return false;
    }
  }

  if (!MeasureForRepair(turn, runs, room)) return false;

  RepairInput& input = s.probe->input;
  auto mass = s.probe->mass.begin();
  for (const size_t i : runs) {
    input.lengths.push_back(n_planned(i));
    input.sentences.push_back(s.plan.runs[i].sentences);
    if (!wanted.question) continue;
    std::vector<float>& of_run = input.question.emplace_back();
    for (int t = 0; t < n_planned(i); ++t) of_run.push_back(static_cast<float>(*mass++));
  }
  if (wanted.deviation && input.deviation.empty())  // of one layer
    for (const int length : input.lengths) input.deviation.emplace_back(static_cast<size_t>(length));
  input.budget = RepairBudget(input.lengths, s.plan.options.repair_fraction);
  SW_RETURN_IF_ERROR(Recompute(s, runs, repair.policy->choose(input)));
  s.probe.reset();
  return Repair(turn, room, parts);  // the next set
}

Status Executor::Recompute(Sequence& s, std::span<const size_t> runs, std::vector<std::vector<int32_t>> chosen) {
  std::vector<std::shared_ptr<Run>> repaired;
  for (size_t d = 0; d < runs.size(); ++d) {
    SW_ASSIGN_OR_RETURN(Run run, Run::Repaired(s.plan.runs[runs[d]].address, *s.runs[runs[d]], chosen[d], store_));
    repaired.push_back(std::make_shared<Run>(std::move(run)));
  }
  const bool none = std::ranges::all_of(chosen, [](const auto& tokens) { return tokens.empty(); });
  const bool on_trial = !none && s.plan.options.repair_threshold.value_or(0) > 0;
  if (on_trial) s.trial.emplace();
  for (size_t d = 0; d < runs.size(); ++d) {
    const size_t i = runs[d];
    if (on_trial) {
      s.trial->sources.push_back(std::move(s.runs[i]));
      s.trial->reused.push_back(s.reused[i]);
    }
    s.runs[i] = std::move(repaired[d]);
    if (s.use_cache && !on_trial && chosen[d].empty()) s.runs[i]->Seal(store_);  // no step is needed for it
    s.reused[i] = std::max(0, s.reused[i] - static_cast<int>(chosen[d].size()));
    s.at_source[i] = false;
    s.n_repaired += static_cast<int>(chosen[d].size());
  }
  if (on_trial) {
    s.trial->runs.assign(runs.begin(), runs.end());
    s.trial->chosen = std::move(chosen);
  }
  return Status::Ok();
}

void Executor::SettleTrial(Sequence& s) {
  const RepairTrial& trial = *s.trial;
  for (const size_t i : trial.runs)
    if (s.runs[i]->n_ready() < s.runs[i]->n_tokens()) return;
  double change = 0;
  for (size_t d = 0; d < trial.runs.size(); ++d) {
    const Run &before = *trial.sources[d], &after = *s.runs[trial.runs[d]];
    for (const int32_t token : trial.chosen[d])
      if (token >= kDocumentHead)
        change = std::max(change, ValueChange(transformer_.kv_geometry(), before.View(0, before.n_tokens()),
                                              after.View(0, after.n_tokens()), token));
  }
  s.repair_change = std::max(change, s.repair_change.value_or(0));
  const bool kept = change > *s.plan.options.repair_threshold;
  for (size_t d = 0; d < trial.runs.size(); ++d) {
    const size_t i = trial.runs[d];
    if (!kept) {
      auto run = Run::Repaired(s.plan.runs[i].address, *trial.sources[d], {}, store_);
      SW_CHECK(run.ok());  // nothing is copied
      s.runs[i] = std::make_shared<Run>(std::move(*run));
      s.reused[i] = trial.reused[d];
      s.n_repaired -= static_cast<int>(trial.chosen[d].size());
    }
    if (s.use_cache) s.runs[i]->Seal(store_);
  }
  s.trial.reset();
}

Status Executor::AddMissing(Turn& turn, int* room, std::vector<Part>* parts) {
  Sequence& s = *turn.sequence;
  SW_ASSIGN_OR_RETURN(const bool settled, Repair(turn, room, parts));
  if (!settled) return Status::Ok();
  const auto n_planned = [&](size_t i) { return static_cast<int>(s.plan.runs[i].tokens.size()); };
  // Complete, or so after this step: rows of a step see each other's KV.
  std::vector<bool> whole(s.runs.size());
  for (size_t i = 0; i < s.runs.size() && *room > 0; ++i) {
    const PlannedRun& planned = s.plan.runs[i];
    if (s.runs[i]->n_ready() == n_planned(i)) {
      whole[i] = !s.at_source[i];
      continue;
    }
    if (s.without_tail && i + 1 == s.runs.size()) break;
    const auto is_whole = [&](int seen) {
      const auto j = static_cast<size_t>(seen);
      return whole[j] && (!s.on_trial(j) || s.on_trial(i));
    };
    if (!std::ranges::all_of(s.at_source[i] ? planned.source->visible : planned.visible, is_whole)) continue;
    const bool tail = i + 1 == s.runs.size();
    const std::span<const int32_t> tokens = planned.tokens, stale = s.runs[i]->stale();
    const int limit = tail ? s.most_reused : n_planned(i);
    const bool keep = s.use_cache && !(tail && s.provisional) && !s.on_trial(i);
    if (stale.empty() && keep && s.runs[i]->n_ready() == s.reused[i] && !(tail && turn.logits_from)) {
      if (MustWait(s, i, limit)) continue;
      if (s.looked[i] != store_.stats().published_spans) Retake(s, i, limit);
      if (s.runs[i]->n_ready() == n_planned(i)) {
        whole[i] = !s.at_source[i];
        continue;
      }
      encodings_.push_back({s.runs[i], tokens});
    }
    Run& run = *s.runs[i];
    const int first = run.n_ready(), n = std::min(*room, n_planned(i) - first);
    const std::span<const int32_t> at = stale.first(std::min(stale.size(), static_cast<size_t>(n)));
    if (at.empty())
      SW_RETURN_IF_ERROR(run.Extend(store_, tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(n))));
    Part& part = parts->emplace_back(Part{.turn = &turn,
                                          .run = &run,
                                          .first = first,
                                          .n = n,
                                          .at = {at.begin(), at.end()},
                                          .tokens = {},
                                          .view = View(s, i),
                                          .groups = Groups(s.plan, i),
                                          .logit_rows = {},
                                          .keep = keep,
                                          .last = first + n == n_planned(i)});
    for (const int32_t index : at) part.tokens.push_back(tokens[static_cast<size_t>(index)]);
    whole[i] = part.last && !s.at_source[i];
    if (tail && turn.logits_from) {
      for (int row = std::max(0, *turn.logits_from - first); row < n; ++row) part.logit_rows.push_back(row);
    } else if (tail && part.last) {
      part.logit_rows = {n - 1};
    }
    if (tail && part.last && !turn.ranges.empty()) SplitLastRow(turn, parts);
    *room -= n;
  }
  return Status::Ok();
}

// The last row of a tail's end by itself, since its attention alone is wanted.
void Executor::SplitLastRow(const Turn& turn, std::vector<Part>* parts) {
  Part last = parts->back();
  Part& before = parts->back();
  last.first += last.n - 1;
  last.n = 1;
  last.logit_rows = {0};
  last.ranges = turn.ranges;
  last.mass = turn.mass;
  last.mass_layer = turn.mass_layer;
  if (before.n == 1) {
    before = std::move(last);
    return;
  }
  --before.n;
  --before.view.back().n_tokens;
  before.logit_rows.clear();
  before.last = false;
  parts->push_back(std::move(last));
}

Status Executor::AddToken(Turn& turn, std::vector<Part>* parts) {
  Sequence& s = *turn.sequence;
  Run& run = s.tail();
  SW_RETURN_IF_ERROR(run.Extend(store_, std::span(&*turn.token, 1)));
  parts->push_back({.turn = &turn,
                    .run = &run,
                    .first = run.n_ready(),
                    .n = 1,
                    .at = {},
                    .tokens = {},
                    .view = View(s, s.runs.size() - 1),
                    .groups = Groups(s.plan, s.runs.size() - 1),
                    .logit_rows = {0},
                    .keep = false,
                    .last = false,
                    .ranges = turn.ranges,
                    .mass = turn.mass,
                    .mass_layer = turn.mass_layer});
  return Status::Ok();
}

int Executor::Step(std::span<Turn> turns, int room) {
  std::erase_if(encodings_, [](const Encoding& e) {
    const auto run = e.run.lock();
    return !run || run->n_ready() >= static_cast<int>(e.planned.size());
  });
  std::vector<Part> parts;
  int n_encoded = 0;
  for (Turn& turn : turns) {
    const size_t before = parts.size();
    const int n_before = turn.n_encoded;
    turn.status = turn.token ? AddToken(turn, &parts) : AddMissing(turn, &room, &parts);
    if (!turn.status.ok()) parts.erase(parts.begin() + static_cast<ptrdiff_t>(before), parts.end());
    n_encoded += turn.n_encoded - n_before;
  }
  if (parts.empty()) return n_encoded;

  std::vector<ForwardSequence> batch;
  for (const Part& part : parts)
    batch.push_back({.tokens = part.at.empty() ? part.run->tokens().subspan(static_cast<size_t>(part.first),
                                                                            static_cast<size_t>(part.n))
                                               : part.tokens,
                     .runs = part.view,
                     .tail_blocks = part.run->writable_blocks(),
                     .logit_rows = part.logit_rows,
                     .at = part.at,
                     .groups = part.groups,
                     .ranges = part.ranges,
                     .mass = part.mass,
                     .mass_layer = part.mass_layer});
  const auto start = std::chrono::steady_clock::now();
  std::span<const float> logits = transformer_.Forward(batch);
  RecordStep(parts, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  const auto vocab = static_cast<size_t>(transformer_.config().vocab_size);
  for (const Part& part : parts) {
    part.run->MarkReady(part.n);
    const bool block = part.run->n_ready() / kKvBlockTokens > part.first / kKvBlockTokens;
    if (part.keep && (part.last || block)) part.run->Seal(store_);
    part.turn->n_encoded += part.n;
    n_encoded += part.n;
    n_written_ += static_cast<uint64_t>(part.n);
    for (const KvRun& run : part.view) n_read_ += static_cast<uint64_t>(run.n_tokens);
    if (part.logit_rows.empty()) continue;
    part.turn->first = part.first + part.logit_rows.front();
    part.turn->logits = logits.first(part.logit_rows.size() * vocab);
    logits = logits.subspan(part.logit_rows.size() * vocab);
  }
  for (const Turn& turn : turns)
    if (turn.sequence->trial) SettleTrial(*turn.sequence);
  return n_encoded;
}

KvTraffic Executor::traffic() const {
  const uint64_t block = transformer_.kv_geometry().BlockBytes(), token = block / kKvBlockTokens;
  return {n_read_ * token, n_written_ * token, store_.stats().copied_blocks * block};
}

// Tells the planner what computing takes, by steps that do little else.
void Executor::RecordStep(std::span<const Part> parts, double seconds) {
  if (!store_.planner()) return;
  double work = 0;
  int n_rows = 0, n_prompt = 0;
  for (const Part& part : parts) {
    int n_seen = part.first;
    for (size_t i = 0; i + 1 < part.view.size(); ++i) n_seen += part.view[i].n_tokens;
    work += RecomputeCost(part.n, n_seen);
    n_rows += part.n;
    n_prompt += part.turn->token ? 0 : part.n;
  }
  if (4 * n_prompt >= 3 * n_rows) store_.planner()->RecordCompute(work, seconds);
}

void Executor::Seal(Sequence& sequence) {
  if (sequence.use_cache) sequence.tail().Seal(store_);
}

}  // namespace spanwise
