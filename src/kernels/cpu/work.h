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

// A loop over n items that cost `item_work` multiply-adds each, cut into equal pieces.
struct Pieces {
  size_t n, piece;

  Pieces(size_t n_items, size_t item_work)
      : n(n_items), piece(std::max<size_t>(1, kMinTaskWork / std::max<size_t>(1, item_work))) {}
  size_t count() const { return (n + piece - 1) / piece; }
};

// Runs some loops as one: body(i, begin, end) over the items of loop i, loop_of(i) telling its Pieces.
template <typename LoopOf, typename Body>
void ForEachRange(ThreadPool& pool, size_t n_loops, const LoopOf& loop_of, const Body& body) {
  size_t n = 0;
  for (size_t i = 0; i < n_loops; ++i) n += loop_of(i).count();
  pool.ParallelFor(n, [&](size_t at) {
    size_t i = 0;
    for (; at >= loop_of(i).count(); ++i) at -= loop_of(i).count();
    const Pieces loop = loop_of(i);
    body(i, at * loop.piece, std::min(loop.n, (at + 1) * loop.piece));
  });
}

// Runs body(begin, end) over [0, n) in equal pieces, where an item costs `item_work` multiply-adds.
template <typename Body>
void ForRanges(ThreadPool& pool, size_t n, size_t item_work, const Body& body) {
  const Pieces loop(n, item_work);
  ForEachRange(
      pool, 1, [&](size_t) { return loop; }, [&](size_t, size_t begin, size_t end) { body(begin, end); });
}

}  // namespace spanwise::cpu
