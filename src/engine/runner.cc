#include "engine/runner.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/str.h"
#include "sched/admission.h"

namespace spanwise {
namespace {

// What a client's account is charged: a generated token costs about as much as this many prompt tokens.
constexpr int kGeneratedCost = 2;
// Between two looks whether something was cancelled or takes too long.
constexpr std::chrono::milliseconds kLongestPause(5);

double NowSeconds() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

}  // namespace

Runner::Runner(std::unique_ptr<Executor> executor, const Tokenizer& tokenizer, const RunnerOptions& options)
    : options_(options),
      tokenizer_(tokenizer),
      n_blocks_budget_(executor->store().stats().n_blocks_budget),
      executor_(std::move(executor)) {
  stats_.kv_blocks_budget = n_blocks_budget_;
  executor_->store().OnFetched([this] {
    {
      const std::lock_guard lock(mutex_);
      fetched_ = true;
    }
    wake_.notify_one();
  });
  thread_ = std::thread([this] { Loop(); });
}

Runner::~Runner() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  executor_->store().OnFetched(nullptr);
}

Status Runner::Submit(Job job) {
  auto task = std::make_unique<Task>(std::move(job),
                                     Task::Limits{.max_running = options_.max_running, .n_blocks = n_blocks_budget_});
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Unavailable("the engine is shutting down");
    if (n_queued() >= options_.max_queued)
      return ResourceExhausted(StrFormat("the queue is full: {} requests are waiting", n_queued()));
    ++stats_.requests;
    task->id = ++last_id_;
    queue_.Push({.id = task->id, .priority = task->job.priority, .client = task->job.client}, NowSeconds());
    arrived_.push_back(task->id);
    waiting_.emplace(task->id, std::move(task));
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
  stats.queued = n_queued();
  stats.suspended = n_suspended_;
  stats.drain_s = drain_.Seconds(NowSeconds(), stats.queued);
  for (const auto& tier : executor_->store().tiers()) {
    const TierStats of_tier = tier->stats();
    if (tier->source() == KvSource::kRemote) {
      stats.kv_remote_found_spans = of_tier.hits;
      stats.kv_remote_missing_spans = of_tier.misses;
      stats.kv_remote_written_spans = of_tier.written_spans;
      stats.kv_remote_written_bytes = of_tier.written_bytes;
      stats.kv_remote_damaged_spans = of_tier.damaged_spans;
      stats.kv_remote_lost_spans = of_tier.lost_spans;
      continue;
    }
    stats.kv_disk_spans += of_tier.spans;
    stats.kv_disk_bytes += of_tier.bytes;
    stats.kv_disk_budget_bytes += of_tier.budget_bytes;
    stats.kv_disk_written_spans += of_tier.written_spans;
    stats.kv_disk_evicted_spans += of_tier.evicted_spans;
    stats.kv_disk_damaged_spans += of_tier.damaged_spans;
    stats.kv_disk_lost_spans += of_tier.lost_spans;
  }
  return stats;
}

void Runner::Loop() {
  while (Admit()) Step();
}

// Waits for work, then gives turns to as many as may run: as many as fit in memory whatever they come to need, and one
// in any case. Who comes next waits until there is room and nobody passes, so that large requests get their turn. False
// when the engine ends.
bool Runner::Admit() {
  std::unique_lock lock(mutex_);
  const auto any = [&] { return stopping_ || !queue_.empty() || !running_.empty(); };
  if (!any()) {
    executor_->store().Idle(true);
    wake_.wait(lock, any);
    executor_->store().Idle(false);
  }
  if (stopping_) {
    lock.unlock();
    Stop();
    return false;
  }
  DropCancelled(lock);
  while (const auto turn = queue_.Next(NowSeconds())) {
    const auto next = waiting_.find(turn->id);
    Task& task = *next->second;
    std::vector<sched::Running> running;
    for (const auto& r : running_)
      running.push_back({.id = r->id,
                         .rank = r->rank,
                         .n_suspensions = r->n_suspensions,
                         .n_blocks = r->n_blocks,
                         .n_sequences = r->n_sequences});
    const auto room = sched::MakeRoom(
        running, {.priority = task.job.priority, .n_blocks = task.n_blocks, .n_sequences = task.n_sequences},
        {.max_running = options_.max_running, .n_blocks = n_blocks_budget_});
    if (!room) break;
    queue_.Take(task.id, NowSeconds());
    task.Prefetch(*executor_, /*urgent=*/true);
    task.rank = turn->rank;
    task.progressed = Clock::now();
    running_.push_back(std::move(next->second));
    waiting_.erase(next);
    if (task.taken) {
      --n_suspended_;
    } else {
      drain_.Took(NowSeconds(), n_queued());
      // What is found of the prompt is taken back at the end.
      queue_.Charge(task.job.priority, task.job.client, task.n_prompt_tokens);
    }
    task.taken = task.running = true;
    ++stats_.running;
    stats_.kv_blocks_reserved += task.n_blocks;
    for (const size_t i : *room) Suspend(i);
    std::erase(running_, nullptr);
  }
  for (const uint64_t id : std::exchange(arrived_, {}))
    if (const auto at = waiting_.find(id); at != waiting_.end()) {
      at->second->Expect(*executor_);
      at->second->Prefetch(*executor_, /*urgent=*/false);
    }
  return true;
}

// REQUIRES: the lock is held.
void Runner::DropCancelled(std::unique_lock<std::mutex>& lock) {
  // Long queues are looked through less often, so that this stays a small part of all.
  if (Clock::now() - swept_ < waiting_.size() * std::chrono::microseconds(1)) return;
  std::vector<std::unique_ptr<Task>> cancelled;
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if (!at->second->job.cancel->cancelled()) {
      ++at;
      continue;
    }
    queue_.Remove(at->first);
    n_suspended_ -= at->second->taken;
    cancelled.push_back(std::move(at->second));
    at = waiting_.erase(at);
  }
  swept_ = Clock::now();
  if (cancelled.empty()) return;
  lock.unlock();
  for (auto& task : cancelled) End(task, Cancelled("the request was cancelled"));
  lock.lock();
}

// Back to those that wait, with all that it has but its memory. REQUIRES: mutex_ is held.
void Runner::Suspend(size_t running) {
  std::unique_ptr<Task>& task = running_[running];
  task->Suspend(*executor_);
  task->Expect(*executor_);
  ++task->n_suspensions;
  ++stats_.suspensions;
  Leave(*task);
  ++n_suspended_;
  queue_.Push({.id = task->id, .priority = task->job.priority, .client = task->job.client, .suspended = true},
              NowSeconds());
  const uint64_t id = task->id;
  waiting_.emplace(id, std::move(task));
}

void Runner::Stop() {
  std::vector<std::unique_ptr<Task>> tasks = std::move(running_);
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, task] : waiting_) tasks.push_back(std::move(task));
    waiting_.clear();
  }
  for (const auto& task : tasks) task->job.done(Cancelled("the engine is shutting down"));
}

// One step of all requests under way; what has ended is answered.
void Runner::Step() {
  // Higher ranks read their prompts first, unless another one got nothing for long.
  const Clock::time_point now = Clock::now();
  constexpr auto kPatience = std::chrono::duration<double>(sched::FairQueue::kPatience_s);
  std::ranges::sort(running_, {}, [&](const std::unique_ptr<Task>& task) {
    return std::tuple(now - task->progressed < kPatience, -task->rank, task->id);
  });

  std::vector<Executor::Turn> turns;
  std::vector<std::pair<Task*, Lane*>> of;  // each turn
  int n_decode = 0;
  for (auto& task : running_) {
    if (!task->job.cancel->cancelled() && task->waits_for_fetch()) continue;
    const Status status =
        task->job.cancel->cancelled() ? Cancelled("the request was cancelled") : task->TakeUp(*executor_, tokenizer_);
    if (!status.ok()) {
      End(task, status);
      continue;
    }
    for (Lane* lane : task->ActiveLanes()) {
      turns.push_back(lane->Turn());
      of.emplace_back(task.get(), lane);
      n_decode += lane->decodes();
    }
  }
  std::erase(running_, nullptr);
  if (turns.empty()) {
    // All that run wait for what is being fetched.
    std::unique_lock lock(mutex_);
    if (!running_.empty())
      wake_.wait_for(lock, kLongestPause, [&] { return fetched_ || stopping_ || !arrived_.empty(); });
    fetched_ = false;
    return;
  }
  const Clock::time_point start = Clock::now();
  executor_->Step(turns, pacer_.Room(n_decode, options_.step_tokens));
  int n_prompt = 0;
  for (const Executor::Turn& turn : turns) n_prompt += turn.token ? 0 : turn.n_encoded;
  pacer_.Record(n_prompt, n_decode, MsSince(start) / 1000);
  if (n_decode > 0) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < turns.size(); ++i)
      if (turns[i].token) queue_.Charge(of[i].first->job.priority, of[i].first->job.client, kGeneratedCost);
  }
  size_t next = 0;
  for (auto& task : running_) {
    Status status = Status::Ok();
    for (; next < turns.size() && of[next].first == task.get(); ++next) {
      if (turns[next].n_encoded > 0) task->progressed = Clock::now();
      if (status.ok()) status = task->Advance(*executor_, *of[next].second, turns[next]);
    }
    if (!status.ok() || task->done()) End(task, status);
  }
  std::erase(running_, nullptr);
}

// Answers a request, well or with an error, and forgets it.
void Runner::End(std::unique_ptr<Task>& task, const Status& status) {
  Task& a = *task;
  Result<Answer> answer = status.ok() ? Result<Answer>(a.Finish()) : status;
  int cached_tokens = answer.ok() ? answer->usage.cached_tokens : 0;
  if (answer.ok() && answer->compose.search) cached_tokens -= answer->compose.search->tokens;
  a.Seal(*executor_);  // a cancelled answer is kept as far as it came
  a.Release();
  executor_->store().CutEnds();
  {
    const std::lock_guard lock(mutex_);
    if (a.running) Leave(a);
    queue_.Charge(a.job.priority, a.job.client, -cached_tokens);
    Count(answer);
  }
  a.job.done(std::move(answer));
  task = nullptr;
}

// REQUIRES: mutex_ is held.
void Runner::Leave(Task& task) {
  task.running = false;
  --stats_.running;
  stats_.kv_blocks_reserved -= task.n_blocks;
}

// REQUIRES: mutex_ is held.
void Runner::Count(const Result<Answer>& answer) {
  const SpanStoreStats kv = executor_->store().stats();
  stats_.kv_blocks = kv.n_blocks;
  stats_.kv_spans = kv.n_spans;
  stats_.kv_disk_tokens = kv.loaded_tokens;
  stats_.kv_disk_mapped_tokens = kv.mapped_tokens;
  stats_.kv_remote_tokens = kv.fetched_tokens;
  if (!answer.ok()) {
    ++(answer.status().code() == StatusCode::kCancelled ? stats_.cancelled : stats_.failed);
    return;
  }
  stats_.prompt_tokens += static_cast<uint64_t>(answer->usage.prompt_tokens);
  stats_.cached_tokens += static_cast<uint64_t>(answer->usage.cached_tokens);
  stats_.completion_tokens += static_cast<uint64_t>(answer->usage.completion_tokens);
}

}  // namespace spanwise
