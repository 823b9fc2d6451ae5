#include "engine/task.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "decode/sampler.h"

namespace spanwise {
namespace {

// Of a run that may begin with a copy.
size_t BlocksOf(size_t n_tokens) { return n_tokens / kKvBlockTokens + 2; }

size_t BlocksOf(const Plan& plan) {
  size_t n = 0;
  // A repaired run may be copied from its source, and the question read twice.
  for (const PlannedRun& run : plan.runs) n += (run.source ? 2 : 1) * BlocksOf(run.tokens.size());
  return n + (plan.repair ? BlocksOf(static_cast<size_t>(plan.repair->question_tokens)) : 0);
}

size_t BlocksOf(const Fork::Branch& branch) {
  return BlocksOf(branch.seed.size() + static_cast<size_t>(branch.setup.max_tokens));
}

// Blocks of the prompt and the longest answer.
size_t BlocksOf(const Job& job) {
  auto max_tokens = static_cast<size_t>(job.setup.max_tokens);
  if (job.course) {
    for (const Passage& passage : job.course->passages)
      max_tokens += passage.given.size() + static_cast<size_t>(passage.setup.max_tokens);
    const size_t room = static_cast<size_t>(job.course->most_tokens) - job.plan.runs.back().tokens.size();
    max_tokens = std::min(max_tokens, room) + (job.course->keep_subtasks ? kKvBlockTokens : 0);
  }
  size_t n = BlocksOf(job.plan) + 1;
  if (job.arrangement) {
    // Whichever document comes first, the others may be copied; and a draft is read with each order.
    for (const PlannedRun& run : job.plan.runs) n += run.source ? 0 : BlocksOf(run.tokens.size());
    max_tokens = std::max(max_tokens, job.arrangement->draft.size());
  }
  if (!job.fork) return n + max_tokens / kKvBlockTokens;
  for (const Fork::Branch& branch : job.fork->branches) n += BlocksOf(branch);
  return n + (job.fork->join ? BlocksOf(job.fork->join->size() + max_tokens) : 0);
}

int PromptTokensOf(const Job& job) {
  size_t n = static_cast<size_t>(job.plan.n_tokens());
  if (job.documents_only) n -= job.plan.runs.back().tokens.size();
  if (job.fork) {
    for (const Fork::Branch& branch : job.fork->branches) n += branch.seed.size();
    if (job.fork->join) n += job.fork->join->size();
  }
  if (job.course)
    for (const Passage& passage : job.course->passages) n += passage.given.size();
  return static_cast<int>(n);
}

// `lane` has n_tokens of `piece` as its own and found some of them.
void AddPiece(const PlannedPiece& piece, int n_tokens, const Lane& lane, ComposeReport* report) {
  const int cached = std::clamp(lane.n_cached(piece.run) - piece.begin, 0, n_tokens);
  const KvSource found = lane.found_in(piece.run, piece.begin, piece.begin + n_tokens);
  report->spans.push_back({.document = piece.document,
                           .tokens = n_tokens,
                           .cached_tokens = cached,
                           .source = cached == n_tokens ? found : KvSource::kComputed});
}

void AddPieces(const Plan& plan, const Lane& lane, ComposeReport* report) {
  for (const PlannedPiece& piece : plan.pieces) AddPiece(piece, piece.end - piece.begin, lane, report);
}

// How many tokens the first one of a planned run sees.
int DepthOf(const Plan& plan, std::span<const int> visible) {
  size_t n = 0;
  for (const int seen : visible) n += plan.runs[static_cast<size_t>(seen)].tokens.size();
  return static_cast<int>(n);
}

// All runs of a plan, of the last one so many tokens, or all but one where that is below 0.
void AddWishes(const Plan& plan, int n_tail, std::vector<SpanStore::Wish>* wishes) {
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    const PlannedRun& run = plan.runs[i];
    const bool tail = i + 1 == plan.runs.size();
    std::span<const int32_t> tokens = run.tokens;
    if (tail)
      tokens = tokens.first(n_tail < 0 ? tokens.size() - 1 : std::min(tokens.size(), static_cast<size_t>(n_tail)));
    const auto add = [&](const RunAddress& address, std::span<const int> visible) {
      wishes->push_back({.address = address, .tokens = tokens, .depth = DepthOf(plan, visible), .goes_on = tail});
    };
    add(run.address, run.visible);
    if (run.source) add(run.source->address, run.source->visible);
  }
}

}  // namespace

Task::Task(Job j, const Limits& limits)
    : job(std::move(j)),
      n_blocks(BlocksOf(job)),
      n_sequences(job.fork ? std::min(static_cast<int>(job.fork->branches.size()), limits.max_running) : 1),
      n_prompt_tokens(PromptTokensOf(job)),
      limits_(limits),
      branches_(job.fork ? job.fork->branches.size() : 0) {}

// Of the lanes that it begins or takes up next.
std::vector<SpanStore::Wish> Task::Wishes() const {
  std::vector<SpanStore::Wish> wishes;
  if (!job.use_cache) return wishes;
  if (!begun_) AddWishes(job.plan, job.echo || job.documents_only ? 0 : -1, &wishes);
  std::vector<const Lane*> lanes{&context_, &answer_lane_};
  if (search_) lanes.push_back(&search_->trial);
  for (const Lane& lane : branches_)
    if (!lane.ended()) lanes.push_back(&lane);
  for (const Lane* lane : lanes)
    if (lane->begun() && lane->rests()) AddWishes(lane->sequence().plan, lane->sequence().most_reused, &wishes);
  return wishes;
}

void Task::Prefetch(Executor& executor, bool urgent) {
  if (urgent) hint_ = {};
  (urgent ? fetch_ : ahead_) = executor.store().Prefetch(Wishes(), urgent);
}

void Task::Expect(Executor& executor) { hint_ = executor.store().Expect(Wishes()); }

Status Task::TakeUp(Executor& executor, const Tokenizer& tokenizer) {
  SW_RETURN_IF_ERROR(TakeUpLanes(executor, tokenizer));
  if (!waits_for_fetch()) EndFetch(executor);
  return Status::Ok();
}

void Task::EndFetch(Executor& executor) {
  // What was asked for twice was brought the first time.
  executor.store().Fetched(ahead_.parts.empty() ? fetch_ : ahead_);
  ahead_ = fetch_ = {};
}

Status Task::TakeUpLanes(Executor& executor, const Tokenizer& tokenizer) {
  if (job.arrangement) {
    SW_ASSIGN_OR_RETURN(const bool settled, Arrange(executor, tokenizer));
    if (!settled) return Status::Ok();
  }
  if (!begun_) return BeginFirst(executor, tokenizer);
  if (!forks() || answer_lane_.begun()) {
    answer_lane_.Resume(executor);
    return Status::Ok();
  }
  context_.Resume(executor);
  return context_.ended() && context_.complete() ? TakeUpBranches(executor, tokenizer) : Status::Ok();
}

// Whether something of a plan is on its way now.
bool Task::Asks(Executor& executor, const Plan& plan) {
  if (!job.use_cache) return false;
  std::vector<SpanStore::Wish> wishes;
  AddWishes(plan, -1, &wishes);
  fetch_ = executor.store().Prefetch(wishes, /*urgent=*/true);
  return waits_for_fetch();
}

Result<bool> Task::Arrange(Executor& executor, const Tokenizer& tokenizer) {
  const Arrangement& a = *job.arrangement;
  std::vector<size_t> order;
  if (a.options.order == DocumentOrder::kCached) {
    order = a.CachedOrder(executor.store());
  } else {
    if (!search_) {
      search_ = std::make_unique<Search>(a);
      search_->observer.on_logits = [s = search_.get()](int32_t token, std::span<const float> logits) {
        const auto scored = decode::LogprobsOf(logits, token, 0);
        s->value += scored.ok() ? double{*scored->logprob} : -std::numeric_limits<double>::infinity();
      };
    }
    if (search_->trial.begun() && !search_->trial.ended()) {
      search_->trial.Resume(executor);
      return false;
    }
    if (search_->trial.begun()) search_->orders.Record(std::exchange(search_->value, 0));
    search_->trial = {};
    if (search_->orders.trial()) {
      int from = 0;
      SW_ASSIGN_OR_RETURN(Plan plan, a.TrialOf(*search_->orders.trial(), &from));
      if (!std::exchange(search_->asked, true) && Asks(executor, plan)) return false;
      search_->asked = false;
      Generation::Setup nothing{.sampling = {}, .eos_ids = {}};
      SW_RETURN_IF_ERROR(search_->trial.Begin(
          executor, tokenizer,
          {.plan = std::move(plan), .generation = std::move(nothing), .use_cache = job.use_cache, .echo_from = from},
          search_->observer));
      return false;
    }
    order = search_->orders.best();
    answer_.compose.search = {.trials = search_->orders.n_trials(),
                              .tokens = search_->n_tokens,
                              .given = search_->orders.first_value(),
                              .chosen = search_->orders.best_value()};
  }
  SW_ASSIGN_OR_RETURN(job.plan, a.PlanOf(order));
  search_ = nullptr;
  job.arrangement.reset();
  return !Asks(executor, job.plan);
}

Status Task::BeginFirst(Executor& executor, const Tokenizer& tokenizer) {
  const Clock::time_point begin = Clock::now();
  Lane::Setup setup{.plan = std::move(job.plan),
                    .generation = job.setup,
                    .use_cache = job.use_cache,
                    .echo_from = job.echo ? std::optional(0) : std::nullopt,
                    .course = job.course,
                    .pointed = job.pointed,
                    .without_tail = job.documents_only};
  if (forks()) {
    context_plan_ = setup.plan;
    setup.generation.max_tokens = 0;
    SW_RETURN_IF_ERROR(context_.Begin(executor, tokenizer, std::move(setup), kNobody));
  } else {
    SW_RETURN_IF_ERROR(answer_lane_.Begin(executor, tokenizer, std::move(setup), job.observer));
  }
  answer_.timings.load_ms = MsSince(begin);
  begun_ = Clock::now();
  return Status::Ok();
}

Status Task::TakeUpBranches(Executor& executor, const Tokenizer& tokenizer) {
  const std::vector<Fork::Branch>& branches = job.fork->branches;
  for (size_t i = 0; i < branches_.size(); ++i) {
    Lane& lane = branches_[i];
    if (lane.ended() || (lane.begun() && !lane.rests())) continue;
    if (!HasRoomFor(i)) {
      if (!ActiveLanes().empty()) break;
      for (Lane& held : branches_) held.Rest(executor);  // only those that have ended hold anything
    }
    if (lane.begun()) {
      lane.Resume(executor, context_.runs());
      continue;
    }
    Lane::Setup setup{.plan = ForkPlan(context_plan_, branches[i].seed, job.fork->keys),
                      .generation = branches[i].setup,
                      .use_cache = job.use_cache};
    SW_RETURN_IF_ERROR(lane.Begin(executor, tokenizer, std::move(setup), kNobody, context_.runs()));
  }
  if (job.fork->join && std::ranges::all_of(branches_, &Lane::ended)) return Join(executor, tokenizer);
  return Status::Ok();
}

bool Task::HasRoomFor(size_t branch) const {
  int n_active = 0;
  size_t n = BlocksOf(context_plan_) + BlocksOf(job.fork->branches[branch]);
  for (size_t i = 0; i < branches_.size(); ++i) {
    const Lane& lane = branches_[i];
    if (!lane.begun() || lane.rests()) continue;
    n_active += !lane.ended();
    n += lane.ended() ? BlocksOf(static_cast<size_t>(lane.runs().back()->n_tokens())) - 1
                      : BlocksOf(job.fork->branches[i]);
  }
  return n_active < limits_.max_running && n <= limits_.n_blocks;
}

// The answer's lane takes the runs over as they are.
Status Task::Join(Executor& executor, const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> texts;
  std::vector<std::shared_ptr<Run>> held(context_.runs().begin(), context_.runs().end());
  for (const Lane& lane : branches_) {
    texts.push_back(lane.Tokens());
    if (!lane.rests()) held.push_back(lane.runs().back());
  }
  Lane::Setup setup{.plan = JoinPlan(context_plan_, texts, *job.fork->join, job.fork->keys),
                    .generation = job.setup,
                    .use_cache = job.use_cache};
  setup.generation.max_tokens =
      std::min(setup.generation.max_tokens, job.fork->context_tokens - setup.plan.end_position());
  SW_RETURN_IF_ERROR(answer_lane_.Begin(executor, tokenizer, std::move(setup), job.observer, held));
  const Sequence& joined = answer_lane_.sequence();
  for (size_t i = 0; i < branches_.size(); ++i) {
    const auto run = static_cast<size_t>(joined.plan.pieces[context_plan_.pieces.size() + i].run);
    n_recomputed_.push_back(static_cast<int>(joined.plan.runs[run].tokens.size()) - joined.reused[run]);
    branches_[i].Rest(executor);
  }
  context_.Rest(executor);
  return Status::Ok();
}

std::vector<Lane*> Task::ActiveLanes() {
  std::vector<Lane*> active;
  const auto add = [&](Lane& lane) {
    if (lane.begun() && !lane.rests() && !(lane.ended() && lane.complete())) active.push_back(&lane);
  };
  if (search_) add(search_->trial);
  add(context_);
  for (Lane& lane : branches_) add(lane);
  add(answer_lane_);
  return active;
}

Status Task::Advance(Executor& executor, Lane& lane, const Executor::Turn& turn) {
  SW_RETURN_IF_ERROR(turn.status);
  if (search_ && &lane == &search_->trial) {
    search_->n_tokens += turn.n_encoded;
    return lane.Advance(executor, turn);
  }
  const bool reads = !turn.token && lane.generation().n_generated() == 0 && !lane.ended();  // for the first time
  const bool first = &lane == (forks() ? &context_ : &answer_lane_);
  if (reads && turn.n_encoded > 0 && job.observer.on_prefill && (first || &lane == &answer_lane_))
    job.observer.on_prefill(lane.sequence().n_ready_prompt_tokens(), lane.sequence().n_prompt_tokens());
  if (reads && first && lane.complete() && answer_.timings.prefill_ms == 0)
    answer_.timings.prefill_ms = MsSince(*begun_);
  n_decoded_ += turn.token.has_value();
  SW_RETURN_IF_ERROR(lane.Advance(executor, turn));
  if (!first_token_ && &lane != &context_ && (lane.has_sampled() || lane.ended())) {
    answer_.timings.ttft_ms = MsSince(job.submitted);
    first_token_ = Clock::now();
  }
  const bool branch = &lane != &context_ && &lane != &answer_lane_;
  if (branch && lane.ended()) {
    lane.Seal(executor);
    if (!job.fork->join) lane.Rest(executor);
  }
  return Status::Ok();
}

bool Task::done() const {
  return forks() && !job.fork->join ? std::ranges::all_of(branches_, &Lane::ended) : answer_lane_.ended();
}

void Task::Suspend(Executor& executor) {
  EndFetch(executor);
  if (search_) search_->trial.Rest(executor);
  context_.Rest(executor);
  for (Lane& lane : branches_) lane.Rest(executor);
  answer_lane_.Rest(executor);
}

void Task::Seal(Executor& executor) {
  for (Lane& lane : branches_) lane.Seal(executor);
  answer_lane_.Seal(executor);
}

void Task::Release() {
  ahead_ = fetch_ = {};
  hint_ = {};
  search_ = nullptr;
  context_ = {};
  branches_.clear();
  answer_lane_ = {};
}

Answer Task::Finish() {
  answer_.document_labels = std::move(job.labels);
  if (answer_lane_.begun()) answer_lane_.generation().Finish(&answer_);
  if (answer_lane_.pointers()) answer_.attention = answer_lane_.pointers()->Report();
  LocateInOriginals();
  if (job.course) ReportCourse();
  const Lane& first = forks() ? context_ : answer_lane_;
  const Plan& plan = first.sequence().plan;
  answer_.compose = {.mode = plan.options.mode,
                     .order = plan.options.order,
                     .exactness = plan.exactness,
                     .spans = {},
                     .repaired_tokens = first.sequence().n_repaired,
                     .repair_change = first.sequence().repair_change,
                     .calibrated = job.calibrated,
                     .search = answer_.compose.search};
  AddPieces(forks() ? context_plan_ : plan, first, &answer_.compose);
  if (plan.options.mode == ComposeMode::kRepair && plan.exactness == kCausalExact)  // nothing was taken to be edited
    for (const PieceReport& span : answer_.compose.spans)
      if (!span.document.empty()) answer_.compose.repaired_tokens += span.tokens - span.cached_tokens;
  for (size_t i = 0; i < plan.runs.size(); ++i) answer_.usage.cached_tokens += first.n_cached(static_cast<int>(i));
  if (forks()) ReportFork();
  if (!job.codec->exact) {
    answer_.compose.exactness = "approximate";
    answer_.compose.kv_codec = job.codec->name;
  }
  answer_.usage.prompt_tokens = n_prompt_tokens;
  if (job.course)  // what was never read
    for (size_t i = answer_lane_.n_passages(); i < job.course->passages.size(); ++i)
      answer_.usage.prompt_tokens -= static_cast<int>(job.course->passages[i].given.size());
  if (n_decoded_ > 0) answer_.timings.decode_tokens_per_s = n_decoded_ / (MsSince(*first_token_) / 1000);
  return std::move(answer_);
}

void Task::LocateInOriginals() {
  for (size_t i = 0; i < job.rewritten.size(); ++i) {
    if (!job.rewritten[i]) continue;
    const std::vector<ByteRange>& sources = job.rewritten[i]->sources;
    const auto locate = [&](size_t* begin, size_t* end) {
      if (*begin >= *end) return;
      *begin = sources[*begin].begin;
      *end = sources[*end - 1].end;
    };
    if (answer_.attention)
      for (AttentionReport::Stretch& stretch : answer_.attention->documents[i].stretches)
        locate(&stretch.begin, &stretch.end);
    if (answer_.extraction && answer_.extraction->document == job.document_ids[i])
      locate(&answer_.extraction->begin, &answer_.extraction->end);
  }
}

void Task::ReportCourse() {
  answer_.steps = answer_lane_.TakePassages();
  if (job.course->keep_subtasks) answer_.pruning = answer_lane_.pruning();
  if (job.course->n_steps == 0) return;
  answer_.steps.push_back({answer_.text, answer_.finish_reason, answer_.tokens, answer_.usage.completion_tokens});
  answer_.usage.completion_tokens = 0;
  for (const StepAnswer& step : answer_.steps) answer_.usage.completion_tokens += step.completion_tokens;
  if (!answer_lane_.has_passages_left()) return;
  // The context was full before the last step, and only that one's text is the answer.
  answer_.text.clear();
  answer_.tokens.clear();
  answer_.finish_reason = FinishReason::kLength;
}

void Task::ReportFork() {
  answer_.compose.exactness = branches_.front().sequence().plan.exactness;
  for (size_t i = 0; i < branches_.size(); ++i) {
    Answer made;
    branches_[i].generation().Finish(&made);
    const int n_seed = static_cast<int>(job.fork->branches[i].seed.size());
    AddPiece(branches_[i].sequence().plan.pieces.back(), n_seed, branches_[i], &answer_.compose);
    made.usage.prompt_tokens = n_seed;
    made.usage.cached_tokens = answer_.compose.spans.back().cached_tokens;
    answer_.usage.cached_tokens += made.usage.cached_tokens;
    answer_.usage.completion_tokens += made.usage.completion_tokens;
    answer_.seed = made.seed;
    answer_.branches.push_back({.text = std::move(made.text),
                                .finish_reason = made.finish_reason,
                                .tokens = std::move(made.tokens),
                                .usage = made.usage,
                                .recomputed_tokens = job.fork->join ? n_recomputed_[i] : 0});
  }
  if (!job.fork->join) return;
  const Sequence& joined = answer_lane_.sequence();
  AddPiece(joined.plan.pieces.back(), static_cast<int>(job.fork->join->size()), answer_lane_, &answer_.compose);
  answer_.usage.cached_tokens += answer_.compose.spans.back().cached_tokens;
}

}  // namespace spanwise
