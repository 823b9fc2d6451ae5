// Threads for what a request costs in computing: reading its body, rendering and tokenising its prompt, writing its
// answer. The threads that serve sockets hand such work over and only move bytes.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace spanwise::server {

// Thread-safe. Large work has threads of its own, which the system prefers less, so that it holds up neither small work
// nor the model's steps. A task that throws is dropped.
class Workers {
 public:
  enum class Lane { kSmall, kLarge };
  static constexpr size_t kSmallBytes = size_t{64} << 10;  // of a body; more is large
  static Lane LaneOf(size_t body_bytes) { return body_bytes <= kSmallBytes ? Lane::kSmall : Lane::kLarge; }

  struct Options {
    int small_threads = 2;
    int large_threads = 1;
    size_t max_waiting = 4096;            // tasks of a lane
    std::function<void()> after_large{};  // runs when a large task has ended and no other waits
  };
  explicit Workers(Options options);
  ~Workers() { Stop(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Runs `task` when its turn comes: a lane's tasks come in the order of their arrival, a large one counting as if it
  // had arrived a second later for each MB, so that smaller ones pass it and none waits for ever. False: as many as may
  // be are waiting, or Stop was called; the task is dropped.
  bool TryPost(size_t body_bytes, std::function<void()> task);
  // The same for a part of a request that was begun: it comes before all that arrives later, however many wait.
  bool Post(Lane lane, std::function<void()> task);

  // Runs what waits, what that posts included, and ends the threads. Called from another thread; again: nothing.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  struct Queue {
    std::condition_variable wake;
    std::multimap<Clock::time_point, std::function<void()>> waiting;  // guarded by mutex_
  };

  bool Add(Lane lane, Clock::duration handicap, std::function<void()> task, size_t max_waiting);
  void Loop(Lane lane);

  const Options options_;
  std::mutex mutex_;
  std::array<Queue, 2> queues_;
  int n_active_ = 0;       // guarded by mutex_
  bool stopping_ = false;  // guarded by mutex_
  std::mutex stop_mutex_;
  std::vector<std::thread> threads_;
};

// Runs tasks one at a time, in their order, each in its lane. Thread-safe; tasks that the workers do not take any more
// are dropped.
class Serial : public std::enable_shared_from_this<Serial> {
 public:
  explicit Serial(std::shared_ptr<Workers> workers) : workers_(std::move(workers)) {}
  void Post(Workers::Lane lane, std::function<void()> task);

 private:
  void Hand(Workers::Lane lane);
  void Drain(Workers::Lane lane);

  const std::shared_ptr<Workers> workers_;
  std::mutex mutex_;
  std::deque<std::pair<Workers::Lane, std::function<void()>>> tasks_;  // guarded by mutex_
  bool running_ = false;                                               // guarded by mutex_
};

}  // namespace spanwise::server
