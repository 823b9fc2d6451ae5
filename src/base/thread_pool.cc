#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/host.h"

namespace spanwise {

namespace {

// Loops follow one another within microseconds while a model runs, far less than it takes to wake a thread: a waiting
// one looks about so many times, some 30 microseconds, before it sleeps.
constexpr int kLooks = 2000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Looks for a while whether `condition` holds.
template <typename Condition>
bool HoldsSoon(const Condition& condition) {
  for (int i = 0; i < kLooks; ++i) {
    if (condition()) return true;
    Pause();
  }
  return false;
}

}  // namespace

struct ThreadPool::Impl {
  std::mutex mutex;  // of the two conditions; whoever changes what one waits for takes it only if somebody sleeps
  std::condition_variable wake, finished;
  std::atomic<uint64_t> generation{0};  // counts loops
  std::atomic<int> busy{0};             // workers that have not done with the current loop
  std::atomic<bool> stop{false};
  std::atomic<int> sleeping{0};  // workers
  std::atomic<bool> caller_sleeps{false};
  const std::function<void(size_t)>* body = nullptr;  // these two change between loops only
  size_t n = 0;
  std::atomic<size_t> next{0};
  std::vector<std::thread> workers;
  int callers_cpu = -1;  // that workers are kept off

  // A thread that is woken may be put on the processor of the one that wakes it, the other ones idle, and stay there
  // for some 10 ms: meanwhile a loop on two threads takes as long as on one. So no worker may run where the caller
  // does.
  void MakeWay() {
    const int cpu = sched_getcpu();
    cpu_set_t cpus;
    if (cpu == callers_cpu || pthread_getaffinity_np(pthread_self(), sizeof cpus, &cpus) != 0) return;
    if (static_cast<size_t>(CPU_COUNT(&cpus)) <= workers.size()) return;
    CPU_CLR(static_cast<size_t>(cpu), &cpus);
    for (std::thread& worker : workers) pthread_setaffinity_np(worker.native_handle(), sizeof cpus, &cpus);
    callers_cpu = cpu;
  }

  void Drain() {
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) (*body)(i);
  }

  void Work() {
    uint64_t seen = 0;
    const auto called = [&] { return stop || generation != seen; };
    while (true) {
      if (!HoldsSoon(called)) {
        std::unique_lock lock(mutex);
        ++sleeping;
        wake.wait(lock, called);
        --sleeping;
      }
      if (stop) return;
      seen = generation;
      Drain();
      if (--busy == 0 && caller_sleeps) {
        const std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
  }

  void WakeSleepers() {
    if (sleeping == 0) return;
    MakeWay();
    const std::lock_guard lock(mutex);
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int n_threads) : impl_(std::make_unique<Impl>()) {
  if (n_threads <= 0) n_threads = static_cast<int>(UsableCpus().amount);
  try {
    for (int i = 1; i < n_threads; ++i) impl_->workers.emplace_back([impl = impl_.get()] { impl->Work(); });
  } catch (const std::system_error&) {
    // The process may have no more threads: loops are as many threads slower, and do the same.
  }
}

ThreadPool::~ThreadPool() {
  impl_->stop = true;
  impl_->WakeSleepers();
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::n_threads() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::ParallelFor(size_t n, const std::function<void(size_t)>& body) {
  if (impl_->workers.empty() || n < 2) {
    for (size_t i = 0; i < n; ++i) body(i);
    return;
  }
  impl_->body = &body;
  impl_->n = n;
  impl_->next = 0;
  impl_->busy = static_cast<int>(impl_->workers.size());
  ++impl_->generation;
  impl_->WakeSleepers();
  impl_->Drain();
  const auto done = [&] { return impl_->busy == 0; };
  if (HoldsSoon(done)) return;
  std::unique_lock lock(impl_->mutex);
  impl_->caller_sleeps = true;
  impl_->finished.wait(lock, done);
  impl_->caller_sleeps = false;
}

}  // namespace spanwise
