// A fixed set of worker threads that run one parallel loop at a time.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace spanwise {

// Thread-compatible: one thread calls ParallelFor at a time (the engine thread). Work split over indices must not let
// results depend on the number of threads: every index writes its own output. Where there are processors for all
// threads, workers run on those that the caller may use, but for the one where it was when it last woke them.
class ThreadPool {
 public:
  // n_threads counts the calling thread; 0: as many as there are CPUs for this process (UsableCpus). Fewer where the
  // system gives no more.
  explicit ThreadPool(int n_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const;

  // Calls body(i) once for every i in [0, n), on this thread and the workers, and returns when all are done.
  // Indices are handed out one by one in ascending order. Must not be called from within a body.
  void ParallelFor(size_t n, const std::function<void(size_t)>& body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spanwise
