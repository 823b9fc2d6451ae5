// Splitting work over threads, and the memory each thread keeps for it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

#include "base/thread_pool.h"

namespace spanwise::cpu {

// Per-thread floats, aligned to a cache line, that grow to the largest request and stay. Only one user of a slot at a
// time on a thread, so ops never nest: slot 0 is for the tasks of a parallel loop, slot 1 for who starts it.
class Scratch {
 public:
  template <int kSlot = 0>
  static float* Floats(size_t n) {
    static thread_local Scratch scratch;
    if (n > scratch.size_) {
      scratch.data_.reset();  // first, so that old and new are never held together
      scratch.data_.reset(static_cast<float*>(::operator new(n * sizeof(float), kAlignment)));
      scratch.size_ = n;
    }
    return scratch.data_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(float* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<float, Free> data_;
  size_t size_ = 0;
};

// A task should take some ten microseconds: well above the cost of waking a worker.
inline constexpr size_t kMinTaskWork = size_t{1} << 18;  // multiply-adds

// Runs body(begin, end) over [0, n) in equal pieces, where an item costs `item_work` multiply-adds.
template <typename Body>
void ForRanges(ThreadPool& pool, size_t n, size_t item_work, const Body& body) {
  const size_t piece = std::max<size_t>(1, kMinTaskWork / std::max<size_t>(1, item_work));
  pool.ParallelFor((n + piece - 1) / piece, [&](size_t i) { body(i * piece, std::min(n, (i + 1) * piece)); });
}

}  // namespace spanwise::cpu
