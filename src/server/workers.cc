#include "server/workers.h"

#include <sys/resource.h>
#include <unistd.h>

#include <exception>

namespace spanwise::server {

namespace {

// Of threads that do large work, on top of the program's: about a third of the share of one that is not niced.
constexpr int kLargeNice = 5;

size_t IndexOf(Workers::Lane lane) { return static_cast<size_t>(lane); }

void Run(std::function<void()>& task) {
  try {
    task();
  } catch (const std::exception&) {
  }
  task = {};
}

}  // namespace

Workers::Workers(Options options) : options_(std::move(options)) {
  for (int i = 0; i < options_.small_threads; ++i) threads_.emplace_back([this] { Loop(Lane::kSmall); });
  for (int i = 0; i < options_.large_threads; ++i) threads_.emplace_back([this] { Loop(Lane::kLarge); });
}

bool Workers::TryPost(size_t body_bytes, std::function<void()> task) {
  const Lane lane = LaneOf(body_bytes);
  const auto handicap = std::chrono::microseconds(lane == Lane::kLarge ? body_bytes : 0);
  return Add(lane, handicap, std::move(task), options_.max_waiting);
}

bool Workers::Post(Lane lane, std::function<void()> task) { return Add(lane, {}, std::move(task), SIZE_MAX); }

bool Workers::Add(Lane lane, Clock::duration handicap, std::function<void()> task, size_t max_waiting) {
  Queue& queue = queues_[IndexOf(lane)];
  {
    const std::lock_guard lock(mutex_);
    // What a task posts while the last ones run is still run.
    if ((stopping_ && n_active_ == 0) || queue.waiting.size() >= max_waiting) return false;
    queue.waiting.emplace(Clock::now() + handicap, std::move(task));
  }
  queue.wake.notify_one();
  return true;
}

void Workers::Loop(Lane lane) {
  if (lane == Lane::kLarge) {
    const int now = getpriority(PRIO_PROCESS, static_cast<id_t>(gettid()));
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), now + kLargeNice);
  }
  Queue& queue = queues_[IndexOf(lane)];
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto idle = [&] { return n_active_ == 0 && queues_[0].waiting.empty() && queues_[1].waiting.empty(); };
    queue.wake.wait(lock, [&] { return !queue.waiting.empty() || (stopping_ && idle()); });
    if (queue.waiting.empty()) return;
    std::function<void()> task = std::move(queue.waiting.extract(queue.waiting.begin()).mapped());
    ++n_active_;
    lock.unlock();
    Run(task);
    if (lane == Lane::kLarge && options_.after_large) {
      lock.lock();
      const bool last = queue.waiting.empty();
      lock.unlock();
      if (last) options_.after_large();
    }
    lock.lock();
    --n_active_;
    if (stopping_ && idle())
      for (Queue& q : queues_) q.wake.notify_all();
  }
}

void Workers::Stop() {
  const std::lock_guard only_one(stop_mutex_);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  for (Queue& queue : queues_) queue.wake.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Serial::Post(Workers::Lane lane, std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.emplace_back(lane, std::move(task));
    if (running_) return;
    running_ = true;
  }
  Hand(lane);
}

void Serial::Hand(Workers::Lane lane) {
  if (workers_->Post(lane, [self = shared_from_this(), lane] { self->Drain(lane); })) return;
  // Tasks hold their request, and that holds this.
  std::deque<std::pair<Workers::Lane, std::function<void()>>> dropped;
  const std::lock_guard lock(mutex_);
  dropped.swap(tasks_);
  running_ = false;
}

void Serial::Drain(Workers::Lane lane) {
  for (;;) {
    std::function<void()> task;
    Workers::Lane next = lane;
    {
      const std::lock_guard lock(mutex_);
      if (tasks_.empty()) {
        running_ = false;
        return;
      }
      next = tasks_.front().first;
      if (next == lane) {
        task = std::move(tasks_.front().second);
        tasks_.pop_front();
      }
    }
    if (next != lane) return Hand(next);
    Run(task);
  }
}

}  // namespace spanwise::server
