// The engine's thread: gives waiting jobs their turn and runs step after step over all that are under way.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/executor.h"
#include "engine/pacer.h"
#include "engine/task.h"
#include "sched/drain_estimate.h"
#include "sched/fair_queue.h"
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
  void DropCancelled(std::unique_lock<std::mutex>& lock);
  void Suspend(size_t running);
  void Stop();
  void Step();
  void End(std::unique_ptr<Task>& task, const Status& status);
  void Leave(Task& task);
  void Count(const Result<Answer>& answer);
  int n_queued() const { return static_cast<int>(waiting_.size()) - n_suspended_; }

  const RunnerOptions options_;
  const Tokenizer& tokenizer_;
  const size_t n_blocks_budget_;

  // Of thread_ alone.
  const std::unique_ptr<Executor> executor_;
  std::vector<std::unique_ptr<Task>> running_;  // in the order in which their prompts are read
  Pacer pacer_;
  Clock::time_point swept_;  // when those that wait were last looked through for cancelled ones

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  sched::FairQueue queue_;                                       // guarded by mutex_; ids of waiting_
  std::unordered_map<uint64_t, std::unique_ptr<Task>> waiting_;  // guarded by mutex_; not begun, or suspended
  std::vector<uint64_t> arrived_;                                // guarded by mutex_; ids of waiting_ not seen yet
  int n_suspended_ = 0;                                          // guarded by mutex_; of waiting_
  uint64_t last_id_ = 0;                                         // guarded by mutex_
  bool stopping_ = false;                                        // guarded by mutex_
  bool fetched_ = false;                                         // guarded by mutex_; a fetch has ended
  EngineStats stats_;                                            // guarded by mutex_
  sched::DrainEstimate drain_;                                   // guarded by mutex_
  std::thread thread_;
};

}  // namespace spanwise
