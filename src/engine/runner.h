// The engine's thread: takes jobs from its queue and runs step after step over all that are under way.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/executor.h"
#include "engine/pacer.h"
#include "engine/task.h"
#include "sched/drain_estimate.h"
#include "spanwise/engine.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

struct RunnerOptions {
  int max_queued = 256;
  int max_running = 64;
  int step_tokens = 512;
};

// Thread-safe. Destruction cancels what is queued or running and waits for it.
class Runner {
 public:
  // `tokenizer` must outlive it.
  Runner(std::unique_ptr<Executor> executor, const Tokenizer& tokenizer, const RunnerOptions& options);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Queues a job; its `done` is called exactly once, on the engine's thread, unless this fails. ResourceExhausted: the
  // queue is full.
  Status Submit(Job job);
  // A request that never became a job.
  void CountRefused();

  EngineStats stats() const;

 private:
  void Loop();
  bool Admit();
  void Stop(std::unique_lock<std::mutex>& lock);
  void Step();
  Status Begin(Task& task);
  Result<bool> Advance(Task& task, const Executor::Turn& turn);
  void End(std::unique_ptr<Task>& task, const Status& status);
  void Count(const Result<Answer>& answer);
  Status CheckCancelled(const Job& job);

  const RunnerOptions options_;
  const Tokenizer& tokenizer_;
  const int vocab_size_;

  // Of thread_ alone.
  const std::unique_ptr<Executor> executor_;
  std::deque<std::unique_ptr<Task>> running_;  // in order of arrival
  size_t reserved_blocks_ = 0;                 // of all running
  Pacer pacer_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Task>> queue_;  // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  EngineStats stats_;                        // guarded by mutex_
  sched::DrainEstimate drain_;               // guarded by mutex_
  std::thread thread_;
};

}  // namespace spanwise
