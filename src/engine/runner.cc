#include "engine/runner.h"

#include <algorithm>
#include <utility>

#include "base/str.h"

namespace spanwise {
namespace {

double NowSeconds() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

ComposeReport Report(const Sequence& sequence) {
  ComposeReport report{.mode = sequence.plan.options.mode,
                       .order = sequence.plan.options.order,
                       .exactness = sequence.plan.exactness,
                       .spans = {},
                       .repaired_tokens = 0};
  for (const PlannedPiece& piece : sequence.plan.pieces) {
    const int reused = sequence.reused[static_cast<size_t>(piece.run)];
    const int cached = std::clamp(reused - piece.begin, 0, piece.end - piece.begin);
    report.spans.push_back({.document = piece.document,
                            .tokens = piece.end - piece.begin,
                            .cached_tokens = cached,
                            .source = cached == piece.end - piece.begin ? KvSource::kRam : KvSource::kComputed});
  }
  return report;
}

}  // namespace

Runner::Runner(std::unique_ptr<Executor> executor, const Tokenizer& tokenizer, const RunnerOptions& options)
    : options_(options),
      tokenizer_(tokenizer),
      vocab_size_(executor->transformer().config().vocab_size),
      executor_(std::move(executor)) {
  stats_.kv_blocks_budget = executor_->store().stats().n_blocks_budget;
  thread_ = std::thread([this] { Loop(); });
}

Runner::~Runner() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

Status Runner::Submit(Job job) {
  auto task = std::make_unique<Task>(std::move(job));
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Unavailable("the engine is shutting down");
    if (static_cast<int>(queue_.size()) >= options_.max_queued)
      return ResourceExhausted(StrFormat("the queue is full: {} requests are waiting", queue_.size()));
    ++stats_.requests;
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
  return Status::Ok();
}

void Runner::CountRefused() {
  const std::lock_guard lock(mutex_);
  ++stats_.requests;
  ++stats_.failed;
}

EngineStats Runner::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.queued = static_cast<int>(queue_.size());
  stats.drain_s = drain_.Seconds(NowSeconds(), stats.queued);
  return stats;
}

void Runner::Loop() {
  while (Admit()) Step();
}

// Waits for work, then takes from the queue what may run: as many as fit in memory whatever they come to need, and the
// first one in any case. False when the engine ends.
bool Runner::Admit() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return stopping_ || !queue_.empty() || !running_.empty(); });
  if (stopping_) {
    Stop(lock);
    return false;
  }
  while (!queue_.empty() && static_cast<int>(running_.size()) < options_.max_running) {
    const size_t n_blocks = queue_.front()->n_blocks;
    if (!running_.empty() && reserved_blocks_ + n_blocks > stats_.kv_blocks_budget) break;
    reserved_blocks_ += n_blocks;
    running_.push_back(std::move(queue_.front()));
    queue_.pop_front();
    drain_.Took(NowSeconds(), static_cast<int>(queue_.size()));
  }
  stats_.running = static_cast<int>(running_.size());
  return true;
}

void Runner::Stop(std::unique_lock<std::mutex>& lock) {
  std::deque<std::unique_ptr<Task>> queue;
  queue.swap(queue_);
  lock.unlock();
  for (auto* tasks : {&running_, &queue})
    for (const auto& task : *tasks) task->job.done(Cancelled("the engine is shutting down"));
  running_.clear();
}

// One step of all requests under way; what has ended is answered.
void Runner::Step() {
  std::vector<Executor::Turn> turns;
  int n_decode = 0;
  for (auto& task : running_) {
    Status status = CheckCancelled(task->job);
    if (status.ok() && !task->generation) status = Begin(*task);
    if (!status.ok()) {
      End(task, status);
      continue;
    }
    turns.push_back({.sequence = &task->sequence, .token = task->token, .all_logits = task->all_logits()});
    n_decode += task->token.has_value();
  }
  std::erase(running_, nullptr);
  if (turns.empty()) return;
  const Clock::time_point start = Clock::now();
  executor_->Step(turns, pacer_.Room(n_decode, options_.step_tokens));
  int n_prompt = 0;
  for (const Executor::Turn& turn : turns) n_prompt += turn.token ? 0 : turn.n_encoded;
  pacer_.Record(n_prompt, n_decode, MsSince(start) / 1000);
  for (size_t i = 0; i < turns.size(); ++i) {
    const Result<bool> goes_on = turns[i].status.ok() ? Advance(*running_[i], turns[i]) : turns[i].status;
    if (!goes_on.ok() || !*goes_on) End(running_[i], goes_on.status());
  }
  std::erase(running_, nullptr);
}

Status Runner::Begin(Task& a) {
  a.answer.document_labels = std::move(a.job.labels);
  SW_ASSIGN_OR_RETURN(a.generation, Generation::Create(tokenizer_, vocab_size_, a.job.setup, a.job.observer));
  const Clock::time_point begin = Clock::now();
  SW_ASSIGN_OR_RETURN(a.sequence, executor_->Begin(std::move(a.job.plan), a.job.use_cache, a.all_logits()));
  a.answer.timings.load_ms = MsSince(begin);
  a.answer.usage.prompt_tokens = a.sequence.n_prompt_tokens();
  a.prefill = Clock::now();
  return a.job.echo ? a.generation->Echo(a.sequence.tail_plan().tokens[0], {}) : Status::Ok();
}

// Takes what a step made; false when the answer is complete.
Result<bool> Runner::Advance(Task& a, const Executor::Turn& turn) {
  const auto vocab = static_cast<size_t>(vocab_size_);
  if (!a.token) {
    const std::span<const int32_t> prompt = a.sequence.tail_plan().tokens;
    const size_t n = turn.logits.size() / vocab;
    for (size_t i = 0; a.all_logits() && i < n; ++i)
      if (const size_t next = static_cast<size_t>(turn.first) + i + 1; next < prompt.size()) {
        SW_RETURN_IF_ERROR(a.generation->Echo(prompt[next], turn.logits.subspan(i * vocab, vocab)));
        ++a.n_echoed;
      }
    if (turn.n_encoded > 0 && a.job.observer.on_prefill)
      a.job.observer.on_prefill(a.sequence.n_ready_prompt_tokens(), a.sequence.n_prompt_tokens());
    if (!a.sequence.prompt_is_ready()) return true;
    for (; a.job.echo && a.n_echoed < prompt.size(); ++a.n_echoed)
      SW_RETURN_IF_ERROR(a.generation->Echo(prompt[a.n_echoed], {}));
    a.answer.timings.prefill_ms = MsSince(a.prefill);
  } else {
    ++a.n_steps;
  }
  const bool first = !a.token;
  SW_ASSIGN_OR_RETURN(a.token, a.generation->Next(turn.logits.last(vocab)));
  if (first) {
    a.answer.timings.ttft_ms = MsSince(a.job.submitted);
    a.decode = Clock::now();
  }
  return a.token.has_value();
}

// Answers a request, well or with an error, and forgets it.
void Runner::End(std::unique_ptr<Task>& task, const Status& status) {
  Task& a = *task;
  if (status.ok()) {
    a.answer.compose = Report(a.sequence);
    for (const int n : a.sequence.reused) a.answer.usage.cached_tokens += n;
    if (a.n_steps > 0) a.answer.timings.decode_tokens_per_s = a.n_steps / (MsSince(a.decode) / 1000);
    a.generation->Finish(&a.answer);
  }
  Result<Answer> answer = status.ok() ? Result<Answer>(std::move(a.answer)) : status;
  // A cancelled answer is kept as far as it came.
  if (a.token || status.ok()) executor_->Seal(a.sequence);
  a.sequence = {};
  {
    const std::lock_guard lock(mutex_);
    reserved_blocks_ -= a.n_blocks;
    --stats_.running;
    Count(answer);
  }
  a.job.done(std::move(answer));
  task = nullptr;
}

// REQUIRES: mutex_ is held.
void Runner::Count(const Result<Answer>& answer) {
  const SpanStoreStats kv = executor_->store().stats();
  stats_.kv_blocks = kv.n_blocks;
  stats_.kv_spans = kv.n_spans;
  if (!answer.ok()) {
    ++(answer.status().code() == StatusCode::kCancelled ? stats_.cancelled : stats_.failed);
    return;
  }
  stats_.prompt_tokens += static_cast<uint64_t>(answer->usage.prompt_tokens);
  stats_.cached_tokens += static_cast<uint64_t>(answer->usage.cached_tokens);
  stats_.completion_tokens += static_cast<uint64_t>(answer->usage.completion_tokens);
}

Status Runner::CheckCancelled(const Job& job) {
  if (job.cancel->cancelled()) return Cancelled("the request was cancelled");
  const std::lock_guard lock(mutex_);
  return stopping_ ? Cancelled("the engine is shutting down") : Status::Ok();
}

}  // namespace spanwise
